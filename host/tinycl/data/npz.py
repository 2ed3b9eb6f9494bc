# Bring your own data: one .npz with `x`, `y` and `classes`, and `x_test`, `y_test` if you have a split of your own.
# Nothing in the file is executed: pickled arrays are refused. Depends on NumPy only.

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import Dataset, stratified_split

MAX_BYTES = 1 << 31
TEST_FRACTION = 0.2
# What NumPy and zipfile raise on a file that is damaged, or none of theirs.
UNREADABLE = (ValueError, OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:  # sizes first: a small file may unpack to a very large one
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise DataError(f"{path.name}: {size} bytes unpacked, at most {MAX_BYTES} are taken: store fewer samples")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"{path}: 0 files of this name: check the path") from error
    except UNREADABLE as error:
        raise DataError(f"{path.name}: cannot be read ({error}): write it with numpy.savez, without objects") from error


def _samples(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    if x.ndim == 2:
        return x[:, None, :, None]  # d values become a signal of one row
    if x.ndim == 3:
        return x[..., None]
    if x.ndim != 4:
        raise DataError(f"{path.name}: {name} has {x.ndim} axes, 2 to 4 are taken: store [n, d], [n, h, w] or [n, h, w, c]")
    return x


def _labels(path: Path, name: str, y: np.ndarray, classes: int) -> np.ndarray:
    if y.dtype.kind not in "ui" or y.ndim != 1:
        raise DataError(f"{path.name}: {name} is {y.dtype} with {y.ndim} axes: store whole numbers, one per sample")
    if y.size and (y.min() < 0 or y.max() >= classes):
        raise DataError(
            f"{path.name}: {name} holds labels {y.min()}..{y.max()}, but {classes} classes allow 0..{classes - 1}: "
            "correct the labels or name all classes"
        )
    return y.astype(np.int64)


def load(path: str | Path) -> Dataset:
    """The file as a Dataset: x [n, d], [n, h, w] or [n, h, w, c], numeric; y whole numbers [n]; classes: names [k].

    Without x_test and y_test a fixed fifth of each class is held out. The raw range is 0..255 for uint8, else that of the
    training part. Raises DataError.
    """
    path = Path(path)
    arrays = _read(path)
    missing = [name for name in ("x", "y", "classes") if name not in arrays]
    if missing or ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(
            f"{path.name}: holds {sorted(arrays)}; x, y, classes are needed, x_test and y_test go together: add them"
        )
    if arrays["classes"].dtype.kind != "U" or arrays["classes"].ndim != 1:
        raise DataError(
            f"{path.name}: classes is {arrays['classes'].dtype} with {arrays['classes'].ndim} axes: store 1 list of names"
        )
    classes = tuple(str(name) for name in arrays["classes"])
    x, y = _samples(path, "x", arrays["x"]), _labels(path, "y", arrays["y"], len(classes))
    if len(x) != len(y):
        raise DataError(f"{path.name}: {len(x)} samples in x, {len(y)} labels in y: store one label per sample")
    if "x_test" in arrays:
        x_test, y_test = _samples(path, "x_test", arrays["x_test"]), _labels(path, "y_test", arrays["y_test"], len(classes))
        rule = "as given in the file"
    else:
        counts = np.bincount(y, minlength=len(classes))
        if counts.size and counts.min() < 2:
            few = classes[int(counts.argmin())]
            raise DataError(
                f"{path.name}: class '{few}' has {counts.min()} samples, a test part needs 2: add samples or x_test"
            )
        train, test = stratified_split(y, TEST_FRACTION)
        x, y, x_test, y_test = x[train], y[train], x[test], y[test]
        rule = "of each class one fifth, drawn with a fixed seed, is the test part"
    if x.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        if x.dtype.kind not in "uif" or x.size == 0:
            raise DataError(f"{path.name}: x is {x.dtype} with {x.size} values: store numbers")
        low, high = float(x.min()), float(x.max())
        if np.isfinite(low) and np.isfinite(high) and x_test.dtype.kind in "uif":
            # A held-out sample just outside what training saw is no error of the person: it saturates, as a sensor would.
            x_test = np.where(np.isfinite(x_test), np.clip(x_test, low, high), x_test)
    return Dataset(
        name=path.stem,
        x_train=x,
        y_train=y,
        x_test=x_test,
        y_test=y_test,
        classes=classes,
        low=low,
        high=high,
        split_rule=rule,
        license="not stated",
        source=path.name,
        base_count=max(2, (len(classes) * 3 + 4) // 5),
    )
