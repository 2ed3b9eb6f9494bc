# What the readers of people's own data share: a split where they bring none, a range, and samples picked without loading what
# is mapped from disk. Depends on NumPy only.

from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import chunks, stratified_split
from .files import mapped, stamp

TEST_FRACTION = 0.2
SPLIT_RULE = "of each class one fifth, drawn with a fixed seed, is the test part"
LICENSE = "not stated"


def base_count(classes: int) -> int:
    """Three fifths of the classes, at least two, are base classes unless the person says otherwise."""
    return max(2, (classes * 3 + 4) // 5)


def split(where: str, y: np.ndarray, classes: tuple[str, ...], instead: str) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) indices, TEST_FRACTION of each class. `instead`: what a person can bring to have a split of their own.

    Raises DataError where a class has fewer than two samples.
    """
    counts = np.bincount(y, minlength=len(classes))
    if counts.size and counts.min() < 2:
        few = classes[int(counts.argmin())]
        raise DataError(f"{where}: class '{few}' has {counts.min()} samples, a test part needs 2: add samples or {instead}")
    return stratified_split(y, TEST_FRACTION)


def pick(x: np.ndarray, index: np.ndarray, path: Path, part: str) -> np.ndarray:
    """x[index]; of an array that is mapped from `path`, a mapped copy under the key of `part`."""
    if not isinstance(x, np.memmap):
        return x[index]
    shape = (len(index), *x.shape[1:])
    pieces = (x[index[rows]] for rows in chunks(np.broadcast_to(np.empty((), x.dtype), shape)))
    return mapped(stamp([path], part), shape, x.dtype, pieces)


def fit(x_train: np.ndarray, x_test: np.ndarray, path: Path) -> tuple[float, float, np.ndarray]:
    """(low, high, x_test): 0..255 for uint8, else the range of the training part.

    A held-out sample just outside what training saw is no error of the person: it saturates, as a sensor would.
    """
    if x_train.dtype == np.uint8:
        return 0.0, 255.0, x_test
    low, high = float(x_train.min()), float(x_train.max())
    if np.isfinite(low) and np.isfinite(high) and x_test.dtype.kind in "uif":
        pieces = (
            np.where(np.isfinite(x_test[rows]), np.clip(x_test[rows], low, high), x_test[rows]) for rows in chunks(x_test)
        )
        if isinstance(x_test, np.memmap):
            kind = np.result_type(x_test.dtype, np.clip(x_test[:1], low, high).dtype)
            x_test = mapped(stamp([path], "clipped", low, high), x_test.shape, kind, pieces)
        elif x_test.size:
            x_test = np.concatenate(list(pieces))
    return low, high, x_test
