# Spoken digits (the Free Spoken Digit Dataset) as log-mel features: ten digits, six speakers, for a lesson. Two layouts: the
# published folder of wav, and a zip of flac. Needs soundfile.

import re
import zipfile
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import clips
from .base import Dataset, Info
from .logmel import TOP, Settings
from .speech import member

INFO = Info(
    name="spoken_digits",
    modality="sound",
    shape=Settings().shape,
    classes=10,
    license="CC BY-SA 4.0",
    source="Jackson and contributors, Free Spoken Digit Dataset",
    get="https://github.com/Jakobovski/free-spoken-digit-dataset",
)
ARCHIVE = "spoken_digits.zip"
NAME = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.(?:wav|flac)")
TEST_BELOW = 5  # take numbers


def _folder(folder: Path) -> Path:
    return folder / "recordings" if (folder / "recordings").is_dir() else folder


def layout(folder: Path) -> str:
    """zip, published, or "" where the folder holds no spoken digits."""
    if (folder / ARCHIVE).is_file():
        return "zip"
    return "published" if any(NAME.fullmatch(path.name) for path in _folder(folder).glob("[0-9]_*.wav")) else ""


def load(folder: Path, settings: Settings | None = None) -> Dataset:
    """uint8 [n, frames, mels, 1] log-mel features, 0..127; clips are padded to a second. Groups are speakers, by the alphabet.

    Raises DataError.
    """
    settings, found = settings or Settings(), layout(folder)
    if not found:
        raise DataError(f"{folder}: 0 files DIGIT_SPEAKER_TAKE.wav and no {ARCHIVE}: fetch {INFO.get}, give it as --data-dir")
    if found == "zip":
        paths = [folder / ARCHIVE]
        try:
            archive = zipfile.ZipFile(paths[0])
        except (OSError, zipfile.BadZipFile) as e:
            raise DataError(f"{ARCHIVE}: cannot be read ({e}): fetch it again") from e
        sources = [member(archive, name) for name in sorted(archive.namelist()) if NAME.fullmatch(name)]
    else:
        paths = [path for path in sorted(_folder(folder).glob("*.wav")) if NAME.fullmatch(path.name)]
        sources = [clips.source(path.name, path) for path in paths]
    parts = [match.groups() for name, _ in sources if (match := NAME.fullmatch(name))]
    speakers = sorted({speaker for _, speaker, _ in parts})
    x, notes = clips.features(sources, settings, clips.content_key(paths, INFO.name, [name for name, _ in sources], settings))
    y = np.array([int(digit) for digit, _, _ in parts], np.int64)
    group = np.array([speakers.index(speaker) for _, speaker, _ in parts], np.int64)
    test = np.array([int(take) < TEST_BELOW for _, _, take in parts], bool)
    return Dataset(
        name=INFO.name,
        x_train=x[~test],
        y_train=y[~test],
        x_test=x[test],
        y_test=y[test],
        classes=tuple("0123456789"),
        low=0.0,
        high=float(TOP),
        split_rule=f"as published: takes 0 to {TEST_BELOW - 1} are the test part; speakers are in both",
        license=INFO.license,
        source=INFO.source,
        base_count=5,
        modality=INFO.modality,
        groups_train=group[~test],
        groups_test=group[test],
        group_kind="speaker",
        notes=notes,
    )
