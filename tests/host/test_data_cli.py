# tinycl data list, show and check: what they print, leave and refuse.

import json

import data_files
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tinycl import cli, data
from tinycl.data import check, picture


def run(*arguments, status=0):
    done = CliRunner().invoke(cli.main, ["data", *map(str, arguments)])
    assert done.exit_code == status, done.output
    return done.stdout


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of data sets with CORe50 in it, as the working directory."""
    monkeypatch.delenv("TINYCL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    data_files.core50(tmp_path / "data" / "core50", side=16)
    return tmp_path


def test_list(here):
    text = run("list")
    for name in data.NAMES:
        assert f"\n{name} " in text
    lines = text.splitlines()
    found = next(line for line in lines if line.startswith("core50"))
    assert "32x32x3" in found and "folders" in found and "CC BY 4.0" in found
    missing = next(i for i, line in enumerate(lines) if line.startswith("har"))
    assert " no " in lines[missing] and "archive.ics.uci.edu" in lines[missing + 1] and "data/har" in lines[missing + 1]
    assert "stands in for core50" in text
    rows = {row["name"]: row for row in json.loads(run("list", "--json"))}
    assert list(rows) == list(data.NAMES) and rows["core50"]["found"] == "folders" and rows["har"]["found"] == ""
    assert (
        rows["har"]["modality"] == "motion" and rows["har"]["sample"] == [128, 1, 6] and rows["digits"]["found"] == "built in"
    )
    elsewhere = {row["name"]: row["found"] for row in json.loads(run("list", "--data-dir", here, "--json"))}
    assert elsewhere["core50"] == ""


@pytest.mark.parametrize("name", data.NAMES)
def test_what_the_list_says_is_what_is_loaded(name):
    info = data.SETS[name].INFO
    d = data.load(name, None if data.found(name)[0] == "built in" else data_files.real(name))
    assert (d.name, d.modality, d.sample_shape, d.license, d.source) == (
        name,
        info.modality,
        info.shape,
        info.license,
        info.source,
    )
    assert d.stand_in_for == info.stand_in_for and len(d.classes) == info.classes - (name == "core50")  # the sample lacks one


def test_show(here):
    out = run("show", "--data", "core50", "--save", "samples", "--samples", "3", "--seed", "1")
    assert "resized to 32 x 32" in out and "sessions 3, 7 and 10" in out
    with Image.open("out/data/core50.png") as shown:
        pixels = np.asarray(shown.convert("RGB")).astype(int)
    colours = {(session, thing, 7) for session in (1, 2) for thing in range(1, 51)}
    seen = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    assert len(colours & seen) >= 90  # ten of each category's ten samples
    assert np.load("samples/cup.npy").shape == (3, 32, 32, 3) and len(list(here.glob("samples/*.npy"))) == 10
    facts = json.loads(run("show", "--data", "core50", "--base", "4", "--json"))
    assert len(facts["base_classes"]) == 4 and facts["train"]["cup"] == 10 and facts["picture"] == "out/data/core50.png"


def test_notes_are_said_beside_the_output(here):
    done = CliRunner().invoke(cli.main, ["data", "show", "--data", "core50", "--json"])
    assert "core50: images of 128 x 128 pixels resized" in done.stderr and json.loads(done.stdout)["name"] == "core50"


def test_two_classes_can_be_looked_at(here):
    data_files.pictures(here / "own", {"a": 4, "b": 4})
    facts = json.loads(run("show", "--data", "own", "--json"))
    assert facts["base_classes"] == ["a", "b"] and facts["unseen_classes"] == []


def test_check_of_all_that_is_found(here):
    facts = {one["name"]: one for one in json.loads(run("check", "--json"))}
    assert set(facts) == {"digits", "pairs", "core50"}
    assert facts["core50"]["groups"] == {"kind": "session", "train": 2, "test": 1, "both": 0}
    assert facts["core50"]["blank"] == 0 and facts["digits"]["test_also_in_train"] == 0
    (here / "data/core50/s1/o1/C_01_01_000.png").write_bytes(b"")
    assert "2 of 3 data sets are sound" in run("check", status=1)
    assert "C_01_01_000.png" in CliRunner().invoke(cli.main, ["data", "check", "--data", "core50"]).stderr


def made(x_train, y_train, x_test, y_test, **more):
    parts = {"x_train": x_train, "x_test": x_test, "y_train": np.array(y_train), "y_test": np.array(y_test)}
    rest = {"low": 0, "high": 255, "split_rule": "", "license": "", "source": ""}
    return data.Dataset(name="made", classes=("a", "b"), **parts, **rest, **more)


def test_check_finds_what_is_wrong():
    x = np.random.RandomState(0).randint(0, 255, (40, 4, 4, 1)).astype(np.uint8)
    y = np.array([0] * 38 + [1] * 2)
    x[1] = x[0]  # a repeated sample
    x[39] = x[2]  # two labels
    x[5] = 9  # blank
    x_test = np.concatenate([x[7:9], x[3:4] + 1])  # two of three were trained on
    groups = np.zeros(40, np.int64)
    facts = check.check(made(x, y, x_test, [0, 1, 1], groups_train=groups, groups_test=groups[:3], group_kind="session"))
    assert facts["train"] == {"a": 38, "b": 2} and facts["test_also_in_train"] == 2 and facts["two_labels"] == 2
    assert facts["duplicates_train"] == 2 and facts["blank"] == 1 and facts["imbalance"] == 19
    assert facts["values"] == [float(x.min()), float(max(x.max(), x_test.max()))]
    assert [finding.split(" ")[0] for finding in facts["findings"]] == ["2", "2", "2", "1", "the", "1"]
    assert check.check(made(x[8:38], [0, 1] * 15, x[2:4] + 1, [0, 1]))["findings"] == []


def test_check_sees_a_sensor_at_its_end():
    x = np.random.RandomState(0).uniform(-1, 1, (40, 16, 1, 2))
    x[:, :3] = 1.0
    y = [0, 1] * 20
    d = data.Dataset("made", x, np.array(y), x[:4] / 2, np.array(y[:4]), ("a", "b"), -1, 1, "", "", "", modality="motion")
    facts = check.check(d)
    assert facts["saturated"] == pytest.approx(3 / 16) and "18.8 % of the values are at an end" in facts["findings"][-1]


@pytest.mark.parametrize(
    ("modality", "shape"), [("motion", (32, 1, 6)), ("sound", (30, 20, 1)), ("image", (8, 8, 1)), ("image", (5, 9, 2))]
)
def test_pictures_of_every_modality(tmp_path, modality, shape):
    """Every class has a row, and what is drawn are its samples: other samples give another picture."""
    rng = np.random.RandomState(0)
    drawn = []
    for _ in range(2):
        x = rng.randint(0, 255, (6, *shape)).astype(np.uint8)
        figure = picture.samples_picture(made(x, [0, 0, 0, 0, 1, 1], x[:2], [0, 1], modality=modality), per_class=3)
        shown = [axis for axis in figure.axes if axis.get_visible() and (axis.images or axis.lines)]
        assert len(shown) == 5 and [axis.get_ylabel() for axis in figure.axes[::3]] == ["a", "b"]
        figure.savefig(tmp_path / "picture.png")
        drawn.append((tmp_path / "picture.png").read_bytes())
    assert drawn[0] != drawn[1]
