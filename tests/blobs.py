"""A small synthetic blob for tests: legal, made in a moment, with every part that a real one has. 8x8 images of 1 channel,
two convolutions with random weights, an exit behind each, a ladder of four rungs, three base classes."""

from typing import Any

import numpy as np

from tinycl.model import IntegerBackbone, architecture
from tinycl.model.quantise import integer_conv
from tinycl.shared import blob as b
from tinycl.shared.plan import add_plan

SIDE = 8
LAYERS = (  # in_h, in_w, in_c, out_h, out_w, out_c, kernel, stride, pad, shift1, shift2
    (8, 8, 1, 4, 4, 4, 3, 2, 1, 3, 18),
    (4, 4, 4, 4, 4, 6, 3, 1, 1, 5, 16),
)
EXITS = ((1, 2, 16), (2, 2, 24))  # layers, pool, inputs that it adds
RUNGS = ((0, 0), (0, 4), (0, 8), (1, 8))  # exit, hidden units
META = {
    "in_h": SIDE,
    "in_w": SIDE,
    "in_c": 1,
    "base_classes": 3,
    "max_classes": 6,
    "base_per_class": 6,
    "per_class": 8,
    "max_samples": 20,
    "q_low": -128,
    "q_high": 127,
    "target_permille": 950,
    "epochs": 6,
    "patience": 2,
    "shift_first": 4,
    "shift_last": 6,
    "low": -1.0,
    "high": 1.0,
    "seed": 1,
    "holdout_every": 4,
    "refit_epochs": 1,
    "dataset": b"tiny",
    "early_epochs": 2,
}


def tiny_samples(label: int, n: int, seed: int = 0, noise: int = 30) -> np.ndarray:
    """n raw samples of a class, int8 [n, 8, 8, 1]: the class's own random image plus noise. Any label has an image."""
    image = np.random.default_rng([99, label]).integers(-128, 128, (1, SIDE, SIDE, 1))
    g = np.random.default_rng([seed, label])
    return np.clip(image + g.integers(-noise, noise + 1, (n, SIDE, SIDE, 1)), -128, 127).astype(np.int8)


def tiny_sections(rungs: tuple[tuple[int, int], ...] = RUNGS, **overrides: Any) -> dict[str, bytes]:
    """The sections of the blob by type; overrides are fields of META."""
    meta = {**META, **overrides}
    g = np.random.default_rng(7)
    layers, quant, weights, macs = [], [], [], []
    w_at = 0
    for layer in LAYERS:
        in_c, out_h, out_w, out_c, k = layer[2], *layer[3:7]
        n = out_c * k * k * in_c
        layers.append([b.CONV2D, *layer, w_at, sum(len(q) for q in quant), 0, 0])
        quant.append(np.stack([g.integers(-2000, 2000, out_c), g.integers(1 << 13, 1 << 14, out_c)], 1).ravel())
        weights.append(g.integers(-127, 128, n))
        macs.append(n * out_h * out_w + (macs[-1] if macs else 0))
        w_at += n
    exits = [[*e, macs[e[0] - 1]] for e in EXITS]
    features = np.cumsum([e[2] for e in EXITS])
    rows = []
    for leave, hidden in rungs:
        inputs = int(features[leave])
        rows.append([leave, hidden, inputs, macs[EXITS[leave][0] - 1] + meta["max_classes"] * (inputs + hidden)])
    classes = meta["base_classes"]
    names = [f"base{c}" for c in range(classes)]
    head = g.integers(-(1 << 16), 1 << 16, (classes, 1 + rows[0][2]))
    raws = [tiny_samples(c, meta["base_per_class"]) for c in range(classes)]
    return add_plan(
        {
            "META": b.pack_meta(**meta),
            "NAME": b.pack_names(names),
            "LAYR": np.array(layers, "<i4").tobytes(),
            "EXIT": np.array(exits, "<i4").tobytes(),
            "RUNG": np.array(rows, "<i4").tobytes(),
            "WGHT": np.concatenate(weights).astype(np.int8).tobytes(),
            "QUAN": np.concatenate(quant).astype("<i4").tobytes(),
            "HEAD": head.astype("<i4").tobytes(),
            "RAWS": np.concatenate(raws).tobytes(),
        }
    )


def tiny_blob(**overrides: Any) -> bytes:
    """The blob; arguments as for tiny_sections."""
    return b.pack(tiny_sections(**overrides))


def random_backbone(shape: tuple[int, int, int], seed: int = 0, modality: str = "image") -> IntegerBackbone:
    """What `tinycl train` would deploy for samples of that shape, with random weights."""
    rng, arch = np.random.RandomState(seed), architecture(shape, modality)
    layers = []
    for conv in arch.layers:
        weight = rng.randn(conv.out_c, *conv.kernels, 1 if conv.depthwise else shape[2])
        gain = np.full(conv.out_c, 1 / np.sqrt(weight[0].size))
        offset = rng.randn(conv.out_c) * 5
        layers.append(integer_conv(weight, gain, offset, shape, conv.stride, conv.pad, not layers, conv.depthwise))
        shape = layers[-1].out_shape
    return IntegerBackbone(tuple(layers), arch.exits)
