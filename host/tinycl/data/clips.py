# What the readers of sound share: a file (wav, flac and what else libsndfile reads) becomes one clip of int16 at 16 kHz of a
# fixed length, and clips become log-mel features, kept in build/data under a key of their content. Needs soundfile and SciPy.

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import gcd
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import files, logmel
from .files import mapped, unreadable
from .logmel import RATE_HZ, Settings

SOUNDS = (".wav", ".flac", ".ogg", ".aif", ".aiff")
SHORTEST_S = 0.1
LONGEST_S = 600.0
RATES_HZ = (4000, 192000)
MAX_BYTES = 1 << 28  # of one file
BATCH = 256  # clips in memory at a time
AGAIN = "record it again or take it out"
UNKNOWN_LENGTH = (0, 0xFFFFFFFF)  # what programs that write to a pipe leave in a header

Sound = tuple[np.ndarray, int]  # float64 [n, channels] in units of int16, and its rate in Hz
Source = tuple[str, Callable[[], Sound]]  # a name for people, and what reads it
Done = Counter[str]  # what was done to how many clips


def source(name: str, path: Path) -> Source:
    """The file at `path`, read when its turn comes."""
    return name, lambda: read(name, path.read_bytes())


def read(name: str, data: bytes) -> Sound:
    """The sound of a file's bytes as it is, every channel at its own rate. Raises DataError."""
    import soundfile

    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: {len(data)} bytes, at most {MAX_BYTES} are taken: cut it into clips")
    _check_whole(name, data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, promised = file.samplerate, file.frames
            if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
                raise DataError(f"{name}: {rate} Hz, {RATES_HZ[0]} to {RATES_HZ[1]} are taken: resample it to {RATE_HZ} Hz")
            if promised > LONGEST_S * rate:
                raise DataError(f"{name}: {promised / rate:.0f} s long, {LONGEST_S:.0f} s at most: cut it into clips")
            if file.subtype == "PCM_16":
                x = file.read(dtype="int16", always_2d=True).astype(np.float64)
            else:  # libsndfile does not scale floats on their way to int16
                x = file.read(dtype="float64", always_2d=True) * 32768
    except (soundfile.SoundFileError, OSError, ValueError) as e:
        raise unreadable(Path(name), str(e).strip().rstrip("."), "save it anew as 16-bit wav, or take it out") from e
    if len(x) != promised:
        raise DataError(f"{name}: {len(x)} samples, its header promises {promised}: {AGAIN}")
    if not np.isfinite(x).all():
        raise DataError(f"{name}: {np.count_nonzero(~np.isfinite(x))} values are NaN or infinite: {AGAIN}")
    return x, rate


def _check_whole(name: str, data: bytes) -> None:
    """Refuse a wav that ends early: libsndfile would return what is there without a word."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            there = len(data) - at - 8
            if size not in UNKNOWN_LENGTH and there < size:
                raise DataError(f"{name}: {there} bytes of sound, its header promises {size}: {AGAIN}")
            return
        at += 8 + size + (size & 1)


def clip(name: str, x: np.ndarray, rate: int, samples: int, done: Done) -> np.ndarray:
    """A clip: int16 [samples] at 16 kHz, of sound [n, channels] in units of int16; what had to be done is counted in `done`.

    Channels are averaged; another rate is resampled (polyphase, scipy.signal.resample_poly); what is too short gets silence on
    both sides; of what is too long the loudest stretch is taken. Raises DataError below 0.1 s.
    """
    if len(x) < SHORTEST_S * rate:
        raise DataError(f"{name}: {len(x) / rate:.3f} s of sound, {SHORTEST_S} s at least: {AGAIN}")
    done["clips"] += 1
    if x.shape[1] > 1:
        done["mixed down"] += 1
    mono = x.mean(1)
    if rate != RATE_HZ:
        from scipy.signal import resample_poly  # here, because the import takes a while

        done[f"resampled from {rate} Hz"] += 1
        common = gcd(rate, RATE_HZ)
        mono = resample_poly(mono, RATE_HZ // common, rate // common)
    made = np.clip(np.rint(mono), -32768, 32767).astype(np.int16)
    missing = samples - len(made)
    if missing > 0:
        done["padded with silence"] += 1
        made = np.pad(made, (missing // 2, missing - missing // 2))
    elif missing < 0:
        done["cut to the loudest part"] += 1
        energy = np.concatenate(([0], np.cumsum(made.astype(np.int64) ** 2)))
        start = int(np.argmax(energy[samples:] - energy[:-samples]))
        made = made[start : start + samples]
    return made


def notes(done: Done, seconds: float) -> tuple[str, ...]:
    """What was done to the clips, a sentence each."""
    return tuple(
        f"{count} of {done['clips']} clips {what}" + (f" ({seconds:g} s)" if "Hz" not in what and "mixed" not in what else "")
        for what, count in sorted(done.items())
        if what != "clips"
    )


def content_key(paths: Sequence[Path], *more: object) -> str:
    """A key of what the files contain, `more`, and the code that makes features of them."""
    key = hashlib.blake2b(repr(more).encode(), digest_size=16)
    for path in (Path(__file__), Path(logmel.__file__), Path(logmel.definition.__file__), *paths):
        key.update(hashlib.blake2b(path.read_bytes()).digest())
    return key.hexdigest()


def features(sources: Sequence[Source], settings: Settings, key: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(uint8 [n, frames, mels, 1], notes) of the sources in order; made once per `key`, then read from the cache.

    A few clips at a time are in memory. Raises DataError for a source that is no sound.
    """
    told = files.CACHE / f"{key}.json"

    def pieces() -> Iterator[np.ndarray]:
        done: Done = Counter()
        for start in range(0, len(sources), BATCH):
            some = [clip(name, *hear(), settings.samples, done) for name, hear in sources[start : start + BATCH]]
            yield logmel.features(np.stack(some), settings)
        told.write_text(json.dumps(done))  # before `mapped` gives the array its name: where that is, this is too

    x = mapped(key, (len(sources), *settings.shape), np.uint8, pieces())
    return np.array(x), notes(Counter(json.loads(told.read_text())), settings.samples / RATE_HZ)
