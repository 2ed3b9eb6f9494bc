"""A backbone on disk: one .npz of plain arrays, read without pickle. What `tinycl train` leaves and the later steps take."""

from pathlib import Path

import numpy as np

from tinycl.errors import ModelError
from tinycl.model.backbone import ConvLayer, Exit, IntegerBackbone, PoolLayer, Shape


def save(path: Path, backbone: IntegerBackbone, base: list[int]) -> None:
    """Writes a backbone and the labels of its base classes."""
    arrays: dict[str, np.ndarray] = {
        "base": np.array(base, np.int64),
        "exits": np.array([(e.layer_count, e.pool_k) for e in backbone.exits], np.int64),
        "in_shape": np.array(backbone.in_shape, np.int64),
        "layers": np.array(
            [
                (1, layer.stride, layer.pad, layer.shift1, layer.shift2)
                if isinstance(layer, ConvLayer)
                else (2, layer.k, 0, 0, 0)
                for layer in backbone.layers
            ],
            np.int64,
        ),
    }
    for i, layer in enumerate(backbone.layers):
        if isinstance(layer, ConvLayer):
            arrays[f"w{i}"], arrays[f"bias{i}"], arrays[f"mult{i}"] = layer.w, layer.bias, layer.mult
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> tuple[IntegerBackbone, list[int]]:
    """Reads what `save` wrote; raises ModelError where the file is not that."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        h, w, c = (int(v) for v in arrays["in_shape"])
        shape: Shape = (h, w, c)
        layers: list[ConvLayer | PoolLayer] = []
        for i, (kind, a, pad, shift1, shift2) in enumerate(arrays["layers"].tolist()):
            if kind == 1:
                weights = (arrays[f"w{i}"], arrays[f"bias{i}"], arrays[f"mult{i}"])
                layers.append(ConvLayer(*weights, shift1, shift2, shape, a, pad))
            else:
                layers.append(PoolLayer(a, shape))
            shape = layers[-1].out_shape
        exits = tuple(Exit(*pair) for pair in arrays["exits"].tolist())
        return IntegerBackbone(tuple(layers), exits), arrays["base"].tolist()
    except (OSError, ValueError, KeyError, EOFError) as e:
        raise ModelError(f"'{path}' is not a backbone of 'tinycl train' ({e}): make it again") from e
