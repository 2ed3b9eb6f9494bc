"""GDumb (Prabhu, Torr and Dokania, ECCV 2020): a greedy balanced memory, and a head trained on it from scratch whenever one
is asked for. Depends on NumPy only."""

import numpy as np

from .base import Baseline
from .memory import Memory
from .softmax import SoftmaxHead


class GDumb(Baseline):
    name = "GDumb"

    def __init__(self, inputs: int, budget_bytes: int, seed: int = 0, max_classes: int = 10) -> None:
        super().__init__(inputs, budget_bytes, seed, max_classes)
        room = SoftmaxHead.room(inputs, max_classes)
        self.need(room + max_classes * (inputs + 1))
        self.head = SoftmaxHead(inputs)
        self.memory = Memory(inputs, (budget_bytes - room) // (inputs + 1), self.rng, reservoir=False)

    @property
    def bytes(self) -> int:
        return self.head.bytes + self.memory.bytes

    @property
    def macs_per_prediction(self) -> int:
        return self.head.macs

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        self.memory.add(latents, rows)
        self.head = SoftmaxHead(self.inputs)
        self.head.grow(len(self.labels))
        self.macs_trained += self.head.train(self.memory.latents, self.memory.rows, self.rng)

    def _predict(self, latents: np.ndarray) -> np.ndarray:
        return self.head.predict(latents)
