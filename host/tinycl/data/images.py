# Bring your own pictures: a folder with a folder of pictures per class, or train/ and test/ with these. Depends on Pillow.

from pathlib import Path

from . import folders, own
from .base import Dataset
from .files import PICTURES, look, read_pictures
from .folders import Kind

SIDE = 32  # pixels of pictures that are larger, or of different sizes
LARGEST = 64  # pixels: pictures of one size up to this are taken as they are


KIND = Kind("picture", PICTURES)


def layout(folder: Path) -> str:
    """As folders.layout, of pictures."""
    return folders.layout(folder, KIND)


def load(folder: str | Path, shape: tuple[int, int, int] | None = None, memory_bytes: int | None = None) -> Dataset:
    """uint8 [n, h, w, c]: c is 1 where all pictures are grey, else 3. Raises DataError.

    shape: (h, w, c) to bring them to; default: their own where all have one size up to 64 x 64, else 32 x 32, which is said.
    Pictures are resized as a whole, without cropping, as `tinycl enrol` does. Above `memory_bytes` (default
    files.MEMORY_BYTES) they are decoded once into a file that is mapped.
    """
    folder = Path(folder)
    found = folders.listed(folder, KIND)
    looks = [look(path) for path in (*found.train, *found.test)]
    sizes = sorted({one.size for one in looks})
    if shape is None:
        w, h = sizes[0] if len(sizes) == 1 and max(sizes[0]) <= LARGEST else (SIDE, SIDE)
        shape = (h, w, 1 if all(one.grey for one in looks) else 3)
    other = sum(one.size != (shape[1], shape[0]) for one in looks)
    notes = []
    if other:
        smallest, largest = (f"{w} x {h}" for w, h in (sizes[0], sizes[-1]))
        span = smallest if len(sizes) == 1 else f"{len(sizes)} sizes from {smallest} to {largest}"
        notes.append(f"{other} of {len(looks)} pictures resized to {shape[1]} x {shape[0]} (they have {span})")
    return Dataset(
        name=folder.resolve().name,
        x_train=read_pictures(found.train, shape, memory_bytes),
        y_train=found.y_train,
        x_test=read_pictures(found.test, shape, memory_bytes),
        y_test=found.y_test,
        classes=found.classes,
        low=0.0,
        high=255.0,
        split_rule=found.rule,
        license=own.LICENSE,
        source=folder.resolve().name,
        base_count=own.base_count(len(found.classes)),
        notes=tuple(notes),
    )
