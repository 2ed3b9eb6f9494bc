# What the readers share: finding a data set's folder, lossless sheets of tiles, images read at one size, and arrays too large
# for memory, which are written once into build/data and mapped from there. Depends on NumPy and Pillow.

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..progress import stage

MEMORY_BYTES = 1 << 28  # an array above this is mapped from a file
MANY = 2000  # pictures; decoding takes some milliseconds each, so more are decoded once and kept, whatever their size
CACHE = Path("build/data")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def root(data_dir: str | Path | None = None) -> Path:
    """The folder of the data sets: `data_dir`, or TINYCL_DATA, or ./data."""
    return Path(data_dir or os.environ.get("TINYCL_DATA") or "data")


def folder_of(name: str, data_dir: str | Path | None = None) -> Path:
    """Where data set `name` lies: its own folder below `root(data_dir)` where there is one, else that folder itself."""
    above = root(data_dir)
    return above / name if (above / name).is_dir() else above


def unreadable(path: Path, why: object, todo: str) -> DataError:
    """The error of a file that is there and is not what it should be."""
    return DataError(f"{path.name}: cannot be read ({why}): {todo}")


def read_npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays `names` of an .npz file, without pickles; DataError where one is missing."""
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [name for name in names if name not in stored]
            if missing:
                raise DataError(f"{path.name}: {len(missing)} arrays are missing ({', '.join(missing)}): fetch it again")
            return {name: stored[name] for name in names}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as e:
        raise unreadable(path, e, "fetch it again") from e


def read_sheet(path: Path, count: int, side: int) -> np.ndarray:
    """The first `count` tiles of a picture that is a grid of tiles, row by row: uint8 [count, side, side, 3]. DataError."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            sheet = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as e:
        raise unreadable(path, e, "fetch it again") from e
    h, w = sheet.shape[:2]
    if h % side or w % side or h // side * (w // side) < count:
        raise DataError(f"{path.name}: {h} x {w} pixels do not hold {count} tiles of {side} x {side}: fetch it again")
    tiles = sheet.reshape(h // side, side, w // side, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(tiles.reshape(-1, side, side, 3)[:count])


def read_picture(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """One picture as uint8 [h, w, c], c 1 (grey) or 3 (RGB); another size is averaged down or drawn larger. DataError."""
    from PIL import Image, ImageOps

    h, w, c = shape
    try:
        with Image.open(path) as picture:
            made = ImageOps.exif_transpose(picture).convert("L" if c == 1 else "RGB")
            if made.size != (w, h):
                made = made.resize((w, h), Image.Resampling.BOX)
            return np.asarray(made).reshape(h, w, c)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:  # Pillow's PNG reader raises SyntaxError
        raise unreadable(path, e, "save it anew as PNG, or take it out") from e


@dataclass(frozen=True)
class Look:
    """What the head of a picture says: width, height, and whether it is grey."""

    size: tuple[int, int]
    grey: bool


def look(path: Path) -> Look:
    """Read a picture's head only. Raises DataError."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode[0] in "IF":
                raise DataError(f"{path.name}: more than 8 bits a pixel ({picture.mode}): save it anew with 8 bits")
            turned = picture.getexif().get(0x0112, 1) >= 5  # EXIF orientation: 5 to 8 lie on their side
            return Look(picture.size[::-1] if turned else picture.size, picture.mode in ("1", "L", "LA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise unreadable(path, e, "save it anew as PNG, or take it out") from e


def read_pictures(paths: list[Path], shape: tuple[int, int, int], memory_bytes: int | None = None) -> np.ndarray:
    """All pictures at one size: uint8 [n, h, w, c]. Above `memory_bytes`, or if MANY, decoded once into a mapped file."""
    size = len(paths) * int(np.prod(shape))
    if size <= (MEMORY_BYTES if memory_bytes is None else memory_bytes) and len(paths) <= MANY:
        return np.stack([read_picture(path, shape) for path in paths])

    def decode() -> Iterator[np.ndarray]:
        with stage("decoding pictures, once") as update:
            for i, path in enumerate(paths):
                if i % 100 == 0:
                    update(i, len(paths))
                yield read_picture(path, shape)[None]
            update(len(paths), len(paths))

    return mapped(stamp(paths, shape), (len(paths), *shape), np.uint8, decode())


def stamp(paths: Iterable[Path], *more: Any) -> str:
    """A key for what is made from these files: their names, sizes and times, and `more`. Reading gigabytes to save reading them
    would be no gain."""
    key = hashlib.blake2b(repr(more).encode(), digest_size=16)
    for path in paths:
        stat = path.stat()
        key.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return key.hexdigest()


def mapped(key: str, shape: tuple[int, ...], dtype: Any, pieces: Iterator[np.ndarray]) -> np.ndarray:
    """An array on disk, read-only np.memmap: written from `pieces` (along the first axis) unless CACHE has one of this key.

    It gets its name only when it is whole, so a run that was stopped leaves nothing that a later one could take for data.
    """
    path = CACHE / f"{key}.npy"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = CACHE / f"{key}.{os.getpid()}.part"
        try:
            file = np.lib.format.open_memmap(part, "w+", dtype, shape)
            done = 0
            for piece in pieces:
                file[done : done + len(piece)] = piece
                done += len(piece)
            if done != len(file):
                raise DataError(f"{done} of {len(file)} samples could be written to {path}: delete it and run this again")
            file.flush()
            del file
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    made: np.ndarray = np.load(path, mmap_mode="r")
    return made
