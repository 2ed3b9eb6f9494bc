# Bring your own sounds: a folder with a folder of sound files per class, or train/ and test/ with these. Needs soundfile.

from pathlib import Path

from . import clips, folders, own
from .base import Dataset
from .clips import SOUNDS
from .folders import Kind
from .logmel import TOP, Settings

KIND = Kind("sound", SOUNDS)


def layout(folder: Path) -> str:
    """As folders.layout, of sounds."""
    return folders.layout(folder, KIND)


def load(folder: str | Path, settings: Settings | None = None) -> Dataset:
    """uint8 [n, frames, mels, 1] log-mel features, 0..127, of one second a file (or as `settings` says).

    Another rate is resampled, channels are mixed down, what is shorter gets silence on both sides, what is longer gives its
    loudest second; `notes` say how often. Raises DataError for a file that is no sound, ends early or has less than 0.1 s.
    """
    folder, settings = Path(folder), settings or Settings()
    found = folders.listed(folder, KIND)
    every = [*found.train, *found.test]
    sources = [clips.source(f"{path.parent.name}/{path.name}", path) for path in every]
    x, notes = clips.features(sources, settings, clips.content_key(every, settings))
    return Dataset(
        name=folder.resolve().name,
        x_train=x[: len(found.train)],
        y_train=found.y_train,
        x_test=x[len(found.train) :],
        y_test=found.y_test,
        classes=found.classes,
        low=0.0,
        high=float(TOP),
        split_rule=found.rule,
        license=own.LICENSE,
        source=folder.resolve().name,
        base_count=own.base_count(len(found.classes)),
        modality="sound",
        notes=notes,
    )
