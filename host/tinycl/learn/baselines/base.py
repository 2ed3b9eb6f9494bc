"""The small interface behind which the continual-learning baselines stand, and the checks that all of them share: the same int8
latents, the same stream (base classes at once, then one class at a time), the same bytes. Depends on NumPy only."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from tinycl.errors import BudgetError, SampleError


class Baseline(ABC):
    """A classifier that learns classes as they come.

    inputs: latents of a sample; budget_bytes: the most that it keeps between two calls, model and memory, in the types that a
    board would keep them in; max_classes: the most that will come, for which a model makes room from the start. The same
    arguments and the same stream give the same predictions. Raises BudgetError where the budget is too small.

    macs_trained, macs_predict: multiply-accumulates so far, of all enrolments and of all predictions. Learning the base classes
    is not counted: a host does that before the board starts.
    """

    name: ClassVar[str]
    bounded: ClassVar[bool] = True  # False: an upper bound that keeps what it likes

    def __init__(self, inputs: int, budget_bytes: int, seed: int = 0, max_classes: int = 10) -> None:
        self.inputs = inputs
        self.budget_bytes = budget_bytes
        self.max_classes = max_classes
        self.rng = np.random.default_rng([seed, 0x7C1])
        self.labels: list[int] = []  # row k of every model is class labels[k]
        self.macs_trained = 0
        self.macs_predict = 0

    def base(self, latents: np.ndarray, y: np.ndarray) -> None:
        """Learns the base classes at once: int8 [n, inputs], int64 [n]. First, and once."""
        self._check(latents)
        if self.labels or len(latents) != len(y) or len(y) == 0:
            raise SampleError(f"{len(latents)} latents, {len(y)} labels, {len(self.labels)} classes: call it once, first")
        self._name(np.unique(y).tolist())
        trained = self.macs_trained
        self._learn(latents, np.searchsorted(self.labels, y))
        self.macs_trained = trained
        self._within()

    def enrol(self, latents: np.ndarray, label: int) -> None:
        """Learns one further class from its samples: int8 [n, inputs]."""
        self._check(latents)
        if len(latents) == 0 or not self.labels:
            raise SampleError(f"{len(latents)} samples after {len(self.labels)} classes: give 1 or more, base classes first")
        self._name([label])
        self._learn(latents, np.full(len(latents), len(self.labels) - 1))
        self._within()

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """Labels, int64 [n], of int8 [n, inputs]."""
        self._check(latents)
        self.macs_predict += len(latents) * self.macs_per_prediction
        return np.array(self.labels, np.int64)[self._predict(latents)]

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Everything that is kept now, model and memory: 1 byte a latent or label, 4 a weight, mean or count."""

    @property
    @abstractmethod
    def macs_per_prediction(self) -> int:
        """Multiply-accumulates of one prediction on latents; the backbone's come on top, the same for all methods."""

    @abstractmethod
    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        """Learns samples of new classes; rows: int64 [n], which row of `labels` each is. Counts macs_trained."""

    @abstractmethod
    def _predict(self, latents: np.ndarray) -> np.ndarray:
        """Rows, int64 [n]."""

    def need(self, least: int) -> None:
        """BudgetError unless the budget has so many bytes."""
        if self.budget_bytes < least:
            raise BudgetError(
                f"{self.name} needs {least:,} bytes for {self.max_classes} classes of {self.inputs} latents, the budget is "
                f"{self.budget_bytes:,}: give more, or lower max_classes"
            )

    def _check(self, latents: np.ndarray) -> None:
        if latents.dtype != np.int8 or latents.ndim != 2 or latents.shape[1] != self.inputs:
            raise SampleError(f"latents {latents.dtype} {latents.shape}: give int8 [n, {self.inputs}]")

    def _name(self, labels: list[int]) -> None:
        again = sorted(set(labels) & set(self.labels))
        if again or len(self.labels) + len(labels) > self.max_classes:
            raise SampleError(
                f"classes {labels} after {len(self.labels)} of {self.max_classes}, {len(again)} of them known: give new ones"
            )
        self.labels += labels

    def _within(self) -> None:
        if self.bounded and self.bytes > self.budget_bytes:
            raise BudgetError(f"{self.name} keeps {self.bytes:,} bytes of {self.budget_bytes:,}: give more")
