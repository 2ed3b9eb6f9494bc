"""Deep streaming linear discriminant analysis (Hayes and Kanan, arXiv 1909.01520): a running mean of each class and one running
covariance of all, shrunk towards the identity. Depends on NumPy only."""

import numpy as np

from .base import Baseline

SHRINKAGE = 1e-4  # epsilon of section 3.2, on latents / 128


class SLDA(Baseline):
    """`full`: whether the covariance is whole, 4 * inputs^2 bytes. Where the budget does not hold that, only its diagonal is
    kept, and tables have to say so."""

    name = "SLDA"

    def __init__(self, inputs: int, budget_bytes: int, seed: int = 0, max_classes: int = 10) -> None:
        super().__init__(inputs, budget_bytes, seed, max_classes)
        classes = 4 * max_classes * (2 * inputs + 2)  # means and counts, weights and biases
        self.full = budget_bytes >= classes + 4 * inputs**2
        if not self.full:
            self.need(classes + 4 * inputs)
        self.covariance = np.zeros((inputs, inputs) if self.full else inputs, np.float32)
        self.means = np.zeros((0, inputs), np.float32)
        self.counts = np.zeros(0, np.int32)
        self.weights = np.zeros((0, inputs), np.float32)
        self.biases = np.zeros(0, np.float32)

    @property
    def bytes(self) -> int:
        return sum(a.nbytes for a in (self.covariance, self.means, self.counts, self.weights, self.biases))

    @property
    def macs_per_prediction(self) -> int:
        return self.weights.size + len(self.biases)

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        x = latents.astype(np.float32) / 128
        more = len(self.labels) - len(self.counts)
        self.means = np.concatenate([self.means, np.zeros((more, self.inputs), np.float32)])
        self.counts = np.concatenate([self.counts, np.zeros(more, np.int32)])
        for k in np.unique(rows):
            self._stream(x[rows == k], int(k))
        self._solve()

    def _stream(self, x: np.ndarray, k: int) -> None:
        """Equations 2 and 3 over the samples of a class that is new. One by one they add up to its scatter around its mean
        exactly, so that is computed at once: sum of i / (i + 1) (x_i - m_i)(x_i - m_i)^T = sum of (x_i - m)(x_i - m)^T."""
        seen = int(self.counts.sum())
        self.means[k] = x.mean(0, dtype=np.float64)
        self.counts[k] = len(x)
        off = (x - self.means[k]).astype(np.float64)
        scatter = off.T @ off if self.full else (off**2).sum(0)
        self.covariance[:] = (seen * self.covariance.astype(np.float64) + scatter) / (seen + len(x))
        self.macs_trained += len(x) * (self.inputs + self.covariance.size)

    def _solve(self) -> None:
        """Equation 4: weights = precision @ means, biases = -1/2 <means, weights>."""
        shrunk = (1 - SHRINKAGE) * self.covariance.astype(np.float64)
        means = self.means.astype(np.float64)
        if self.full:
            weights = np.linalg.solve(shrunk + SHRINKAGE * np.eye(self.inputs), means.T).T
            self.macs_trained += self.inputs**3 // 3 + len(means) * self.inputs**2
        else:
            weights = means / (shrunk + SHRINKAGE)
            self.macs_trained += means.size
        self.weights = weights.astype(np.float32)
        self.biases = (-0.5 * (means * weights).sum(1)).astype(np.float32)

    def _predict(self, latents: np.ndarray) -> np.ndarray:
        return (latents.astype(np.float32) / 128 @ self.weights.T + self.biases).argmax(1)
