# Data sets behind one interface: `load` by name, or by the path of one's own data. One file here per data set.
#
# A data set that lies in files has INFO, layout(folder), which is "" where it is not there, and load(folder) -> Dataset: see
# SETS. A kind of one's own folders has layout(folder) and load(folder): see FOLDERS.

from pathlib import Path
from types import ModuleType

from ..errors import DataError
from . import cifar10, core50, digits, grocery_store, har, images, mnist, npz, pairs, sound, speech, spoken, table
from .base import Dataset, Info, gather, stratified_split, take, to_int8
from .files import folder_of, root

BUILT_IN = ("digits", "pairs")
SETS: dict[str, ModuleType] = {
    module.INFO.name: module for module in (digits, mnist, pairs, cifar10, core50, grocery_store, har, speech, spoken)
}
NAMES = tuple(SETS)
FOLDERS: tuple[ModuleType, ...] = (images, sound)


def load(name: str, data_dir: str | Path | None = None, seed: int = 0) -> Dataset:
    """The data set called `name`: one of NAMES, or the path of a .npz, a .csv, or a folder with a folder per class.

    data_dir: the folder of a data set's files, or the one above it with folders called as the data sets; default TINYCL_DATA,
    or ./data. One's own relative path starts in `data_dir` if that is given. seed: which images `pairs` puts side by side; no
    split depends on it. Raises DataError.
    """
    if name == "digits":
        return digits.load()
    if name == "pairs":
        return pairs.load(seed)
    if name in SETS:
        made: Dataset = SETS[name].load(_folder(name, data_dir))
        return made
    path = Path(data_dir or ".") / name
    if name.endswith(".npz"):
        return npz.load(path)
    if name.endswith(".csv"):
        return table.load(path)
    if path.is_dir():
        kind = next((kind for kind in FOLDERS if kind.layout(path)), FOLDERS[0])
        own: Dataset = kind.load(path)
        return own
    raise DataError(
        f"data set '{name}' is not one of the {len(NAMES)} known ones ({', '.join(NAMES)}): take one, or give a .npz or .csv "
        "file, or a folder with one folder per class"
    )


def _folder(name: str, data_dir: str | Path | None) -> Path:
    folder = folder_of(name, data_dir)
    if data_dir is None and not folder.is_dir():
        raise DataError(
            f"{name} lies in files, and there are 0 folders '{root()}': give --data-dir, or set TINYCL_DATA, to the folder "
            f"that holds them ({SETS[name].INFO.get})"
        )
    return folder


def found(name: str, data_dir: str | Path | None = None) -> tuple[str, Path | None]:
    """(layout, folder) of the data set as `load` would take it: ("built in", None), or ("", None) where it is not there."""
    if name in BUILT_IN:
        return "built in", None
    folder = folder_of(name, data_dir)
    layout = SETS[name].layout(folder) if folder.is_dir() else ""
    return (layout, folder) if layout else ("", None)


__all__ = ["NAMES", "SETS", "Dataset", "Info", "found", "gather", "load", "stratified_split", "take", "to_int8"]
