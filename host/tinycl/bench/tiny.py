"""A small good blob and samples for it, made in a moment and always the same: for benches of everything but learning well.
Depends on NumPy and the exporter."""

import numpy as np

from tinycl.model.backbone import ConvLayer, Exit, IntegerBackbone
from tinycl.model.export import Settings, export

SIDE = 8
BASE = ("north-west", "north-east")
QUADRANTS = ("north-west", "north-east", "south-west", "south-east")


def samples(quadrant: int, n: int, seed: int = 1) -> np.ndarray:
    """int8 [n, 8, 8, 1] whose given quadrant (0..3) is bright."""
    g = np.random.default_rng([seed, quadrant])
    x = g.integers(0, 40, (n, 2, SIDE // 2, 2, SIDE // 2, 1), np.int8)
    x[:, quadrant // 2, :, quadrant % 2] += 80
    return x.reshape(n, SIDE, SIDE, 1)


def blob(seed: int = 1, per_class: int = 8, target: float = 0.0) -> bytes:
    """Two base classes, room for five, a ladder of three rungs, two blocks of flash; random weights. A target over 1 makes the
    board try every rung at each enrolment."""
    g = np.random.default_rng(seed)
    first = _conv(g, (SIDE, SIDE, 1), 4)
    second = _conv(g, first.out_shape, 16)
    third = _conv(g, second.out_shape, 32)
    backbone = IntegerBackbone((first, second, third), (Exit(1, 2), Exit(3, 1)))
    head = g.integers(-(1 << 16), 1 << 16, (len(BASE), 1 + backbone.features(0)), np.int32)
    synthetic = np.stack([samples(q, per_class, seed) for q in range(len(BASE))])
    settings = Settings(
        per_class=per_class,
        max_classes=5,
        max_samples=12,
        target=target,
        epochs=3,
        patience=2,
        holdout_every=3,
        refit_epochs=1,
        seed=seed,
    )
    return export(backbone, head, synthetic, list(BASE), "quadrants", 0.0, 1.0, settings, ((0, 0), (0, 4), (1, 8)))


def _conv(g: np.random.Generator, shape: tuple[int, int, int], out_c: int) -> ConvLayer:
    w = g.integers(-127, 128, (out_c, 3, 3, shape[2])).astype(np.int8)
    bias = g.integers(-2000, 2000, out_c).astype(np.int32)
    return ConvLayer(w, bias, np.full(out_c, 1 << 13, np.int32), 5, 17, shape, stride=2, pad=1)
