# k-means on latents: one real sample nearest to each centroid, or the centroids. Also where distribution matching starts from.
# Seeding: k-means++ (Arthur and Vassilvitskii, SODA 2007); then Lloyd's iterations. Depends on NumPy only.

import numpy as np

from .base import Progress, check_enough
from .space import Space

ROUNDS = 30


def distil(x: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None) -> np.ndarray:
    """See base.Distiller. In latent space the centroids themselves, which need not be anybody's latents."""
    made, _ = around(x, space.latents(x), per_class, space, seed)
    if progress:
        progress(1, 1)
    return made


def around(x: np.ndarray, latents: np.ndarray, per_class: int, space: Space, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(samples of the space, centroids float64 [per_class, d]): what stands for the clusters of x with these latents [n, d].
    Where the methods that learn samples start."""
    check_enough(x, per_class)
    centroids, _ = cluster(latents, per_class, seed)
    return np.rint(centroids).astype(np.int8) if space.kind == "latent" else x[nearest_each(latents, centroids)], centroids


def around_each(x: np.ndarray, y: np.ndarray, latents: np.ndarray, per_class: int, space: Space, seed: int) -> np.ndarray:
    """The same for classes 0, 1, 2, … of y, class after class: int8 [classes * per_class, *space.shape]."""
    parts = (y == c for c in range(int(y.max()) + 1))
    return np.concatenate([around(x[mine], latents[mine], per_class, space, seed)[0] for mine in parts])


def cluster(latents: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means of latents [n, d] into `count` clusters, none of them empty.

    Returns (centroids float64 [count, d], cluster of each row int64 [n]).
    """
    z = latents.astype(np.float64)
    centroids = z[_spread(z, count, np.random.RandomState(seed))]
    member = _assign(z, centroids)
    for _ in range(ROUNDS):
        one_hot = np.eye(count)[member]
        centroids = (one_hot.T @ z) / one_hot.sum(axis=0)[:, None]
        before, member = member, _assign(z, centroids)
        if np.array_equal(before, member):
            break
    return centroids, member


def nearest_each(latents: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """For each centroid [k, d] the index of the nearest row of `latents` [n, d] that no centroid before it has taken: [k]."""
    distance = _distance(latents.astype(np.float64), centroids)
    chosen = np.empty(len(centroids), dtype=np.int64)
    for k in range(len(centroids)):
        chosen[k] = distance[:, k].argmin()
        distance[chosen[k]] = np.inf
    return chosen


def _distance(z: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    squares = (z**2).sum(axis=1)[:, None] - 2 * (z @ centroids.T) + (centroids**2).sum(axis=1)
    return np.maximum(squares, 0)


def _assign(z: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    distance = _distance(z, centroids)
    member = distance.argmin(axis=1)
    own = distance[np.arange(len(z)), member]
    for k in range(len(centroids)):  # a cluster that lost all its rows takes the row that fits worst where it is
        if not (member == k).any():
            crowded = np.bincount(member, minlength=len(centroids))[member] > 1
            row = np.where(crowded, own, -1).argmax()
            member[row], own[row] = k, 0
    return member


def _spread(z: np.ndarray, count: int, rng: np.random.RandomState) -> np.ndarray:
    chosen = [int(rng.randint(len(z)))]
    distance = _distance(z, z[chosen])[:, 0]
    while len(chosen) < count:
        total = distance.sum()
        # all rows equal to a chosen one: any row will do, the clusters are refilled by _assign
        row = int(rng.choice(len(z), p=distance / total)) if total > 0 else int(rng.randint(len(z)))
        chosen.append(row)
        distance = np.minimum(distance, _distance(z, z[[row]])[:, 0])
    return np.array(chosen)
