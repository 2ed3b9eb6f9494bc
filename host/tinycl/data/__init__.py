# Data sets behind one interface: `load` by name or by the path of a .npz file. One file here per data set.

from pathlib import Path

from ..errors import DataError
from . import digits, mnist, npz, pairs
from .base import Dataset, stratified_split, take, to_int8

NAMES = ("digits", "mnist", "pairs")


def load(name: str, data_dir: str | Path | None = None, seed: int = 0) -> Dataset:
    """The data set called `name` (one of NAMES, or a path that ends in .npz). Raises DataError.

    data_dir: the folder with the files of a data set that is not built in (mnist), or in which a relative .npz path starts.
    seed: which images `pairs` puts side by side; no split depends on it.
    """
    if name == "digits":
        return digits.load()
    if name == "pairs":
        return pairs.load(seed)
    if name == "mnist":
        return mnist.load(data_dir)
    if name.endswith(".npz"):
        return npz.load(Path(data_dir or ".") / name)
    raise DataError(
        f"data set '{name}' is not one of the {len(NAMES)} built in ({', '.join(NAMES)}): take one, or give a .npz file"
    )


__all__ = ["NAMES", "Dataset", "load", "stratified_split", "take", "to_int8"]
