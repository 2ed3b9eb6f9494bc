# Data sets: the mapping to int8, the readers on good and on hostile files, and errors that say what to do.

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tinycl import data
from tinycl.data import mnist
from tinycl.errors import DataError


def test_to_int8_rounds_to_nearest_over_the_whole_range():
    assert data.to_int8(np.array([0.0, 8.0, 16.0]), 0, 16).tolist() == [0, 64, 127]  # 63.5 goes up
    assert data.to_int8(np.array([0, 1, 2, 254, 255], np.uint8), 0, 255).tolist() == [0, 0, 1, 127, 127]
    assert data.to_int8(np.array([-1.0, 0.0, 1.0]), -1, 1).dtype == np.int8


@pytest.mark.parametrize("bad", [[-0.1, 3.0], [0.0, 16.5], [np.nan, 1.0]])
def test_to_int8_refuses_what_lies_outside(bad):
    with pytest.raises(DataError, match=r"values from .* the range is 0 to 16: rescale"):
        data.to_int8(np.array(bad), 0, 16)


def test_digits_split_is_fixed_stratified_and_complete():
    one, two = data.load("digits"), data.load("digits", seed=9)
    assert np.array_equal(one.x_test, two.x_test)
    assert len(one.x_train) + len(one.x_test) == 1797 and one.sample_shape == (8, 8, 1)
    assert np.allclose(np.bincount(one.y_test) / np.bincount(np.r_[one.y_train, one.y_test]), 1 / 3, atol=0.01)


def test_pairs_is_an_xor_of_real_halves_without_leaks():
    d = data.load("pairs")
    assert d.sample_shape == (8, 16, 1) and d.classes[d.base_count :] == ("same", "different")
    digits = data.load("digits")
    known = {image.tobytes(): label for image, label in zip(digits.x_train, digits.y_train, strict=True)}
    held_out = {image.tobytes() for image in digits.x_test}
    for image, label in zip(d.x_train, d.y_train, strict=True):
        left, right = (known[half.tobytes()] for half in (image[:, :8], image[:, 8:]))
        name = f"{left}|{right}" if left > 1 else ("same" if left == right else "different")
        assert d.classes[label] == name
    assert all(half.tobytes() in held_out for image in d.x_test for half in (image[:, :8], image[:, 8:]))


def test_take_is_reproducible_and_counts():
    d = data.load("digits")
    x, y = data.take(d, 3, [7, 2], seed=4)
    assert y.tolist() == [7, 7, 7, 2, 2, 2] and x.shape == (6, 8, 8, 1)
    assert np.array_equal(x[3:], data.take(d, 3, [2], seed=4)[0])
    have = int((d.y_train == 7).sum())
    with pytest.raises(DataError, match=rf"class '7' has {have} samples, 1000 were asked for: lower --samples"):
        data.take(d, 1000, [7])


def test_unknown_data_set():
    with pytest.raises(DataError, match=r"'cifar' is not one of the 9 known ones"):
        data.load("cifar")


# --- idx files


def write_mnist(folder, *, images=None, labels=None, pack=False):
    rng = np.random.RandomState(0)
    for part, n in (("train", 30), ("t10k", 20)):
        x = struct.pack(">4B3I", 0, 0, 8, 3, n, 5, 4) + rng.bytes(n * 20)
        y = struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(i % 10 for i in range(n))
        if part == "train":
            x, y = images or x, labels or y
        for name, content in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
            path = folder / (name + ".gz" * pack)
            path.write_bytes(gzip.compress(content) if pack else content)
    return folder


@pytest.mark.parametrize("pack", [False, True])
def test_idx_good(tmp_path, pack):
    d = data.load("mnist", write_mnist(tmp_path, pack=pack))
    assert d.x_train.shape == (30, 5, 4, 1) and d.x_train.dtype == np.uint8
    assert d.y_train[:12].tolist() == [*range(10), 0, 1]
    assert d.x_train[0].tobytes() == np.random.RandomState(0).bytes(600)[:20]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (struct.pack(">4B3I", 0, 0, 8, 1, 30, 5, 4) + bytes(600), "starts with 0x00000801, 0x00000803"),
        (struct.pack(">4B3I", 0, 0, 13, 3, 30, 5, 4) + bytes(600), "starts with 0x00000d03"),
        (struct.pack(">4B2I", 0, 0, 8, 3, 30, 5), "header of 12 bytes, 16"),
        (b"\0", "starts with 0x00,"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 30, 5, 4) + bytes(599), "599 bytes of data, its header promises 600"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 30, 5, 4) + bytes(601), "more than 600 bytes"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), "header says .4294967295,"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 1_000_000, 256, 256), "268435456 bytes in all"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0, 5, 4), "header says .0,"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 29, 5, 4) + bytes(580), "29 images, train-labels-idx1-ubyte 30 labels"),
    ],
)
def test_idx_hostile(tmp_path, images, message):
    with pytest.raises(DataError, match=message):
        data.load("mnist", write_mnist(tmp_path, images=images))


