# CIFAR-10 in its three layouts gives the same data set; batches that were cut or tampered with are refused, and nothing of a
# pickle runs.

import os
import pickle
import struct
import warnings

import data_files
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tinycl import data
from tinycl.data import cifar10
from tinycl.data.cifar10_pickle import read_pickle
from tinycl.errors import DataError

COUNT = 20
PLANES = np.random.RandomState(3).randint(0, 256, (4, 3072)).astype(np.uint8)
GOOD = data_files.python_batch(PLANES, [1, 2, 3, 4])
IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(cifar10, "BATCH", COUNT)


@pytest.mark.parametrize("layout", ["binary", "python", "sheets"])
def test_layouts_agree(tmp_path, layout, small):
    folder, images, labels = data_files.cifar(tmp_path, layout, COUNT)
    assert cifar10.layout(folder) == layout
    d = data.load("cifar10", folder)
    assert np.array_equal(d.x_train, images[:2].reshape(-1, 32, 32, 3)) and d.x_train.dtype == np.uint8
    assert np.array_equal(d.y_train, labels[:2].ravel()) and np.array_equal(d.y_test, labels[2])
    assert np.array_equal(d.x_test, images[2])
    assert d.notes == ("2 of the 5 training batches are there, without data_batch_2, data_batch_3, data_batch_5",)


def test_found_where_the_archives_unpack_to(tmp_path, small):
    inside = tmp_path / "cifar10" / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    data_files.cifar(inside, "python", COUNT)
    assert data.found("cifar10", tmp_path) == ("python", tmp_path / "cifar10")
    assert len(data.load("cifar10", tmp_path).x_train) == 2 * COUNT
    assert len(data.load("cifar10", tmp_path / "cifar10").x_train) == 2 * COUNT


def test_missing(tmp_path, small):
    with pytest.raises(DataError, match=r"0 test batches of CIFAR-10 .* --data-dir"):
        data.load("cifar10", tmp_path)
    data_files.cifar(tmp_path, "binary", COUNT)
    for name in ("data_batch_1", "data_batch_4"):
        (tmp_path / f"{name}.bin").unlink()
    with pytest.raises(DataError, match=r"0 of the 5 training batches data_batch_1\.bin"):
        data.load("cifar10", tmp_path)


# --- binary batches


@given(size=st.integers(0, 3 * 3073), label=st.integers(0, 255))
@example(size=2 * 3073, label=9)
@example(size=2 * 3073, label=10)
@example(size=3073, label=0)  # cut where a record ends
@IN_FOLDER
def test_binary_batch_is_whole_or_refused(tmp_path, size, label):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes((bytes([label]) + bytes(range(256)) * 12 + bytes(3 * 3073))[:size])
    if size != 2 * 3073:
        with pytest.raises(DataError, match=rf"{size} bytes, 2 records of 3073 are 6146 \({size // 3073} whole"):
            cifar10.read_binary(path, 2)
    elif label > 9:
        with pytest.raises(DataError, match=f"image 0 has label {label}, 0 to 9"):
            cifar10.read_binary(path, 2)
    else:
        x, y = cifar10.read_binary(path, 2)
        assert y.tolist() == [label, 0]
        assert x[0, 1, 2].tolist() == [34, 34, 34]  # planes of 1,024 bytes: red, green, blue of row 1, column 2


def test_the_published_number_of_records_is_asked_for(tmp_path):
    data_files.cifar(tmp_path, "binary", COUNT)
    with pytest.raises(DataError, match=r"61460 bytes, 10000 records of 3073 are 30730000 \(20 whole ones"):
        data.load("cifar10", tmp_path)


# --- Python batches


def read(tmp_path, content):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    return read_pickle(path)


