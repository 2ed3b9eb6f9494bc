# Distillation behind one small interface: METHODS by name, one file each, and `distil_classes` to run one over all classes.

import numpy as np

from ..errors import DataError
from ..model.backbone import IntegerBackbone
from . import dm, herding, kmeans, uniform
from .base import Distiller, Progress

METHODS: dict[str, Distiller] = {
    "dm": dm.distil,
    "kmeans": kmeans.distil,
    "herding": herding.distil,
    "random": uniform.distil,
}


def distil_classes(
    method: str,
    x: np.ndarray,
    y: np.ndarray,
    per_class: int,
    backbone: IntegerBackbone,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Run METHODS[method] over every class in y (int64 [n]) of x (int8 [n, h, w, c]), ascending.

    Returns (int8 [classes * per_class, h, w, c], labels int64). `progress(done, total)` runs over all classes.
    Raises DataError for an unknown method or a class with fewer than per_class samples.
    """
    if method not in METHODS:
        raise DataError(f"distillation method '{method}' is not one of the {len(METHODS)}: take {', '.join(METHODS)}")
    labels = np.unique(y)
    samples = []
    for i, label in enumerate(labels):

        def report(done: int, total: int, i: int = i) -> None:
            if progress:
                progress(i * total + done, len(labels) * total)

        samples.append(METHODS[method](x[y == label], per_class, backbone, seed, report))
    return np.concatenate(samples), np.repeat(labels, per_class)


__all__ = ["METHODS", "Distiller", "Progress", "distil_classes"]
