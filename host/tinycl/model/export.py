"""Everything a board needs, as one blob (shared/BLOB.md): backbone, ladder, base head, synthetic samples, names, settings."""

from dataclasses import dataclass

import numpy as np

from tinycl.errors import ModelError
from tinycl.model.backbone import ConvLayer, IntegerBackbone
from tinycl.shared import blob as b
from tinycl.shared.plan import add_plan


@dataclass(frozen=True)
class Settings:
    """What the board is told about learning. The paper leaves all of it open, so these are ours; see README.

    per_class: replay samples kept of each class; max_classes, max_samples: the most that the board makes room for;
    target: validation accuracy below which the model grows; epochs, patience: of one training; shift_first, shift_last:
    the learning rate goes from 2**(2 - shift_first) to 2**(2 - shift_last); holdout_every: every so many-th sample of a
    class is validated on; refit_epochs: epochs on all samples once the rung is decided; early_epochs: epochs of the first
    exit's own head, at which samples may leave once the model has grown beyond it (0: none does).
    """

    per_class: int = 15
    max_classes: int = 10
    max_samples: int = 15
    target: float = 0.9
    epochs: int = 20
    patience: int = 4
    shift_first: int = 5
    shift_last: int = 7
    holdout_every: int = 5
    refit_epochs: int = 8
    early_epochs: int = 8
    seed: int = 1


LADDER = ((0, 0), (0, 16), (0, 32), (1, 32))  # (exit, hidden units): each a growth rung, from linear to the fixed large model


def rungs(backbone: IntegerBackbone, classes: int, ladder: tuple[tuple[int, int], ...] = LADDER) -> np.ndarray:
    """RUNG as int32 [rungs, 4]: exit, hidden units, inputs of the head, MACs of one inference with that many classes."""
    table = []
    for leave, hidden in ladder:
        if leave < len(backbone.exits):
            inputs = backbone.features(leave)
            macs = backbone.macs(leave) + classes * (1 + inputs + hidden) + hidden * (1 + inputs)
            table.append((leave, hidden, inputs, macs))
    return np.array(table, np.int32)


def export(
    backbone: IntegerBackbone,
    head: np.ndarray,
    synthetic: np.ndarray,
    names: list[str],
    dataset: str,
    low: float,
    high: float,
    settings: Settings,
    ladder: tuple[tuple[int, int], ...] = LADDER,
) -> bytes:
    """The blob.

    head: int32 [base classes, 1 + inputs of exit 0], bias first, W_FRAC fraction bits; synthetic: int8
    [base classes, per class, h, w, c], 0..127; low, high: the raw range that maps to it. Raises ModelError or FormatError.
    """
    classes, per_class = synthetic.shape[:2]
    if head.shape != (classes, 1 + backbone.features(0)) or len(names) != classes:
        raise ModelError(f"a head of {head.shape} and {len(names)} names for {classes} classes: give one row and name each")
    layers, weights, quant = _layers(backbone)
    exits = [(e.layer_count, e.pool_k, n, backbone.macs(i)) for i, (e, n) in enumerate(_exits(backbone))]
    h, w, c = backbone.in_shape
    meta = b.pack_meta(
        in_h=h,
        in_w=w,
        in_c=c,
        base_classes=classes,
        max_classes=settings.max_classes,
        base_per_class=per_class,
        per_class=settings.per_class,
        max_samples=settings.max_samples,
        q_low=0,
        q_high=127,
        target_permille=round(settings.target * 1000),
        epochs=settings.epochs,
        patience=settings.patience,
        shift_first=settings.shift_first,
        shift_last=settings.shift_last,
        low=low,
        high=high,
        seed=settings.seed,
        holdout_every=settings.holdout_every,
        refit_epochs=settings.refit_epochs,
        early_epochs=settings.early_epochs,
        dataset=dataset.encode()[:23].decode(errors="ignore").encode(),
    )
    sections = add_plan(
        {
            "META": meta,
            "NAME": b.pack_names(names),
            "LAYR": _little(layers),
            "EXIT": _little(np.array(exits)),
            "RUNG": _little(rungs(backbone, settings.max_classes, ladder)),
            "WGHT": weights.astype(np.int8).tobytes(),
            "QUAN": _little(quant),
            "HEAD": _little(head),
            "RAWS": synthetic.astype(np.int8).tobytes(),
        }
    )
    return b.pack(sections)


def _exits(backbone: IntegerBackbone):
    return zip(backbone.exits, backbone.latent_sizes, strict=True)


def _little(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, "<i4").tobytes()


def _layers(backbone: IntegerBackbone) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.zeros((len(backbone.layers), b.LAYER_INTS), np.int32)
    weights: list[np.ndarray] = []
    quant: list[np.ndarray] = []
    w_at = q_at = 0
    for row, layer in zip(table, backbone.layers, strict=True):
        row[b.IN_H : b.OUT_C + 1] = (*layer.in_shape, *layer.out_shape)
        if isinstance(layer, ConvLayer):
            out_c, k_h, k_w, _ = layer.w.shape
            row[b.OP] = b.DEPTHWISE2D if layer.depthwise else b.CONV2D
            row[b.KERNEL], row[b.KERNEL_W] = k_h, 0 if k_w == k_h else k_w
            row[b.STRIDE], row[b.PAD] = layer.stride, layer.pad
            row[b.SHIFT1], row[b.SHIFT2], row[b.W_AT], row[b.Q_AT] = layer.shift1, layer.shift2, w_at, q_at
            weights.append(layer.w.reshape(-1))
            quant.append(np.stack([layer.bias, layer.mult], 1).reshape(-1))
            w_at += layer.w.size
            q_at += 2 * out_c
        else:
            row[b.OP], row[b.KERNEL], row[b.STRIDE] = b.MAXPOOL2D, layer.k, layer.k
    return table, np.concatenate(weights), np.concatenate(quant)
