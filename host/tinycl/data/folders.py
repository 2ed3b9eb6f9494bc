# People's own files, a folder of them for each class: who is there, and in which part. Images and sounds share it. Depends on
# NumPy only.

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..shared.fixed import MAX_CLASSES
from . import own


class Kind(NamedTuple):
    """What is looked for: "picture" or "sound", and how the names of its files end, in lower case with the dot."""

    word: str
    endings: tuple[str, ...]


class Listed(NamedTuple):
    """classes by name; the files of the training and of the test part with their labels, int64; the rule that split them."""

    classes: tuple[str, ...]
    train: list[Path]
    y_train: np.ndarray
    test: list[Path]
    y_test: np.ndarray
    rule: str


def _below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []


def _files(folder: Path, kind: Kind) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in kind.endings and not p.name.startswith("."))


def layout(folder: Path, kind: Kind) -> str:
    """split (train/CLASS/… and test/CLASS/…), classes (CLASS/…), or "" where no folder in it holds such a file."""
    parts = [folder / "train", folder / "test"]
    if all(any(_files(c, kind) for c in _below(part)) for part in parts):
        return "split"
    return "classes" if any(_files(c, kind) for c in _below(folder)) else ""


def _part(folder: Path, kind: Kind) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    classes = _below(folder)
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{folder}: {len(classes)} folders, 2 to {MAX_CLASSES} classes are possible: one folder per class")
    paths: list[Path] = []
    labels: list[int] = []
    for label, place in enumerate(classes):
        found = _files(place, kind)
        if not found:
            raise DataError(
                f"{folder}: class '{place.name}' has 0 {kind.word}s ({', '.join(kind.endings)}): "
                "put some there or delete its folder"
            )
        paths += found
        labels += [label] * len(found)
    return tuple(place.name for place in classes), paths, np.array(labels, np.int64)


def listed(folder: Path, kind: Kind) -> Listed:
    """The files of a folder; DataError where there are none, where a class has none, or where the parts have other classes."""
    found = layout(folder, kind)
    if not found:
        raise DataError(
            f"{folder}: 0 folders with {kind.word}s ({', '.join(kind.endings)}): make one folder per class and put them there"
        )
    if found == "split":
        names, train, y_train = _part(folder / "train", kind)
        test_names, test, y_test = _part(folder / "test", kind)
        if names != test_names:
            odd = ", ".join(sorted(set(names) ^ set(test_names)))
            raise DataError(
                f"{folder}: {len(names)} classes in train, {len(test_names)} in test, not in both: {odd}: match them"
            )
        return Listed(names, train, y_train, test, y_test, "as in the folders train and test")
    names, paths, y = _part(folder, kind)
    first, second = own.split(str(folder), y, names, "folders train and test")
    return Listed(names, [paths[i] for i in first], y[first], [paths[i] for i in second], y[second], own.SPLIT_RULE)
