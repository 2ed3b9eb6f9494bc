# Data sets with sessions or people in them: CORe50, its stand-in, and HAR in its three layouts.

import itertools
import shutil

import data_files
import numpy as np
import pytest

from tinycl import data
from tinycl.data import core50, files, grocery_store, har
from tinycl.errors import DataError

# --- CORe50


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_core50_folders(tmp_path, monkeypatch, memory_bytes):
    monkeypatch.chdir(tmp_path)
    d = core50.load(data_files.core50(tmp_path / "core50"), memory_bytes=memory_bytes)
    assert isinstance(d.x_train, np.memmap) == isinstance(d.x_test, np.memmap) == (memory_bytes == 0)
    assert d.x_train.shape == (100, 32, 32, 3) and d.x_test.shape == (50, 32, 32, 3) and d.x_train.dtype == np.uint8
    assert d.groups_train.tolist() == [1] * 50 + [2] * 50 and d.groups_test.tolist() == [3] * 50 and d.group_kind == "session"
    assert np.array_equal(d.x_train[:, 5, 9, 0], d.groups_train)
    assert np.array_equal(d.y_train, (d.x_train[:, 0, 0, 1] - 1) // 5) and d.classes == core50.CLASSES
    assert d.notes == ("images of 128 x 128 pixels resized to 32 x 32",)
    assert data.take(d, 2, [3])[0][:, 0, 0, 1].tolist() in [[a, b] for a in range(16, 21) for b in range(16, 21)]


def test_mapped_images_are_decoded_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = data_files.core50(tmp_path / "core50", side=8)
    decoded = []
    read = files.read_picture
    monkeypatch.setattr(files, "read_picture", lambda path, shape: decoded.append(path) or read(path, shape))
    first = core50.load(folder, side=8, memory_bytes=0)
    again = core50.load(folder, side=8, memory_bytes=0)
    assert len(decoded) == 150 and np.array_equal(first.x_train, again.x_train)
    shutil.copy(folder / "s1/o50/C_01_50_000.png", folder / "s1/o1/C_01_01_000.png")  # another picture: decoded anew
    changed = core50.load(folder, side=8, memory_bytes=0)
    assert changed.x_train[0, 0, 0].tolist() == [1, 50, 7] and len(decoded) == 250
    assert not list((tmp_path / "build/data").glob("*.part"))
    monkeypatch.setattr(files, "MANY", 99)
    many = core50.load(
        folder, side=4
    )  # small, but many: the 100 of the training part are kept, the 50 of the test part are not
    core50.load(folder, side=4)
    assert isinstance(many.x_train, np.memmap) and len(decoded) == 250 + 100 + 2 * 50


def test_an_image_that_is_broken_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = data_files.core50(tmp_path / "core50") / "s2/o7/C_02_07_000.png"
    path.write_bytes(path.read_bytes()[:60])
    for memory_bytes in (None, 0):
        with pytest.raises(DataError, match=r"C_02_07_000\.png: cannot be read"):
            core50.load(tmp_path / "core50", memory_bytes=memory_bytes)
    assert not list((tmp_path / "build/data").iterdir())


def test_core50_faults(tmp_path):
    with pytest.raises(DataError, match=r"0 of the 11 session folders of CORe50 .* --data-dir"):
        data.load("core50", tmp_path)
    folder = data_files.core50(tmp_path / "core50_128x128", sessions=(1, 3), side=4)
    assert len(data.load("core50", tmp_path).x_train) == 50
    shutil.copy(folder / "s1/o1/C_01_01_000.png", folder / "s1/o2/C_01_01_000.png")
    with pytest.raises(DataError, match="the name says session 1, object 1, the folder 1 and 2"):
        data.load("core50", tmp_path)
    shutil.rmtree(folder / "s3")
    (folder / "s1/o2/C_01_01_000.png").unlink()
    with pytest.raises(DataError, match="50 training and 0 test images share 0 categories"):
        data.load("core50", tmp_path)


def test_core50_sample():
    d = core50.load(data_files.real("core50"))
    assert (len(d.x_train), len(d.x_test), len(d.classes)) == (65, 30, 9)
    assert set(d.groups_test.tolist()) == {3, 7, 10} and not set(d.groups_train.tolist()) & {0, 3, 7, 10}
    assert "cup" not in d.classes and d.notes[1] == "left out for want of an image in both parts: cup"
    full = core50.load(data_files.real("core50"), side=64)
    assert np.abs(full.x_test.reshape(30, 32, 2, 32, 2, 3).mean((2, 4)) - d.x_test).max() <= 0.5
    with pytest.raises(DataError, match="64 pixels cannot be averaged to 48"):
        core50.load(data_files.real("core50"), side=48)


def test_grocery_store():
    d = grocery_store.load(data_files.real("grocery_store"))
    assert np.bincount(d.y_train).tolist() == [278, 247, 182, 181, 154, 127, 116, 112, 75, 70]
    assert np.bincount(d.y_test).tolist() == [276, 219, 164, 172, 153, 100, 108, 110, 70, 68]
    assert d.classes[0] == "Apple" and d.stand_in_for == "core50" and d.x_train.dtype == np.uint8
    with pytest.raises(DataError, match="holds 1 of the 3 files of Grocery Store"):
        grocery_store.load(data_files.real("cifar10"))


# --- HAR


def test_har_arrays_and_streams():
    folder = data_files.real("har")
    d = har.load(folder)
    assert d.x_train.shape == (7415, 128, 1, 6) and d.modality == "motion" and d.group_kind == "subject"
    assert np.bincount(d.y_train).tolist() == [1226, 1073, 987, 1293, 1423, 1413]
    assert set(d.groups_test.tolist()) == set(har.TEST_SUBJECTS)
    gravity = np.linalg.norm(d.x_test[d.y_test == 4].mean(1)[:, 0, :3], axis=1) * har.ACC_G
    assert gravity == pytest.approx(1, abs=0.06)  # who stands still feels 1 g
    found = har.streams(folder)
    assert len(found) == 61 and sum(len(s.x) for s in found) == 1_122_772 and sum(s.test for s in found) == 19
    assert {s.subject for s in found if s.test} == set(har.TEST_SUBJECTS)
    train, test = har.transitions(folder)
    assert np.bincount(train[1]).tolist() == [0] * 6 + [47, 23, 75, 60, 90, 57] and test[0].shape == (166, 128, 1, 6)


def write_raw(folder, streams, physical):
    """HAPT's RawData of some recordings."""
    raw = folder / "RawData"
    raw.mkdir(parents=True)
    rows = []
    for s in streams:
        name = f"exp{s.experiment:02d}_user{s.subject:02d}.txt"
        np.savetxt(raw / f"acc_{name}", physical[s.experiment][:, :3], "%.9f")
        np.savetxt(raw / f"gyro_{name}", physical[s.experiment][:, 3:], "%.9f")
        edges = [0, *(np.flatnonzero(np.diff(s.labels)) + 1).tolist(), len(s.labels)]
        for first, last in itertools.pairwise(edges):
            if s.labels[first] >= 0:
                rows.append((s.experiment, s.subject, s.labels[first] + 1, first + 1, last))
    np.savetxt(raw / "labels.txt", rows, "%d")


def test_har_raw_recordings_give_the_windows_of_the_arrays(tmp_path):
    """The windows that are cut from RawData are, one by one, those that the arrays hold."""
    folder = data_files.real("har")
    chosen = [s for s in har.streams(folder) if s.experiment in (1, 4, 11)]  # subjects 1 and 6 train, 2 is a test subject
    with np.load(folder / "har_streams.npz") as z:
        physical = {e: z["data"][z["offset"][e - 1] : z["offset"][e]] * z["scale"] for e in (1, 4, 11)}
    write_raw(tmp_path / "har" / "HAPT Data Set", chosen, physical)
    d = data.load("har", tmp_path)
    with np.load(folder / "har_windows.npz") as z:
        mine = {part: np.isin(z[f"experiment_{part}"], (1, 4, 11)) for part in ("train", "test")}
    whole = har.load(folder)
    assert mine["train"].sum() > 200 and mine["test"].sum() > 100
    for found, wanted, part in ((d.x_train, whole.x_train, "train"), (d.x_test, whole.x_test, "test")):
        assert found.shape == wanted[mine[part]].shape and np.abs(found - wanted[mine[part]]).max() < 1e-6
    assert np.array_equal(d.y_train, whole.y_train[mine["train"]])
    assert np.array_equal(d.groups_test, whole.groups_test[mine["test"]])
    again = har.streams(tmp_path / "har")
    assert [np.array_equal(a.labels, b.labels) for a, b in zip(again, chosen, strict=True)] == [True] * 3
    assert len(har.transitions(tmp_path / "har")[0][0]) > 5


def write_signals(folder, n=12):
    """UCI HAR, version 1: acceleration of channel c is c / 8 g, turn rate c / 4 rad/s; window i has i / 1000 more."""
    for part in ("train", "test"):
        inside = folder / part / "Inertial Signals"
        inside.mkdir(parents=True)
        for c, name in enumerate(har.SIGNALS):
            x = np.full((n, 128), c / 8 if c < 3 else c / 4) + np.arange(n)[:, None] / 1000
            np.savetxt(inside / f"{name}_{part}.txt", x, " %.7e", delimiter="")
        np.savetxt(folder / part / f"y_{part}.txt", np.arange(n) % 6 + 1, "%d")
        np.savetxt(folder / part / f"subject_{part}.txt", np.full(n, 1 if part == "train" else 2), "%d")
    return folder


def test_har_inertial_signals(tmp_path):
    d = data.load("har", write_signals(tmp_path / "UCI HAR Dataset").parent)
    assert d.x_train.shape == (12, 128, 1, 6) and d.y_train.tolist() == [*range(6)] * 2 and set(d.groups_test) == {2}
    assert d.x_train[0, 77, 0] == pytest.approx([0, 0.0625, 0.125, 0.1875, 0.25, 0.3125], abs=1e-6)
    assert d.x_train[5, 0, 0, 0] == pytest.approx(0.0025, abs=1e-6)
    with pytest.raises(DataError, match="has 0 transitions: fetch HAPT"):
        har.transitions(tmp_path)
    with pytest.raises(DataError, match="has 0 whole recordings: fetch HAPT"):
        har.streams(tmp_path)


ACC_X, GYRO_Y = (f"train/Inertial Signals/{name}_train.txt" for name in ("total_acc_x", "body_gyro_y"))
ZEROS = " 0" * 128 + "\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (GYRO_Y, "1 2 3\n", "3 numbers a line, 128 are needed"),
        (GYRO_Y, "1 2 3\n4 5\n", "cannot be read"),
        (ACC_X, ZEROS + " 0" * 9 + " nan" + " 0" * 118, "line 2, column 10 is nan"),
        (ACC_X, ZEROS, "signals of .1, 12, 12, 12, 12, 12. windows, 12 labels"),
        ("test/y_test.txt", "7\n" * 12, "labels 7..7, 1..6"),
        ("test/subject_test.txt", None, "cannot be read"),
    ],
)  # fmt: skip
def test_har_text_faults(tmp_path, name, content, said):
    folder = write_signals(tmp_path)
    (folder / name).write_text(content) if content else (folder / name).unlink()
    with pytest.raises(DataError, match=said):
        data.load("har", folder)


def test_har_missing(tmp_path):
    with pytest.raises(DataError, match=r"holds 0 of the 3 layouts of HAR .* --data-dir"):
        data.load("har", tmp_path)
    (tmp_path / "RawData").mkdir()
    (tmp_path / "RawData/labels.txt").write_text("1 1 5 1 300\n")
    for kind in ("acc", "gyro"):
        (tmp_path / f"RawData/{kind}_exp01_user01.txt").write_text("0 0 1\n" * 200)
    with pytest.raises(DataError, match="activity 5 from 1 to 300, but 200 samples"):
        har.streams(tmp_path)
    (tmp_path / "RawData/labels.txt").write_text("1 1 5 1 190\n")
    with pytest.raises(DataError, match="0 test windows of 128 samples"):
        data.load("har", tmp_path)
