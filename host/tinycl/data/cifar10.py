# CIFAR-10 (Krizhevsky 2009) in three layouts, told apart by what lies in the folder: the published binary and Python
# batches, and lossless WebP sheets with labels.npz. Depends on NumPy and Pillow.

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import Dataset, Info
from .cifar10_pickle import read_pickle
from .files import read_npz, read_sheet

INFO = Info(
    name="cifar10",
    modality="image",
    shape=(32, 32, 3),
    classes=10,
    license="none stated; cite Krizhevsky 2009",
    source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    get="https://www.cs.toronto.edu/~kriz/cifar.html, the binary or the Python version",
)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"
PLANES = 3 * 32 * 32
BATCH = 10_000  # images in each published batch: one image fewer is a file that was cut
Batch = tuple[np.ndarray, np.ndarray]


def to_images(planes: np.ndarray) -> np.ndarray:
    """The published order, uint8 [n, 3072] of red, green and blue planes, as [n, 32, 32, 3]."""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def read_binary(path: Path, count: int | None = None) -> Batch:
    """One binary batch: records of 1 label byte and 3,072 bytes of planes. Returns uint8 [n, 32, 32, 3], int64 [n].

    count: records that there must be, default BATCH. Raises DataError where the size or a label is another.
    """
    count = BATCH if count is None else count
    want, have = count * (1 + PLANES), path.stat().st_size
    if have != want:
        raise DataError(
            f"{path.name}: {have} bytes, {count} records of {1 + PLANES} are {want} "
            f"({have // (1 + PLANES)} whole ones are there): fetch it again"
        )
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(count, 1 + PLANES)
    return to_images(records[:, 1:]), _labels(path, records[:, 0])


def read_python(path: Path, count: int | None = None) -> Batch:
    """One Python batch; as `read_binary`."""
    planes, labels = read_pickle(path)
    count = BATCH if count is None else count
    if planes.shape != (count, PLANES) or len(labels) != count:
        raise DataError(
            f"{path.name}: data of shape {planes.shape} and {len(labels)} labels, ({count}, {PLANES}) and {count} are "
            "published: fetch it again"
        )
    return to_images(planes), _labels(path, np.array(labels))


def _labels(path: Path, labels: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))
    if wrong.size:
        raise DataError(f"{path.name}: image {wrong[0]} has label {labels[wrong[0]]}, 0 to 9 are possible: fetch it again")
    return labels.astype(np.int64)


def read_sheets(path: Path) -> Batch:
    """One WebP sheet, labels from the labels.npz beside it; as `read_binary`."""
    labels = read_npz(path.with_name("labels.npz"), [path.stem])[path.stem]
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise DataError(
            f"labels.npz: {path.stem} is {labels.dtype} {labels.shape}, whole numbers [n] are needed: fetch it again"
        )
    return read_sheet(path, len(labels), 32), _labels(path, labels)


LAYOUTS: dict[str, tuple[str, Callable[[Path], Batch]]] = {
    "binary": (".bin", read_binary),
    "python": ("", read_python),
    "sheets": (".webp", read_sheets),
}


def _find(folder: Path) -> tuple[str, Path]:
    """(layout, folder of the batches); the archives unpack into a folder of their own. ("", folder) where there are none."""
    for place in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        for layout, (suffix, _) in LAYOUTS.items():
            if (place / (TEST + suffix)).is_file():
                return layout, place
    return "", folder


def layout(folder: Path) -> str:
    """binary, python, sheets, or "" where the folder holds no CIFAR-10."""
    return _find(folder)[0]


def load(folder: Path) -> Dataset:
    """uint8 [n, 32, 32, 3], the published split. Fewer than five training batches are taken, and said. Raises DataError."""
    found, place = _find(folder)
    if not found:
        raise DataError(
            f"{folder} holds 0 test batches of CIFAR-10 (test_batch.bin, test_batch or test_batch.webp): fetch it from "
            f"{INFO.get}, and give its folder as --data-dir"
        )
    suffix, read = LAYOUTS[found]
    names = [name for name in TRAIN if (place / (name + suffix)).is_file()]
    if not names:
        raise DataError(f"{place} holds 0 of the 5 training batches data_batch_1{suffix} to data_batch_5{suffix}: fetch them")
    parts = [read(place / (name + suffix)) for name in names]
    x_test, y_test = read(place / (TEST + suffix))
    lacking = ", ".join(name for name in TRAIN if name not in names)
    return Dataset(
        name=INFO.name,
        x_train=np.concatenate([x for x, _ in parts]),
        y_train=np.concatenate([y for _, y in parts]),
        x_test=x_test,
        y_test=y_test,
        classes=CLASSES,
        low=0.0,
        high=255.0,
        split_rule=f"as published: {len(names)} training batches, {len(y_test):,} test images",
        license=INFO.license,
        source=INFO.source,
        base_count=5,
        notes=(f"{len(names)} of the 5 training batches are there, without {lacking}",) if lacking else (),
    )