def test_the_batch_of_these_tests_is_one_for_pickle_too():
    """What data_files writes is what NumPy under Python 2 wrote: pickle itself reads it as such."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.core has moved
        found = pickle.loads(GOOD, encoding="bytes")
    assert np.array_equal(found[b"data"], PLANES) and found[b"labels"] == [1, 2, 3, 4]


@pytest.mark.parametrize("protocol", [3, 4])
def test_batches_old_and_saved_anew(tmp_path, protocol):
    for content in (GOOD, pickle.dumps({b"data": PLANES, b"labels": [1, 2, 3, 4]}, protocol=protocol)):
        planes, labels = read(tmp_path, content)
        assert np.array_equal(planes, PLANES) and labels == [1, 2, 3, 4] and planes.dtype == np.uint8


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# {t: 1} with t = () and then forty times t = (t, t), by the memo: hashing it takes 2 to the 40 steps.
DEEP = b"\x80\x02})q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(40)) + b"K\x01s."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(Calls(os.system, "touch owned"), 2), "it asks for posix.system|it asks for nt.system"),
        (pickle.dumps(Calls(eval, "open('owned', 'w')"), 4), "it asks for builtins.eval"),
        (pickle.dumps({b"data": np.float64(3)}, 4), "it asks for numpy.*multiarray.scalar"),
        (b"\x80\x02cnumpy\nload\n.", "it asks for numpy.load"),
        (b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", "it asks for numpy.core.multiarray.fromfile"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "it asks for numpy.ndarray.dumps"),
        (pickle.dumps({b"data": PLANES, b"labels": [1, 2, 3, 4]}, 5), "it asks for numpy.*|instruction .* at byte"),
        (b"\x80\x02(S'echo'\nios\nsystem\n.", "instruction STRING at byte 3"),
        (b"\x80\x02K\x00r\xff\xff\xff\xff.", "memo 4294967295 at byte 4"),
        (DEEP, "times (TUPLE|BINGET), 16 at most"),
        (pickle.dumps([1, 2], 2), "holds 1 list, a batch is a dictionary"),
        (pickle.dumps({"data": [1], "labels": [1]}, 4), "2 entries, `data` .an array. and `labels`"),
        (GOOD.replace(b"(K\x01K\x02", b"(K\x01N"), "4 labels that are not all whole numbers"),
        (data_files.python_batch(PLANES, [1, 2, 3, 4], kind=b"O8"), "another type than u1"),
        (GOOD.replace(b"M\x00\x0c\x86", b"M\x01\x0c\x86"), "12288 bytes, which its shape does not fit"),
        (GOOD[:-1], "refused"),
        (GOOD[:5000], "refused"),
        (b"", "0 bytes that are refused"),
        (b"not a pickle", "refused"),
    ],
)
def test_other_pickles_are_refused(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, content)
    assert str(caught.value).endswith("fetch it again") and not (tmp_path / "owned").exists()
    assert len(str(caught.value)) < 400


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "data_batch_1", "wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="67108865 bytes, a batch has at most 67108864"):
        read_pickle(tmp_path / "data_batch_1")


@given(module=st.text("abcnumpy._", min_size=1), name=st.text("abcdtypendarray_", min_size=1))
@example(module="numpy", name="ndarray")
@example(module="numpy", name="dtypes")
@example(module="builtins", name="exec")
@example(module="numpy.core.multiarray", name="_reconstruct")
@IN_FOLDER
def test_names_are_refused_one_and_all(tmp_path, module, name):
    """Whatever is named is refused by that name, or is one of three that do nothing but fail as a batch."""
    known = (module, name) in [("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct")]
    said = "a batch is a dictionary" if known else f"it asks for {module}.{name}"
    with pytest.raises(DataError) as caught:
        read(tmp_path, f"\x80\x02c{module}\n{name}\n.".encode("latin-1"))
    assert said in str(caught.value)


@given(at=st.integers(0, len(GOOD) - 1), put=st.binary(min_size=1, max_size=4), cut=st.integers(0, 4))
@IN_FOLDER
def test_a_changed_batch_is_a_batch_or_refused(tmp_path, at, put, cut):
    try:
        planes, labels = read(tmp_path, GOOD[:at] + put + GOOD[at + cut :])
    except DataError:
        return
    assert planes.dtype == np.uint8 and planes.size <= len(GOOD) and all(type(label) is int for label in labels)


def test_python_batch_with_another_shape(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match=r"data of shape \(4, 3072\) and 4 labels, \(10000, 3072\) and 10000"):
        cifar10.read_python(path)
    path.write_bytes(data_files.python_batch(PLANES, [1, 2, 11, 4]))
    with pytest.raises(DataError, match="image 2 has label 11"):
        cifar10.read_python(path, 4)


# --- sheets


def test_sheet_that_was_cut(tmp_path, small):
    data_files.cifar(tmp_path, "sheets", COUNT)
    whole = (tmp_path / "test_batch.webp").read_bytes()
    (tmp_path / "test_batch.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"test_batch\.webp: cannot be read"):
        data.load("cifar10", tmp_path)
    (tmp_path / "test_batch.webp").write_bytes(whole)
    np.savez(tmp_path / "labels.npz", data_batch_1=np.zeros(20, np.uint8), data_batch_4=np.zeros(21, np.uint8))
    with pytest.raises(DataError, match=r"128 x 160 pixels do not hold 21 tiles"):
        data.load("cifar10", tmp_path)
    np.savez(tmp_path / "labels.npz", data_batch_1=np.zeros(20, np.uint8), data_batch_4=np.zeros(20, np.uint8))
    with pytest.raises(DataError, match=r"1 arrays are missing \(test_batch\)"):
        data.load("cifar10", tmp_path)


def test_real_images():
    """The published figures: first labels of both parts, a thousand of each class in the test part, the mean of the pixels."""
    d = data.load("cifar10", data_files.real("cifar10"))
    assert d.y_train[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3] and d.y_test[:5].tolist() == [3, 8, 8, 0, 6]
    assert np.bincount(d.y_test).tolist() == [1000] * 10 and d.sample_shape == (32, 32, 3)
    assert d.x_train.mean((0, 1, 2)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.005)


def test_a_real_batch_in_the_other_layouts(tmp_path):
    """10,000 real images as a binary and as a Python batch come out as they went in."""
    x, y = cifar10.read_sheets(data_files.real("cifar10") / "test_batch.webp")
    planes = x.transpose(0, 3, 1, 2).reshape(len(x), 3072)
    (tmp_path / "test_batch.bin").write_bytes(np.hstack([y[:, None].astype(np.uint8), planes]).tobytes())
    (tmp_path / "test_batch").write_bytes(data_files.python_batch(planes, y.tolist()))
    for again in (cifar10.read_binary(tmp_path / "test_batch.bin"), cifar10.read_python(tmp_path / "test_batch")):
        assert np.array_equal(again[0], x) and np.array_equal(again[1], y)


# --- idx, the other binary format


@given(at=st.integers(0, 99), put=st.binary(min_size=1, max_size=8), cut=st.integers(0, 8))
@IN_FOLDER
def test_a_changed_idx_is_as_its_header_says_or_refused(tmp_path, at, put, cut):
    good = struct.pack(">4B3I", 0, 0, 8, 3, 7, 3, 4) + bytes(84)
    changed = good[:at] + put + good[at + cut :]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(changed)
    from tinycl.data.mnist import read_idx

    try:
        found = read_idx(path, 3)
    except DataError as e:
        assert "fetch train-images-idx3-ubyte again" in str(e)
        return
    assert found.shape == struct.unpack(">3I", changed[4:16]) and found.tobytes() == changed[16:]
