"""That tinycl.bench.chip measures what it says: heap that was needed and given back, time between reset and HELLO, an enrolment
without its host's time. Figures themselves belong to the bench. Needs `make firmware`."""

import time

import blobs
import pytest

from tinycl.bench import chip as bench
from tinycl.board.base import BoardError
from tinycl.board.rp2040 import Rp2040Board

pytest_plugins = ["emulated"]


def test_the_heap_mark_counts_what_was_given_back(chip):
    """40,000 bytes that are free again count as needed; as many once more, in the same place, do not."""
    bench.paint_heap(chip)
    assert chip.client.status()["classes"] == 4  # the agent came up on the painted heap
    with chip.repl() as repl:
        read = "import gc\ngc.collect()\nprint(untouched(), gc.mem_free())"
        before, free = map(int, repl.execute(read).split())
        needed = free - before
        assert 0 <= needed < free
        repl.execute(f"b = bytearray({needed + 40_000})\ndel b")
        first, _ = map(int, repl.execute(read).split())
        repl.execute(f"b = bytearray({needed + 40_000})\ndel b")
        second, _ = map(int, repl.execute(read).split())
    assert before - first >= 39_000
    assert first - second < 1000
    found = bench.read_heap(chip)
    assert found["heap_bytes"] - second <= found["heap_high_water_bytes"] < found["heap_bytes"]
    with chip.repl() as repl:
        assert "boot.py" not in repl.execute("import os\nprint(os.listdir())")


def test_the_way_to_hello_is_all_that_passes_on_the_chip(copied):
    """It repeats, and grows by what a boot.py sleeps."""
    board = Rp2040Board(flash=copied)
    try:
        first = bench.boot(board)
        assert bench.boot(board) == pytest.approx(first, abs=0.002)
        with board.repl() as repl:
            repl.transport.fs_writefile("boot.py", b"import time\ntime.sleep_ms(700)\n")
        assert bench.boot(board) - first == pytest.approx(0.7, abs=0.05)
        parts = bench.boot_parts(board)
        assert {"imports", "learner", "state", "hello"} < set(parts)
        assert 0 < sum(parts.values()) < 1000 * first
    finally:
        board.close()


def test_a_board_without_a_state_has_no_way_to_hello(firmware, tmp_path):
    board = Rp2040Board(flash=tmp_path / "flash.img")
    try:
        with pytest.raises(BoardError, match="teach it first"):
            bench.boot(board)
    finally:
        board.close()


def test_an_enrolment_is_told_as_it_was_and_without_its_host(chip, monkeypatch):
    """A host that dawdles, and a chip that sleeps meanwhile, change next to nothing."""
    found = []
    for dawdle_s in (0.0, 1.0):
        before = sum(chip.client.classes().values())
        send = chip.client.send_samples
        monkeypatch.setattr(chip.client, "send_samples", lambda x, s=dawdle_s, send=send: (time.sleep(s), send(x)))
        told = bench.enrol(chip, "four", blobs.tiny_samples(4, 12))
        monkeypatch.undo()
        assert chip.client.classes()["four"] > 0
        chip.client.forget("four")
        did = told["enrol_did"]
        assert (did["samples"], did["replayed"]) == (12, before)
        assert did["steps"] > 0 and did["epochs"] > 0 and did["erases"] > 0 and did["programs"] > 0
        parts = sum(told[key] for key in ("enrol_samples_s", "enrol_train_s", "enrol_keep_s"))
        assert parts == pytest.approx(told["enrol_s"], abs=0.002)
        assert 0 < told["enrol_train_s"] < told["enrol_s"]
        found.append(told)
    assert found[1]["enrol_host_s"] > 1
    assert found[0]["enrol_s"] == pytest.approx(found[1]["enrol_s"], abs=0.25)
