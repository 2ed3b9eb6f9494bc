# Small data sets in the published layouts, and where the real ones lie. For the tests of the loaders.

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def real(name: str) -> Path:
    """The real data set `name`: in TINYCL_DATA, or in shared/data beside the repository; skips where it is not there."""
    root = Path(os.environ.get("TINYCL_DATA") or ROOT.parent / "shared" / "data")
    if not (root / name).is_dir():
        pytest.skip(f"no {name} in {root}: name the folder above it in TINYCL_DATA")
    return root / name


def short(text: bytes) -> bytes:
    """A string as Python 2 pickles it."""
    return b"U" + bytes([len(text)]) + text


def number(n: int) -> bytes:
    return b"K" + bytes([n]) if n < 256 else b"M" + struct.pack("<H", n) if n < 65536 else b"J" + struct.pack("<i", n)


def array(planes: np.ndarray, kind: bytes = b"u1") -> bytes:
    """A NumPy array as Python 2 pickled it for CIFAR-10."""
    data = planes.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + short(b"b") + b"\x87Rq\t(K\x01"
        + number(planes.shape[0]) + number(planes.shape[1]) + b"\x86cnumpy\ndtype\nq\n" + short(kind)
        + b"K\x00K\x01\x87Rq\x0b(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    )  # fmt: skip


def python_batch(planes: np.ndarray, labels: list[int], kind: bytes = b"u1") -> bytes:
    """A batch as Python 2 pickled it: the same instructions, in the same order, as the published files."""
    numbers = b"".join(number(label) for label in labels)
    names = b"".join(short(b"picture_%d.png" % i) for i in range(len(labels)))
    return (
        b"\x80\x02}q\x01(" + short(b"batch_label") + b"q\x02" + short(b"training batch 1 of 5") + b"q\x03"
        + short(b"labels") + b"q\x04]q\x05(" + numbers + b"e" + short(b"data") + b"q\x06" + array(planes, kind)
        + short(b"filenames") + b"q\x0c]q\r(" + names + b"eu."
    )  # fmt: skip


def cifar(folder: Path, layout: str, count: int = 20) -> tuple[Path, np.ndarray, np.ndarray]:
    """Two training batches and a test batch of `count` images; (folder, images [3, count, 32, 32, 3], labels [3, count])."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (3, count, 32, 32, 3)).astype(np.uint8)
    labels = np.stack([rng.permutation(np.arange(count) % 10) for _ in range(3)]).astype(np.uint8)
    for name, x, y in zip(("data_batch_1", "data_batch_4", "test_batch"), images, labels, strict=True):
        planes = x.transpose(0, 3, 1, 2).reshape(count, 3072)
        if layout == "binary":
            (folder / f"{name}.bin").write_bytes(np.hstack([y[:, None], planes]).tobytes())
        elif layout == "python":
            (folder / name).write_bytes(python_batch(planes, y.tolist()))
        else:
            sheet = x.reshape(count // 5, 5, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 160, 3)
            Image.fromarray(sheet).save(folder / f"{name}.webp", lossless=True)
    if layout == "sheets":
        np.savez(folder / "labels.npz", data_batch_1=labels[0], data_batch_4=labels[1], test_batch=labels[2])
    return folder, images, labels


def core50(folder: Path, sessions: tuple[int, ...] = (1, 2, 3), side: int = 128) -> Path:
    """One image an object and session, all of one colour: red is the session, green the object."""
    for session in sessions:
        for thing in range(1, 51):
            place = folder / f"s{session}" / f"o{thing}"
            place.mkdir(parents=True)
            Image.new("RGB", (side, side), (session, thing, 7)).save(place / f"C_{session:02d}_{thing:02d}_000.png")
    return folder


def pictures(folder: Path, classes: dict[str, int], size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Path:
    """`classes`: how many pictures of each; picture i of class k has the value 10 k + i all over."""
    for k, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            value = 10 * k + i
            Image.new(mode, size, value if mode == "L" else (value,) * 3).save(folder / name / f"{i}.png")
    return folder
