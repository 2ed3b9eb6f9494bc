"""Heads trained on the host: the base classes' own, which the board starts from, and the joint baseline, which has seen
everything. Both see the deployed int8 latents. Depends on PyTorch."""

from collections.abc import Callable

import numpy as np
import torch

from tinycl.model.train import deterministic
from tinycl.shared import fixed as f

Progress = Callable[[int, int], None]


class Head(torch.nn.Module):
    """The board's head in float32: logits = W [1; x; h], h = clamp(U [1; x] / 2, 0, 127/128); x = latents / 128."""

    def __init__(self, inputs: int, classes: int, hidden: int = 0):
        super().__init__()
        self.linear = torch.nn.Linear(inputs, classes)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)
        self.hidden = torch.nn.Linear(inputs, hidden) if hidden else None
        self.last = torch.nn.Linear(hidden, classes, bias=False) if hidden else None
        if self.hidden is not None and self.last is not None:
            torch.nn.init.uniform_(self.hidden.weight, -0.5, 0.5)
            torch.nn.init.zeros_(self.hidden.bias)
            torch.nn.init.zeros_(self.last.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.linear(x)
        if self.hidden is not None and self.last is not None:
            z = z + self.last((self.hidden(x) / 2).clamp(0, 127 / 128))
        return z


def train_head(
    latents: np.ndarray,
    y: np.ndarray,
    classes: int,
    hidden: int = 0,
    epochs: int = 60,
    seed: int = 0,
    weight_decay: float = 1e-4,
    progress: Progress | None = None,
) -> Head:
    """Adam with a cosine schedule on cross-entropy. latents int8 [n, inputs], y int64 [n]; progress counts epochs."""
    with deterministic(seed):
        return _train(latents, y, classes, hidden, epochs, weight_decay, progress)


def _train(
    latents: np.ndarray, y: np.ndarray, classes: int, hidden: int, epochs: int, weight_decay: float, progress: Progress | None
) -> Head:
    head = Head(latents.shape[1], classes, hidden)
    x = torch.from_numpy(latents.astype(np.float32) / 128)
    labels = torch.from_numpy(np.asarray(y, np.int64))
    batch = min(256, max(16, len(x) // 20))
    steps = epochs * -(-len(x) // batch)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        for part in torch.randperm(len(x)).split(batch):
            loss = torch.nn.functional.cross_entropy(head(x[part]), labels[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        if progress:
            progress(epoch + 1, epochs)
    return head


def ridge_head(latents: np.ndarray, labels: np.ndarray, ridge: float = 1e-3, scale: float = 8.0) -> Head:
    """A linear head by ridge regression to learned labels, as FRePo trains on what it distils (arXiv 2206.00719, equation 4).

    latents int8 [n, inputs], labels float or int8 [n, classes] in any unit; ridge: times the mean of the kernel's diagonal.
    The largest label becomes a logit of `scale`, so that a softmax is sure of it and training on the board can go on.
    """
    x = latents.astype(np.float64) / 128
    kernel = x @ x.T + 1
    y = labels.astype(np.float64) * (scale / max(1e-9, float(np.abs(labels).max())))
    dual = np.linalg.solve(kernel + ridge * kernel.diagonal().mean() * np.eye(len(x)), y)
    head = Head(latents.shape[1], labels.shape[1])
    with torch.no_grad():
        head.linear.weight[:] = torch.from_numpy(dual.T @ x)
        head.linear.bias[:] = torch.from_numpy(dual.sum(0))
    return head


def accuracy(head: Head, latents: np.ndarray, y: np.ndarray) -> float:
    """Share of samples that the head gets right."""
    with torch.no_grad():
        z = head(torch.from_numpy(latents.astype(np.float32) / 128))
    return float((z.argmax(1).numpy() == y).mean())


def to_fixed(head: Head) -> np.ndarray:
    """A linear head as the board's int32 rows [classes, 1 + inputs], bias first, W_FRAC fraction bits, clamped to W_MAX."""
    bias = head.linear.bias.detach().numpy()[:, None] * (128 / f.BIAS_INPUT)
    rows = np.concatenate([bias, head.linear.weight.detach().numpy()], 1).astype(np.float64)
    return np.clip(np.rint(rows * (1 << f.W_FRAC)), -f.W_MAX, f.W_MAX).astype(np.int32)
