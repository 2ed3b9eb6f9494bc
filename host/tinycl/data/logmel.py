# The log-mel features of shared/logmel.py for many clips at once: NumPy, equal to the board's to the bit.
# Every number fits int32, with the bounds that are stated there. Depends on NumPy and on shared/logmel.py.

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ..shared import logmel as definition

RATE_HZ, TOP = definition.RATE_HZ, definition.TOP
BLOCK = 64  # frames worked on at once: their FFT, 256 kB, stays in a core's cache


@dataclass(frozen=True)
class Settings:
    """Of a clip of `samples` int16 values at 16 kHz: a frame of 512 each `hop` samples, `mels` bands."""

    samples: int = definition.RATE_HZ
    hop: int = definition.HOP
    mels: int = definition.MELS

    def __post_init__(self) -> None:
        if self.hop < 1 or definition.frames(self.samples, self.hop) < 1:
            raise DataError(
                f"clips of {self.samples} samples with a hop of {self.hop} hold no frame of {definition.FRAME}: "
                "take longer clips"
            )
        if not definition.MELS_MIN <= self.mels <= definition.MELS_MAX:
            raise DataError(
                f"{self.mels} mel bands, {definition.MELS_MIN} to {definition.MELS_MAX} are possible: choose a number between"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, mels, 1) of a clip's features."""
        return definition.frames(self.samples, self.hop), self.mels, 1


COS = np.array(definition.cosine(), np.int32)
SIN = COS[np.abs(np.arange(257) - 128)]
REVERSED = np.array(list(definition.reversal()))
LOG2 = np.array(list(definition.logarithm()), np.int32)
HANN = (16384 - COS[np.minimum(np.arange(512), 512 - np.arange(512))])[:, None]


def _excess(re: np.ndarray, im: np.ndarray, bits: int) -> np.ndarray:
    """int32 [frames]: right shift that brings re and im [..., frames] to that many bits and a sign."""
    axes = tuple(range(re.ndim - 1))
    most = np.maximum(re.max(axes), im.max(axes))
    most = np.maximum(most, ~np.minimum(re.min(axes), im.min(axes)))  # ~v = |v| - 1, as v ^ (v >> 31) has it
    return np.maximum(np.frexp(most.astype(np.float64))[1] - bits, 0).astype(np.int32)


def _round(x: np.ndarray, s: np.ndarray) -> Any:
    return (x + (np.int32(1) << s >> 1)) >> s


def _power(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power [256, n] of bins 0..255 (0 is not used) of int16 frames [512, n], and the sum of shifts [n]."""
    z = frames.astype(np.int32) * HANN
    re, im = z[0::2][REVERSED], z[1::2][REVERSED]
    total = np.zeros(frames.shape[1], np.int32)
    span = 1
    while span < 256:
        s = _excess(re, im, 15)
        total += s
        shape = (128 // span, 2, span, -1)
        re, im = _round(re, s).reshape(shape), _round(im, s).reshape(shape)
        c, d = COS[: 256 : 256 // span, None], SIN[: 256 : 256 // span, None]
        br, bi = re[:, 1], im[:, 1]
        tr, ti = (br * c + bi * d + 8192) >> 14, (bi * c - br * d + 8192) >> 14
        re = np.stack((re[:, 0] + tr, re[:, 0] - tr), 1).reshape(256, -1)
        im = np.stack((im[:, 0] + ti, im[:, 0] - ti), 1).reshape(256, -1)
        span *= 2
    s = _excess(re, im, 14)
    re, im = _round(re, s), _round(im, s)
    low, high, c, d = slice(1, 129), slice(255, 127, -1), COS[1:129, None], SIN[1:129, None]
    er, dr = re[low] + re[high], re[low] - re[high]
    ei, di = im[low] - im[high], im[low] + im[high]
    tr, ti = (di * c - dr * d + 8192) >> 14, (8192 - dr * c - di * d) >> 14
    p: np.ndarray = np.zeros((256, frames.shape[1]), np.int32)
    p[high] = ((er - tr + 8) >> 4) ** 2 + ((ei - ti + 8) >> 4) ** 2
    p[low] = ((er + tr + 8) >> 4) ** 2 + ((ei + ti + 8) >> 4) ** 2
    return p, total + s


def _bands(p: np.ndarray, mels: int) -> np.ndarray:
    """int32 [mels, n] from power [256, n]."""
    interval, weight = (np.array(list(table), np.int32) for table in definition.filters(mels))
    inside = np.flatnonzero(interval != 255)
    first = np.searchsorted(interval[inside], np.arange(mels + 1))
    p, w = p[inside], weight[inside, None]
    rising = (p >> 12) * w + ((p & 4095) * w >> 12)
    return np.add.reduceat(rising, first)[:-1] + np.add.reduceat(p - rising, first)[1:]


def log_energies(clips: np.ndarray, settings: Settings) -> np.ndarray:
    """Base-2 logarithms of mel energies at 8 fraction bits: int16 [n, frames, mels] of int16 clips [n, samples]."""
    clips = np.asarray(clips)
    if clips.dtype != np.int16 or clips.ndim != 2 or clips.shape[1] != settings.samples:
        raise DataError(
            f"sound {clips.dtype} {clips.shape}, int16 [n, {settings.samples}] is needed: resample it to "
            f"{definition.RATE_HZ} Hz and cut or pad it"
        )
    rows, mels, _ = settings.shape
    at = np.arange(rows) * settings.hop
    out = np.zeros((len(clips) * rows, mels), np.int16)
    for start in range(0, len(out), BLOCK):
        clip, row = np.divmod(np.arange(start, min(start + BLOCK, len(out))), rows)
        frames = clips[clip[None, :], at[row][None, :] + np.arange(definition.FRAME)[:, None]]
        p, total = _power(frames)
        acc = np.maximum(_bands(p, mels), 1)
        e = np.frexp(acc.astype(np.float64))[1].astype(np.int32)  # 2**(e - 1) <= acc < 2**e
        mantissa = np.where(e > 9, acc >> np.maximum(e - 9, 0), acc << np.maximum(9 - e, 0)) - 256
        out[start : start + BLOCK] = (((e - 1) << 8) + LOG2[mantissa] + 512 * total).T
    return out.reshape(len(clips), rows, mels)


def features(clips: np.ndarray, settings: Settings | None = None) -> np.ndarray:
    """uint8 [n, frames, mels, 1], 0..127, of int16 clips [n, samples] at 16 kHz: what the board makes of them, to the bit.

    Raises DataError for sound of another type or length.
    """
    settings = settings or Settings()
    values = log_energies(clips, settings).astype(np.int32)
    top = values.max((1, 2), keepdims=True, initial=definition.QUIET)
    return np.maximum(definition.TOP - ((top - values) >> definition.SCALE_SHIFT), 0).astype(np.uint8)[..., None]
