# What the methods that learn samples share: gradient descent on int8 values. Depends on PyTorch.

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .base import Progress

STEPS = 150
LEARNING_RATE = 4.0  # int8 units
REPORT_EVERY = 10


def rounded(values: Tensor) -> Tensor:
    """Rounded on the way in, so that what is matched is what int8 will give; the gradient passes straight through."""
    return values + (values.round() - values).detach()


def descend(
    start: np.ndarray,
    loss: Callable[[Tensor], Tensor],
    steps: int,
    progress: Progress | None = None,
    others: tuple[tuple[Tensor, float], ...] = (),
    rate: float = LEARNING_RATE,
) -> np.ndarray:
    """Adam with a cosine schedule on samples that start at `start` (int8) and stay within 0..127, as int8 again.

    others: tensors that are learned with them, each with a rate of its own. progress counts steps.
    """
    values = torch.from_numpy(start.astype(np.float32)).requires_grad_()
    groups = [{"params": [values], "lr": rate}, *({"params": [one], "lr": lr} for one, lr in others)]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        optimiser.zero_grad()
        loss(rounded(values)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            values.clamp_(0, 127)
        if progress and ((step + 1) % REPORT_EVERY == 0 or step + 1 == steps):
            progress(step + 1, steps)
    return values.detach().round().numpy().astype(np.int8)