def test_idx_label_outside(tmp_path):
    labels = struct.pack(">4BI", 0, 0, 8, 1, 30) + bytes(range(30))
    with pytest.raises(DataError, match=r"labels 0\.\.29, but 10 classes allow 0\.\.9"):
        data.load("mnist", write_mnist(tmp_path, labels=labels))


def test_idx_broken_gzip(tmp_path):
    path = write_mnist(tmp_path, pack=True) / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:40] + b"\xff" * 60 + whole[100:], b"no gzip at all"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="train-images-idx3-ubyte"):
            mnist.read_idx(path, 3)


def test_idx_missing_files(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"holds 0 of the 4 files of MNIST: train-images-idx3-ubyte, .* --data-dir"):
        data.load("mnist", tmp_path)
    (write_mnist(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="holds 3 of the 4"):
        data.load("mnist", tmp_path)
    monkeypatch.delenv("TINYCL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="give --data-dir"):
        data.load("mnist")


# --- npz files

X = np.random.RandomState(1).randint(0, 256, (40, 6, 5)).astype(np.uint8)
Y = np.arange(40) % 4
CLASSES = np.array(["a", "b", "c", "d"])


def save(tmp_path, **arrays):
    path = tmp_path / "own.npz"
    np.savez(path, **{"x": X, "y": Y, "classes": CLASSES, **arrays})
    return str(path)


def test_npz_good(tmp_path):
    d = data.load(save(tmp_path))
    assert d.sample_shape == (6, 5, 1) and (d.low, d.high) == (0, 255) and len(d.x_test) == 8 and d.base_count == 3
    assert np.bincount(d.y_test).tolist() == [2, 2, 2, 2] and d.classes == ("a", "b", "c", "d")
    flat = data.load(save(tmp_path, x=X.reshape(40, 30).astype(np.float32) - 7))
    assert flat.sample_shape == (1, 30, 1) and flat.low == flat.x_train.min()
    data.to_int8(flat.x_test, flat.low, flat.high)  # the held-out part stays inside
    own = data.load(save(tmp_path, x_test=X[:8], y_test=Y[:8]))
    assert len(own.x_train) == 40 and np.array_equal(own.x_test[..., 0], X[:8])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[:39]}, "39 samples in x, 40 labels"),
        ({"y": Y + 1}, r"labels 1\.\.4, but 4 classes allow 0\.\.3"),
        ({"y": Y - 1}, r"labels -1\.\.2"),
        ({"y": Y / 2}, "y is float64"),
        ({"y": np.where(Y == 3, 0, Y)}, "class 'd' has 0 samples"),
        ({"x": np.full((40, 6), np.nan)}, "is empty"),
        ({"x": np.where(X > 250, np.nan, X)}, "range nan"),
        ({"x": np.zeros((40, 6))}, "range 0.0..0.0 is empty"),
        ({"x": np.zeros(40)}, "x has 1 axes"),
        ({"x": np.array(["text"] * 40)[:, None]}, "x is <U4"),
        ({"x": np.array([{}] * 40)}, "cannot be read"),
        ({"x": X.astype(complex)}, "x is complex128"),
        ({"classes": np.arange(4)}, "classes is int64"),
        ({"classes": np.array(["a", "a", "c", "d"])}, "only 3 of 4 class names differ"),
        ({"classes": np.array(["a", "b" * 33, "c", "d"])}, "class 1 has a name of 33 bytes, 1 to 32"),
        ({"classes": np.array(["a", "b", "", "d"])}, "class 2 has a name of 0 bytes"),
        ({"classes": np.array(["a", "b", "c", "\n"])}, "control character 10"),
        ({"classes": np.array(["a"]), "y": Y * 0}, "1 classes, 2 to 64"),
        ({"x_test": X[:8]}, "x_test and y_test go together"),
        ({"x_test": X[:8, :3], "y_test": Y[:8]}, "test samples .3, 5, 1."),
        ({"x_test": X[:3], "y_test": Y[:3]}, "test part: class 'd' has 0 samples"),
    ],
)
def test_npz_faults(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        data.load(save(tmp_path, **arrays))


def test_npz_not_a_file(tmp_path):
    with pytest.raises(DataError, match="check the path"):
        data.load("none.npz", tmp_path)
    path = tmp_path / "text.npz"
    path.write_bytes(b"hello")
    with pytest.raises(DataError, match="cannot be read"):
        data.load(str(path))
    whole = Path(save(tmp_path)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        data.load(str(path))
