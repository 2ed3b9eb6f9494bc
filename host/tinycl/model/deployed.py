# The deployed backbone as a differentiable function: what distillation sends gradients through is what the board will compute.
# Depends on PyTorch.

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import ConvLayer, Exit, IntegerBackbone, PoolLayer


class DeployedBackbone:
    """Float twin of an IntegerBackbone: dequantised weights, and straight-through rounding where the board rounds.

    In int8 units throughout. It differs from the integers by at most a unit or two per layer (shift1 is not imitated).
    """

    def __init__(self, backbone: IntegerBackbone) -> None:
        self.backbone = backbone
        self.weights: list[tuple[Tensor, Tensor] | None] = []
        for layer in backbone.layers:
            if not isinstance(layer, ConvLayer):
                self.weights.append(None)
                continue
            gain = torch.from_numpy(layer.mult.astype("f8")) / 2.0 ** (layer.shift1 + layer.shift2)
            weight = torch.from_numpy(layer.w.astype("f8")).permute(0, 3, 1, 2) * gain[:, None, None, None]
            bias = (torch.from_numpy(layer.bias.astype("f8")) - ((1 << layer.shift1) >> 1)) * gain
            self.weights.append((weight.float().contiguous(), bias.float()))

    def __call__(self, x: Tensor) -> Tensor:
        """x: float [n, h, w, c] in int8 units -> latents, float [n, sum(latent_sizes)], in int8 units."""
        x = x.permute(0, 3, 1, 2)
        latents = []
        for i, (layer, parameters) in enumerate(zip(self.backbone.layers, self.weights, strict=True), start=1):
            if isinstance(layer, ConvLayer) and parameters is not None:
                groups = len(layer.w) if layer.depthwise else 1
                x = functional.conv2d(x, *parameters, layer.stride, layer.pads, groups=groups).clamp(0, 127)
                x = x + (x.round() - x).detach()
            elif isinstance(layer, PoolLayer):
                x = functional.max_pool2d(x, layer.k)
            for e in self.backbone.exits:
                if e.layer_count == i:
                    latents.append(pool_exit(x, e))
        return torch.cat(latents, 1)


def pool_exit(x: Tensor, e: Exit) -> Tensor:
    """An exit's latent: [n, c, h, w] -> [n, values] in the order (h, w, c)."""
    if min(x.shape[2:]) == 1:  # a signal: over k * k steps
        return functional.max_pool1d(x.flatten(2), e.pool_k**2).permute(0, 2, 1).flatten(1)
    return functional.max_pool2d(x, e.pool_k).permute(0, 2, 3, 1).flatten(1)
