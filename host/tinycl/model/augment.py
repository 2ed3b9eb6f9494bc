# What a sample may look like as well: random changes that keep its class, and fixed ones that make a new class of it. Both are
# there so that features serve classes that nobody has seen. One function per modality (data/base.py). Depends on PyTorch.

import torch
from torch import Tensor
from torch.nn import functional

ROTATE, STRETCH, SHIFT = 0.2, 0.15, 0.2  # of images: radians, share, share of half the image
LIGHT, CONTRAST = 0.15, 0.3  # of colour images: share of full scale, share
TIME_STRETCH, TIME_SHIFT = 0.1, 0.2  # of signals: share, share of half the window
SENSOR_TURN, GAIN, JITTER = 0.25, 0.15, 0.01  # of motion: radians, share, standard deviation as a share of full scale
PITCH, LOUDER = 0.08, 0.08  # of sound: share of half the bands, share of full scale
MASKS = 0.15  # of sound: largest share of the frames, and of the bands, that are blanked (SpecAugment, arXiv 1904.08779)
PRETEXTS = 4


def augment(x: Tensor, modality: str) -> Tensor:
    """Each sample of [n, c, h, w], values 0..1, changed a little at random; its class stays."""
    if modality == "motion" or min(x.shape[2:]) <= 2:
        return motion(x)
    return sound(x) if modality == "sound" else image(x)


def image(x: Tensor) -> Tensor:
    """Turned, stretched, shifted; a colour image mirrored and lit differently too."""
    n, channels = x.shape[:2]
    angle, wide, high, shear, right, down = torch.rand(6, n) * 2 - 1
    angle, shear = angle * ROTATE, shear * ROTATE
    mirror = torch.randint(2, (n,)) * 2 - 1 if channels >= 3 else torch.ones(n)
    x = warp(
        x,
        [
            [(1 + wide * STRETCH) * angle.cos() * mirror, shear - angle.sin(), right * SHIFT],
            [angle.sin(), (1 + high * STRETCH) * angle.cos(), down * SHIFT],
        ],
        "reflection" if channels >= 3 else "zeros",
    )
    if channels < 3:
        return x
    light, contrast = (torch.rand(2, n, 1, 1, 1) * 2 - 1) * torch.tensor([LIGHT, CONTRAST])[:, None, None, None, None]
    middle = x.mean((1, 2, 3), keepdim=True)
    return ((x - middle) * (1 + contrast) + middle + light).clamp(0, 1)


def motion(x: Tensor) -> Tensor:
    """A signal shifted and stretched in time; one of three channels and more also louder or fainter, and noisier.

    Channels in groups of three are the axes of a sensor, which is worn a little turned. The middle of the range is no signal.
    """
    n, channels, h, w = x.shape
    shift, stretch, gain = torch.rand(3, n) * 2 - 1
    one, zero = torch.ones(n), torch.zeros(n)
    along_w = w > h
    scale, move = 1 + stretch * TIME_STRETCH, shift * TIME_SHIFT
    across = [scale, zero, move] if along_w else [one, zero, zero]
    down = [zero, one, zero] if along_w else [zero, scale, move]
    x = warp(x, [across, down], "border")
    if channels < 3:
        return x
    x = (x - 0.5) * (1 + gain * GAIN)[:, None, None, None]
    if channels % 3 == 0:
        turn = torch.matrix_exp(skew((torch.rand(n, 3) * 2 - 1) * SENSOR_TURN))
        x = torch.einsum("nij,ngjl->ngil", turn, x.reshape(n, -1, 3, h * w)).reshape(x.shape)
    return (x + 0.5 + torch.randn_like(x) * JITTER).clamp(0, 1)


def sound(x: Tensor) -> Tensor:
    """A spectrogram [n, 1, frames, bands] shifted and stretched in time, higher or lower, louder or fainter, partly blanked."""
    n, _, frames, bands = x.shape
    shift, stretch, pitch, louder = torch.rand(4, n) * 2 - 1
    one, zero = torch.ones(n), torch.zeros(n)
    x = warp(x, [[one, zero, pitch * PITCH], [zero, 1 + stretch * TIME_STRETCH, shift * TIME_SHIFT]], "zeros")
    x = (x + louder[:, None, None, None] * LOUDER * (x > 0)).clamp(0, 1)
    for axis, size in ((2, frames), (3, bands)):
        length = torch.rand(n) * MASKS * size
        start = torch.rand(n) * (size - length)
        at = torch.arange(size)
        keep = (at < start[:, None]) | (at >= (start + length)[:, None])
        x = x * keep.reshape(n, 1, *((size, 1) if axis == 2 else (1, size)))
    return x


def pretext(x: Tensor, kind: Tensor, modality: str) -> Tensor:
    """Each sample of [n, c, h, w] in form `kind`: int64 [n], 0 (as it is) to PRETEXTS - 1. Forms count as classes of their own.

    Label augmentation, as PASS (Zhu et al., CVPR 2021) has it against features that fit the base classes only.

    Images: quarter turns, or mirrored along either side or both where they are not square, as sound is. Signals: the axes of
    sensors in another order, or time reversed; without such axes time reversed, upside down, or both.
    """
    forms = [form(x, k, modality) for k in range(PRETEXTS)]
    return torch.stack(forms)[kind, torch.arange(len(x))]


def form(x: Tensor, k: int, modality: str) -> Tensor:
    """All of [n, c, h, w] in form k of `pretext`."""
    n, channels, h, w = x.shape
    if modality == "motion" or min(h, w) <= 2:
        if channels % 3 == 0:
            return x.flip(2, 3) if k == 3 else x.reshape(n, -1, 3, h, w).roll(k, 2).reshape(x.shape)
        x = x.flip(2, 3) if k & 1 else x
        return 1 - x if k & 2 else x
    if modality == "image" and h == w:
        return x.rot90(k, (2, 3))
    return x.flip([axis for axis in (2, 3) if k & (1 << (axis - 2))])


def warp(x: Tensor, theta: list[list[Tensor]], padding: str) -> Tensor:
    """x [n, c, h, w] through an affine map per sample, 2 rows of 3 tensors [n], in units of half a side."""
    grid = functional.affine_grid(torch.stack([torch.stack(row, 1) for row in theta], 1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode=padding, align_corners=False)


def skew(v: Tensor) -> Tensor:
    """[n, 3] -> [n, 3, 3], whose matrix exponential turns by |v| around v."""
    x, y, z = v.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
