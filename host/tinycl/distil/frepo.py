# FRePo (Zhou, Nezhadarya and Ba, arXiv 2206.00719, section 3): samples and their labels are learned so that ridge regression
# on the synthetic set alone predicts the real one. Ours: the features are the one deployed backbone's, as the board has no
# other, so no pool of models is trained; the labels are int8. Depends on PyTorch.

import numpy as np
import torch

from ..model.train import deterministic
from . import kmeans
from .base import LABEL_ONE, Distilled, Progress
from .descent import descend, rounded
from .space import Space

STEPS = 300
BATCH = 1024
RATE = 4.0  # int8 units of a sample
LABEL_RATE = 1.0  # int8 units of a label
RIDGE = 1e-3  # times the mean of the kernel's diagonal


def distil(
    x: np.ndarray, y: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None
) -> Distilled:
    """See base.JointDistiller. loss = mean over real (z, t) of ||t - k(z, S) (k(S, S) + ridge)^-1 Y||^2 with the linear kernel
    k(a, b) = <a, b> + 1 of latents a, b / 128, and t = one-hot - 1 / classes, where the labels Y start (section 3.1). Inputs
    serve the heads of all exits: the sum over exits."""
    classes = int(y.max()) + 1
    latents = space.latents(x)
    start = kmeans.around_each(x, y, latents, per_class, space, seed)
    own = np.repeat(np.arange(classes), per_class)
    with deterministic(seed):
        real = torch.from_numpy(latents.astype(np.float32) / 128)
        targets = torch.from_numpy((np.eye(classes)[y] - 1 / classes).astype(np.float32))
        labels = torch.from_numpy(((np.eye(classes)[own] - 1 / classes) * LABEL_ONE).astype(np.float32)).requires_grad_()
        embed = space.embedding()

        def loss(samples: torch.Tensor) -> torch.Tensor:
            batch = torch.randint(len(real), (min(BATCH, len(real)),))
            made, soft = embed(samples) / 128, rounded(labels) / LABEL_ONE
            wrong = (targets[batch] - ridge(made[:, :n], soft, real[batch, :n]) for n in space.prefixes)
            return torch.stack([(w**2).sum(1).mean() for w in wrong]).sum()

        samples = descend(start, loss, STEPS, progress, ((labels, LABEL_RATE),), RATE)
        learned = labels.detach().round().clamp(-128, 127).numpy().astype(np.int8)
    return Distilled(samples, own, learned)


def ridge(made: torch.Tensor, labels: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """What ridge regression on `made` [m, d] with labels [m, classes] predicts for `real` [n, d]: [n, classes]."""
    kernel = made @ made.T + 1
    kernel = kernel + RIDGE * kernel.diagonal().mean() * torch.eye(len(made))
    return (real @ made.T + 1) @ torch.linalg.solve(kernel, labels)
