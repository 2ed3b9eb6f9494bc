# Which backbone for which input: layers and exits, chosen by the shape of a sample. Sizes are ours, tuned on digits and MNIST
# (the paper names no network). Plain data, no dependencies.

from dataclasses import dataclass

from .backbone import ACTIVATION_LIMIT_BYTES, Exit, Shape

CHANNELS_MAX = 32
FIRST_ACTIVATION_BYTES = ACTIVATION_LIMIT_BYTES // 4
EXIT_LATENTS = 150


@dataclass(frozen=True)
class Conv:
    """A convolution to be trained: `kernel` is (k_h, k_w)."""

    out_c: int
    kernel: tuple[int, int]
    stride: int
    pad: int


@dataclass(frozen=True)
class Pool:
    k: int


@dataclass(frozen=True)
class Architecture:
    in_shape: Shape
    layers: tuple[Conv | Pool, ...]
    exits: tuple[Exit, ...]

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """(h, w, c) after each layer."""
        shapes = []
        h, w, c = self.in_shape
        for layer in self.layers:
            if isinstance(layer, Conv):
                h = (h + 2 * layer.pad - layer.kernel[0]) // layer.stride + 1
                w = (w + 2 * layer.pad - layer.kernel[1]) // layer.stride + 1
                c = layer.out_c
            else:
                h, w = h // layer.k, w // layer.k
            shapes.append((h, w, c))
        return tuple(shapes)

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """Values that each exit adds."""
        shapes = (self.out_shapes[e.layer_count - 1] + (e.pool_k,) for e in self.exits)
        return tuple((h // k) * (w // k) * c for h, w, c, k in shapes)


def _conv3(out_c: int, stride: int) -> Conv:
    return Conv(out_c, (3, 3), stride, 1)


TUNED: dict[tuple[int, int], tuple[tuple[Conv | Pool, ...], tuple[Exit, ...]]] = {
    (8, 8): ((_conv3(16, 1), _conv3(32, 2), _conv3(32, 1)), (Exit(2, 2), Exit(3, 2))),
    (8, 16): ((_conv3(16, 1), _conv3(16, 2), _conv3(24, 1)), (Exit(2, 2), Exit(3, 2))),
    (28, 28): ((_conv3(8, 2), _conv3(16, 2), _conv3(32, 2)), (Exit(2, 2), Exit(3, 2))),
}


def architecture(shape: Shape) -> Architecture:
    """The backbone for samples of (h, w, c): a tuned one for the built-in data sets, else one made by rule.

    The rule: 3x3 convolutions (1x3 for a signal of one row), halving while a side is above 8 or the first output above a
    quarter of the activation budget, and channels cut until each exit's pooled latent fits. Not tuned for any data set.
    """
    h, w, c = shape
    if c == 1 and (h, w) in TUNED:
        return Architecture(shape, *TUNED[h, w])
    return _by_rule(shape)


def _by_rule(shape: Shape) -> Architecture:
    h, w, _ = shape
    kernel, pad = ((1, 3), 0) if h == 1 else ((3, 3), 1)
    return Architecture(shape, (Conv(16, kernel, 1, pad),), (Exit(1, 1),))
