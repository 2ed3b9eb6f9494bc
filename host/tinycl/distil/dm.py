# Distribution matching (Zhao and Bilen, arXiv 2110.04181, equations 5 and 6): pixels are learned so that the mean latent of the
# synthetic samples of a class equals that of its real ones. Ours: the embedding is the one deployed backbone, since that is
# what the board will look through; it starts from k-means; and each sample also stands for the mean of its cluster.
# Depends on PyTorch.

import numpy as np
import torch

from ..model.backbone import IntegerBackbone
from ..model.deployed import DeployedBackbone
from ..model.train import deterministic
from . import kmeans
from .base import Progress, check_enough

STEPS = 150
LEARNING_RATE = 4.0  # int8 units of a pixel
CLUSTER_WEIGHT = 0.1  # of our term: without it the samples of a class lose their spread (matching one mean needs none)
REPORT_EVERY = 10


def distil(
    x: np.ndarray, per_class: int, backbone: IntegerBackbone, seed: int = 0, progress: Progress | None = None
) -> np.ndarray:
    """See base.Distiller. Pixels end in 0..127. The real mean is the full one, not a mini-batch's: the latents fit in memory.

    loss = ||mean(real) - mean(synthetic)||^2 + CLUSTER_WEIGHT * mean over k of ||mean(cluster k) - latent(synthetic k)||^2
    """
    check_enough(x, per_class)
    latents = backbone.forward(x)
    centroids, _ = kmeans.cluster(latents, per_class, seed)
    start = x[kmeans.nearest_each(latents, centroids)]
    with deterministic(seed):
        mean = torch.from_numpy(latents.mean(axis=0, dtype=np.float64)).float()
        parts = torch.from_numpy(centroids).float()
        embed = DeployedBackbone(backbone)
        pixels = torch.from_numpy(start.astype(np.float32)).requires_grad_()
        optimiser = torch.optim.Adam([pixels], LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for step in range(STEPS):
            # Rounded on the way in: what is matched is what int8 pixels will give.
            synthetic = embed(pixels + (pixels.round() - pixels).detach())
            loss = ((synthetic.mean(0) - mean) ** 2).sum() + CLUSTER_WEIGHT * ((synthetic - parts) ** 2).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                pixels.clamp_(0, 127)
            if progress and ((step + 1) % REPORT_EVERY == 0 or step + 1 == STEPS):
                progress(step + 1, STEPS)
        return pixels.detach().round().numpy().astype(np.int8)
