# Bring your own data: folders of pictures, CSV, and .npz with what is more than test_data.py asks of it.

import data_files
import numpy as np
import pytest
from PIL import Image

from tinycl import data
from tinycl.data import base, images, npz, own, table
from tinycl.errors import DataError


def same(a, b):
    """Two data sets with the same content."""
    assert np.array_equal(a.x_train, b.x_train) and np.array_equal(a.x_test, b.x_test)
    assert np.array_equal(a.y_train, b.y_train) and np.array_equal(a.y_test, b.y_test)
    assert (a.classes, a.low, a.high) == (b.classes, b.low, b.high) and a.x_test.dtype == b.x_test.dtype


# --- folders of pictures


def test_a_folder_per_class(tmp_path):
    folder = data_files.pictures(tmp_path / "fruit", {"apple": 10, "pear": 5, "plum": 2})
    d = data.load(str(folder))
    assert d.name == "fruit" and d.classes == ("apple", "pear", "plum") and d.sample_shape == (6, 8, 3)
    assert np.bincount(d.y_train).tolist() == [8, 4, 1] and np.bincount(d.y_test).tolist() == [2, 1, 1]
    values = np.r_[d.x_train[:, 3, 3, 1], d.x_test[:, 3, 3, 1]]
    assert sorted(values.tolist()) == [*range(10), *range(10, 15), 20, 21]
    assert np.array_equal(values // 10, np.r_[d.y_train, d.y_test]) and d.notes == () and d.x_train.dtype == np.uint8
    same(d, data.load("fruit", tmp_path))


def test_folders_train_and_test(tmp_path):
    data_files.pictures(tmp_path / "train", {"a": 3, "b": 1}, mode="L")
    data_files.pictures(tmp_path / "test", {"a": 1, "b": 2}, mode="L")
    d = data.load(str(tmp_path))
    assert np.bincount(d.y_train).tolist() == [3, 1] and np.bincount(d.y_test).tolist() == [1, 2]
    assert d.sample_shape == (6, 8, 1)  # all are grey
    (tmp_path / "test/c").mkdir()
    with pytest.raises(DataError, match="class 'c' has 0 pictures"):
        data.load(str(tmp_path))
    Image.new("L", (8, 6)).save(tmp_path / "test/c/0.png")
    with pytest.raises(DataError, match="2 classes in train, 3 in test, not in both: c"):
        data.load(str(tmp_path))


def test_another_size_is_resized_and_said(tmp_path):
    folder = data_files.pictures(tmp_path / "own", {"a": 5, "b": 5}, size=(40, 20), mode="L")
    half = Image.new("RGB", (100, 64))
    half.paste((200, 100, 0), (50, 0, 100, 64))
    half.save(folder / "b" / "wide.jpg", quality=95)
    d = data.load(str(folder))
    assert d.sample_shape == (32, 32, 3)
    assert d.notes == ("11 of 11 pictures resized to 32 x 32 (they have 2 sizes from 40 x 20 to 100 x 64)",)
    wide = next(x for x in np.concatenate([d.x_train, d.x_test]) if x.max() > 150)
    assert np.abs(wide[:, :15].astype(int)).max() < 12 and np.abs(wide[:, 17:].astype(int) - [200, 100, 0]).max() < 12
    kept = images.load(folder, shape=(20, 40, 1))
    assert kept.sample_shape == (20, 40, 1) and kept.notes[0].startswith("1 of 11 pictures resized to 40 x 20")


def test_pictures_that_lie_on_their_side(tmp_path):
    folder = data_files.pictures(tmp_path / "own", {"a": 4, "b": 4}, size=(8, 6))
    for path in folder.glob("*/*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6  # a camera held upright
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    assert data.load(str(folder)).sample_shape == (8, 6, 3)


def test_a_folder_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = data_files.pictures(tmp_path / "own", {"a": 9, "b": 8})
    mapped, plain = images.load(folder, memory_bytes=100), images.load(folder)
    assert isinstance(mapped.x_train, np.memmap) and not isinstance(plain.x_train, np.memmap)
    same(mapped, plain)


def test_picture_faults(tmp_path):
    with pytest.raises(DataError, match=r"0 folders with pictures .* make one folder per class"):
        data.load(str(tmp_path))
    folder = data_files.pictures(tmp_path / "own", {"a": 4, "b": 4})
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"class 'empty' has 0 pictures .* delete its folder"):
        data.load(str(folder))
    (folder / "empty" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="class 'empty' has 1 samples, a test part needs 2"):
        data.load(str(folder))
    (folder / "empty" / "1.png").write_bytes((folder / "a/1.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"[01]\.png: cannot be read .* save it anew"):
        data.load(str(folder))
    Image.fromarray(np.full((6, 8), 3000, np.uint16)).save(folder / "empty/0.png")
    (folder / "empty/1.png").write_bytes((folder / "empty/0.png").read_bytes())
    with pytest.raises(DataError, match=r"png: more than 8 bits a pixel \(I;16\)"):
        data.load(str(folder))
    data_files.pictures(tmp_path / "one", {"a": 4})
    with pytest.raises(DataError, match="1 folders, 2 to 64 classes"):
        data.load(str(tmp_path / "one"))
    data_files.pictures(tmp_path / "many", {f"{i:02d}": 1 for i in range(65)}, size=(1, 1))
    with pytest.raises(DataError, match="65 folders, 2 to 64 classes"):
        data.load(str(tmp_path / "many"))


# --- CSV


def csv_file(tmp_path, text, name="own.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


PLAIN = "".join(f"{i},{i + 0.5},{-i},{i % 2}\n" for i in range(10))


def test_csv_without_a_header(tmp_path):
    d = data.load(csv_file(tmp_path, PLAIN))
    assert d.sample_shape == (3, 1, 1) and d.classes == ("0", "1") and d.modality == "motion" and d.x_train.dtype == np.float32
    x = np.concatenate([d.x_train, d.x_test])[:, :, 0, 0]
    assert len(d.x_test) == 2 and sorted(x[:, 0].tolist())[1:9] == [*range(1, 9)]
    assert np.array_equal(np.r_[d.y_train, d.y_test] % 2, x[:, 1] // 1 % 2)
    same(d, data.load("own.csv", tmp_path))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_channels_labels_as_text_and_a_split(tmp_path, separator):
    """Channels by the names of the columns, in whatever order these stand."""
    lines = ["\ufeffsubject,ax_1,ay_0,ax_0,ay_1,label,split"]
    lines += [
        f"{7 + i % 3},{i}1,{i}2,{i}3,{i}4,{'walk' if i % 2 else 'sit'},{'test' if i > 5 else 'train'}" for i in range(1, 9)
    ]
    d = data.load(csv_file(tmp_path, "\r\n".join(lines).replace(",", separator)))
    assert d.sample_shape == (2, 1, 2) and d.classes == ("sit", "walk") and d.split_rule == "as given in the column split"
    assert d.x_train[0, :, 0].tolist() == [[13, 12], [11, 14]]  # steps, then channels ax and ay
    assert d.y_train.tolist() == [1, 0, 1, 0, 1] and d.y_test.tolist() == [0, 1, 0]
    assert d.group_kind == "subject" and d.groups_train.tolist() == [8, 9, 7, 8, 9] and d.groups_test.tolist() == [7, 8, 9]
    assert (d.low, d.high) == (11, 54) and d.x_test.max() == 54  # what lies beyond the training part saturates


def test_csv_labels_that_are_numbers_keep_their_order(tmp_path):
    text = "a,b,class\n" + "".join(f"{i},{i},{label}\n" for i in range(4) for label in ("10", "9.0", "-1"))
    assert data.load(csv_file(tmp_path, text)).classes == ("-1", "9", "10")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAIN.replace("3,3.5", "3,nan"), r"own\.csv: line 4, column 2 \(column 2\) is 'nan', a finite number"),
        (PLAIN.replace("3,3.5", "3,"), r"line 4, column 2 .* is empty"),
        (PLAIN.replace("3,3.5", "inf,3.5"), r"line 4, column 1 .* is 'inf'"),
        ("x,why,label\n" + "1,2,a\n" * 3 + "1,two,b\n", r"line 5, column 2 \(why\) is 'two'"),
        (PLAIN.replace("3,3.5", "3"), "line 4 has 3 cells, the first one 4"),
        ("a,b,label\n1,2,\n", "line 2, column 3 has a label of 0 letters"),
        ("a,split,label\n1,train,x\n2,both,y\n", r"line 3, column 2 \(split\) is 'both'"),
        ("a,split,label\n1,train,x\n2,train,y\n", "2 lines for training, 0 for test"),
        ("a,label\n1,x\n2,x\n3,y\n", "class 'y' has 1 samples, a test part needs 2: add samples or a column `split`"),
        ("a,split,label\n1,train,x\n2,train,y\n3,test,x\n", "test part: class 'y' has 0 samples"),
        ("label\nx\n", "1 columns, at least 1 of values"),
        ("a,b,label\n", "a header and 0 windows"),
        ("", "0 lines"),
        ("1,2,x\n" * 4, "1 classes, 2 to 64"),
        ("2,2,x\n" * 4 + "2,2,y\n" * 4, "range 2.0..2.0 is empty"),
    ],
)
def test_csv_faults(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        data.load(csv_file(tmp_path, text))


def test_csv_that_is_none(tmp_path):
    with pytest.raises(DataError, match="0 files of this name"):
        data.load("none.csv", tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"1,2\xff,x\n")
    with pytest.raises(DataError, match=r"cannot be read .* save it anew as CSV in UTF-8"):
        data.load("bytes.csv", tmp_path)


def test_csv_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table, "BLOCK", 7)
    monkeypatch.setattr(base, "CHUNK_VALUES", 10)
    rows = np.random.RandomState(0).normal(size=(50, 4)).round(3)
    path = csv_file(tmp_path, "".join(",".join(map(str, row)) + f",{i % 3}\n" for i, row in enumerate(rows)))
    large, small = table.load(path, memory_bytes=0), table.load(path)
    assert isinstance(large.x_train, np.memmap) and isinstance(large.x_test, np.memmap)
    same(large, small)


# --- npz


def test_npz_larger_than_memory(tmp_path, monkeypatch):
    """Arrays that are not compressed are mapped, in C and in Fortran order, with a split of their own and with ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "CHUNK_VALUES", 100)
    rng = np.random.RandomState(1)
    y = np.arange(40) % 4
    for x in (rng.randint(0, 256, (40, 6, 5)).astype(np.uint8), np.asfortranarray(rng.normal(size=(40, 30)).astype("f4"))):
        for more in ({}, {"x_test": x[:8] * 2, "y_test": y[:8]}):
            np.savez(tmp_path / "own.npz", x=x, y=y, classes=np.array(list("abcd")), **more)
            large, small = npz.load(tmp_path / "own.npz", memory_bytes=100), npz.load(tmp_path / "own.npz")
            assert isinstance(large.x_train, np.memmap) and isinstance(large.x_test, np.memmap)
            same(large, small)
            found = data.gather(large.x_train, large.y_train == 2, large.low, large.high)
            assert np.array_equal(found, data.to_int8(small.x_train[small.y_train == 2], small.low, small.high))


def test_npz_too_large_and_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAX_BYTES", 1000)
    np.savez_compressed(tmp_path / "own.npz", x=np.zeros((40, 6, 5)), y=np.zeros(40, int), classes=np.array(["a", "b"]))
    with pytest.raises(DataError, match=r"\d+ bytes unpacked, at most 1000 .* numpy.savez, which does not compress"):
        data.load("own.npz", tmp_path)


def test_npz_objects_are_not_mapped(tmp_path):
    np.savez(tmp_path / "own.npz", x=np.array([{}] * 40), y=np.zeros(40, int), classes=np.array(["a", "b"]))
    with pytest.raises(DataError, match="cannot be read"):
        npz.load(tmp_path / "own.npz", memory_bytes=0)


def test_npz_labels_as_text_groups_and_modality(tmp_path):
    x = np.random.RandomState(1).normal(size=(12, 16, 1, 3))
    y = np.array(["walk", "sit", "run"] * 4)
    np.savez(tmp_path / "own.npz", x=x, y=y, groups=np.arange(12) // 3, modality="motion")
    d = data.load("own.npz", tmp_path)
    assert d.classes == ("run", "sit", "walk") and d.modality == "motion" and len(d.groups_train) == 9
    where = [int(np.flatnonzero((x == one).all((1, 2, 3)))[0]) for one in d.x_train]
    assert [d.classes[label] for label in d.y_train] == y[where].tolist()
    assert d.groups_train.tolist() == [i // 3 for i in where]
    np.savez(tmp_path / "own.npz", x=x, y=y, classes=np.array(["sit", "run"]))
    with pytest.raises(DataError, match="1 labels that are none of the 2 classes, 'walk' first"):
        data.load("own.npz", tmp_path)
    np.savez(tmp_path / "own.npz", x=x, y=y, modality="smell")
    with pytest.raises(DataError, match="modality 'smell' is none of the 3"):
        data.load("own.npz", tmp_path)


# --- what they share


def test_to_int8_is_the_same_in_pieces(monkeypatch):
    x = np.random.RandomState(0).uniform(-3, 5, (37, 4, 3, 2))
    whole = np.floor((x + 3) * (127 / 8) + 0.5).astype(np.int8)
    for values in (1, 50, 1 << 20):
        monkeypatch.setattr(base, "CHUNK_VALUES", values)
        assert np.array_equal(data.to_int8(x, -3, 5), whole)
        assert np.array_equal(data.gather(x, np.array([5, 2, 36]), -3, 5), whole[[5, 2, 36]])
    assert data.to_int8(np.float32(5), -3, 5) == 127 and data.to_int8([], 0, 1).shape == (0,)


def test_a_mapped_array_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tinycl.data.files import mapped

    with pytest.raises(DataError, match="2 of 3 samples could be written"):
        mapped("key", (3, 2), np.uint8, iter([np.ones((2, 2))]))
    assert not list((tmp_path / "build/data").iterdir())
    assert mapped("key", (3, 2), np.uint8, iter([np.ones((3, 2))])).sum() == 6


def test_base_classes_of_ones_own():
    assert [own.base_count(n) for n in (2, 3, 5, 10)] == [2, 2, 3, 6]


def test_folders_are_found_below_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCL_DATA", str(tmp_path))
    data_files.core50(tmp_path / "core50", side=4)
    assert data.found("core50") == ("folders", tmp_path / "core50") and data.found("har") == ("", None)
    assert len(data.load("core50").x_train) == 100
    monkeypatch.delenv("TINYCL_DATA")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="0 folders 'data': give --data-dir, or set TINYCL_DATA"):
        data.load("core50")
    (tmp_path / "data").mkdir()
    (tmp_path / "core50").rename(tmp_path / "data" / "core50")
    assert len(data.load("core50").x_train) == 100
