# Latents of a whole data set, computed once per backbone and kept on disk, found again by content: experiments ask for the same
# ones over and over. Memory stays small whatever the data: a part is read and worked on at a time. Depends on NumPy.

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .backbone import ConvLayer, IntegerBackbone

CACHE = Path("build/cache")
CACHE_BYTES = 1 << 30  # what the folder may grow to; the files that were longest unused go first
PART_BYTES = 1 << 22  # of raw samples in one part
ARITHMETIC = b"tinycl latents 1"  # another number here when IntegerBackbone.forward comes to give other values

Progress = Callable[[int, int], None]
Convert = Callable[[np.ndarray], np.ndarray]


def latents(
    backbone: IntegerBackbone,
    x: np.ndarray,
    convert: Convert | None = None,
    folder: Path | None = CACHE,
    progress: Progress | None = None,
) -> np.ndarray:
    """What `backbone.forward` gives for x, int8 [n, sum(latent_sizes)]; a read-only map of a file in `folder`, if there is one.

    x: int8 [n, h, w, c]; or anything [n, ...], np.memmap too, of which `convert` makes that, a part at a time (data.to_int8).
    folder: None computes anew and keeps nothing. progress(done, total) counts samples, and is not called where the latents were
    there. Raises ModelError for samples of another shape; OSError where the folder cannot be written.
    """
    if folder is None:
        return _compute(backbone, x, convert, np.empty((len(x), sum(backbone.latent_sizes)), np.int8), progress)
    path = folder / f"{key(backbone, x, convert)}.npy"
    known = _read(path, (len(x), sum(backbone.latent_sizes)))
    if known is not None:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".part", dir=folder)  # another process may be making the same
    os.close(handle)
    try:
        made = np.lib.format.open_memmap(name, "w+", np.int8, (len(x), sum(backbone.latent_sizes)))
        _compute(backbone, x, convert, made, progress)
        made.flush()
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    _trim(folder, path)
    read = _read(path, made.shape)
    return made if read is None else read


def key(backbone: IntegerBackbone, x: np.ndarray, convert: Convert | None = None) -> str:
    """64 hex digits that stand for a backbone's arithmetic and weights and for the samples as it gets them, SHA-256."""
    digest = hashlib.sha256(ARITHMETIC)
    for layer in backbone.layers:
        if isinstance(layer, ConvLayer):
            digest.update(repr((layer.in_shape, layer.w.shape, layer.stride, layer.pad, layer.depthwise)).encode())
            digest.update(repr((layer.shift1, layer.shift2)).encode())
            for values in (layer.w, layer.bias, layer.mult):
                digest.update(np.ascontiguousarray(values).data)
        else:
            digest.update(repr((layer.in_shape, layer.k)).encode())
    digest.update(repr([(e.layer_count, e.pool_k) for e in backbone.exits]).encode())
    digest.update(repr(len(x)).encode())
    for part in _parts(x):
        digest.update(np.ascontiguousarray(_samples(x[part], convert)).data)
    return digest.hexdigest()


def _compute(
    backbone: IntegerBackbone, x: np.ndarray, convert: Convert | None, out: np.ndarray, progress: Progress | None
) -> np.ndarray:
    for part in _parts(x):
        out[part] = backbone.forward(_samples(x[part], convert))
        if progress:
            progress(part.stop, len(x))
    return out


def _samples(x: np.ndarray, convert: Convert | None) -> np.ndarray:
    return np.asarray(x if convert is None else convert(x))


def _parts(x: np.ndarray) -> Iterator[slice]:
    rows = max(1, PART_BYTES * len(x) // max(1, x.nbytes))
    return (slice(first, min(first + rows, len(x))) for first in range(0, len(x), rows))


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array, marked as used now; None where there is none, or one that is not whole."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape != shape or found.dtype != np.int8:
            return None
        os.utime(path)
    except (OSError, ValueError, EOFError):
        return None
    return found


def _trim(folder: Path, keep: Path) -> None:
    """Removes what was longest unused beyond CACHE_BYTES, `keep` last of all. A file that is mapped lives on for who has it."""
    found = []
    for path in folder.glob("*.npy"):
        try:
            found.append((path == keep, path.stat().st_mtime, path.stat().st_size, path))
        except FileNotFoundError:  # another process trims as well
            continue
    total = 0
    for mine, _, size, path in sorted(found, reverse=True):
        total += size
        if total > CACHE_BYTES and not mine:
            path.unlink(missing_ok=True)
