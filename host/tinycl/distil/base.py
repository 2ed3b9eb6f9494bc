# The interfaces that all distillation methods share, and the check that comes before each. Depends on NumPy only.

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import DataError
from .space import Space

Progress = Callable[[int, int], None]
LABEL_ONE = 64  # a learned label of 1.0; int8 so reaches almost 2


class Distilled(NamedTuple):
    """samples: int8 [classes * per_class, *space.shape], class after class; y: their classes, int64; labels: learned int8
    labels [n, classes], LABEL_ONE stands for 1.0, or None where the method learns none (learn.heads.ridge_head takes them)."""

    samples: np.ndarray
    y: np.ndarray
    labels: np.ndarray | None = None


class Distiller(Protocol):
    """A method that condenses the samples of ONE class into a few.

    x: int8 [n, *space.shape], real samples of one class (space.take). Returns int8 [per_class, *space.shape], within 0..127
    where the method makes values of its own. The same arguments give the same result. `progress(done, total)` is called at
    least once, at the end. Raises DataError when n < per_class.
    """

    def __call__(
        self, x: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None
    ) -> np.ndarray: ...


class JointDistiller(Protocol):
    """A method that has to see all classes at once. As Distiller, with y: int64 [n], classes 0, 1, 2, … each there."""

    def __call__(
        self, x: np.ndarray, y: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None
    ) -> Distilled: ...


def check_enough(x: np.ndarray, per_class: int) -> None:
    """Raise DataError unless 1 <= per_class <= len(x)."""
    if not 1 <= per_class <= len(x):
        raise DataError(f"a class has {len(x)} real samples, {per_class} distilled ones were asked for: ask for 1 to {len(x)}")
