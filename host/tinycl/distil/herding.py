# Herding: real samples, picked one by one so that the mean of their latents stays nearest to the class mean
# (Welling, ICML 2009; iCaRL, arXiv 1611.07725, algorithm 4; here without its normalisation, as the board's head sees no such).

import numpy as np

from .base import Progress, check_enough
from .space import Space


def distil(x: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None) -> np.ndarray:
    """See base.Distiller; nothing is drawn, so the seed is not used."""
    check_enough(x, per_class)
    chosen = herd(space.latents(x), per_class)
    if progress:
        progress(1, 1)
    return x[chosen].copy()


def herd(latents: np.ndarray, count: int) -> np.ndarray:
    """Indices [count] of the rows of `latents` [n, d] in the order of picking; a tie goes to the lower index."""
    z = latents.astype(np.float64)
    mean, total = z.mean(axis=0), np.zeros(z.shape[1])
    free = np.ones(len(z), dtype=bool)
    chosen = np.empty(count, dtype=np.int64)
    for k in range(count):
        distance = ((mean - (total + z) / (k + 1)) ** 2).sum(axis=1)
        chosen[k] = np.where(free, distance, np.inf).argmin()
        total += z[chosen[k]]
        free[chosen[k]] = False
    return chosen
