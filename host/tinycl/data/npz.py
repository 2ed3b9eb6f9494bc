# Bring your own data: one .npz with `x`, `y` and `classes`, and `x_test`, `y_test` if you have a split of your own.
# Nothing in the file is executed: pickled arrays are refused. Depends on NumPy only.

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import files, own
from .base import MODALITIES, Dataset

# What NumPy and zipfile raise on a file that is damaged, or none of theirs.
UNREADABLE = (ValueError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
MAX_BYTES = 1 << 31  # of what is compressed, and has to be unpacked into memory
LOCAL_HEADER = 30  # bytes of a zip's local file header, before the name and the extra field


def _map(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """A member that is stored uncompressed, read-only np.memmap; numpy.load would read it whatever its mmap_mode."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        head = file.read(LOCAL_HEADER)
    start = info.header_offset + LOCAL_HEADER + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
        offset = start + member.tell()
    if dtype.hasobject:
        raise ValueError("an array of objects")
    if dtype.itemsize * int(np.prod(shape, dtype=object)) > info.file_size:
        raise ValueError(f"{info.filename} has {info.file_size} bytes, fewer than an array of {shape}")
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _read(path: Path, memory_bytes: int | None) -> dict[str, np.ndarray]:
    limit = files.MEMORY_BYTES if memory_bytes is None else memory_bytes
    try:
        with zipfile.ZipFile(path) as archive:  # sizes first: a small file may unpack to a very large one
            arrays = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            large = {
                name for name, info in arrays.items() if info.file_size > limit and info.compress_type == zipfile.ZIP_STORED
            }
            size = sum(info.file_size for name, info in arrays.items() if name not in large)
            if size > MAX_BYTES:
                raise DataError(
                    f"{path.name}: {size} bytes unpacked, at most {MAX_BYTES} are taken: write it with numpy.savez, which does "
                    "not compress, and it is mapped instead"
                )
            made = {name: _map(path, archive, arrays[name]) for name in large}
        with np.load(path, allow_pickle=False) as stored:
            return {name: made[name] if name in made else stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise DataError(f"{path}: 0 files of this name: check the path") from error
    except UNREADABLE as error:
        raise files.unreadable(path, error, "write it with numpy.savez, without objects") from error


def _samples(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    if x.ndim == 2:
        return x[:, None, :, None]  # d values become a signal of one row
    if x.ndim == 3:
        return x[..., None]
    if x.ndim != 4:
        raise DataError(f"{path.name}: {name} has {x.ndim} axes, 2 to 4 are taken: store [n, d], [n, h, w] or [n, h, w, c]")
    return x


def _labels(path: Path, name: str, y: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    if y.dtype.kind == "U" and y.ndim == 1:
        position = {label: i for i, label in enumerate(classes)}
        unknown = sorted({str(label) for label in y} - set(classes))
        if unknown:
            raise DataError(
                f"{path.name}: {name} holds {len(unknown)} labels that are none of the {len(classes)} classes, "
                f"{unknown[0][:40]!r} first: correct them or name all classes"
            )
        return np.array([position[str(label)] for label in y], np.int64)
    if y.dtype.kind not in "ui" or y.ndim != 1:
        raise DataError(f"{path.name}: {name} is {y.dtype} with {y.ndim} axes: store whole numbers or names, one per sample")
    if y.size and (y.min() < 0 or y.max() >= len(classes)):
        raise DataError(
            f"{path.name}: {name} holds labels {y.min()}..{y.max()}, but {len(classes)} classes allow 0..{len(classes) - 1}: "
            "correct the labels or name all classes"
        )
    return y.astype(np.int64)


def _classes(path: Path, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    """As stored; where labels are text, their names in alphabetical order will do."""
    if "classes" not in arrays:
        return tuple(sorted({str(name) for name in arrays["y"]}))
    if arrays["classes"].dtype.kind != "U" or arrays["classes"].ndim != 1:
        raise DataError(
            f"{path.name}: classes is {arrays['classes'].dtype} with {arrays['classes'].ndim} axes: store 1 list of names"
        )
    return tuple(str(name) for name in arrays["classes"])


def load(path: str | Path, memory_bytes: int | None = None) -> Dataset:
    """The file as a Dataset: x [n, d], [n, h, w] or [n, h, w, c], numeric; y [n], whole numbers or names; classes: names [k].

    `classes` may be left out where y is names; `modality` (image, motion or sound) and `groups` [n] may be added. Without
    x_test and y_test a fixed fifth of each class is held out. The raw range is 0..255 for uint8, else that of the training
    part. Arrays above `memory_bytes` (default files.MEMORY_BYTES) that are not compressed are mapped. Raises DataError.
    """
    path = Path(path)
    arrays = _read(path, memory_bytes)
    named = "y" in arrays and arrays["y"].dtype.kind == "U" and arrays["y"].ndim == 1
    missing = [name for name in ("x", "y", "classes") if name not in arrays and not (name == "classes" and named)]
    if missing or ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(
            f"{path.name}: holds {sorted(arrays)}; x, y, classes are needed, x_test and y_test go together: add them"
        )
    classes = _classes(path, arrays)
    modality = str(arrays["modality"]) if "modality" in arrays else MODALITIES[0]
    x, y = _samples(path, "x", arrays["x"]), _labels(path, "y", arrays["y"], classes)
    groups, groups_test = (arrays[name].astype(np.int64) if name in arrays else None for name in ("groups", "groups_test"))
    if len(x) != len(y):
        raise DataError(f"{path.name}: {len(x)} samples in x, {len(y)} labels in y: store one label per sample")
    if groups is not None and groups.shape != y.shape:
        raise DataError(f"{path.name}: {len(y)} samples, groups of shape {groups.shape}: store one group per sample")
    if "x_test" in arrays:
        x_test, y_test = _samples(path, "x_test", arrays["x_test"]), _labels(path, "y_test", arrays["y_test"], classes)
        rule = "as given in the file"
    else:
        train, test = own.split(path.name, y, classes, "x_test")
        x_test, y_test = own.pick(x, test, path, "test"), y[test]
        x, y = own.pick(x, train, path, "train"), y[train]
        groups, groups_test = (None, None) if groups is None else (groups[train], groups[test])
        rule = own.SPLIT_RULE
    if x.dtype.kind not in "uif" or x.size == 0:
        raise DataError(f"{path.name}: x is {x.dtype} with {x.size} values: store numbers")
    low, high, x_test = own.fit(x, x_test, path)
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
        license=own.LICENSE,
        source=path.name,
        base_count=own.base_count(len(classes)),
        modality=modality,
        groups_train=groups,
        groups_test=groups_test,
        group_kind="group" if groups is not None else "",
    )
