# Dataset condensation by gradient matching (Zhao, Mopuri and Bilen, arXiv 2006.05929, algorithm 1): samples are learned so that
# a step of training on them moves the model as a step on the real ones does. The published comparison, on what is trained
# here: the linear head, behind the deployed backbone. Depends on PyTorch.

import numpy as np
import torch
from torch.nn import functional

from ..model.train import deterministic
from . import kmeans
from .base import Distilled, Progress
from .descent import descend
from .space import Space

HEADS, STEPS_PER_HEAD = 10, 20  # outer and inner loop (K and T of the algorithm)
BATCH = 256  # real samples of a class
HEAD_RATE, HEAD_STEPS = 0.5, 5  # training of the head on the synthetic samples between two steps


def distil(
    x: np.ndarray, y: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None
) -> Distilled:
    """See base.JointDistiller; no labels are learned. loss = sum over classes and over the rows of the head of
    1 - cos(gradient on real, gradient on synthetic), equation 9 for a fully connected layer."""
    classes = int(y.max()) + 1
    latents = space.latents(x)
    start = kmeans.around_each(x, y, latents, per_class, space, seed)
    own = np.repeat(np.arange(classes), per_class)
    with deterministic(seed):
        real = [with_bias(torch.from_numpy(latents[y == c].astype(np.float32) / 128)) for c in range(classes)]
        embed = space.embedding()
        step = 0
        head = torch.zeros(classes, space.features + 1)

        def loss(samples: torch.Tensor) -> torch.Tensor:
            nonlocal step, head
            if step % STEPS_PER_HEAD == 0:
                head = torch.randn(classes, space.features + 1) / (space.features + 1) ** 0.5
            step += 1
            made = with_bias(embed(samples) / 128).reshape(classes, per_class, -1)
            total = torch.zeros(())
            for c, mine in enumerate(real):
                batch = mine[torch.randint(len(mine), (min(BATCH, len(mine)),))]
                total = total + (1 - functional.cosine_similarity(gradient(head, batch, c), gradient(head, made[c], c))).sum()
            head = trained(head, made.detach())
            return total

        samples = descend(start, loss, HEADS * STEPS_PER_HEAD, progress)
    return Distilled(samples, own)


def with_bias(latents: torch.Tensor) -> torch.Tensor:
    """[n, d] -> [n, d + 1], the last one 1."""
    return torch.cat([latents, torch.ones(len(latents), 1)], 1)


def gradient(head: torch.Tensor, latents: torch.Tensor, c: int) -> torch.Tensor:
    """Of the mean cross-entropy of samples of class c with respect to the head [classes, d + 1], in closed form."""
    error = (latents @ head.T).softmax(1)
    error = error - functional.one_hot(torch.tensor(c), len(head))
    return error.T @ latents / len(latents)


def trained(head: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """The head after a few steps of gradient descent on the synthetic samples [classes, per_class, d + 1]."""
    for _ in range(HEAD_STEPS):
        head = head - HEAD_RATE * torch.stack([gradient(head, one, c) for c, one in enumerate(made)]).mean(0)
    return head
