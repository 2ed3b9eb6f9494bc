# Which backbone for which input: one rule from the shape of a sample to layers and exits. Its numbers are ours, tuned on the
# project's data sets (the paper names no network). Plain data; depends on backbone.py only.

import math
from dataclasses import dataclass, replace

from ..errors import ModelError
from .backbone import Exit, Shape, pads

EXIT_LATENTS = 150  # at most, per exit, where pooling can do it: two exits stay below the head's limit
KERNEL_MAX = 16  # of the blob format


@dataclass(frozen=True)
class Conv:
    """A convolution to be trained. kernel: height and width, or height alone with a width in kernel_w.

    depthwise: one kernel per channel; out_c is then the number of input channels.
    """

    out_c: int
    kernel: int
    stride: int
    pad: int
    kernel_w: int = 0
    depthwise: bool = False

    @property
    def kernels(self) -> tuple[int, int]:
        """(height, width)."""
        return self.kernel, self.kernel_w or self.kernel

    @property
    def pads(self) -> tuple[int, int]:
        """Padding of (h, w)."""
        return pads(*self.kernels, self.pad)

    def out_shape(self, shape: Shape) -> Shape:
        """(h, w, c) after this layer."""
        (k_h, k_w), (pad_h, pad_w) = self.kernels, self.pads
        return (shape[0] + 2 * pad_h - k_h) // self.stride + 1, (shape[1] + 2 * pad_w - k_w) // self.stride + 1, self.out_c

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates on an input of (h, w, c)."""
        h, w, c = self.out_shape(shape)
        return h * w * c * self.kernels[0] * self.kernels[1] * (1 if self.depthwise else shape[2])


@dataclass(frozen=True)
class Pool:
    """A k x k max pooling with stride k."""

    k: int

    def out_shape(self, shape: Shape) -> Shape:
        """(h, w, c) after this layer."""
        return shape[0] // self.k, shape[1] // self.k, shape[2]


@dataclass(frozen=True)
class Architecture:
    """Layers and exits before training, the float twin of IntegerBackbone."""

    in_shape: Shape
    layers: tuple[Conv | Pool, ...]
    exits: tuple[Exit, ...]

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """(h, w, c) after each layer."""
        shapes = [self.in_shape]
        for layer in self.layers:
            shapes.append(layer.out_shape(shapes[-1]))
        return tuple(shapes[1:])

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """Values that each exit adds."""
        return tuple(_values(e, self.out_shapes[e.layer_count - 1]) for e in self.exits)


@dataclass(frozen=True)
class Stage:
    """A convolution of the rule: with the smallest stride that leaves at most `area` positions (h * w).

    kernel: at least that; exit_k: 0, or the pool of an exit behind it, made smaller where the output is, and larger where the
    latents would pass EXIT_LATENTS.
    separable: a depthwise convolution, then a pointwise one (MobileNet, arXiv 1704.04861).
    """

    out_c: int
    area: int
    kernel: int = 3
    exit_k: int = 0
    separable: bool = False


# The first exit is cheap, at most a quarter of the last exit's MACs: what a stream pays most of the time. Where two layers
# see too little of a sample, as of sound and colour images, it is deep and depthwise separable. What follows works at a low
# resolution with many channels and full kernels, where a MAC does most for accuracy.
GREY = (Stage(12, 256), Stage(16, 64, exit_k=2), Stage(32, 64), Stage(48, 16, exit_k=3))
COLOUR = (
    *(Stage(16, 256), Stage(24, 64, separable=True), Stage(32, 64, exit_k=4, separable=True)),
    *(Stage(40, 64), Stage(64, 16, exit_k=4)),
)
SOUND = (
    *(Stage(12, 400), Stage(20, 104, separable=True), Stage(24, 104, exit_k=4, separable=True)),
    *(Stage(48, 28), Stage(48, 28, exit_k=3)),
)
SIGNAL = (Stage(16, 40, 8), Stage(24, 16, 5, exit_k=2), Stage(48, 16, 5), Stage(64, 8, 5, exit_k=2))

# Between their two lengths of side, 8 and 4, digits leave room for a convolution more before the first exit; its features
# serve unseen classes better.
DIGITS = (Conv(8, 3, 1, 1), Conv(16, 3, 2, 1), Conv(32, 3, 1, 1), Conv(32, 3, 1, 1), Conv(32, 3, 1, 1))


def architecture(shape: Shape, modality: str = "image") -> Architecture:
    """The backbone for samples of (h, w, c): conv1d for signals (h or w is 1, whatever the modality), 2-D for all else.

    Kernels are 3x3, or as large as the stride where that would skip values; a signal's are longer. Raises ModelError for an
    empty shape or one too large.
    """
    if shape == (8, 8, 1):
        return Architecture(shape, DIGITS, (Exit(3, 2), Exit(5, 2)))
    if min(shape) < 1:
        raise ModelError(f"samples of shape {shape} are empty: every side must be 1 or more")
    h, w, c = shape
    stages: tuple[Stage, ...]
    if min(h, w) == 1:
        stages = SIGNAL
    elif modality == "sound":
        stages = SOUND
    else:
        stages = COLOUR if c >= 3 else GREY
    return build(shape, stages)


def build(shape: Shape, stages: tuple[Stage, ...]) -> Architecture:
    """The rule for given stages. Raises ModelError."""
    layers: list[Conv] = []
    exits = []
    out = shape
    for stage in stages:
        conv = _conv(out, stage)
        if stage.separable:
            layers.append(replace(conv, out_c=out[2], depthwise=True))
            out = layers[-1].out_shape(out)
            conv = Conv(stage.out_c, 1, 1, 0)
        layers.append(conv)
        out = conv.out_shape(out)
        if stage.exit_k:
            largest = math.isqrt(out[0] * out[1]) if min(out[:2]) == 1 else min(out[:2])
            k = min(stage.exit_k, largest)
            while k < largest and _values(Exit(len(layers), k), out) > EXIT_LATENTS:
                k += 1
            exits.append(Exit(len(layers), k))
    return Architecture(shape, tuple(layers), tuple(exits))


def _values(e: Exit, shape: Shape) -> int:
    h, w, c = Pool(e.pool_k).out_shape(e.seen(shape))
    return h * w * c


def _conv(shape: Shape, stage: Stage) -> Conv:
    h, w, _ = shape
    for stride in range(1, KERNEL_MAX):
        kernel = max(stage.kernel, stride)  # none that the stride would skip
        if min(h, w) == 1:
            kernel = min(kernel, h * w)
            conv = Conv(stage.out_c, 1 if h < w else kernel, stride, (kernel - 1) // 2, 1 if h >= w else kernel)
        else:
            conv = Conv(stage.out_c, kernel, stride, (kernel - 1) // 2)
        h_out, w_out, _ = conv.out_shape(shape)
        if h_out * w_out <= stage.area:
            return conv
    raise ModelError(f"no stride up to {KERNEL_MAX - 1} brings {shape} under {stage.area} positions: use smaller samples")
