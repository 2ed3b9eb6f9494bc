"""What the benches share: figures that several of them put into one file, and a status that tells when something was wrong."""

import json
import multiprocessing
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import source
from common import Trouble

from tinycl.bench import life, link, power, save, sessions
from tinycl.board.base import BoardError


def test_figures_are_added_to_those_of_others(tmp_path: Path) -> None:
    file = tmp_path / "new folder/figures.json"
    save(file, {"a": 1, "b": [2]})
    save(file, {"b": 3})
    assert json.loads(file.read_text()) == {"a": 1, "b": 3}


def readings(*most: int) -> list[dict[str, int]]:
    return [{"cycles": 100 * k, "in_use": 50_000, "most_in_use": value} for k, value in enumerate(most)]


@pytest.mark.parametrize(("last", "status"), [(60_000 + life.PLAY_BYTES, 0), (60_001 + life.PLAY_BYTES, 1), (40_000, 0)])
def test_memory_that_grows_fails_the_long_life(tmp_path: Path, monkeypatch, capsys, last: int, status: int) -> None:
    """Status 1 from the first byte over what is allowed; the figures are there all the same."""
    monkeypatch.setattr(life, "live", lambda cycles: readings(60_000, last, 59_000))
    monkeypatch.setattr(sys, "argv", ["life", "--out", str(tmp_path / "figures.json")])
    assert life.main() == status
    assert json.loads((tmp_path / "figures.json").read_text())["life_highest_in_use_bytes"] == max(60_000, last)
    assert (f"grew by {life.PLAY_BYTES + 1:,} bytes" in capsys.readouterr().out) == bool(status)


@pytest.mark.parametrize("bad", ["", "cut", "kill"])
def test_one_wrong_state_fails_the_power_cuts(tmp_path: Path, monkeypatch, bad: str) -> None:
    cuts = {"scenario": "x", "cuts": 2, "wrong": [[0, 1, "why"]] if bad == "cut" else [], "files": {}}
    cuts |= dict.fromkeys(("writes", "erased_blocks", "programmed_bytes", "commits"), 1)
    kills = [{"kill": k, "state": "before", "wrong": "why" if (bad, k) == ("kill", 1) else ""} for k in range(3)]
    monkeypatch.setattr(power, "power_cuts", lambda: [cuts])
    monkeypatch.setattr(power, "chip_kills", lambda count, seed: kills)
    monkeypatch.setattr(power, "Rp2040Board", lambda flash: None)
    monkeypatch.setattr(sys, "argv", ["power", "--out", str(tmp_path / "figures.json")])
    assert power.main() == bool(bad)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["power_cuts_wrong"], figures["chip_kills_wrong"]) == (bad == "cut", bad == "kill")


def test_only_a_missing_chip_leaves_its_upload_out(monkeypatch) -> None:
    def missing() -> None:
        raise BoardError("no firmware: run 'make firmware'")

    monkeypatch.setattr(link, "Rp2040Board", missing)
    assert link.upload_rp2040() == {"why": "no firmware: run 'make firmware'"}

    class Broken:
        def __enter__(self) -> None:
            raise BoardError("it does not start: look")

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(link, "Rp2040Board", Broken)
    with pytest.raises(BoardError, match="it does not start"):
        link.upload_rp2040()


@pytest.mark.parametrize(("done", "status"), [(30, 0), (29, 1)])
def test_a_board_of_the_fleet_that_did_not_learn_fails_the_line(tmp_path: Path, monkeypatch, done: int, status: int) -> None:
    found = dict.fromkeys(("sessions", "complete", "typed_errors", "hung", "wrong", "fleet_seconds"), 0)
    found |= {**link.MUST, "fleet_boards": 30, "fleet_done": done, "fleet_errors": []}
    monkeypatch.setattr(link, "run", lambda out, count: found)
    assert link.main([]) == status


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\x09half"])
def test_a_session_whose_process_dies_is_wrong(sent: bytes) -> None:
    """Before its answer, and in the middle of it."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=here.close)
    process.start()
    if sent:
        os.write(there.fileno(), sent)
    there.close()
    how, why, _, _ = sessions._ended(SimpleNamespace(pipe=here, process=process))
    assert (how, why) == ("wrong", "its process ended with status 0")


@pytest.mark.parametrize("there", [True, False], ids=["unfinished", "gone"])
def test_a_source_tree_that_was_named_is_not_replaced(tmp_path: Path, monkeypatch, there: bool) -> None:
    """A tree of one's own that lacks something, or was moved away, is never removed for Debian's."""
    tree = tmp_path / "mine"
    if there:
        (tree / "py").mkdir(parents=True)
    link_to = tmp_path / "src"
    link_to.symlink_to(tree)
    monkeypatch.setattr(source, "SOURCE", link_to)
    with pytest.raises(Trouble, match=r"mine, named before with --tree, lacks py/dynruntime\.mk.*: mend it, or remove .*src"):
        source.fetch(source.SUITE)
    assert link_to.is_symlink() and (tree / "py").exists() == there
