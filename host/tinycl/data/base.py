# What every data set looks like to the rest of tinycl: arrays as published, a range that maps to int8, and where it came from.
# One file per data set fills it in. Depends on NumPy only.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..shared.blob import check_name
from ..shared.errors import FormatError
from ..shared.fixed import MAX_CLASSES

INT8_TOP = 127
MODALITIES = ("image", "motion", "sound")
SPLIT_SEED = 20240911  # every split of ours uses it, whatever the experiment's seed: the test set never moves


@dataclass(frozen=True)
class Dataset:
    """A classification data set, checked when it is made; raises DataError.

    x_train, x_test: [n, h, w, c], values and dtype as published, all within `low`..`high`, which maps linearly to int8 0..127.
    y_train, y_test: int64 [n], an index into `classes`. `base_count`: how many classes, from the first, usually are base
    classes.
    `shuffle_classes`: the experiment's seed deals the classes first, so that each seed has base classes of its own.
    `modality`: one of MODALITIES. Motion is [n, steps, 1, channels], sound [n, frames, mels, 1].
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    low: float
    high: float
    split_rule: str
    license: str
    source: str
    base_count: int = 0
    shuffle_classes: bool = False
    modality: str = "image"

    def __post_init__(self) -> None:
        self.check()

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of one sample."""
        h, w, c = self.x_train.shape[1:]
        return h, w, c

    def check(self) -> None:
        """Raise DataError for anything that training or a board would trip over later."""
        count = len(self.classes)
        if not 2 <= count <= MAX_CLASSES:
            raise DataError(f"{self.name}: {count} classes, 2 to {MAX_CLASSES} are possible: merge or leave out classes")
        if len(set(self.classes)) != count:
            raise DataError(f"{self.name}: only {len(set(self.classes))} of {count} class names differ: rename the doubles")
        for i, name in enumerate(self.classes):
            try:
                check_name(name)
            except (FormatError, UnicodeError) as e:
                raise DataError(f"{self.name}: class {i} has {e}") from e
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise DataError(f"{self.name}: range {self.low}..{self.high} is empty: the samples must not all be one value")
        if self.modality not in MODALITIES:
            raise DataError(
                f"{self.name}: modality '{self.modality}' is none of the {len(MODALITIES)}: {', '.join(MODALITIES)}"
            )
        if not 0 <= self.base_count <= count:
            raise DataError(f"{self.name}: {self.base_count} base classes of {count}: choose 0 to {count}")
        for part, x, y in (("training", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            _check_part(f"{self.name}, {part} part", x, y, self.classes)
            _check_range(f"{self.name}, {part} part", x, self.low, self.high)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"{self.name}: training samples have shape {self.x_train.shape[1:]}, test samples {self.x_test.shape[1:]}: "
                "bring both to one shape"
            )


def _check_part(where: str, x: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> None:
    if x.dtype.kind not in "uif":
        raise DataError(f"{where}: samples of type {x.dtype}: convert them to numbers")
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(f"{where}: samples of shape {x.shape}, [n, h, w, c] with nothing empty is needed: reshape them")
    if y.dtype != np.int64 or y.shape != (len(x),):
        raise DataError(f"{where}: labels {y.dtype} {y.shape} for {len(x)} samples: give one int64 label per sample")
    if y.min() < 0 or y.max() >= len(classes):
        raise DataError(
            f"{where}: labels {y.min()}..{y.max()}, but {len(classes)} classes allow 0..{len(classes) - 1}: "
            "correct the labels or name all classes"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError(f"{where}: {np.count_nonzero(~np.isfinite(x))} values are NaN or infinite: remove or replace them")
    counts = np.bincount(y, minlength=len(classes))
    for label in np.flatnonzero(counts == 0).tolist():
        raise DataError(f"{where}: class '{classes[label]}' has 0 samples: add some or drop the class")


def _check_range(where: str, x: np.ndarray, low: float, high: float) -> None:
    smallest, largest = float(x.min()), float(x.max())
    if not (smallest >= low and largest <= high):  # written so that NaN fails too
        raise DataError(
            f"{where}: values from {smallest:g} to {largest:g}, the range is {low:g} to {high:g}: rescale or clip them"
        )


def to_int8(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Raw values to the int8 samples that backbone and board take: low -> 0, high -> 127, rounded to nearest (half goes up).

    x: any shape, numeric. Raises DataError when a value lies outside low..high: clipping would hide a wrong sensor scale.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.size:
        _check_range("samples", x, low, high)
    return np.floor((x - low) * (INT8_TOP / (high - low)) + 0.5).astype(np.int8)


def take(data: Dataset, per_class: int, labels: Sequence[int] | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw `per_class` training samples of each class in `labels` (default: all) without replacement.

    Returns (x raw [k, h, w, c], y int64 [k]), class after class in the order of `labels`. What is drawn of a class depends on
    the seed and its label only, not on the other classes asked for. Raises DataError when a class has too few.
    """
    if per_class < 1:
        raise DataError(f"{per_class} samples per class were asked for: give --samples 1 or more")
    chosen = []
    for label in range(len(data.classes)) if labels is None else labels:
        if not 0 <= label < len(data.classes):
            raise DataError(f"class {label} does not exist, {data.name} has 0..{len(data.classes) - 1}: choose one of them")
        own = np.flatnonzero(data.y_train == label)
        if len(own) < per_class:
            raise DataError(
                f"class '{data.classes[label]}' has {len(own)} samples, {per_class} were asked for: "
                f"lower --samples to {len(own)} or less"
            )
        chosen.append(np.random.RandomState([seed, label]).permutation(own)[:per_class])
    index = np.concatenate(chosen)
    return data.x_train[index], data.y_train[index]


def stratified_split(y: np.ndarray, test_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test), ascending: of each class the same share, at least one sample, goes to the test part.

    The draw is fixed (SPLIT_SEED). RandomState, because NumPy promises that its stream never changes.
    """
    rng = np.random.RandomState(SPLIT_SEED)
    test = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        own = rng.permutation(np.flatnonzero(y == label))
        test[own[: max(1, int(len(own) * test_fraction))]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
