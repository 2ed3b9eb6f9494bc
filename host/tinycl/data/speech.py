# Speech Commands (Warden, arXiv 1804.03209) as log-mel features: ten words, and _unknown_ and _silence_ where asked for. Two
# layouts: the published folders of wav with their lists, and a zip of flac per word with split.csv. Needs soundfile.

import csv
import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import clips
from .base import Dataset, Info
from .clips import Sound, Source
from .logmel import TOP, Settings

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
LISTS = ("validation_list.txt", "testing_list.txt")
INFO = Info(
    name="speech_commands",
    modality="sound",
    shape=Settings().shape,
    classes=len(WORDS),
    license="CC BY 4.0",
    source="Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv 1804.03209, version 0.02",
    get="the archive speech_commands_v0.02, unpacked",
)
MEMBER_BYTES = 1 << 22  # of one clip in a zip, unpacked
NO_SPEAKER = -1


@dataclass(frozen=True)
class Clip:
    """Where one clip is, what it is, who speaks (NO_SPEAKER: nobody), and whether it belongs to the test part."""

    source: Source
    word: str
    speaker: int
    test: bool


def layout(folder: Path) -> str:
    """zips, published, or "" where the folder holds no Speech Commands."""
    if (folder / "split.csv").is_file() and any((folder / f"{word}.zip").is_file() for word in WORDS):
        return "zips"
    return "published" if all((folder / name).is_file() for name in LISTS) else ""


def load(
    folder: Path,
    words: Sequence[str] = WORDS,
    unknown: bool = False,
    silence: bool = False,
    settings: Settings | None = None,
) -> Dataset:
    """uint8 [n, frames, mels, 1] log-mel features, 0..127, of clips of one second. Raises DataError.

    Groups are speakers. In the published layout the validation list is not used; _unknown_ are as many clips of other words as
    a word has on average, and _silence_ seconds of the background noise, the last fifth of each recording for testing.
    """
    folder, settings = Path(folder), settings or Settings()
    found = layout(folder)
    if not found:
        raise DataError(
            f"{folder}: neither split.csv with a zip per word nor the {len(LISTS)} lists {', '.join(LISTS)}: fetch {INFO.get}, "
            "and give its folder as --data-dir"
        )
    classes = (*words, *[UNKNOWN] * unknown, *[SILENCE] * silence)
    made, paths, rule = _zips(folder, classes) if found == "zips" else _published(folder, words, classes)
    for word in classes:
        for test, part in ((False, "training"), (True, "test")):
            if not any(c.word == word and c.test == test for c in made):
                raise DataError(f"{folder}: class '{word}' has 0 {part} clips: fetch its folder again, or leave it out")
    key = clips.content_key(paths, "speech", [(c.source[0], c.word) for c in made], settings)
    x, notes = clips.features([c.source for c in made], settings, key)
    y = np.array([classes.index(c.word) for c in made], np.int64)
    speakers = np.array([c.speaker for c in made], np.int64)
    tests = np.array([c.test for c in made])
    return Dataset(
        name=INFO.name,
        x_train=x[~tests],
        y_train=y[~tests],
        x_test=x[tests],
        y_test=y[tests],
        classes=classes,
        low=0.0,
        high=float(TOP),
        split_rule=rule,
        license=INFO.license,
        source=INFO.source,
        base_count=len(words) // 2,
        modality=INFO.modality,
        groups_train=speakers[~tests],
        groups_test=speakers[tests],
        group_kind="speaker",
        notes=notes,
    )


def _speaker(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return NO_SPEAKER


# a zip of flac per word


def _zips(folder: Path, classes: Sequence[str]) -> tuple[list[Clip], list[Path], str]:
    table, made, paths = folder / "split.csv", [], [folder / "split.csv"]
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as e:
        raise DataError(f"{table.name}: cannot be read ({e}): fetch it again") from e
    missing = {"split", "word", "speaker", "file"} - set(rows[0] if rows else ())
    if missing:
        raise DataError(f"{table.name}: {len(rows)} rows without {', '.join(sorted(missing))}: fetch it again")
    for word in classes:
        path = folder / f"{word}.zip"
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as e:
            raise DataError(f"{path.name}: cannot be read ({e}): fetch it again") from e
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        paths.append(path)
        for row in rows:
            if row["word"] == word:
                size = sizes.get(row["file"], 0)
                if not 0 < size <= MEMBER_BYTES:
                    raise DataError(f"{path.name}: {size} bytes of '{row['file']}', which {table.name} lists: fetch both again")
                made.append(Clip(member(archive, row["file"]), word, _speaker(row["speaker"]), row["split"] == "test"))
    return made, paths, "as in split.csv: no speaker is in both parts"


def member(archive: zipfile.ZipFile, name: str) -> Source:
    """A sound in a zip, read when its turn comes."""

    def hear() -> Sound:
        try:
            data = archive.read(name)
        except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as e:
            raise DataError(f"{archive.filename}: '{name}' cannot be read ({e}): fetch the archive again") from e
        return clips.read(name, data)

    return name, hear


# the published folders


def _published(folder: Path, words: Sequence[str], classes: Sequence[str]) -> tuple[list[Clip], list[Path], str]:
    validation, testing = (set((folder / name).read_text(encoding="utf-8").split()) for name in LISTS)
    made = [c for word in words for c in _word(folder, word, word, validation, testing)]
    if UNKNOWN in classes:
        others = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] not in "_." and p.name not in words)
        rest = [c for word in others for c in _word(folder, word, UNKNOWN, validation, testing)]
        rest.sort(key=lambda c: hashlib.sha1(c.source[0].encode()).digest())  # a draw that never changes
        for test in (False, True):
            share = sum(c.test == test for c in made if c.word in words) // len(words)
            made += [c for c in rest if c.test == test][:share]
    paths = [folder / c.source[0] for c in made]
    if SILENCE in classes:
        for path in sorted((folder / NOISE).glob("*.wav")):
            made += _silence(path)
            paths.append(path)
    return made, paths, "as published: the testing list is the test part; the validation list is not used"


def _word(folder: Path, word: str, label: str, validation: set[str], testing: set[str]) -> list[Clip]:
    found = []
    for path in sorted((folder / word).glob("*.wav")):
        name = f"{word}/{path.name}"
        if name not in validation:
            found.append(Clip(clips.source(name, path), label, _speaker(path.name.split("_")[0]), name in testing))
    return found


def _silence(path: Path) -> list[Clip]:
    """The seconds of one recording of noise."""
    x, rate = clips.read(path.name, path.read_bytes())

    def second(i: int) -> Source:
        return f"{NOISE}/{path.name}, second {i}", lambda: (x[i * rate : (i + 1) * rate], rate)

    seconds = len(x) // rate
    return [Clip(second(i), SILENCE, NO_SPEAKER, 5 * i >= 4 * seconds) for i in range(seconds)]
