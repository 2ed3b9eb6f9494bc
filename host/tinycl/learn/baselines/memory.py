"""A memory of latents within a fixed number of samples, shared evenly by the classes in it. Depends on NumPy only."""

import numpy as np


class Memory:
    """int8 latents [n, inputs] and a row of one byte for each. Two rules of what stays:

    reservoir: each class keeps a uniform random subset of all its samples (Chrysakis and Moens, ICML 2020, class-balanced
    reservoir sampling); otherwise greedy as in GDumb (Prabhu et al., ECCV 2020, algorithm 1): the first samples stay, and room
    for a new class is made by removing random ones of the largest class.
    """

    def __init__(self, inputs: int, capacity: int, rng: np.random.Generator, reservoir: bool = True) -> None:
        self.capacity = capacity
        self.rng = rng
        self.reservoir = reservoir
        self.latents = np.empty((0, inputs), np.int8)
        self.rows = np.empty(0, np.int64)

    @property
    def bytes(self) -> int:
        return self.latents.nbytes + len(self.rows)

    def add(self, latents: np.ndarray, rows: np.ndarray) -> None:
        """Takes samples of classes that are not in it yet: int8 [n, inputs], int64 [n]."""
        kept = [np.flatnonzero(self.rows == k) for k in np.unique(self.rows)]
        new = [np.flatnonzero(rows == k) + len(self.rows) for k in np.unique(rows)]
        if self.reservoir:  # a random subset of a random subset is one of the whole
            new = [self.rng.permutation(group) for group in new]
        kept = [self.rng.permutation(group) for group in kept]
        shares = quotas([len(group) for group in kept + new], self.capacity)
        chosen = np.sort(np.concatenate([group[:n] for group, n in zip(kept + new, shares, strict=True)]))
        self.latents = np.concatenate([self.latents, latents])[chosen]
        self.rows = np.concatenate([self.rows, rows])[chosen]


def quotas(counts: list[int], capacity: int) -> list[int]:
    """How many of each class stay, the smallest classes whole, so that the largest are as even as can be."""
    left, shares = capacity, [0] * len(counts)
    order = sorted(range(len(counts)), key=lambda k: counts[k])
    for done, k in enumerate(order):
        shares[k] = min(counts[k], left // (len(counts) - done))
        left -= shares[k]
    return shares
