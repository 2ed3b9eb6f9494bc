# CORe50 (Lomonaco & Maltoni, CoRL 2017): ten categories of five objects each, filmed in eleven sessions. Read from the
# published folders of images, or from the sample in one .npz. Depends on NumPy and Pillow.

import os
import re
from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import Dataset, Info
from .files import read_npz, read_pictures

SIDE = 32  # pixels: an activation of 16 channels at the full size of 128 would be eight times a board's memory
INFO = Info(
    name="core50",
    modality="image",
    shape=(SIDE, SIDE, 3),
    classes=10,
    license="CC BY 4.0",
    source="Lomonaco and Maltoni, CORe50: a New Dataset and Benchmark for Continuous Object Recognition, CoRL 2017",
    get="https://vlomonaco.github.io/core50, core50_128x128.zip",
)
CLASSES = (
    *("plug_adapter", "mobile_phone", "scissor", "light_bulb", "can"),
    *("glasses", "ball", "marker", "cup", "remote_control"),
)
TEST_SESSIONS = (3, 7, 10)  # section 4 of the paper
SAMPLE = "core50_sample_64.npz"
NAME = re.compile(r"C_(\d\d)_(\d\d)_(\d{3})\.png")
PER_CATEGORY = 5


def _images(folder: Path) -> list[tuple[int, int, Path]]:
    """(session, object, path) of all images sN/oM/C_ss_oo_fff.png, in order. DataError where name and folder disagree."""
    found = []
    for session in range(1, 12):
        for thing in range(1, 51):
            place = folder / f"s{session}" / f"o{thing}"
            if not place.is_dir():
                continue
            for name in sorted(entry.name for entry in os.scandir(place)):
                match = NAME.fullmatch(name)
                if match is None:
                    continue
                if (int(match[1]), int(match[2])) != (session, thing):
                    raise DataError(
                        f"{place / name}: the name says session {int(match[1])}, object {int(match[2])}, the folder "
                        f"{session} and {thing}: put it where it belongs"
                    )
                found.append((session, thing, place / name))
    return found


def _place(folder: Path) -> Path:
    inside = folder / "core50_128x128"
    return inside if inside.is_dir() else folder


def layout(folder: Path) -> str:
    """folders, sample, or "" where the folder holds no CORe50."""
    if any((_place(folder) / f"s{session}").is_dir() for session in range(1, 12)):
        return "folders"
    return "sample" if (folder / SAMPLE).is_file() else ""


def load(folder: Path, side: int = SIDE, memory_bytes: int | None = None) -> Dataset:
    """uint8 [n, side, side, 3]; test is sessions 3, 7 and 10, groups are sessions. Raises DataError.

    side: pixels; the published 128 (the sample: 64) are averaged down. Above `memory_bytes` (default files.MEMORY_BYTES) the
    images are decoded once into a file that is mapped: all 164,866 at 32 x 32 are 506 MB.
    A category without an image in either part is left out and said: that happens with the sample.
    """
    found = layout(folder)
    if not found:
        raise DataError(
            f"{folder} holds 0 of the 11 session folders of CORe50 (s1/o1/C_01_01_000.png, …) and no {SAMPLE}: fetch it from "
            f"{INFO.get}, and give its folder as --data-dir"
        )
    if found == "sample":
        x, y, session = _sample(folder / SAMPLE, side)
        notes = [f"a sample of {len(x)} of 164,866 images: enough to try things out, too few to learn from"]
    else:
        images = _images(_place(folder))
        session = np.array([s for s, _, _ in images], np.int64)
        y = np.array([(thing - 1) // PER_CATEGORY for _, thing, _ in images], np.int64)
        notes = [f"images of 128 x 128 pixels resized to {side} x {side}"] if side != 128 else []
    in_test = np.isin(session, TEST_SESSIONS)
    both = np.intersect1d(y[in_test], y[~in_test])
    if not both.size:
        raise DataError(
            f"{folder}: {np.count_nonzero(~in_test)} training and {np.count_nonzero(in_test)} test images share 0 categories: "
            "sessions 3, 7 and 10 are the test part, fetch at least one of them and one other"
        )
    if len(both) < len(CLASSES):
        lacking = ", ".join(name for c, name in enumerate(CLASSES) if c not in both)
        notes.append(f"left out for want of an image in both parts: {lacking}")
    train, test = (np.flatnonzero(part & np.isin(y, both)) for part in (~in_test, in_test))
    if found == "sample":
        x_train, x_test = x[train], x[test]
    else:
        shape = (side, side, 3)
        x_train, x_test = (read_pictures([images[i][2] for i in part], shape, memory_bytes) for part in (train, test))
    return Dataset(
        name=INFO.name,
        x_train=x_train,
        y_train=np.searchsorted(both, y[train]),
        x_test=x_test,
        y_test=np.searchsorted(both, y[test]),
        classes=tuple(CLASSES[c] for c in both),
        low=0.0,
        high=255.0,
        split_rule="as published: sessions 3, 7 and 10 are the test part",
        license=INFO.license,
        source=INFO.source,
        base_count=min(5, len(both)),
        groups_train=session[train],
        groups_test=session[test],
        group_kind="session",
        notes=tuple(notes),
    )


def _sample(path: Path, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, y, session) of the images whose session is known; those of the project's collage come from all sessions."""
    arrays = read_npz(path, ["x", "y", "session"])
    x, y, session = arrays["x"], arrays["y"], arrays["session"]
    if (
        x.dtype != np.uint8
        or x.ndim != 4
        or x.shape[1] != x.shape[2]
        or x.shape[3] != 3
        or not len(x) == len(y) == len(session)
    ):
        raise DataError(f"{path.name}: x is {x.dtype} {x.shape}, y {y.shape}, session {session.shape}: fetch it again")
    if x.shape[1] % side:
        raise DataError(f"{path.name}: {x.shape[1]} pixels cannot be averaged to {side}: choose a divisor")
    if y.size and y.max() >= len(CLASSES):
        raise DataError(f"{path.name}: label {y.max()}, 0 to {len(CLASSES) - 1} are possible: fetch it again")
    known = session > 0
    x, by = x[known], x.shape[1] // side
    small = x.reshape(len(x), side, by, side, by, 3).mean((2, 4))
    return np.floor(small + 0.5).astype(np.uint8), y[known].astype(np.int64), session[known].astype(np.int64)
