"""Joint training: keeps every sample and trains from scratch on all of them. The upper bound: no budget holds it.
Depends on NumPy only."""

import numpy as np

from .base import Baseline
from .softmax import SoftmaxHead


class Joint(Baseline):
    name = "joint training"
    bounded = False

    def __init__(self, inputs: int, budget_bytes: int = 0, seed: int = 0, max_classes: int = 10) -> None:
        super().__init__(inputs, budget_bytes, seed, max_classes)
        self.head = SoftmaxHead(inputs)
        self.latents = np.empty((0, inputs), np.int8)
        self.rows = np.empty(0, np.int64)

    @property
    def bytes(self) -> int:
        return self.head.bytes + self.latents.nbytes + len(self.rows)

    @property
    def macs_per_prediction(self) -> int:
        return self.head.macs

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        self.latents, self.rows = np.concatenate([self.latents, latents]), np.concatenate([self.rows, rows])
        self.head = SoftmaxHead(self.inputs)
        self.head.grow(len(self.labels))
        self.macs_trained += self.head.train(self.latents, self.rows, self.rng)

    def _predict(self, latents: np.ndarray) -> np.ndarray:
        return self.head.predict(latents)
