# Two real digits side by side, 8x16: the data set on which a linear head on local features cannot suffice and growth must act.
# The enrolled classes `same` (00, 11) and `different` (01, 10) are an XOR over the two halves. Built from the digits data set.

import numpy as np

from .base import Dataset, Info
from .digits import raw_digits

# Base classes cross two left with two right digits, so the backbone has to learn to see both halves.
PAIRS: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("2|4", ((2, 4),)),
    ("2|5", ((2, 5),)),
    ("3|4", ((3, 4),)),
    ("3|5", ((3, 5),)),
    ("same", ((0, 0), (1, 1))),
    ("different", ((0, 1), (1, 0))),
)
BASE_COUNT = 4
TRAIN_PER_CLASS = 200
TEST_PER_CLASS = 100
INFO = Info(
    name="pairs",
    modality="image",
    shape=(8, 16, 1),
    classes=len(PAIRS),
    license="CC BY 4.0",
    source="made here from Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, as shipped with scikit-learn",
)


def _build(x: np.ndarray, y: np.ndarray, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(seed)
    images, labels = [], []
    for label, (_, kinds) in enumerate(PAIRS):
        for kind in kinds:
            halves = [x[rng.choice(np.flatnonzero(y == digit), per_class // len(kinds))] for digit in kind]
            images.append(np.concatenate(halves, axis=2))
            labels += [label] * len(images[-1])
    return np.concatenate(images), np.array(labels, dtype=np.int64)


def load(seed: int = 0) -> Dataset:
    """Six classes of 8x16 images, float64 0..16, paired by `seed`; train and test parts use different digits images."""
    x_train, y_train, x_test, y_test = raw_digits()
    pair_train = _build(x_train, y_train, TRAIN_PER_CLASS, 2 * seed)
    pair_test = _build(x_test, y_test, TEST_PER_CLASS, 2 * seed + 1)
    return Dataset(
        name=INFO.name,
        x_train=pair_train[0],
        y_train=pair_train[1],
        x_test=pair_test[0],
        y_test=pair_test[1],
        classes=tuple(name for name, _ in PAIRS),
        low=0.0,
        high=16.0,
        split_rule="built from the training and the test part of digits; no image of a digit is in both",
        license=INFO.license,
        source=INFO.source,
        base_count=BASE_COUNT,
    )
