"""Turns that a session takes on a board without anyone's fault: silence, a job that outlasts it, kernels that do not load, a
sensor that is broken, a flash that an upload has filled. Boards are sim boards whose agent's patience is short."""

import time
from collections.abc import Iterator
from pathlib import Path

import make_blobs
import numpy as np
import pytest

from tinycl.board.base import runtime
from tinycl.board.sim import SimBoard
from tinycl.link.errors import BoardRefused
from tinycl.shared import errors, wire

SESSION_MS = 300
SENSOR = "def read_into(buffer):\n    return True\n"


class Impatient(SimBoard):
    """Gives a silent host up after SESSION_MS."""

    patience_ms = SESSION_MS

    def deploy(self, contents: dict[str, bytes] | None = None) -> None:
        contents = runtime()
        old = b"SESSION_MS = 30000"
        assert contents["agent.py"].count(old) == 1
        contents["agent.py"] = contents["agent.py"].replace(old, b"SESSION_MS = %d" % self.patience_ms)
        super().deploy(contents)


class Hasty(Impatient):
    patience_ms = 100


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Impatient]:
    with Impatient(flash=tmp_path) as board:
        board.client.send_blob(make_blobs.tiny())
        yield board


def heard(board: SimBoard, seconds: float) -> list[str]:
    """Kinds of the events of a while."""
    kinds: list[str] = []
    board.link.listen(seconds, lambda event: kinds.append(event["t"]))
    return kinds


def samples(quadrant: int, n: int) -> np.ndarray:
    return np.frombuffer(make_blobs.samples(quadrant, n, 9), np.int8).reshape(n, 4, 4, 1)


def open_enrolment(board: SimBoard) -> None:
    board.link.request(wire.ENROL_OPEN, b"\x0c\x00name")


def test_a_session_goes_on_with_the_next_request(board):
    time.sleep(4 * SESSION_MS / 1000)  # given up meanwhile
    board.client.watch(0.02)
    assert "metrics" in heard(board, 0.2)
    time.sleep(4 * SESSION_MS / 1000)
    open_enrolment(board)
    time.sleep(4 * SESSION_MS / 1000)
    assert board.client.status()["enrolling"] == ""  # this silence ended the session again, and what it had open


def test_a_host_that_waits_for_a_job_is_not_silent(tmp_path):
    with Hasty(flash=tmp_path, kernels="plain") as board:
        board.client.send_blob(
            make_blobs.tiny(per_class=60, base_per_class=60, max_samples=60, target_permille=1001, epochs=40, patience=40)
        )
        board.client.watch(0.02)
        begin = time.monotonic()
        board.client.enrol("south", samples(2, 60))
        assert time.monotonic() - begin > Hasty.patience_ms / 1000, "a shorter job than this shows nothing"
        assert "metrics" in heard(board, 0.15)


def test_what_another_host_left_of_a_sample_does_not_silence_the_sensor(tmp_path):
    with Impatient(flash=tmp_path) as board:
        (tmp_path / "sensor.py").write_text(SENSOR)
        board.client.send_blob(make_blobs.tiny())
        board.link.request(wire.PREDICT_OPEN)
        board.link.request(wire.PREDICT_DATA, b"\x01\x02\x03")
        board.link.hello()
        board.client.watch(0.02)
        assert "prediction" in heard(board, 0.2)


def test_a_sensor_that_does_not_load_is_named_and_nothing_is_watched(board):
    (board.flash / "sensor.py").write_text("def read_into(buffer:\n")
    with pytest.raises(BoardRefused, match=r"sensor\.py does not load \(SyntaxError.*correct it"):
        board.client.watch(0.02)
    assert heard(board, 0.15) == []


def test_kernels_that_do_not_load_leave_those_that_serve(tmp_path):
    """As on a board whose flash lacks a file that its firmware could run."""
    with SimBoard(flash=tmp_path) as board:
        board.client.send_blob(make_blobs.tiny())
        before = board.client.status()
        absent = next(name for name in ("ulab", "native", "viper") if name not in board.link.board["available"])
        board.stop()
        for choice in tmp_path.glob("kernels/__init__.*"):  # says that they are there, as it does of viper beside native
            choice.unlink()
        source = runtime()["kernels/__init__.py"].decode()
        old = "    return names\n"
        assert source.count(old) == 1
        (tmp_path / "kernels/__init__.py").write_text(source.replace(old, f"    return names + [{absent!r}]\n"))
        board.restart()
        with pytest.raises(BoardRefused, match=f"{absent} kernels do not load .*keep {before['kernels']}"):
            board.client.choose_kernels(absent)
        assert board.client.status()["digest"] == before["digest"]


def test_a_state_that_no_slot_has_is_not_called_a_missing_blob(board):
    board.client.enrol("south", samples(2, 12))
    board.stop()
    for slot in ("state0", "state1"):
        data = bytearray((board.flash / slot).read_bytes())
        data[-1] ^= 1
        (board.flash / slot).write_bytes(data)
    board.restart()
    with pytest.raises(BoardRefused, match=r"neither slot .* enrol or rename") as caught:
        board.client.pull()
    assert caught.value.code == errors.SEQUENCE
    board.client.enrol("south", samples(2, 12))
    board.client.pull()
