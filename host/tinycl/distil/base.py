# The interface that all distillation methods share, and the check that comes before each. Depends on NumPy only.

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..errors import DataError
from ..model.backbone import IntegerBackbone

Progress = Callable[[int, int], None]


class Distiller(Protocol):
    """One method: condenses the samples of ONE class into a few, in input space.

    x: int8 [n, h, w, c], real samples of one class. Returns int8 [per_class, h, w, c]. The same arguments give the same
    result. `progress(done, total)` is called at least once, at the end. Raises DataError when n < per_class.
    """

    def __call__(
        self, x: np.ndarray, per_class: int, backbone: IntegerBackbone, seed: int = 0, progress: Progress | None = None
    ) -> np.ndarray: ...


def check_enough(x: np.ndarray, per_class: int) -> None:
    """Raise DataError unless 1 <= per_class <= len(x)."""
    if not 1 <= per_class <= len(x):
        raise DataError(f"a class has {len(x)} real samples, {per_class} distilled ones were asked for: ask for 1 to {len(x)}")
