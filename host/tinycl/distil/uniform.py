# Random selection: real samples drawn evenly without replacement. The baseline that every other method has to beat.

import numpy as np

from .base import Progress, check_enough
from .space import Space


def distil(x: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None) -> np.ndarray:
    """See base.Distiller; the backbone is not used."""
    check_enough(x, per_class)
    chosen = np.random.RandomState(seed).permutation(len(x))[:per_class]
    if progress:
        progress(1, 1)
    return x[chosen].copy()
