# scikit-learn's handwritten digits: 1,797 real images of 8x8, shipped inside the package, so the demo needs no download.

import numpy as np

from .base import Dataset, Info, stratified_split

INFO = Info(
    name="digits",
    modality="image",
    shape=(8, 8, 1),
    classes=10,
    license="CC BY 4.0",
    source="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI), test part, as shipped with scikit-learn",
)


def raw_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x_train, y_train, x_test, y_test): x float64 [n, 8, 8, 1] in 0..16, y int64; two thirds of each class train."""
    from sklearn.datasets import load_digits  # here, because the import takes a second

    bunch = load_digits()
    x, y = bunch.images[..., None], bunch.target.astype(np.int64)
    train, test = stratified_split(y, 1 / 3)
    return x[train], y[train], x[test], y[test]


def load() -> Dataset:
    """The digits as a Dataset of ten classes, "0".."9"; six are usually the base classes."""
    x_train, y_train, x_test, y_test = raw_digits()
    return Dataset(
        name=INFO.name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        classes=tuple("0123456789"),
        low=0.0,
        high=16.0,
        split_rule="of each class one third, drawn with a fixed seed, is the test part",
        license=INFO.license,
        source=INFO.source,
        base_count=6,
        shuffle_classes=True,
    )
