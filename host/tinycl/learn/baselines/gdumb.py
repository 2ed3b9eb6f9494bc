"""GDumb (Prabhu, Torr and Dokania, ECCV 2020): a greedy balanced memory, and a head trained on it from scratch whenever one
is asked for. Depends on NumPy only."""

import numpy as np

from .replay import ExperienceReplay
from .softmax import SoftmaxHead


class GDumb(ExperienceReplay):
    name = "GDumb"
    reservoir = False

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        self.memory.add(latents, rows)
        self.head = SoftmaxHead(self.inputs)
        self.head.grow(len(self.labels))
        self.macs_trained += self.head.train(self.memory.latents, self.memory.rows, self.rng)
