# Where distilled samples live: as inputs, which people can see and a deeper exit can still read, or as latents of one exit,
# which is the smallest that a replay memory can hold. Distillers work in either. Depends on PyTorch only to embed.

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..model.backbone import IntegerBackbone

if TYPE_CHECKING:
    from torch import Tensor

SPACES = ("input", "latent")


@dataclass(frozen=True)
class Space:
    """`kind`: "input" (int8 [n, h, w, c]) or "latent" (int8 [n, features of the exit]); exit_index: how deep the embedding
    goes that methods match in, None for the deepest exit. Raises DataError for another kind or an exit that is not there."""

    backbone: IntegerBackbone
    kind: str = "input"
    exit_index: int | None = None

    def __post_init__(self) -> None:
        exits = len(self.backbone.exits)
        if self.kind not in SPACES:
            raise DataError(f"space '{self.kind}' is not one of the {len(SPACES)}: take {' or '.join(SPACES)}")
        if self.exit_index is not None and not 0 <= self.exit_index < exits:
            raise DataError(f"exit {self.exit_index} of a backbone with {exits}: take 0 to {exits - 1}")

    @property
    def features(self) -> int:
        """Latents of one sample up to the exit."""
        last = len(self.backbone.exits) - 1
        return self.backbone.features(last if self.exit_index is None else self.exit_index)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Features of each head that the samples must serve: of every exit up to this one; latents serve their own only."""
        every = [self.backbone.features(e) for e in range(len(self.backbone.exits))]
        return (self.features,) if self.kind == "latent" else tuple(n for n in every if n <= self.features)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample in this space."""
        return self.backbone.in_shape if self.kind == "input" else (self.features,)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in this space."""
        return prod(self.shape)

    def take(self, x: np.ndarray) -> np.ndarray:
        """Real inputs, int8 [n, h, w, c], as samples of this space: int8 [n, *shape]."""
        return x if self.kind == "input" else self.latents(x)

    def latents(self, samples: np.ndarray) -> np.ndarray:
        """int8 [n, features]: what a head sees of samples of this space (or of real inputs), in the board's integers."""
        if samples.ndim == 2:
            return samples
        return self.backbone.forward(samples)[:, : self.features]

    def embedding(self) -> "Callable[[Tensor], Tensor]":
        """The same as a differentiable function: float [n, *shape] in int8 units -> float [n, features]."""
        if self.kind == "latent":
            return lambda samples: samples
        from ..model.deployed import DeployedBackbone

        embed = DeployedBackbone(self.backbone)
        return lambda samples: embed(samples)[:, : self.features]

    def per_class(self, budget_bytes: int, classes: int, label_bytes: int = 0) -> int:
        """Samples of each class that so many bytes hold; label_bytes: of one sample's learned label, counted as well.
        DataError where that is none."""
        each = self.sample_bytes + label_bytes
        count = budget_bytes // (classes * each)
        if count < 1:
            raise DataError(
                f"{budget_bytes} bytes for {classes} classes, one {self.kind} sample of each needs {classes * each}: give more"
            )
        return count
