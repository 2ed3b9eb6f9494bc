# Turns a trained float backbone into the integers of the board: batch normalisation goes into mult and bias, per channel.
# Depends on PyTorch only to read the weights; the arithmetic is NumPy in float64.

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from .architectures import Conv
from .backbone import SHIFT2_MAX, T_LIMIT, ConvLayer, IntegerBackbone, PoolLayer, Shape, worst_accumulator

if TYPE_CHECKING:
    from .train import FloatBackbone

BIAS_LIMIT = 1 << 29  # leaves room for the sum, as the blob format asks
QUIET = 1 << 10  # a channel this much weaker than the layer's strongest is rounded as if it were this strong


def quantise(net: "FloatBackbone", full_scale: float) -> IntegerBackbone:
    """The integer twin of `net`, whose activation `full_scale` becomes 127. Raises ModelError."""
    layers: list[ConvLayer | PoolLayer] = []
    convs, shape = iter(net.folded()), net.arch.in_shape
    for layer in net.arch.layers:
        if isinstance(layer, Conv):
            weight, gain, offset = next(convs)
            # Inputs and outputs count in 1/127 of their full scale; the input's is 1, so y = 127 / full_scale * (...) / 127.
            layers.append(
                integer_conv(
                    weight,
                    gain / full_scale,
                    offset * 127 / full_scale,
                    shape,
                    layer.stride,
                    layer.pad,
                    not layers,
                    layer.depthwise,
                )
            )
        else:
            layers.append(PoolLayer(layer.k, shape))
        shape = layers[-1].out_shape
    return IntegerBackbone(tuple(layers), net.arch.exits)


def integer_conv(
    weight: np.ndarray,
    gain: np.ndarray,
    offset: np.ndarray,
    in_shape: Shape,
    stride: int,
    pad: int,
    first: bool,
    depthwise: bool = False,
) -> ConvLayer:
    """The integer layer nearest to y = gain[o] * sum(weight[o] * x) + offset[o], x and y in int8 units.

    weight: float [out_c, k_h, k_w, in_c], of a depthwise layer [in_c, k_h, k_w, 1]; gain, offset: float [out_c]. `first`: x
    may be negative. Raises ModelError.
    """
    step = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-6) / 127
    sign = np.where(gain < 0, -1.0, 1.0)  # mult must not be negative, so the weights are
    w = np.rint(weight / step[:, None, None, None] * sign[:, None, None, None]).astype(np.int8)
    scale = np.abs(gain) * step  # of one accumulator unit, in output units
    if not np.isfinite(scale).all() or scale.max() <= 0:
        raise ModelError(f"{np.count_nonzero(scale > 0)} of {len(scale)} channels are alive: train again with another seed")
    scale = np.maximum(scale, scale.max() / QUIET)
    exact_bias = np.clip(np.rint(offset / scale), -BIAS_LIMIT, BIAS_LIMIT).astype(np.int64)
    shift1 = 0
    while True:
        bias = (exact_bias + ((1 << shift1) >> 1)).astype(np.int32)  # half a unit of t, so that the floor rounds to nearest
        worst = worst_accumulator(w, bias, first)
        if worst >> shift1 < T_LIMIT:
            break
        shift1 += 1
    real = scale * 2.0**shift1
    shift2 = next((s for s in range(SHIFT2_MAX, 0, -1) if np.rint(real.max() * 2.0**s) < T_LIMIT), 0)
    if shift2 == 0:
        raise ModelError(f"a gain of {real.max():g} is beyond {T_LIMIT // 2}: train again with another seed")
    mult = np.rint(real * 2.0**shift2).astype(np.int32)
    layer = ConvLayer(w, bias, mult, shift1, shift2, in_shape, stride, pad, depthwise)
    layer.check(first)
    return layer
