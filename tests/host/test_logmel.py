"""The log-mel front end: NumPy, the plain definition on CPython and MicroPython, and viper, equal to the bit; close to a float
log-mel; its tables; sizes that it refuses."""

import math
import zipfile
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycl.data import clips, logmel
from tinycl.errors import DataError
from tinycl.shared import logmel as definition

SHORT = 1152  # three frames with a hop of 320
REAL = Path(__file__).parents[3] / "shared/data/speech_commands"


def extremes(n: int = SHORT) -> np.ndarray:
    """int16 [k, n]: silence, the ends of the range, square waves, clicks, tones, noise of all levels."""
    t, rng = np.arange(n), np.random.default_rng(5)
    made = [np.zeros(n), np.full(n, -32768), np.full(n, 32767), np.where(t % 2, 32767, -32768), np.where(t == 700, 1, 0)]
    made += [np.where(np.sin(2 * np.pi * f * (t + 0.5)) > 0, 32767, -32768) for f in (0.0005, 1 / 512, 0.01, 0.25, 0.37)]
    made += [np.where(t % 256 == 130, -32768, 0), np.where(t < 600, 0, 32767)]
    made += [level * np.sin(2 * np.pi * f * t) for level, f in ((32767, 1 / 16), (32767, 0.0313), (3, 0.1), (0.6, 0.2))]
    made += [rng.normal(0, level, n) for level in (0.5, 3, 50, 3000, 30000, 1e6)]
    return np.array([np.clip(np.rint(x), -32768, 32767) for x in made]).astype(np.int16)


def plain(clip: np.ndarray, hop: int, mels: int) -> tuple[bytes, bytes]:
    """(log energies, features) by the definition."""
    made = definition.LogMel(len(clip), hop, mels)
    y = bytearray(made.frames * mels)
    made.clip(array("h", clip.tobytes()), y)
    return made.logs.tobytes(), bytes(y)


