"""A board behind its port, taught and asked from the command line: enrol, predict, watch, forget, rename, pull, push."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_blobs
import numpy as np
import pytest
from click.testing import CliRunner, Result

from tinycl.board.base import runtime
from tinycl.board.sim import SimBoard
from tinycl.cli import main
from tinycl.learned import Learned
from tinycl.link.link import Link

pytestmark = pytest.mark.usefixtures("micropython")

BLOB = make_blobs.tiny()
LONG = make_blobs.tiny(target_permille=1001, epochs=255, patience=255)
SENSOR = b"""
count = 0
def read_into(buffer):
    global count
    count += 1
    with open("seen.raw", "rb") as f:
        return f.readinto(buffer) == len(buffer)
"""


samples = make_blobs.pictures


def plugged(folder: Path, blob: bytes = BLOB) -> SimBoard:
    """A board as somebody left it: flashed, with a blob, nobody connected."""
    board = SimBoard(flash=folder)
    board.deploy({**runtime(), "sensor.py": SENSOR})
    board.start()
    board.connect()
    board.client.send_blob(blob)
    leave(board)
    return board


def leave(board: SimBoard) -> None:
    board.link.close()
    board.port.close()
    board.port = None


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimBoard]:
    board = plugged(tmp_path / "one")
    yield board
    board.close()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, quadrant in (("south", 2), ("east", 3)):
        np.save(tmp_path / f"{name}.npy", samples(quadrant, 12))
    np.save(tmp_path / "test.npy", np.concatenate([samples(q, 5, 30) for q in range(4)]))
    return tmp_path


def tinycl(board: SimBoard, *arguments: object, stdin: bytes | None = None, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments), "--board", board.tty], input=stdin)
    assert result.exit_code == status, result.output
    return result


def said(board: SimBoard, *arguments: object, **more: Any) -> Any:
    return json.loads(tinycl(board, *arguments, "--json", **more).stdout)


def test_a_class_is_taught_asked_for_renamed_and_forgotten(board: SimBoard, files: Path) -> None:
    done = said(board, "enrol", "south", "--from", files / "south.npy")
    assert (done["class"], done["samples"], done["kept"]) == ("south", 12, 6)
    found = said(board, "predict", "--from", files / "test.npy")
    assert len(found) == 20 and [one["class"] for one in found[10:15]].count("south") >= 4
    assert "south" in tinycl(board, "predict", "--from", files / "test.npy").stdout
    renamed = said(board, "rename", "south", "süden <b>")
    again = said(board, "predict", "--from", files / "test.npy")
    assert [one["class"].replace("süden <b>", "south") for one in again] == [one["class"] for one in found]
    assert [one["certainty"] for one in again] == [one["certainty"] for one in found]
    gone = said(board, "forget", "süden <b>")
    assert gone["classes"] == 2 and gone["sequence"] == renamed["sequence"] + 1
    assert {one["class"] for one in said(board, "predict", "--from", files / "test.npy")} == {"north-west", "nord-östlich"}


def test_forgetting_one_leaves_the_logits_of_the_others(board: SimBoard, files: Path) -> None:
    for name in ("south", "east"):
        said(board, "enrol", name, "--from", files / f"{name}.npy")
    before = [one["class"] for one in said(board, "predict", "--from", files / "test.npy")]
    said(board, "forget", "north-west")  # a base class goes like any other, and its samples in the blob with it
    after = [one["class"] for one in said(board, "predict", "--from", files / "test.npy")]
    assert all(b == a for b, a in zip(before, after, strict=True) if b != "north-west") and "north-west" not in after
    done = said(board, "enrol", "north-west", "--from", files / "south.npy", "--samples", 8)
    assert done["samples"] == 8
    said(board, "forget", "--all")
    assert {one["class"] for one in said(board, "predict", "--from", files / "test.npy")} == {"north-west", "nord-östlich"}


def test_samples_from_standard_input(board: SimBoard, files: Path) -> None:
    assert said(board, "enrol", "raw", "--from", "-", stdin=samples(2, 12).tobytes())["samples"] == 12
    assert said(board, "enrol", "npy", "--from", "stdin", stdin=(files / "east.npy").read_bytes())["samples"] == 12


def test_what_a_board_has_learned_moves_to_another(board: SimBoard, files: Path, tmp_path: Path) -> None:
    for name in ("south", "east"):
        said(board, "enrol", name, "--from", files / f"{name}.npy")
    want = said(board, "predict", "--from", files / "test.npy")
    facts = said(board, "pull", tmp_path / "out/learned.tcs")
    learned = Learned((tmp_path / "out/learned.tcs").read_bytes())
    assert list(facts["classes"]) == learned.names == ["north-west", "nord-östlich", "south", "east"]
    assert learned.enrolled == {"south": 6, "east": 6} and not list((tmp_path / "out").glob("*.part"))
    other = plugged(tmp_path / "two")
    try:
        said(other, "enrol", "own", "--from", files / "south.npy")
        own = said(other, "predict", "--from", files / "test.npy")
        refusal = tinycl(other, "push", tmp_path / "out/learned.tcs", status=1)
        assert "1 classes that it was taught (own)" in refusal.output and "--replace" in refusal.output
        assert said(other, "predict", "--from", files / "test.npy") == own
        said(other, "push", tmp_path / "out/learned.tcs", "--replace")
        assert said(other, "predict", "--from", files / "test.npy") == want
        # and the samples went along: it goes on learning, and survives a power cycle
        other.start()
        assert said(other, "predict", "--from", files / "test.npy") == want
        said(other, "pull", tmp_path / "again.tcs")
        assert Learned((tmp_path / "again.tcs").read_bytes()).weights[0].tolist() == learned.weights[0].tolist()
    finally:
        other.close()


def test_a_board_with_another_backbone_does_not_take_it(board: SimBoard, files: Path, tmp_path: Path) -> None:
    said(board, "enrol", "south", "--from", files / "south.npy")
    said(board, "pull", tmp_path / "learned.tcs")
    other = plugged(tmp_path / "two", make_blobs.tiny(seed=99))
    try:
        before = said(other, "predict", "--from", files / "test.npy")
        refusal = tinycl(other, "push", tmp_path / "learned.tcs", status=1)
        assert "the state belongs to blob" in refusal.output
        assert said(other, "predict", "--from", files / "test.npy") == before
    finally:
        other.close()


def test_a_damaged_file_is_refused_before_anything_is_sent(board: SimBoard, files: Path, tmp_path: Path) -> None:
    said(board, "enrol", "south", "--from", files / "south.npy")
    said(board, "pull", tmp_path / "learned.tcs")
    whole = (tmp_path / "learned.tcs").read_bytes()
    for data in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"x", whole[:-1] + bytes([whole[-1] ^ 1])):
        (tmp_path / "bad.tcs").write_bytes(data)
        refusal = tinycl(board, "push", tmp_path / "bad.tcs", status=1)
        assert "[FORMAT]" not in refusal.output and "pull" in refusal.output  # it did not come from the board


def test_watching_tells_metrics_and_what_the_sensor_shows(board: SimBoard, files: Path) -> None:
    said(board, "enrol", "south", "--from", files / "south.npy")
    (board.flash / "seen.raw").write_bytes(samples(2, 1, 30).tobytes())
    out = tinycl(board, "watch", "--period", "0.05", "--for", "0.6", "--json").stdout
    events = [json.loads(line) for line in out.splitlines()]
    kinds = {event["t"] for event in events}
    assert kinds == {"metrics", "prediction"}
    predictions = [event for event in events if event["t"] == "prediction"]
    assert len(predictions) >= 3 and all(event["class"] == "south" and event["certainty"] > 0.5 for event in predictions)
    assert {"free", "sequence", "classes", "rung", "crc_errors", "dropped"} <= set(
        next(e for e in events if e["t"] == "metrics")
    )
    (board.flash / "seen.raw").unlink()  # its sensor fails: said once, and the board goes on
    out = tinycl(board, "watch", "--period", "0.05", "--for", "0.4").stdout
    assert out.count("sensor  error") == 1 and out.count("metrics") >= 3


def test_a_class_that_exists_and_one_that_does_not(board: SimBoard, files: Path) -> None:
    said(board, "enrol", "south", "--from", files / "south.npy")
    for arguments, what in (
        (("enrol", "south", "--from", files / "south.npy"), "exists already"),
        (("rename", "south", "north-west"), "exists already"),
        (("rename", "north", "east"), "no class 'north' among 3"),
        (("rename", "south", "x" * 33), "33 bytes"),
        (("forget", "north"), "no class 'north' among 3"),
        (("enrol", "few", "--from", files / "south.npy", "--samples", 1), "1 samples"),
    ):
        refusal = tinycl(board, *arguments, status=1)
        assert what in refusal.output and refusal.output.strip().splitlines()[-1].startswith("tinycl: ")
    tinycl(board, "forget", status=2)


def test_the_counters_of_a_board(board: SimBoard) -> None:
    board.connect()
    board.link._write(b"\x7enoise" + make_blobs.tiny()[:50])
    leave(board)
    out = tinycl(board, "boards", "-v").stdout
    for counter in ("crc_errors", "overruns", "gaps", "repeats", "dropped", "skipped"):
        assert counter in out
    hello = said(board, "boards")[board.tty]
    assert hello["counters"]["skipped"] > 0 and hello["sequence"] == 1


def test_a_line_that_is_cut_in_the_middle_of_teaching_leaves_all_or_nothing(
    board: SimBoard, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.connect()
    board.client.send_blob(LONG)
    leave(board)

    def cut_at_the_third_epoch(*_: Any) -> Any:
        def listen(event: dict[str, Any]) -> None:
            if event["t"] == "epoch" and event["epoch"] == 3:
                board.cable.hang_up()

        return listen

    monkeypatch.setattr("tinycl.progress.follow", cut_at_the_third_epoch)
    refusal = tinycl(board, "enrol", "south", "--from", files / "south.npy", status=1)
    assert "gone" in refusal.output and "plug the board in again" in refusal.output
    board.start()
    assert set(row["class"] for row in said(board, "predict", "--from", files / "test.npy")) <= {"north-west", "nord-östlich"}


def test_what_a_board_tells_while_it_is_asked_something_is_shown(board: SimBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "listen", lambda *_, **__: None)  # no time but that of the signs of life
    out = tinycl(board, "watch", "--period", "0.05", "--for", "0.6", "--json").stdout
    assert [json.loads(line)["t"] for line in out.splitlines()].count("metrics") >= 3


def test_a_board_without_a_blob_is_watched_for_longer_than_it_waits_for_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinycl.cli.boards.SIGN_OF_LIFE_S", 0.3)
    impatient = runtime()
    agent = impatient["agent.py"].replace(b"SESSION_MS = 30000", b"SESSION_MS = 1000")
    assert agent != impatient["agent.py"]
    with SimBoard() as board:
        board.deploy({**impatient, "agent.py": agent})
        board.restart()
        leave(board)
        out = tinycl(board, "watch", "--period", "0.1", "--for", "3").stdout
        assert out.count("metrics") >= 18  # ten of them are from the first second


def test_flash_says_what_became_of_the_files_of_a_board_s_owner(board: SimBoard) -> None:
    (board.flash / "main.py").write_text("import sys\nprint('mine')")
    board.start()
    [done] = said(board, "flash")
    assert done["moved"]["main.py"] == "main.py.before-tinycl" and {"skipped", "notes"} <= set(done)
    (board.flash / "agent.py").write_text("'mine, too'")
    assert "agent.py stood in the way, and is called agent.py.before-tinycl on the board now" in tinycl(board, "flash").stderr
