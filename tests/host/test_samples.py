"""Samples from wherever a person has them: every kind of source gives the same int8 samples, and what does not fit says so."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinycl.data import npz
from tinycl.errors import DataError
from tinycl.samples import Format, read

WANTED = Format((4, 6, 1), 0, 127, 0.0, 16.0)
RAW = np.arange(3 * 24).reshape(3, 4, 6, 1) % 17  # raw values in 0..16
INT8 = np.floor(RAW * (127 / 16) + 0.5).astype(np.int8)


def test_arrays_of_raw_values_and_of_int8_give_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", RAW)
    np.save(tmp_path / "int8.npy", INT8)
    np.savez(tmp_path / "named.npz", x=RAW, y=np.zeros(3))
    np.savez(tmp_path / "only.npz", anything=RAW.astype(float))
    np.savetxt(tmp_path / "table.csv", RAW.reshape(3, -1), delimiter=",")
    for name in ("raw.npy", "int8.npy", "named.npz", "only.npz", "table.csv"):
        assert np.array_equal(read(str(tmp_path / name), WANTED), INT8), name


def test_one_sample_without_a_first_axis(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", RAW[1, :, :, 0])
    assert np.array_equal(read(str(tmp_path / "one.npy"), WANTED), INT8[1:2])


@pytest.mark.parametrize("source", ["-", "stdin"])
def test_standard_input(source: str) -> None:
    npy = io.BytesIO()
    np.save(npy, RAW)
    npz = io.BytesIO()
    np.savez(npz, x=RAW)
    for data in (npy.getvalue(), npz.getvalue(), INT8.tobytes()):
        assert np.array_equal(read(source, WANTED, io.BytesIO(data)), INT8)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        np.save(tmp_path / f"{i}.npy", RAW[i])
    (tmp_path / "notes.md").write_text("not a sample")
    assert np.array_equal(read(str(tmp_path), WANTED), INT8)


def test_pictures_are_resized_made_grey_and_inverted(tmp_path: Path) -> None:
    ink = np.full((40, 60, 3), 255, np.uint8)
    ink[:, :30] = 0  # the left half is black
    Image.fromarray(ink).save(tmp_path / "ink.png")
    plain = read(str(tmp_path / "ink.png"), WANTED)
    assert plain.shape == (1, 4, 6, 1) and (plain[0, :, :3] == 0).all() and (plain[0, :, 3:] == 127).all()
    turned = read(str(tmp_path / "ink.png"), Format((4, 6, 1), 0, 127, 0.0, 16.0, invert=True))
    assert np.array_equal(turned, 127 - plain)
    colour = read(str(tmp_path / "ink.png"), Format((2, 2, 3), 0, 127, -1.0, 1.0))
    assert colour.shape == (1, 2, 2, 3) and colour[0, 0, 0].tolist() == [0, 0, 0] and colour[0, 0, 1].tolist() == [127] * 3


def test_what_does_not_fit_says_numbers_and_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "odd.npy", np.zeros((3, 5)))
    np.save(tmp_path / "turned.npy", np.zeros((6, 3, 4)))  # 72 values, but not three samples
    np.save(tmp_path / "hot.npy", RAW + 5)
    np.save(tmp_path / "text.npy", np.array(["a"] * 24))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=RAW, b=RAW)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "words.csv").write_text("a,b,c\n")
    (tmp_path / "fake.png").write_bytes(b"\x89PNG no picture")
    (tmp_path / "samples.xyz").write_bytes(b"?")
    (tmp_path / "empty").mkdir()
    for name, what in (
        ("odd.npy", r"15 values.*24"),
        ("turned.npy", r"72 values of shape \(6, 3, 4\)"),
        ("hot.npy", r"5 to 21.*0 to 16"),
        ("text.npy", "<U1"),
        ("object.npy", "cannot be read"),
        ("two.npz", "2 arrays"),
        ("cut.npz", "cannot be read"),
        ("words.csv", "cannot be read"),
        ("fake.png", "as a picture"),
        ("samples.xyz", "no known kind"),
        ("empty", "0 samples"),
        ("nothing.npy", "no file"),
    ):
        with pytest.raises(DataError, match=what) as e:
            read(str(tmp_path / name), WANTED)
        assert ": " in e.value.text
    for data, what in ((b"", "0 bytes"), (b"PK\x03\x04", "no array"), (bytes(25), "25 values")):
        with pytest.raises(DataError, match=what):
            read("-", WANTED, io.BytesIO(data))
    with pytest.raises(DataError, match="2 channels"):
        Image.new("L", (4, 4)).save(tmp_path / "grey.png")
        read(str(tmp_path / "grey.png"), Format((4, 4, 2), 0, 127, 0, 1))


def test_a_board_without_a_blob_takes_no_samples() -> None:
    with pytest.raises(DataError, match=r"no blob.*tinycl flash"):
        Format.of({"free_bytes": 1})


def test_archives_that_cannot_be_unpacked(tmp_path: Path) -> None:
    """A stream that is damaged in its middle, and a method of compression that nobody has: no traceback for either."""
    packed = io.BytesIO()
    np.savez_compressed(packed, x=np.arange(4000) % 251)
    whole = packed.getvalue()
    damaged = bytearray(whole)
    damaged[120:200] = bytes(80)
    unknown = whole.replace(b"\x00\x00\x08\x00\x00\x00!\x00", b"\x00\x00\x63\x00\x00\x00!\x00")  # in both of its headers
    assert unknown != whole
    for data in (bytes(damaged), unknown):
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(DataError, match="cannot be read"):
            read(str(tmp_path / "x.npz"), WANTED)
        with pytest.raises(DataError, match="are no array"):
            read("-", WANTED, io.BytesIO(data))
        with pytest.raises(DataError, match="cannot be read"):
            npz.load(tmp_path / "x.npz")
