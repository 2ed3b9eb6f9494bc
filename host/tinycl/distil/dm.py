# Distribution matching (Zhao and Bilen, arXiv 2110.04181, equations 5 and 6): samples are learned so that the mean latent of
# the synthetic samples of a class equals that of its real ones. Ours: the embedding is the one deployed backbone, since that is
# what the board will look through; it starts from k-means; and each sample also stands for the mean of its cluster.
# Depends on PyTorch.

import numpy as np
import torch

from ..model.train import deterministic
from . import kmeans
from .base import Progress
from .descent import STEPS, descend
from .space import Space

CLUSTER_WEIGHT = 0.1  # of our term: without it the samples of a class lose their spread (matching one mean needs none)


def distil(x: np.ndarray, per_class: int, space: Space, seed: int = 0, progress: Progress | None = None) -> np.ndarray:
    """See base.Distiller. The real mean is the full one, not a mini-batch's: the latents fit in memory.

    loss = ||mean(real) - mean(synthetic)||^2 + CLUSTER_WEIGHT * mean over k of ||mean(cluster k) - latent(synthetic k)||^2
    """
    latents = space.latents(x)
    start, centroids = kmeans.around(x, latents, per_class, space, seed)
    with deterministic(seed):
        mean = torch.from_numpy(latents.mean(axis=0, dtype=np.float64)).float()
        parts = torch.from_numpy(centroids).float()
        embed = space.embedding()

        def loss(samples: torch.Tensor) -> torch.Tensor:
            synthetic = embed(samples)
            return ((synthetic.mean(0) - mean) ** 2).sum() + CLUSTER_WEIGHT * ((synthetic - parts) ** 2).sum(1).mean()

        return descend(start, loss, STEPS, progress)
