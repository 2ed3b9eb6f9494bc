# Grocery Store (Klasson et al., WACV 2019), its ten largest coarse classes at 32 x 32: hand-held photographs of things in
# groups of kinds. Stands in for CORe50 where that is too small to learn from. Depends on NumPy and Pillow.

from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import Dataset, Info
from .files import read_npz, read_sheet

LARGEST = 10
SIDE = 32
INFO = Info(
    name="grocery_store",
    modality="image",
    shape=(SIDE, SIDE, 3),
    classes=LARGEST,
    license="MIT",
    source="Klasson, Zhang, Kjellström, A Hierarchical Grocery Store Image Dataset, WACV 2019; its ten largest coarse classes",
    get="https://github.com/marcusklasson/GroceryStoreDataset, as sheets of 32 x 32 tiles (train.webp, test.webp, labels.npz)",
    stand_in_for="core50",
)
SHEETS = ("train", "test")
LABELS = ("train_coarse", "test_coarse", "coarse_classes")


def layout(folder: Path) -> str:
    """sheets, or "" where the folder does not hold them."""
    try:
        if not all((folder / f"{part}.webp").is_file() for part in SHEETS):
            return ""
        with np.load(folder / "labels.npz", allow_pickle=False) as stored:
            return "sheets" if all(name in stored for name in LABELS) else ""
    except (OSError, ValueError):
        return ""


def load(folder: Path) -> Dataset:
    """uint8 [n, 32, 32, 3], the published training and test lists; classes from the largest down. Raises DataError."""
    if not layout(folder):
        present = sum((folder / name).is_file() for name in ("train.webp", "test.webp", "labels.npz"))
        raise DataError(
            f"{folder} holds {present} of the 3 files of Grocery Store: train.webp, test.webp, labels.npz. Make them from "
            f"{INFO.get}, and give their folder as --data-dir"
        )
    labels = read_npz(folder / "labels.npz", LABELS)
    names = [str(name) for name in labels["coarse_classes"]]
    counts = np.bincount(labels["train_coarse"], minlength=len(names))
    chosen = np.argsort(-counts, kind="stable")[:LARGEST]
    position = np.full(max(len(names), 256), -1, np.int64)
    position[chosen] = np.arange(len(chosen))

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        coarse = labels[f"{name}_coarse"]
        mine = position[coarse] >= 0
        return read_sheet(folder / f"{name}.webp", len(coarse), SIDE)[mine], position[coarse[mine]]

    x_train, y_train = part("train")
    x_test, y_test = part("test")
    return Dataset(
        name=INFO.name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=tuple(names[c] for c in chosen),
        low=0.0,
        high=255.0,
        split_rule="as published: the training and the test list; the validation list is not used",
        license=INFO.license,
        source=INFO.source,
        base_count=5,
        stand_in_for=INFO.stand_in_for,
        notes=(f"the {len(chosen)} largest of {len(names)} coarse classes; stands in for CORe50",),
    )
