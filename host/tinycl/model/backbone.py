# The frozen backbone as the board runs it: int8 activations and weights, 32-bit integers in between, exact to the bit.
# `forward` is the NumPy reference that every kernel is held against. Depends on NumPy only.

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import ModelError

Shape = tuple[int, int, int]  # (h, w, c)

WEIGHTS_LIMIT_BYTES = 64 * 1024
ACTIVATION_LIMIT_BYTES = 32 * 1024
LATENTS_LIMIT = 400
T_LIMIT = 1 << 15  # bound of |acc + bias| >> shift1 and of mult: their product and the rounding stay below 2**31
SHIFT2_MAX = 30
BATCH_BYTES = 1 << 24  # of the largest im2col matrix: stays near the caches


@dataclass(frozen=True)
class ConvLayer:
    """2-D convolution, zero padding, ReLU, requantised. For every output channel o, in integers (>> is floor):

    t = (sum(w[o] * x) + bias[o]) >> shift1;  y = clamp((t * mult[o] + (1 << (shift2 - 1))) >> shift2, 0, 127)

    w: int8 [out_c, k_h, k_w, in_c] in -127..127; bias, mult: int32 [out_c], mult in 0..2**15-1; shift2 in 1..30.
    depthwise: output channel k sees input channel k alone; w is [in_c, k_h, k_w, 1].
    A side of the kernel that is 1 is not padded: a conv1d along h is a kernel of (k, 1) on samples with w = 1.
    """

    w: np.ndarray
    bias: np.ndarray
    mult: np.ndarray
    shift1: int
    shift2: int
    in_shape: Shape
    stride: int
    pad: int
    depthwise: bool = False

    @property
    def pads(self) -> tuple[int, int]:
        """Padding of h and of w."""
        return pads(self.w.shape[1], self.w.shape[2], self.pad)

    @property
    def out_shape(self) -> Shape:
        h, w, _ = self.in_shape
        out_c, k_h, k_w, _ = self.w.shape
        pad_h, pad_w = self.pads
        return (h + 2 * pad_h - k_h) // self.stride + 1, (w + 2 * pad_w - k_w) // self.stride + 1, out_c

    @property
    def macs(self) -> int:
        h, w, _ = self.out_shape
        return h * w * self.w.size

    def worst_accumulator(self, first: bool = False) -> int:
        """Largest |sum + bias| that any input can reach: inputs 0..127, or -128..127 in the first layer."""
        return worst_accumulator(self.w, self.bias, first)

    def check(self, first: bool = False) -> None:
        """Raise ModelError unless the layer follows the rules above and can never overflow 32 bits."""
        out_c, _, _, seen_c = self.w.shape
        if self.w.dtype != np.int8 or self.bias.dtype != np.int32 or self.mult.dtype != np.int32:
            raise ModelError(f"layer of types {self.w.dtype}, {self.bias.dtype}, {self.mult.dtype}: use int8, int32, int32")
        fits = (seen_c == 1 and out_c == self.in_shape[2]) if self.depthwise else seen_c == self.in_shape[2]
        if not fits or self.bias.shape != (out_c,) or self.mult.shape != (out_c,):
            raise ModelError(f"weights {self.w.shape} do not fit input {self.in_shape}, bias {self.bias.shape}: match them")
        if min(self.out_shape) < 1 or self.stride < 1 or not 0 <= self.pad < max(self.w.shape[1:3]):
            raise ModelError(f"output of shape {self.out_shape} from {self.in_shape}: use a smaller kernel or stride")
        if self.w.min() < -127 or self.mult.min() < 0 or self.mult.max() >= T_LIMIT:
            raise ModelError(
                f"w from {self.w.min()}, mult {self.mult.min()}..{self.mult.max()}: quantise again within the limits"
            )
        worst = self.worst_accumulator(first)
        if not (
            0 <= self.shift1 <= 30 and 1 <= self.shift2 <= SHIFT2_MAX and worst < 1 << 31 and worst >> self.shift1 < T_LIMIT
        ):
            raise ModelError(f"sums up to {worst} with shifts {self.shift1}, {self.shift2} leave 32 bits: quantise again")

    def forward(self, x: np.ndarray) -> np.ndarray:
        """int8 [n, h, w, in_c] -> int8 [n, out_h, out_w, out_c]."""
        out_c, k_h, k_w, seen_c = self.w.shape
        out_h, out_w, _ = self.out_shape
        terms = k_h * k_w * seen_c
        # A float product of integers is exact while every partial sum stays below 2**24 (2**53), in whatever order BLAS adds.
        exact = np.float32 if terms * 127 * 128 < 1 << 24 else np.float64
        pad_h, pad_w = self.pads
        padded = np.pad(x, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0))).astype(exact)
        down, right = out_h * self.stride, out_w * self.stride
        shifted: Iterator[np.ndarray] = (
            padded[:, i : i + down : self.stride, j : j + right : self.stride][:, :out_h, :out_w]
            for i in range(k_h)
            for j in range(k_w)
        )
        weights: np.ndarray = self.w.reshape(out_c, terms).astype(exact)
        if self.depthwise:
            real: np.ndarray = np.zeros((len(x), out_h, out_w, out_c), dtype=exact)
            for i, part in enumerate(shifted):
                real += part * weights[:, i]
        else:
            columns = np.empty((len(x), out_h, out_w, k_h * k_w, seen_c), dtype=exact)
            for i, part in enumerate(shifted):
                columns[:, :, :, i] = part
            real = columns.reshape(-1, terms) @ weights.T
        acc = real.reshape(-1, out_c).astype(np.int32)
        t = (acc + self.bias) >> self.shift1
        y = (t * self.mult + np.int32(1 << (self.shift2 - 1))) >> self.shift2
        return y.clip(0, 127).astype(np.int8).reshape(len(x), out_h, out_w, out_c)


