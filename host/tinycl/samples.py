"""Samples of one class from wherever a person has them: an array, a table, pictures, a folder of these, or standard input.
Depends on NumPy and Pillow."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinycl.data import to_int8
from tinycl.data.files import PICTURES
from tinycl.data.npz import UNREADABLE
from tinycl.errors import DataError

TABLES = (".csv", ".txt")
ARRAYS = (".npy", ".npz")
MAX_STDIN_BYTES = 64 << 20


@dataclass(frozen=True)
class Format:
    """What the active blob of a board takes: shape (h, w, c) of a sample, the int8 range it was made for, and the values for
    which int8 0 and 127 stand. `invert` swaps light and dark of pictures: digits are drawn light on dark."""

    shape: tuple[int, int, int]
    q_low: int
    q_high: int
    low: float
    high: float
    invert: bool = False

    @classmethod
    def of(cls, status: dict[str, Any], invert: bool = False) -> "Format":
        """From a board's STATUS; DataError where it has no blob."""
        if "sample" not in status:
            raise DataError("the board has no blob, so it takes 0 kinds of samples: send one with 'tinycl flash --blob FILE'")
        h, w, c = status["sample"]
        return cls((h, w, c), status["q_low"], status["q_high"], status["low"], status["high"], invert)

    @property
    def bytes(self) -> int:
        h, w, c = self.shape
        return h * w * c


def read(source: str, wanted: Format, stdin: BinaryIO | None = None) -> np.ndarray:
    """int8 samples [n, h, w, c] from a file, a folder of files, or '-' or 'stdin'. Raises DataError.

    int8 arrays are taken as they are; all other numbers as raw values in low..high. Arrays: .npy, or .npz (its `x`, or its only
    array), [n, h, w, c] or anything with as many values a sample. Tables: .csv, a sample a line. Pictures: resized to the
    blob's shape, grey where it has one channel. Standard input: an .npy or .npz, or int8 samples back to back.
    """
    if source in ("-", "stdin"):
        return _from_bytes((stdin or sys.stdin.buffer).read(MAX_STDIN_BYTES), wanted)
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES + ARRAYS + TABLES)
        if not files:
            raise DataError(f"0 samples in '{path}': put pictures, .npy, .npz or .csv files there")
        return np.concatenate([_from_file(p, wanted) for p in files])
    if not path.exists():
        raise DataError(f"no file '{source}': check its name, or give '-' for standard input")
    return _from_file(path, wanted)


def _from_file(path: Path, wanted: Format) -> np.ndarray:
    kind = path.suffix.lower()
    if kind in PICTURES:
        return _picture(path, wanted)[None]
    try:
        if kind in TABLES:
            return _shaped(np.loadtxt(path, delimiter=",", ndmin=2), wanted, str(path))
        if kind in ARRAYS:
            return _shaped(_array(path.read_bytes()), wanted, str(path))
    except UNREADABLE as e:
        raise DataError(f"'{path}' cannot be read ({e}): save it anew as .npy, .npz or .csv") from e
    raise DataError(f"'{path}' is of no known kind: give one of {', '.join(ARRAYS + TABLES + PICTURES)}")


def _from_bytes(data: bytes, wanted: Format) -> np.ndarray:
    if not data:
        raise DataError("0 bytes on standard input: pipe samples into this command, or name a file with --from")
    if data[:6] == b"\x93NUMPY" or data[:2] == b"PK":
        try:
            return _shaped(_array(data), wanted, "standard input")
        except UNREADABLE as e:
            raise DataError(f"{len(data)} bytes on standard input are no array ({e}): save it anew") from e
    return _shaped(np.frombuffer(data, np.int8), wanted, "standard input")


def _array(data: bytes) -> np.ndarray:
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    if "x" in found:
        return found["x"]
    if len(found.files) != 1:
        raise ValueError(f"{len(found.files)} arrays and none is called x")
    return found[found.files[0]]


def _shaped(x: np.ndarray, wanted: Format, where: str) -> np.ndarray:
    if x.dtype.kind not in "uifb":
        raise DataError(f"{where}: values of type {x.dtype}: convert them to numbers")
    if not x.size or x.size % wanted.bytes or (x.ndim > 1 and x.shape[0] * wanted.bytes != x.size and x.size != wanted.bytes):
        raise DataError(
            f"{where}: {x.size} values of shape {x.shape}, a sample has {wanted.bytes} ({'x'.join(map(str, wanted.shape))}): "
            "reshape or choose them anew"
        )
    if x.dtype != np.int8:
        x = to_int8(x, wanted.low, wanted.high)
    return x.reshape(-1, *wanted.shape)


def _picture(path: Path, wanted: Format) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    h, w, c = wanted.shape
    if c not in (1, 3):
        raise DataError(f"'{path}' is a picture, a sample has {c} channels: give arrays")
    try:
        with Image.open(path) as picture:
            made = ImageOps.exif_transpose(picture).convert("L" if c == 1 else "RGB").resize((w, h), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as e:
        raise DataError(f"'{path}' cannot be read as a picture ({e}): save it anew") from e
    values = np.asarray(made, float).reshape(h, w, c) / 255
    if wanted.invert:
        values = 1 - values
    return to_int8(wanted.low + values * (wanted.high - wanted.low), wanted.low, wanted.high)
