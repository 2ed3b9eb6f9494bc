# MNIST in its published idx format, gzip or not, read by a small reader of our own that trusts no header.
# Any data set in the same four files with ten classes works as well. Depends on NumPy only.

import gzip
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import Dataset, Info

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MAX_ITEMS = 1_000_000
MAX_SIDE = 256
MAX_BYTES = 1 << 28
INFO = Info(
    name="mnist",
    modality="image",
    shape=(28, 28, 1),
    classes=10,
    license="CC BY-SA 3.0",
    source="LeCun, Cortes, Burges, The MNIST database of handwritten digits",
    get="a mirror of the MNIST database, the four idx files, plain or .gz",
)
UBYTE = 8  # the type byte of unsigned bytes in an idx magic


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """One idx file (`.gz` is unpacked) of unsigned bytes: uint8 with `dimensions` axes. Raises DataError with numbers.

    Header, big-endian: two zero bytes, type, number of dimensions, then one uint32 per dimension. The sizes are held against
    fixed limits first and against the bytes that are really there next, so a wrong header never allocates more than it should.
    """
    again = f"fetch {path.name} again"
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4 + 4 * dimensions)
            magic = bytes((0, 0, UBYTE, dimensions))
            if head[:4] != magic:
                raise DataError(f"{path.name}: starts with 0x{head[:4].hex()}, 0x{magic.hex()} was expected: {again}")
            if len(head) < 4 + 4 * dimensions:
                raise DataError(f"{path.name}: header of {len(head)} bytes, {4 + 4 * dimensions} were expected: {again}")
            shape = [int.from_bytes(head[i : i + 4], "big") for i in range(4, len(head), 4)]
            need = 1
            for size in shape:
                need *= size
            if not (0 < shape[0] <= MAX_ITEMS and all(0 < side <= MAX_SIDE for side in shape[1:]) and need <= MAX_BYTES):
                raise DataError(
                    f"{path.name}: the header says {shape}, at most {MAX_ITEMS} items of side {MAX_SIDE} and "
                    f"{MAX_BYTES} bytes in all are taken: {again}"
                )
            body = file.read(need + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"{path.name}: cannot be read ({error}): {again}") from error
    if len(body) != need:
        found = f"more than {need}" if len(body) > need else str(len(body))
        raise DataError(f"{path.name}: {found} bytes of data, its header promises {need}: {again}")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    present = sum((folder / n).is_file() or (folder / f"{n}.gz").is_file() for n in FILES)
    raise DataError(
        f"{folder} holds {present} of the 4 files of MNIST: {', '.join(FILES)} (each plain or .gz). "
        "Fetch them from a mirror of the MNIST database and give their folder as --data-dir"
    )


def _part(folder: Path, images: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    x = read_idx(_find(folder, images), 3)
    y = read_idx(_find(folder, labels), 1).astype(np.int64)
    if len(x) != len(y):
        raise DataError(f"{images} holds {len(x)} images, {labels} {len(y)} labels: fetch the pair again")
    return x[..., None], y


def layout(folder: Path) -> str:
    """idx, or "" where one of the four files is missing."""
    return "idx" if all((folder / n).is_file() or (folder / f"{n}.gz").is_file() for n in FILES) else ""


def load(folder: Path) -> Dataset:
    """The four files in `folder` as a Dataset: uint8 [n, 28, 28, 1], classes "0".."9", the published split."""
    x_train, y_train = _part(folder, FILES[0], FILES[1])
    x_test, y_test = _part(folder, FILES[2], FILES[3])
    return Dataset(
        name=INFO.name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=tuple("0123456789"),
        low=0.0,
        high=255.0,
        split_rule="as published: 60,000 train, 10,000 test, no writer in both",
        license=INFO.license,
        source=INFO.source,
        base_count=5,
    )
