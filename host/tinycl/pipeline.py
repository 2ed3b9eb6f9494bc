"""The host's steps from data to blob, each a function that the command line and the demo share."""

from dataclasses import replace

import numpy as np

from tinycl.data import Dataset, gather, take, to_int8
from tinycl.distil import distil_classes
from tinycl.errors import DataError, UnknownClass, UserError
from tinycl.learn.heads import to_fixed, train_head
from tinycl.model.backbone import IntegerBackbone
from tinycl.model.export import LADDER, Settings, export
from tinycl.model.train import train_backbone
from tinycl.progress import Update


def split_classes(data: Dataset, base_count: int | None, seed: int) -> tuple[list[int], list[int]]:
    """(base labels, unseen labels). Data sets with an order of their own keep it; in the others the seed deals the classes."""
    count = base_count or data.base_count or max(2, round(0.6 * len(data.classes)))
    if not 2 <= count < len(data.classes):
        raise UserError(f"{count} base classes of {len(data.classes)}: --base takes 2 to {len(data.classes) - 1}")
    order = np.arange(len(data.classes))
    if data.shuffle_classes:
        order = np.random.default_rng([seed, len(order)]).permutation(order)
    return [int(c) for c in order[:count]], [int(c) for c in order[count:]]


def pick_classes(data: Dataset, unseen: list[int], names: tuple[str, ...]) -> list[int]:
    """The labels of the unseen classes called `names`, in their order; all of them where none is named."""
    known = [data.classes[c] for c in unseen]
    for i, name in enumerate(names):
        if name not in known:
            raise UnknownClass(
                f"{data.name} has no unseen class '{name}' ({len(known)} classes: {', '.join(known)}): choose one of them"
            )
        if name in names[:i]:
            raise UserError(f"class '{name}' is named {names.count(name)} times: name each class once in --classes")
    return [unseen[known.index(name)] for name in names] or unseen


def check_per_class(data: Dataset, base: list[int], per_class: int) -> None:
    """DataError where a base class has fewer samples than are to be distilled from it."""
    count, label = min((int((data.y_train == c).sum()), c) for c in base)
    if per_class > count:
        raise DataError(
            f"base class '{data.classes[label]}' has {count} samples, {per_class} distilled ones were asked for: "
            f"lower --per-class to {count} or less"
        )


def base_samples(data: Dataset, base: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(int8 samples [n, h, w, c], labels 0..len(base) - 1 in the order of `base`) of the base classes' training part."""
    position = np.full(len(data.classes), -1)
    position[base] = np.arange(len(base))
    mine = position[data.y_train] >= 0
    return gather(data.x_train, mine, data.low, data.high), position[data.y_train[mine]]


def make_backbone(data: Dataset, base: list[int], seed: int, progress: Update) -> IntegerBackbone:
    """Trained on the base classes only, quantised to int8."""
    x, y = base_samples(data, base)
    return train_backbone(x, y, seed=seed, progress=progress, modality=data.modality)


def make_synthetic(
    data: Dataset, base: list[int], backbone: IntegerBackbone, method: str, per_class: int, seed: int, progress: Update
) -> np.ndarray:
    """Synthetic samples of the base classes, int8 [classes, per_class, h, w, c]."""
    check_per_class(data, base, per_class)
    x, y = base_samples(data, base)
    made = distil_classes(method, x, y, per_class, backbone, seed, progress).samples
    return made.reshape(len(base), per_class, *made.shape[1:])


def make_blob(
    data: Dataset,
    base: list[int],
    backbone: IntegerBackbone,
    synthetic: np.ndarray,
    settings: Settings,
    ladder: tuple[tuple[int, int], ...] = LADDER,
    progress: Update | None = None,
) -> bytes:
    """The blob, with a base head trained on the latents of all base samples."""
    x, y = base_samples(data, base)
    head = train_head(backbone.forward(x)[:, : backbone.features(0)], y, len(base), seed=settings.seed, progress=progress)
    names = [data.classes[c] for c in base]
    return export(backbone, to_fixed(head), synthetic, names, data.name, data.low, data.high, settings, ladder)


def new_samples(data: Dataset, label: int, count: int, seed: int) -> np.ndarray:
    """`count` training samples of one class as int8 [count, h, w, c]; DataError where there are too few."""
    x, _ = take(data, count, [label], seed)
    return to_int8(x, data.low, data.high)


def with_room(settings: Settings, classes: int, samples: int, base_per_class: int) -> Settings:
    """Settings with room for so many classes, samples per enrolment, and synthetic samples per base class."""
    per_class = max(settings.per_class, base_per_class)
    return replace(settings, max_classes=classes, max_samples=max(2, samples), per_class=per_class)
