# Distillation behind one small interface: METHODS by name, one file each, and `distil_classes` to run one over all classes.

import numpy as np

from ..errors import DataError
from ..model.backbone import IntegerBackbone
from . import dc, dm, frepo, herding, kmeans, uniform
from .base import LABEL_ONE, Distilled, Distiller, JointDistiller, Progress
from .space import SPACES, Space

PER_CLASS: dict[str, Distiller] = {
    "dm": dm.distil,
    "kmeans": kmeans.distil,
    "herding": herding.distil,
    "random": uniform.distil,
}
JOINT: dict[str, JointDistiller] = {"frepo": frepo.distil, "dc": dc.distil}  # these see all classes at once
LEARN_LABELS = ("frepo",)
METHODS = (*PER_CLASS, *JOINT)


def distil_classes(
    method: str,
    x: np.ndarray,
    y: np.ndarray,
    per_class: int,
    backbone: IntegerBackbone,
    seed: int = 0,
    progress: Progress | None = None,
    space: str = "input",
    exit_index: int | None = None,
) -> Distilled:
    """Run a method over every class in y (int64 [n]) of x (int8 [n, h, w, c]), ascending.

    space: "input" or "latent", the latter at exit_index (None: the deepest), see Space; samples_for turns bytes into
    per_class. Returns samples, int8 [classes * per_class, h, w, c] or [classes * per_class, features], their labels as in y,
    and learned labels or None (Distilled). `progress(done, total)` runs over all classes. Raises DataError for an unknown
    method, space or exit, or a class with fewer than per_class samples.
    """
    _known(method)
    where = Space(backbone, space, exit_index)
    names, position = np.unique(y, return_inverse=True)
    real = where.take(x)
    if method in JOINT:
        made = JOINT[method](real, position, per_class, where, seed, progress)
        return made._replace(y=names[made.y])
    samples = []
    for i in range(len(names)):

        def report(done: int, total: int, i: int = i) -> None:
            if progress:
                progress(i * total + done, len(names) * total)

        samples.append(PER_CLASS[method](real[position == i], per_class, where, seed, report))
    return Distilled(np.concatenate(samples), np.repeat(names, per_class))


def samples_for(
    method: str, budget_bytes: int, classes: int, backbone: IntegerBackbone, space: str = "input", exit_index: int | None = None
) -> int:
    """per_class for distil_classes so that the samples of all classes, learned labels included, take at most budget_bytes.
    DataError where that is less than one sample of each class, or for an unknown method."""
    _known(method)
    return Space(backbone, space, exit_index).per_class(budget_bytes, classes, classes if method in LEARN_LABELS else 0)


def _known(method: str) -> None:
    if method not in METHODS:
        raise DataError(f"distillation method '{method}' is not one of the {len(METHODS)}: take {', '.join(METHODS)}")


__all__ = [
    "JOINT",
    "LABEL_ONE",
    "LEARN_LABELS",
    "METHODS",
    "PER_CLASS",
    "SPACES",
    "Distilled",
    "Distiller",
    "JointDistiller",
    "Progress",
    "Space",
    "distil_classes",
    "samples_for",
]
