"""Fine-tuning: the head goes on training on the new class alone. The lower bound: it forgets. Depends on NumPy only."""

import numpy as np

from .base import Baseline
from .softmax import SoftmaxHead


class FineTuning(Baseline):
    name = "fine-tuning"

    def __init__(self, inputs: int, budget_bytes: int, seed: int = 0, max_classes: int = 10) -> None:
        super().__init__(inputs, budget_bytes, seed, max_classes)
        self.need(SoftmaxHead.room(inputs, max_classes))
        self.head = SoftmaxHead(inputs)

    @property
    def bytes(self) -> int:
        return self.head.bytes

    @property
    def macs_per_prediction(self) -> int:
        return self.head.macs

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        self.head.grow(len(self.labels))
        self.macs_trained += self.head.train(latents, rows, self.rng)

    def _predict(self, latents: np.ndarray) -> np.ndarray:
        return self.head.predict(latents)
