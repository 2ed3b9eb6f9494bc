# Bring your own sounds: a folder with a folder of sound files per class, or train/ and test/ with these. Needs soundfile.

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..shared.fixed import MAX_CLASSES
from . import clips, own
from .base import Dataset
from .clips import SOUNDS
from .logmel import TOP, Settings


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []


def _sounds(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SOUNDS and not p.name.startswith("."))


def layout(folder: Path) -> str:
    """split (train/CLASS/… and test/CLASS/…), classes (CLASS/…), or "" where no folder in it holds a sound."""
    parts = [folder / "train", folder / "test"]
    if all(any(_sounds(c) for c in _folders(part)) for part in parts):
        return "split"
    return "classes" if any(_sounds(c) for c in _folders(folder)) else ""


def _list(folder: Path) -> tuple[list[str], list[Path], np.ndarray]:
    """(class names, files, labels int64) of the folders in `folder`, by name; DataError where one holds no sound."""
    classes = _folders(folder)
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{folder}: {len(classes)} folders, 2 to {MAX_CLASSES} classes are possible: one folder per class")
    paths: list[Path] = []
    labels: list[int] = []
    for label, place in enumerate(classes):
        found = _sounds(place)
        if not found:
            raise DataError(
                f"{folder}: class '{place.name}' has 0 sounds ({', '.join(SOUNDS)}): put some there or delete its folder"
            )
        paths += found
        labels += [label] * len(found)
    return [place.name for place in classes], paths, np.array(labels, np.int64)


def load(folder: str | Path, settings: Settings | None = None) -> Dataset:
    """uint8 [n, frames, mels, 1] log-mel features, 0..127, of one second a file (or as `settings` says).

    Another rate is resampled, channels are mixed down, what is shorter gets silence on both sides, what is longer gives its
    loudest second; `notes` say how often. Raises DataError for a file that is no sound, ends early or has less than 0.1 s.
    """
    folder, settings = Path(folder), settings or Settings()
    found = layout(folder)
    if not found:
        raise DataError(f"{folder}: 0 folders with sounds ({', '.join(SOUNDS)}): make one folder per class and put them there")
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
    every = [*paths, *test_paths]
    sources = [clips.source(f"{path.parent.name}/{path.name}", path) for path in every]
    x, notes = clips.features(sources, settings, clips.content_key(every, settings))
    return Dataset(
        name=folder.resolve().name,
        x_train=x[: len(paths)],
        y_train=y,
        x_test=x[len(paths) :],
        y_test=y_test,
        classes=tuple(names),
        low=0.0,
        high=float(TOP),
        split_rule=rule,
        license=own.LICENSE,
        source=folder.resolve().name,
        base_count=own.base_count(len(names)),
        modality="sound",
        notes=notes,
    )
