"""k nearest neighbours among the stored samples, a class-balanced reservoir: nothing is trained. Depends on NumPy only."""

import numpy as np

from .base import Baseline
from .memory import Memory

K = 5
PART = 256  # samples at a time: bounds the matrix of distances


class NearestNeighbours(Baseline):
    name = "kNN"

    def __init__(self, inputs: int, budget_bytes: int, seed: int = 0, max_classes: int = 10) -> None:
        super().__init__(inputs, budget_bytes, seed, max_classes)
        self.need(max_classes * (inputs + 1))
        self.memory = Memory(inputs, budget_bytes // (inputs + 1), self.rng)

    @property
    def bytes(self) -> int:
        return self.memory.bytes

    @property
    def macs_per_prediction(self) -> int:
        return self.memory.latents.size

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        self.memory.add(latents, rows)

    def _predict(self, latents: np.ndarray) -> np.ndarray:
        """The majority of the K nearest; the nearest of the tied classes wins."""
        stored = self.memory.latents.astype(np.float32)
        squares = (stored**2).sum(1)
        k = min(K, len(stored))
        out = np.empty(len(latents), np.int64)
        for at in range(0, len(latents), PART):
            distance = squares - 2 * latents[at : at + PART].astype(np.float32) @ stored.T
            near = self.memory.rows[np.argsort(distance, axis=1, kind="stable")[:, :k]]
            votes = (near[:, :, None] == near[:, None, :]).sum(2)  # for each neighbour, how many agree with it
            out[at : at + PART] = near[np.arange(len(near)), votes.argmax(1)]
        return out
