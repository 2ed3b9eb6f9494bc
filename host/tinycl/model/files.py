"""A backbone on disk: one .npz of plain arrays, read without pickle. What `tinycl train` leaves and the later steps take."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinycl.data import Dataset
from tinycl.errors import ModelError
from tinycl.model.backbone import ConvLayer, Exit, IntegerBackbone, PoolLayer, Shape
from tinycl.shared.blob import CONV2D, DEPTHWISE2D, MAXPOOL2D


@dataclass(frozen=True)
class Saved:
    """A backbone, the labels of its base classes, and the data set that it was trained on: name, class names, seed."""

    backbone: IntegerBackbone
    base: list[int]
    dataset: str
    classes: tuple[str, ...]
    seed: int

    def check(self, data: Dataset) -> None:
        """ModelError where `data` is not the data set that the backbone was trained on."""
        for what, mine, other in (
            ("data set", self.dataset, data.name),
            ("sample shape", self.backbone.in_shape, data.sample_shape),
            ("classes", ", ".join(self.classes), ", ".join(data.classes)),
        ):
            if mine != other:
                raise ModelError(
                    f"the backbone was trained on '{self.dataset}', not on this '{data.name}' ({what}: {mine}; here: {other}): "
                    "name the same --data, or run 'tinycl train' again"
                )


def save(path: Path, backbone: IntegerBackbone, base: list[int], data: Dataset, seed: int) -> None:
    """Writes a backbone, the labels of its base classes, and what it was trained on."""
    arrays: dict[str, np.ndarray] = {
        "base": np.array(base, np.int64),
        "dataset": np.array(data.name),
        "classes": np.array(data.classes),
        "seed": np.array(seed, np.int64),
        "exits": np.array([(e.layer_count, e.pool_k) for e in backbone.exits], np.int64),
        "in_shape": np.array(backbone.in_shape, np.int64),
        "layers": np.array(
            [
                (DEPTHWISE2D if layer.depthwise else CONV2D, layer.stride, layer.pad, layer.shift1, layer.shift2)
                if isinstance(layer, ConvLayer)
                else (MAXPOOL2D, layer.k, 0, 0, 0)
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


def load(path: Path) -> Saved:
    """Reads what `save` wrote; raises ModelError where the file is not that."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        h, w, c = (int(v) for v in arrays["in_shape"])
        shape: Shape = (h, w, c)
        layers: list[ConvLayer | PoolLayer] = []
        for i, (kind, a, pad, shift1, shift2) in enumerate(arrays["layers"].tolist()):
            if kind in (CONV2D, DEPTHWISE2D):
                weights = (arrays[f"w{i}"], arrays[f"bias{i}"], arrays[f"mult{i}"])
                layers.append(ConvLayer(*weights, shift1, shift2, shape, a, pad, kind == DEPTHWISE2D))
            else:
                layers.append(PoolLayer(a, shape))
            shape = layers[-1].out_shape
        exits = tuple(Exit(*pair) for pair in arrays["exits"].tolist())
        base, classes = arrays["base"].tolist(), tuple(arrays["classes"].tolist())
        if not 2 <= len(set(base)) == len(base) or not 0 <= min(base) <= max(base) < len(classes):
            raise ValueError(f"base classes {base} of {len(classes)}")
        return Saved(IntegerBackbone(tuple(layers), exits), base, str(arrays["dataset"]), classes, int(arrays["seed"]))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise ModelError(f"'{path}' is not a backbone of 'tinycl train' ({e}): make it again") from e
