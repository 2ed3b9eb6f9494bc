"""Experience replay with random samples (Rolnick et al., arXiv 1811.11682; Chaudhry et al., arXiv 1902.10486): the head goes on
training on the new class and on a class-balanced reservoir of the old ones. Depends on NumPy only."""

from typing import ClassVar

import numpy as np

from .base import Baseline
from .memory import Memory
from .softmax import SoftmaxHead


class ExperienceReplay(Baseline):
    name = "experience replay"
    reservoir: ClassVar[bool] = True  # which samples of a class stay is drawn; False: the first ones do

    def __init__(self, inputs: int, budget_bytes: int, seed: int = 0, max_classes: int = 10) -> None:
        super().__init__(inputs, budget_bytes, seed, max_classes)
        room = SoftmaxHead.room(inputs, max_classes)
        self.need(room + max_classes * (inputs + 1))
        self.head = SoftmaxHead(inputs)
        self.memory = Memory(inputs, (budget_bytes - room) // (inputs + 1), self.rng, self.reservoir)

    @property
    def bytes(self) -> int:
        return self.head.bytes + self.memory.bytes

    @property
    def macs_per_prediction(self) -> int:
        return self.head.macs

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        self.head.grow(len(self.labels))
        seen = np.concatenate([self.memory.latents, latents]), np.concatenate([self.memory.rows, rows])
        self.macs_trained += self.head.train(*seen, self.rng)
        self.memory.add(latents, rows)

    def _predict(self, latents: np.ndarray) -> np.ndarray:
        return self.head.predict(latents)
