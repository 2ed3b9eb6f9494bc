# Bring your own pictures: a folder with a folder of pictures per class, or train/ and test/ with these. Depends on Pillow.

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..shared.fixed import MAX_CLASSES
from . import own
from .base import Dataset
from .files import PICTURES, look, read_pictures

SIDE = 32  # pixels of pictures that are larger, or of different sizes
LARGEST = 64  # pixels: pictures of one size up to this are taken as they are


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))


def layout(folder: Path) -> str:
    """split (train/CLASS/… and test/CLASS/…), classes (CLASS/…), or "" where no folder in it holds a picture."""
    parts = [folder / "train", folder / "test"]
    if all(any(_pictures(c) for c in _folders(part)) for part in parts):
        return "split"
    return "classes" if any(_pictures(c) for c in _folders(folder)) else ""


def _list(folder: Path) -> tuple[list[str], list[Path], np.ndarray]:
    """(class names, pictures, labels int64) of the folders in `folder`, by name; DataError where one holds no picture."""
    classes = _folders(folder)
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{folder}: {len(classes)} folders, 2 to {MAX_CLASSES} classes are possible: one folder per class")
    paths: list[Path] = []
    labels: list[int] = []
    for label, place in enumerate(classes):
        found = _pictures(place)
        if not found:
            raise DataError(
                f"{folder}: class '{place.name}' has 0 pictures ({', '.join(PICTURES)}): put some there or delete its folder"
            )
        paths += found
        labels += [label] * len(found)
    return [place.name for place in classes], paths, np.array(labels, np.int64)


def load(folder: str | Path, shape: tuple[int, int, int] | None = None, memory_bytes: int | None = None) -> Dataset:
    """uint8 [n, h, w, c]: c is 1 where all pictures are grey, else 3. Raises DataError.

    shape: (h, w, c) to bring them to; default: their own where all have one size up to 64 x 64, else 32 x 32, which is said.
    Pictures are resized as a whole, without cropping, as `tinycl enrol` does. Above `memory_bytes` (default
    files.MEMORY_BYTES) they are decoded once into a file that is mapped.
    """
    folder = Path(folder)
    found = layout(folder)
    if not found:
        raise DataError(
            f"{folder}: 0 folders with pictures ({', '.join(PICTURES)}): make one folder per class and put them there"
        )
    if found == "split":
        names, paths, y = _list(folder / "train")
        test_names, test_paths, y_test = _list(folder / "test")
        if names != test_names:
            odd = ", ".join(sorted(set(names) ^ set(test_names)))
            raise DataError(
                f"{folder}: {len(names)} classes in train, {len(test_names)} in test, not in both: {odd}: match them"
            )
        rule = "as in the folders train and test"
    else:
        names, paths, y = _list(folder)
        train, test = own.split(str(folder), y, tuple(names), "folders train and test")
        test_paths, y_test = [paths[i] for i in test], y[test]
        paths, y = [paths[i] for i in train], y[train]
        rule = own.SPLIT_RULE
    looks = [look(path) for path in (*paths, *test_paths)]
    sizes = sorted({one.size for one in looks})
    if shape is None:
        w, h = sizes[0] if len(sizes) == 1 and max(sizes[0]) <= LARGEST else (SIDE, SIDE)
        shape = (h, w, 1 if all(one.grey for one in looks) else 3)
    other = sum(one.size != (shape[1], shape[0]) for one in looks)
    notes = []
    if other:
        smallest, largest = (f"{w} x {h}" for w, h in (sizes[0], sizes[-1]))
        span = smallest if len(sizes) == 1 else f"{len(sizes)} sizes from {smallest} to {largest}"
        notes.append(f"{other} of {len(looks)} pictures resized to {shape[1]} x {shape[0]} (they have {span})")
    return Dataset(
        name=folder.resolve().name,
        x_train=read_pictures(paths, shape, memory_bytes),
        y_train=y,
        x_test=read_pictures(test_paths, shape, memory_bytes),
        y_test=y_test,
        classes=tuple(names),
        low=0.0,
        high=255.0,
        split_rule=rule,
        license=own.LICENSE,
        source=folder.resolve().name,
        base_count=own.base_count(len(names)),
        notes=tuple(notes),
    )
