# Which backbone for which input: one rule from the shape of a sample to layers and exits. Its numbers are ours, tuned on digits
# and MNIST (the paper names no network). Plain data; depends on backbone.py only.

from dataclasses import dataclass

from ..errors import ModelError
from .backbone import Exit, Shape

EXIT_LATENTS = 150  # at most, per exit: two exits stay below the head's limit
EXIT_CHANNELS = 16  # an exit is pooled until this many channels fit, then gets as many as do, up to CHANNELS_MAX
CHANNELS_MAX = 32
KERNEL_MAX = 16  # of the blob format
IMAGE_AREAS = (256, 49, 16)  # positions (h * w) after each convolution, at most
SIGNAL_AREAS = (64, 16, 8)  # the same where a side is below 3: such an output cannot be pooled in both directions


@dataclass(frozen=True)
class Conv:
    """A convolution to be trained, its kernel square as the blob format has it."""

    out_c: int
    kernel: int
    stride: int
    pad: int

    def out_shape(self, shape: Shape) -> Shape:
        """(h, w, c) after this layer."""
        h, w, _ = shape
        border = 2 * self.pad - self.kernel
        return (h + border) // self.stride + 1, (w + border) // self.stride + 1, self.out_c


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
        pooled = (Pool(e.pool_k).out_shape(self.out_shapes[e.layer_count - 1]) for e in self.exits)
        return tuple(h * w * c for h, w, c in pooled)


# Between their two lengths of side, 8 and 4, digits leave room for a convolution more before the first exit; its features
# serve unseen classes better.
DIGITS = (Conv(8, 3, 1, 1), Conv(16, 3, 2, 1), Conv(32, 3, 1, 1), Conv(32, 3, 1, 1))


def architecture(shape: Shape) -> Architecture:
    """The backbone for samples of (h, w, c): three convolutions, an exit after the second and one after the third (DIGITS for
    8x8 grey images).

    Each convolution takes the smallest stride that brings the output under its area; kernels are 3x3, or stride + 1 where the
    stride would skip values, padded by half of it. A large grey image starts with 12 channels, all else
    with 16. Raises ModelError for an empty shape or one too large.
    """
    if shape == (8, 8, 1):
        return Architecture(shape, DIGITS, (Exit(3, 2), Exit(4, 2)))
    if min(shape) < 1:
        raise ModelError(f"samples of shape {shape} are empty: every side must be 1 or more")
    areas = IMAGE_AREAS if min(shape[:2]) >= 3 else SIGNAL_AREAS
    first = _conv(shape, 12 if shape[2] == 1 and shape[0] * shape[1] > 256 else 16, areas[0])
    layers, exits, out = [first], [], first.out_shape(shape)
    for area in areas[1:]:
        h, w, _ = _conv(out, 1, area).out_shape(out)
        fitting = (k for k in range(1, min(h, w) + 1) if (h // k) * (w // k) * EXIT_CHANNELS <= EXIT_LATENTS)
        pool_k = next(fitting, min(h, w))
        channels = min(CHANNELS_MAX, EXIT_LATENTS // ((h // pool_k) * (w // pool_k)))
        layers.append(_conv(out, channels, area))
        exits.append(Exit(len(layers), pool_k))
        out = layers[-1].out_shape(out)
    return Architecture(shape, tuple(layers), tuple(exits))


def _conv(shape: Shape, out_c: int, area: int) -> Conv:
    for stride in range(1, KERNEL_MAX):
        kernel = max(3, stride + 1)
        conv = Conv(out_c, kernel, stride, kernel // 2)
        h, w, _ = conv.out_shape(shape)
        if h * w <= area:
            return conv
    raise ModelError(f"no stride up to {KERNEL_MAX - 1} brings {shape} under {area} positions: use smaller samples")