def by_numpy(clip: np.ndarray, hop: int, mels: int) -> tuple[bytes, bytes]:
    chosen = logmel.Settings(len(clip), hop, mels)
    return logmel.log_energies(clip[None], chosen).tobytes(), logmel.features(clip[None], chosen).tobytes()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    level=st.floats(0.3, 1e6),
    shape=st.sampled_from(["noise", "tone", "square", "clicks", "ends"]),
    hop=st.integers(1, 700),
    mels=st.integers(20, 40),
    n=st.integers(512, 1500),
)
def test_numpy_and_the_definition_agree_to_the_bit(seed: int, level: float, shape: str, hop: int, mels: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tone = np.sin(rng.uniform(0, np.pi) * np.arange(n) + rng.uniform(0, 6))
    made = {
        "noise": level * rng.normal(size=n),
        "tone": level * tone,
        "square": level * np.sign(tone),
        "clicks": level * (rng.random(n) < 0.01),
        "ends": rng.choice([-32768, 32767], n),
    }[shape]
    clip = np.clip(np.rint(made), -32768, 32767).astype(np.int16)
    hop = max(hop, (n - 512) // 4 + 1)  # at most four frames
    assert by_numpy(clip, hop, mels) == plain(clip, hop, mels)


@pytest.mark.parametrize("mels", [20, 32, 40])
def test_extremes_agree_to_the_bit(mels: int) -> None:
    for clip in extremes():
        assert by_numpy(clip, 320, mels) == plain(clip, 320, mels)


class Watched(list):
    """Numbers that never leave the small integers of a 32-bit MicroPython; what is computed on the way is an `Int`."""


class Int(int):
    def _made(self, v: int) -> "Int":
        assert -(2**30) <= v < 2**30, v
        return Int(v)

    def __add__(self, o):
        return self._made(int(self) + int(o))

    def __sub__(self, o):
        return self._made(int(self) - int(o))

    def __rsub__(self, o):
        return self._made(int(o) - int(self))

    def __mul__(self, o):
        return self._made(int(self) * int(o))

    def __rshift__(self, o):
        return self._made(int(self) >> int(o))

    def __lshift__(self, o):
        return self._made(int(self) << int(o))

    def __xor__(self, o):
        return self._made(int(self) ^ int(o))

    def __and__(self, o):
        return self._made(int(self) & int(o))

    __radd__, __rmul__ = __add__, __mul__


def test_no_number_leaves_the_small_integers_of_a_32_bit_board() -> None:
    """Every sum, product and shift of a frame, for the loudest sounds there are, is watched."""
    made = definition.LogMel(512, 1, 20)
    made.cos, made.log2 = Watched(map(Int, made.cos)), Watched(map(Int, made.log2))
    made.weight, made.rev = Watched(map(Int, made.weight)), Watched(map(Int, made.rev))
    made.z, made.acc, made.logs = (Watched(map(Int, buffer)) for buffer in (made.z, made.acc, made.logs))
    largest = 0
    for clip in extremes(512):
        made.clip(Watched(map(Int, clip.tolist())), [0] * 20)
        assert bytes(array("h", made.logs)) == plain(clip, 1, 20)[0]
        largest = max(largest, *made.acc)
    assert largest > 2**24  # the sounds were loud enough to matter
    with pytest.raises(AssertionError):
        Int(2**29) + 2**29


def test_micropython_agrees_to_the_bit(on_board: Callable[..., str]) -> None:
    """Plain and viper on a real MicroPython."""
    cases = [(320, 32, clip) for clip in extremes()] + [(160, 20, extremes()[-2]), (511, 40, extremes()[6])]
    lines = "".join(f"{hop} {mels} {clip.tobytes().hex()}\n" for hop, mels, clip in cases)
    said = on_board("front_end.py", stdin=lines).splitlines()
    assert len(said) == 2 * len(cases)
    for i, (hop, mels, clip) in enumerate(cases):
        expected = " ".join(part.hex() for part in by_numpy(clip, hop, mels))
        assert said[2 * i : 2 * i + 2] == [expected, expected], i


def test_a_frame_takes_nothing_from_the_heap(on_board: Callable[..., str]) -> None:
    assert on_board("front_end.py", "bytes").split() == ["0", "0"]


def float_log_mel(clips: np.ndarray, hop: int, mels: int) -> np.ndarray:
    """log2 of the same in float64, from textbook formulas: [n, frames, mels]."""
    windowed = np.lib.stride_tricks.sliding_window_view(clips, 512, 1)[:, ::hop] * (
        0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    )
    power = np.abs(np.fft.rfft(windowed)) ** 2
    edges = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (definition.LOW_HZ, definition.HIGH_HZ)), mels + 2)
    hz, f = 700 * (10 ** (edges / 2595) - 1), np.arange(257) * 31.25
    rising = (f - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    falling = (hz[2:, None] - f) / (hz[2:] - hz[1:-1])[:, None]
    return np.log2(power @ np.maximum(0, np.minimum(rising, falling)).T + 1e-9)


@pytest.mark.parametrize("mels", [20, 32, 40])
def test_close_to_a_float_log_mel(mels: int) -> None:
    """Noise whose level and colour change: within 50 dB of the loudest the integers are a float log-mel within 1 dB."""
    rng, n = np.random.default_rng(1), 16000
    sweep = np.sin(np.cumsum(np.linspace(0.02, 2.8, n))) * 10 ** rng.uniform(0, 2, (8, 1))
    clips = np.rint(sweep * np.linspace(0.2, 60, n) + rng.normal(0, 8, (8, n))).astype(np.int16)
    ours = logmel.log_energies(clips, logmel.Settings(n, 320, mels)) / 256
    real = float_log_mel(clips.astype(float), 320, mels)
    near = real > real.max((1, 2), keepdims=True) - 50 / 3.01
    difference = (ours - real)[near] - np.median((ours - real)[near])
    assert near.mean() > 0.3 and np.corrcoef(ours[near], real[near])[0, 1] > 0.999
    assert np.abs(difference).max() < 1 / 3.01 and difference.std() < 0.03


def test_close_to_a_float_log_mel_on_speech() -> None:
    """Real words: correlation per clip over the 48 dB that the features keep."""
    if not REAL.is_dir():
        pytest.skip(f"no {REAL}: the recordings of Speech Commands lie outside the repository")
    x = []
    for word in ("yes", "stop", "go"):
        with zipfile.ZipFile(REAL / f"{word}.zip") as archive:
            x += [clips.read(name, archive.read(name))[0][:, 0] for name in archive.namelist()[:40]]
    real = float_log_mel(np.stack(x), 496, 32)
    kept = np.maximum(127 - 8 * (real.max((1, 2), keepdims=True) - real), 0)
    ours = logmel.features(np.stack(x).astype(np.int16), logmel.Settings(16000, 496, 32))[..., 0].astype(float)
    each = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, kept, strict=True)]
    assert len(each) == 120 and min(each) > 0.995 and np.median(each) > 0.9998
    assert np.abs(ours - kept).mean() < 1 and np.abs(ours - kept).max() < 8  # in steps of 0.38 dB