@dataclass(frozen=True)
class PoolLayer:
    """Max pooling k x k with stride k; rows and columns left over at the far edges are dropped."""

    k: int
    in_shape: Shape
    macs: int = field(default=0, init=False)

    @property
    def out_shape(self) -> Shape:
        h, w, c = self.in_shape
        return h // self.k, w // self.k, c

    def check(self, first: bool = False) -> None:
        """Raise ModelError when nothing would be left."""
        if self.k < 1 or min(self.out_shape) < 1:
            raise ModelError(f"pooling {self.k}x{self.k} of {self.in_shape} leaves {self.out_shape}: pool less")

    def forward(self, x: np.ndarray) -> np.ndarray:
        """int8 [n, h, w, c] -> int8 [n, h // k, w // k, c]."""
        h, w, c = self.out_shape
        return x[:, : h * self.k, : w * self.k].reshape(len(x), h, self.k, w, self.k, c).max(axis=(2, 4))


@dataclass(frozen=True)
class Exit:
    """A depth where a head can sit: its latent is the flattened (h, w, c) max pool of layer `layer_count - 1`'s output.

    pool_k: k x k with stride k; over k * k steps of a signal, that is, where h or w is 1.
    """

    layer_count: int
    pool_k: int

    def seen(self, shape: Shape) -> Shape:
        """That output as the pool sees it. A signal is laid out in rows of k steps: k x k are then k * k steps in a row."""
        h, w, c = shape
        return shape if min(h, w) > 1 or self.pool_k < 1 else (h * w // self.pool_k, self.pool_k, c)

    def pool(self, x: np.ndarray) -> np.ndarray:
        """int8 [n, h, w, c] -> latents, int8 [n, values]."""
        h, w, c = seen = self.seen(x.shape[1:])
        x = x.reshape(len(x), -1, c)[:, : h * w].reshape(len(x), h, w, c)
        return PoolLayer(self.pool_k, seen).forward(x).reshape(len(x), -1)


@dataclass(frozen=True)
class IntegerBackbone:
    """A chain of layers with exits, each deeper than the one before. Checked when it is made; raises ModelError.

    The features of exit e are the latents of exits 0..e, concatenated: a deeper exit only appends inputs to the head.
    """

    layers: tuple[ConvLayer | PoolLayer, ...]
    exits: tuple[Exit, ...]

    def __post_init__(self) -> None:
        self.check()

    @property
    def in_shape(self) -> Shape:
        return self.layers[0].in_shape

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """Values that each exit adds."""
        return tuple(int(np.prod(self._exit_pool(e).out_shape)) for e in self.exits)

    def features(self, exit_index: int) -> int:
        """How many inputs a head at this exit has."""
        return sum(self.latent_sizes[: exit_index + 1])

    def macs(self, exit_index: int) -> int:
        """Multiply-accumulates of one sample up to this exit."""
        return sum(layer.macs for layer in self.layers[: self.exits[exit_index].layer_count])

    @property
    def weights_bytes(self) -> int:
        """int8 weights; bias and mult (8 bytes per channel) come on top."""
        return sum(layer.w.size for layer in self.layers if isinstance(layer, ConvLayer))

    @property
    def activation_bytes(self) -> int:
        """The largest layer output or input."""
        return max(int(np.prod(shape)) for layer in self.layers for shape in (layer.in_shape, layer.out_shape))

    def check(self) -> None:
        """Raise ModelError, with numbers, when a layer is wrong or a budget is exceeded."""
        if not self.layers or not self.exits:
            raise ModelError(f"{len(self.layers)} layers, {len(self.exits)} exits: give at least 1 of each")
        for i, layer in enumerate(self.layers):
            if i and layer.in_shape != self.layers[i - 1].out_shape:
                raise ModelError(f"layer {i} takes {layer.in_shape}, gets {self.layers[i - 1].out_shape}: match the shapes")
            layer.check(first=i == 0)
        depths = [e.layer_count for e in self.exits]
        if depths != sorted(set(depths)) or depths[0] < 1 or depths[-1] > len(self.layers):
            raise ModelError(f"exits after layers {depths} of {len(self.layers)}: each must be deeper than the one before")
        for e in self.exits:
            self._exit_pool(e).check()
        for what, size, limit in (
            ("weights, bytes", self.weights_bytes, WEIGHTS_LIMIT_BYTES),
            ("largest activation, bytes", self.activation_bytes, ACTIVATION_LIMIT_BYTES),
            ("latents", self.features(len(self.exits) - 1), LATENTS_LIMIT),
        ):
            if size > limit:
                raise ModelError(f"backbone: {what}: {size}, the limit is {limit}: use fewer channels or a larger stride")

    def forward(self, x: np.ndarray) -> np.ndarray:
        """int8 [n, h, w, c] -> all latents, int8 [n, sum(latent_sizes)], exit after exit. Raises ModelError."""
        if x.dtype != np.int8 or x.shape[1:] != self.in_shape:
            raise ModelError(f"input {x.dtype} {x.shape}, int8 [n, {', '.join(map(str, self.in_shape))}] is needed: convert it")
        out = np.empty((len(x), sum(self.latent_sizes)), dtype=np.int8)
        for part in self._batches(len(x)):
            self._forward_batch(x[part], out[part])
        return out

    def _exit_pool(self, e: Exit) -> PoolLayer:
        return PoolLayer(e.pool_k, e.seen(self.layers[e.layer_count - 1].out_shape))

    def _batches(self, count: int) -> Iterator[slice]:
        floats = 1 + max(layer.macs // layer.out_shape[2] for layer in self.layers)  # one sample's largest im2col matrix
        step = max(1, BATCH_BYTES // (4 * floats))
        for start in range(0, count, step):
            yield slice(start, start + step)

    def _forward_batch(self, x: np.ndarray, out: np.ndarray) -> None:
        done = column = 0
        for e, size in zip(self.exits, self.latent_sizes, strict=True):
            for layer in self.layers[done : e.layer_count]:
                x = layer.forward(x)
            done = e.layer_count
            out[:, column : column + size] = e.pool(x)
            column += size


def pads(kernel_h: int, kernel_w: int, pad: int) -> tuple[int, int]:
    """What `pad` comes to for h and w: a side of the kernel that is 1 is not padded, as in the board's kernels."""
    return pad if kernel_h > 1 else 0, pad if kernel_w > 1 else 0


def worst_accumulator(w: np.ndarray, bias: np.ndarray, first: bool) -> int:
    """Largest |sum(w[o] * x) + bias[o]| over channels and inputs x in 0..127 (`first`: -128..127). w int8 [out_c, ...]."""
    w = w.reshape(len(w), -1).astype(np.int64)
    positive, negative = np.maximum(w, 0).sum(1), np.minimum(w, 0).sum(1)
    lowest_x = -128 if first else 0
    bias = bias.astype(np.int64)
    highest = positive * 127 + negative * lowest_x + bias
    lowest = negative * 127 + positive * lowest_x + bias
    return int(max(np.abs(highest).max(), np.abs(lowest).max()))
