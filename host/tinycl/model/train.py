# Trains the backbone on the base classes only, all exits together, quantisation-aware, and hands back integers.
# Features must serve classes that nobody has seen yet: hence augmentation and batch normalisation. Depends on PyTorch.

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import DataError
from .architectures import Architecture, Conv, architecture
from .augment import PRETEXTS, augment, pretext
from .backbone import IntegerBackbone
from .deployed import pool_exit
from .quantise import quantise

Progress = Callable[[int, int], None]

FULL_SCALE = 6.0  # the normalised activation that int8 127 stands for: 6 standard deviations clip next to nothing
BATCH = 128
STEPS_MIN, STEPS_MAX, SAMPLES_PER_STEP = 600, 2000, 8  # a larger data set earns more steps, up to a minute of training
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-4
SMOOTHING = 0.05  # of labels
# Of a batch, what is made classes of their own (augment.pretext). Each as its figures were measured.
PRETEXT_SHARE = {"image": 0.5, "colour": 0.3, "motion": 0.5, "sound": 0.0}
REPORT_EVERY = 10
THREADS = 1  # fixed, because the order of sums depends on it; one, because a small network waits more than it gains on two


class FloatBackbone(nn.Module):
    """The backbone in training: convolution, batch normalisation, ReLU; weights and activations rounded as on the board.

    Batch normalisation scales and shifts whole channels, so it goes into `mult` and `bias` and costs the board nothing.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.weights, self.norms = nn.ParameterList(), nn.ModuleList()  # one of each per convolution
        channels = arch.in_shape[2]
        for layer in arch.layers:
            if isinstance(layer, Conv):
                shape = (layer.out_c, 1 if layer.depthwise else channels, *layer.kernels)
                self.weights.append(nn.init.kaiming_uniform_(torch.empty(shape), a=5**0.5))
                self.norms.append(nn.BatchNorm2d(layer.out_c))
                channels = layer.out_c

    def forward(self, x: Tensor) -> Tensor:
        """x: [n, c, h, w], 1.0 stands for int8 127. Returns all latents [n, sum(latent_sizes)], same unit, (h, w, c) order."""
        latents, convs = [], zip(self.weights, self.norms, strict=True)
        for i, layer in enumerate(self.arch.layers, start=1):
            if isinstance(layer, Conv):
                conv, norm = next(convs)
                weight = round_through(conv, weight_scale(conv))
                groups = layer.out_c if layer.depthwise else 1
                x = norm(functional.conv2d(x, weight, None, layer.stride, layer.pads, groups=groups))
                x = round_through((x / FULL_SCALE).clamp(0, 1), 1 / 127)
            else:
                x = functional.max_pool2d(x, layer.k)
            for e in self.arch.exits:
                if e.layer_count == i:
                    latents.append(pool_exit(x, e))
        return torch.cat(latents, 1)

    def folded(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Per convolution, float64: weight [out_c, k_h, k_w, in_c], and what batch normalisation does: gain, offset [out_c]."""
        result = []
        for weight, norm in zip(self.weights, self.norms, strict=True):
            state = {name: value.double().numpy() for name, value in norm.state_dict().items()}
            gain = state["weight"] / np.sqrt(state["running_var"] + norm.eps)
            offset = state["bias"] - state["running_mean"] * gain
            result.append((weight.detach().double().permute(0, 2, 3, 1).numpy(), gain, offset))
        return result


def weight_scale(weight: Tensor) -> Tensor:
    """The step between two int8 weights, per output channel: [out_c, 1, 1, 1]."""
    return weight.detach().abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-6) / 127


def round_through(x: Tensor, step: Tensor | float) -> Tensor:
    """x to the nearest multiple of `step`; the gradient passes straight through (Bengio et al., arXiv 1308.3432)."""
    return x + ((x / step).round() * step - x).detach()


def train_backbone(
    x: np.ndarray,
    y: np.ndarray,
    arch: Architecture | None = None,
    seed: int = 0,
    steps: int | None = None,
    progress: Progress | None = None,
    modality: str = "image",
) -> IntegerBackbone:
    """Train on base classes: x int8 [n, h, w, c] in 0..127, y int [n] (any labels). Returns the integer backbone.

    `steps`: batches of 128, by default 600 to 2000 by the size of the data; `progress(done, total)` counts them.
    `modality`: image, motion or sound, which says how samples are augmented.
    The same seed gives the same backbone. Raises DataError, ModelError.
    """
    return quantise(train_float(x, y, arch, seed, steps, progress, modality), FULL_SCALE)


def train_float(
    x: np.ndarray,
    y: np.ndarray,
    arch: Architecture | None = None,
    seed: int = 0,
    steps: int | None = None,
    progress: Progress | None = None,
    modality: str = "image",
) -> FloatBackbone:
    """As `train_backbone`, but returns the float twin, in evaluation mode.

    The loss is the sum over exits of the cross-entropy of one linear head on the latents up to that exit, with smoothed labels
    (Szegedy et al., arXiv 1512.00567, section 7); Adam with decoupled weight decay, one cycle of the learning rate.
    """
    names, labels = np.unique(y, return_inverse=True)
    if x.dtype != np.int8 or x.ndim != 4 or len(x) != len(y) or len(names) < 2:
        raise DataError(
            f"{x.dtype} {x.shape} with {len(names)} classes: training needs int8 [n, h, w, c] and 2 or more classes"
        )
    arch = arch or architecture(x.shape[1:], modality)
    steps = steps or int(np.clip(len(x) // SAMPLES_PER_STEP, STEPS_MIN, STEPS_MAX))
    share = PRETEXT_SHARE["colour" if modality == "image" and x.shape[3] >= 3 else modality]
    with deterministic(seed):
        pixels, targets = to_torch(x) / 127, torch.from_numpy(labels.astype(np.int64))
        net = FloatBackbone(arch)
        widths = np.cumsum(arch.latent_sizes).tolist()
        heads = nn.ModuleList(nn.Linear(width, PRETEXTS * len(names)) for width in widths)
        parameters = [*net.parameters(), *heads.parameters()]
        optimiser = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, max(2, steps))
        for step in range(steps):
            batch = torch.randint(len(pixels), (BATCH,))
            kind = torch.randint(PRETEXTS, (BATCH,)) * (torch.rand(BATCH) < share)
            latents = net(pretext(augment(pixels[batch], modality), kind, modality))
            wanted = targets[batch] * PRETEXTS + kind
            logits = (head(latents[:, :width]) for head, width in zip(heads, widths, strict=True))
            loss = torch.stack([functional.cross_entropy(z, wanted, label_smoothing=SMOOTHING) for z in logits]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if progress and ((step + 1) % REPORT_EVERY == 0 or step + 1 == steps):
                progress(step + 1, steps)
    return net.eval()


def to_torch(x: np.ndarray) -> Tensor:
    """[n, h, w, c] of any number type -> float32 tensor [n, c, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32))


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """A private torch random stream from `seed` and a fixed number of threads; both are put back afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