def test_louder_is_the_same_features() -> None:
    """Gain is taken out: eight times as loud changes the features by a step at most, where nothing saturates."""
    clips = np.rint(np.random.default_rng(2).normal(0, 400, (4, 16000))).astype(np.int16)
    quiet, loud = logmel.features(clips).astype(int), logmel.features(clips * 8).astype(int)
    assert np.abs(quiet - loud).max() <= 1 and quiet.max() == 127 and quiet.shape == (4, *logmel.Settings().shape)


def test_silence_is_nothing_and_a_quiet_line_stays_low() -> None:
    rng = np.random.default_rng(4)
    clips = np.stack([np.zeros(16000), rng.normal(0, 1, 16000), rng.normal(0, 30, 16000)]).round().astype(np.int16)
    made = logmel.features(clips)
    assert made[0].max() == 0 and 80 < made[1].max() < 115 and made[2].max() == 127


def test_tables_are_the_functions_rounded() -> None:
    assert list(definition.cosine()) == [round(16384 * math.cos(2 * math.pi * k / 512)) for k in range(257)]
    assert list(definition.logarithm()) == [round(256 * math.log2(1 + i / 256)) for i in range(256)]
    assert list(definition.reversal()) == [int(f"{i:08b}"[::-1], 2) for i in range(256)]


@pytest.mark.parametrize("mels", range(20, 41))
def test_filters_cover_the_range_and_keep_their_bounds(mels: int) -> None:
    interval, weight = definition.filters(mels)
    i, w = np.array(list(interval)), np.array(list(weight)) / 4096
    assert set(i[i != 255]) == set(range(mels + 1)) and (np.diff(i[i != 255].astype(int)) >= 0).all()
    areas = [w[i == band].sum() + (1 - w[i == band + 1]).sum() for band in range(mels)]
    assert min(areas) > 0.5 and max(areas) < 26.6  # 31 * 5795**2 < 2**30
    f = np.arange(256) * 31.25
    assert ((i != 255) == ((f >= definition.LOW_HZ) & (f <= definition.HIGH_HZ - 1e-3))).all()


@pytest.mark.parametrize(
    ("samples", "hop", "mels", "message"),
    [
        (511, 320, 32, "511 samples .*hold no frame of 512: "),
        (16000, 0, 32, "hold no frame"),
        (16000, 320, 19, "19 mel bands, 20 to 40 are possible: "),
        (16000, 320, 41, "41 mel bands"),
    ],
)
def test_sizes_that_cannot_be(samples: int, hop: int, mels: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        logmel.Settings(samples, hop, mels)
    with pytest.raises(ValueError, match=message):
        definition.LogMel(samples, hop, mels)


@pytest.mark.parametrize("clips", [np.zeros((2, 16000)), np.zeros((2, 15999), np.int16), np.zeros(16000, np.int16)])
def test_sound_of_another_kind_is_refused(clips: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"int16 \[n, 16000\] is needed: resample"):
        logmel.features(clips)


def test_no_clips_are_no_features() -> None:
    assert logmel.features(np.zeros((0, 16000), np.int16)).shape == (0, *logmel.Settings().shape)
