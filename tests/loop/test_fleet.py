"""A classroom of simulated boards, each taught a class of its own at the same time; some of them fail."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_blobs
import numpy as np
import pytest
from click.testing import CliRunner

from tinycl import fleet
from tinycl.board.base import Board
from tinycl.board.errors import NoBoard
from tinycl.board.sim import SimBoard
from tinycl.cli import main
from tinycl.errors import DataError
from tinycl.link import link as link_module

pytestmark = pytest.mark.usefixtures("micropython")

BLOB = make_blobs.tiny()
LONG = make_blobs.tiny(target_permille=1001, epochs=255, patience=255)  # trains for seconds
COUNT = 30


def samples(n: int = 12) -> np.ndarray:
    return make_blobs.pictures(2, n)


@pytest.fixture
def lessons(tmp_path: Path) -> list[tuple[str, Path]]:
    for i in range(COUNT):
        np.save(tmp_path / f"pupil {i:02}.npy", samples())
    return fleet.classes_of(tmp_path)


def test_thirty_boards_of_which_one_hangs_one_resets_and_one_is_unplugged(
    lessons: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "SILENCE_S", 1.0)
    monkeypatch.setattr("tinycl.link.client.TRAIN_SILENCE_S", 1.0)
    # what goes wrong happens in the middle of training, as its events show
    troubles: dict[int, Callable[[SimBoard], None]] = {3: SimBoard.hang, 11: SimBoard.reset, 19: SimBoard.stop}

    def lesson(i: int) -> fleet.Job:
        plain = fleet.teach(lessons[i], LONG if i in troubles else BLOB)

        def job(board: Board, tell: fleet.Tell) -> dict[str, Any]:
            def spoil(text: str) -> None:
                tell(text)
                if "epoch 3" in text:
                    threading.Thread(target=troubles[i], args=(board,)).start()
                    time.sleep(0.1)

            return plain(board, spoil if i in troubles else tell)

        return job

    boards = fleet.room(COUNT)
    rows = fleet.run(boards, lesson, deadline_s=60, show=False)
    for i, row in enumerate(rows):
        if i in troubles:
            assert row.error and ": " in row.error and not row.done, row
        else:
            assert not row.error and row.done, row
            assert row.facts["class"] == f"pupil {i:02}" and row.facts["classes"] == 3, row
    assert "no answer" in rows[3].error
    assert "reset" in rows[11].error
    assert "gone" in rows[19].error
    assert len({row.board for row in rows}) == COUNT
    shown = fleet.table(rows)
    assert shown.row_count == COUNT
    assert rows[5].as_dict()["class"] == "pupil 05" and rows[3].as_dict()["error"]


def test_a_board_that_never_ends_is_left_behind() -> None:
    started, release = threading.Event(), threading.Event()

    def job(i: int) -> fleet.Job:
        def forever(board: Board, tell: fleet.Tell) -> dict[str, Any]:
            tell("counting sheep")
            if i == 0:
                started.set()
                release.wait(30)
            return {"classes": 0}

        return forever

    try:
        rows = fleet.run(fleet.room(2), job, deadline_s=1.5, show=False)
        assert started.is_set()
        assert "not done after 1.5 s (counting sheep)" in rows[0].error and rows[1].done
    finally:
        release.set()


def test_a_job_of_somebody_else_that_fails_takes_no_other_with_it() -> None:
    def job(i: int) -> fleet.Job:
        return lambda board, tell: {"share": 1 // i}

    rows = fleet.run(fleet.room(2), job, show=False)
    assert rows[0].error.startswith("ZeroDivisionError") and rows[1].facts == {"share": 1}


def test_nothing_to_teach_and_nobody_to_teach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="0 files"):
        fleet.classes_of(tmp_path)
    monkeypatch.setattr("tinycl.board.port.discover", lambda **_: [])
    with pytest.raises(NoBoard, match="0 of 0 USB ports"):
        fleet.room()


def test_a_board_left_behind_does_not_hold_up_the_end_of_the_program() -> None:
    code = """
import threading
from tinycl import fleet
rows = fleet.run(fleet.room(1), lambda i: lambda board, tell: threading.Event().wait(), deadline_s=2, show=False)
print(rows[0].error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "not done after 2 s" in run.stdout, run.stderr


def test_a_room_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table is the result; a blob that is none is found before any board is started."""
    (tmp_path / "lessons").mkdir()
    np.save(tmp_path / "lessons" / "south.npy", samples())
    (tmp_path / "good.tcb").write_bytes(BLOB)
    (tmp_path / "bad.tcb").write_bytes(BLOB[:-3])
    run = CliRunner()
    options = ["fleet", "--from", str(tmp_path / "lessons"), "--sim", "2", "--blob"]
    done = run.invoke(main, [*options, str(tmp_path / "good.tcb")])
    assert done.exit_code == 0 and "2 boards" in done.stdout and done.stdout.count("south") == 2, done.output
    monkeypatch.setattr(fleet, "run", lambda *_: pytest.fail("boards were started"))
    refusal = run.invoke(main, [*options, str(tmp_path / "bad.tcb")])
    assert refusal.exit_code == 1 and refusal.output.startswith("tinycl: "), refusal.output
