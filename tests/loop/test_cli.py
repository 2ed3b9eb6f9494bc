"""The command as people use it: what it says, and its exit status, when the input is bad or the user stops it."""

import gzip
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from make_blobs import reseal

from tinycl.board.sim import SimBoard

TINYCL = (sys.executable, "-m", "tinycl.cli")
QUIET = {**{k: v for k, v in os.environ.items() if k != "TINYCL_DATA"}, "TERM": "dumb", "COLUMNS": "200"}


def tinycl(*arguments: str) -> tuple[int, str, str]:
    run = subprocess.run([*TINYCL, *arguments], capture_output=True, text=True, env=QUIET, timeout=240)
    return run.returncode, run.stdout, run.stderr


def refused(*arguments: str) -> str:
    """The one line of a refusal; checks that there is nothing else, that it has a number, and the status."""
    status, out, err = tinycl(*arguments)
    assert status == 1 and not out, (status, out, err)
    line = err.strip().splitlines()[-1]
    assert line.startswith("tinycl: ") and "Traceback" not in err
    return line


def idx(folder: Path, **changes: bytes) -> Path:
    """A tiny MNIST: 20 training and 10 test images; `changes` replaces whole files by name."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        files = {
            f"{part}-images-idx3-ubyte.gz": struct.pack(">IIII", 0x0803, n, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte.gz": struct.pack(">II", 0x0801, n) + labels.tobytes(),
        }
        for name, data in files.items():
            (folder / name).write_bytes(gzip.compress(changes.get(name.split("-idx")[0].replace("-", "_"), data)))
    return folder


def test_help_shows_the_steps() -> None:
    status, out, _ = tinycl("--help")
    assert status == 0
    steps = re.findall(r"^  (\w+) +[A-Z]", out, re.M)
    assert steps[:5] == ["data", "train", "distil", "export", "demo"]
    assert steps[5:] == [
        "boards",
        "sim",
        "flash",
        "enrol",
        "predict",
        "watch",
        "forget",
        "rename",
        "pull",
        "push",
        "fleet",
        "bench",
    ]


def test_the_steps_one_by_one(tmp_path: Path) -> None:
    backbone, synthetic, blob = (str(tmp_path / name) for name in ("b.npz", "s.npz", "blob.tcb"))
    assert tinycl("train", "--out", backbone)[0] == 0
    status, out, err = tinycl("distil", "--backbone", backbone, "--method", "kmeans", "--per-class", "4", "--out", synthetic)
    assert status == 0 and "24" not in err, err
    assert "6 classes of 4 samples, 1,536 bytes" in out
    assert (tmp_path / "s.png").stat().st_size > 2_000
    status, out, err = tinycl("distil", "--backbone", backbone, "--method", "random", "--bytes", "1600", "--out", synthetic)
    assert status == 0 and "6 classes of 4 samples, 1,536 bytes" in out, err
    line = refused("distil", "--backbone", backbone, "--bytes", "300")
    assert "300 bytes for 6 classes, one input sample of each needs 384: give more" in line
    status, out, err = tinycl("export", "--backbone", backbone, "--synthetic", synthetic, "--out", blob)
    assert status == 0 and "plan up to rung 0" in out, err
    for step in ("distil", "export"):
        line = refused(step, "--backbone", backbone, "--data", "pairs")
        assert "trained on 'digits', not on this 'pairs'" in line and "--data" in line
    with SimBoard() as board:
        board.client.send_blob((tmp_path / "blob.tcb").read_bytes())
        assert list(board.client.classes().values()) == [4] * 6


def test_data_as_json(tmp_path: Path) -> None:
    status, out, _ = tinycl("data", "show", "--json", "--out", str(tmp_path))
    facts = json.loads(out)
    assert status == 0 and facts["sample"] == [8, 8, 1] and len(facts["unseen_classes"]) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("demo", "--data", "mnist"), "--data-dir"),
        (("demo", "--data", "mnist", "--data-dir", "nowhere"), "nowhere"),
        (("demo", "--data", "nonsense"), "digits, mnist, pairs"),
        (("demo", "--base", "10"), "10 base classes of 10"),
        (("demo", "--samples", "500"), "500 were asked for"),
        (("demo", "--per-class", "500"), "500"),
        (("demo", "--method", "magic"), "dm, kmeans, herding, random"),
        (("demo", "--micropython", "/nowhere/micropython"), "--micropython"),
        (("demo", "--kernels", "magic"), "viper or plain"),
        (("export", "--backbone", "nothing.npz"), "nothing.npz"),
        (("demo", "--samples", "4"), "raise --samples to 5"),
        (("demo", "--per-class", "130"), "lower --per-class to "),
        (("demo", "--classes", "zebra"), "no unseen class 'zebra' (4 classes: "),
        (("demo", "--data", "pairs", "--classes", "same,2|4"), "no unseen class '2|4' (2 classes: same, different)"),
        (("demo", "--data", "pairs", "--classes", "same,same"), "named 2 times"),
        (("train", "--out", "/proc/nowhere/b.npz"), "check the path and its permissions"),
    ],
)
def test_refusals(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [("train", "--seed", "-1"), ("export", "--samples", "4097"), ("export", "--base", "3"), ("distil", "--base", "3")],
)
def test_options_that_are_refused(arguments: tuple[str, ...]) -> None:
    status, _, err = tinycl(*arguments)
    assert status == 2 and arguments[1] in err


def test_a_relative_micropython(micropython: str, tmp_path: Path) -> None:
    (tmp_path / "mp").symlink_to(micropython)
    run = subprocess.run([*TINYCL, "boards", "--micropython", "./mp"], cwd=tmp_path, capture_output=True, text=True, env=QUIET)
    assert run.returncode == 0 and "sim" in run.stdout, run.stderr


def test_a_refusal_leaves_no_folder(tmp_path: Path) -> None:
    env = {**QUIET, "TMPDIR": str(tmp_path)}
    run = subprocess.run([*TINYCL, "demo", "--classes", "zebra"], capture_output=True, text=True, env=env)
    assert run.returncode == 1 and not list(tmp_path.glob("tinycl-*"))
    SimBoard()
    assert not SimBoard().temporary


def test_chosen_classes(micropython: str, tmp_path: Path) -> None:
    """Two of three unseen classes, in the order that was asked for; the third is no part of the report."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 5
    x = np.clip(rng.integers(0, 200, (5, 8, 8))[y] + rng.normal(0, 12, (400, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=y, classes=np.array(list("abcde")))
    own = ("--data", str(tmp_path / "mine.npz"))
    options = ("--base", "2", "--classes", "e, c", "--method", "random", "--json", "--out", str(tmp_path / "out"))
    status, out, err = tinycl("demo", *own, *options)
    assert status == 0, err
    report = json.loads(out)
    assert [(s["class"], s["number"]) for s in report["steps"]] == [("e", 2), ("c", 3)]
    assert report["classes"] == list("abec") and np.array(report["confusion"]).shape == (4, 4)
    assert np.sum(report["confusion"]) == 64 and report["final_accuracy"] > 0.8
    for stage in ("training the base head", "activates the blob", "joint baseline", "drawing the report"):
        assert stage in err


def test_wrong_idx_header(tmp_path: Path) -> None:
    data = struct.pack(">IIII", 0x0802, 20, 28, 28) + bytes(20 * 784)
    line = refused("demo", "--data", "mnist", "--data-dir", str(idx(tmp_path, train_images=data)))
    assert "0x" in line or "magic" in line


def test_labels_outside_the_range(tmp_path: Path) -> None:
    data = struct.pack(">II", 0x0801, 20) + bytes([11] * 20)
    assert "11" in refused("demo", "--data", "mnist", "--data-dir", str(idx(tmp_path, train_labels=data)))


def test_too_few_samples_are_found_before_anything_is_trained(tmp_path: Path) -> None:
    began = time.monotonic()
    assert "60 were asked for" in refused("demo", "--data", "mnist", "--data-dir", str(idx(tmp_path)))
    assert time.monotonic() - began < 60


def test_a_plan_over_the_memory(tmp_path: Path) -> None:
    line = refused("demo", "--heap-kb", "225", "--per-class", "100", "--method", "random")
    assert re.search(r"needs \d+ bytes .* has \d+ free", line)
    assert line.endswith("lower --per-class or --samples, or use a board with more memory")


def test_a_heap_too_small_for_the_runtime() -> None:
    assert "MemoryError" in refused("demo", "--heap-kb", "64")


def test_own_data(tmp_path: Path) -> None:
    """A .npz with x, y and classes goes the whole way."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 200, (5, 8, 8))
    y = np.arange(400) % 5
    x = np.clip(centres[y] + rng.normal(0, 12, (400, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=y, classes=np.array(["ä", "b", "c", "[/d]", "<e>"]))
    status, out, err = tinycl("demo", "--data", str(tmp_path / "mine.npz"), "--json", "--out", str(tmp_path / "out"))
    assert status == 0, err
    report = json.loads(out)
    assert report["base_classes"] == ["ä", "b", "c"] and report["final_accuracy"] > 0.9


def test_ctrl_c_in_the_middle_of_an_enrolment(tmp_path: Path) -> None:
    """The message and the status are right, and the board's flash holds the state from before that enrolment."""
    master, slave = pty.openpty()  # so that the bars are drawn while they run
    flash = tmp_path / "flash"
    flash.mkdir()
    arguments = ("demo", "--data", "pairs", "--kernels", "plain", "--target", "1", "--flash", str(flash))  # a long enrolment
    arguments += ("--out", str(tmp_path / "out"))
    process = subprocess.Popen(
        [*TINYCL, *arguments],
        stderr=slave,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "100"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in the background
    )
    os.close(slave)
    seen = b""
    stopped = False
    try:
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # the other end is closed: the command has ended
                break
            if not part:
                break
            seen += part
            if not stopped and b"enrolling 'different'" in seen:
                stopped = True
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        os.close(master)
    assert stopped and b"last good state" in seen
    with SimBoard(flash=flash) as board:
        assert list(board.client.classes()) == ["2|4", "2|5", "3|4", "3|5", "same"]
        assert board.client.status()["enrolling"] == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"magic": b"TCLX"}, "not a blob"),
        ({"version": 3}, "format version 3, this software reads version 1 to 2"),
    ],
)
def test_what_a_board_refuses_is_one_line_and_a_status(
    data: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that the board refuses, sent by the command itself: the board's own words, and exit status 1."""
    from tinycl import cli
    from tinycl import demo as main_job

    good = (Path(__file__).parents[1] / "vectors" / "tiny.tcb").read_bytes()
    bad = reseal(data.get("magic", good[:4]) + struct.pack("<H", data.get("version", 1)) + good[6:])

    def run(demo: main_job.Demo, board: SimBoard) -> None:
        with board:
            before = board.client.status()
            try:
                board.client.send_blob(bad)
            finally:
                after = board.client.status()
                assert "digest" not in before and "digest" not in after  # as empty as before

    monkeypatch.setattr(main_job, "run", run)
    result = CliRunner().invoke(cli.main, ["demo"])
    assert result.exit_code == 1
    assert said in result.output and result.output.strip().splitlines()[-1].startswith("tinycl: ")


def test_flash_takes_one_board_or_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from serial.tools import list_ports

    from tinycl import cli

    monkeypatch.setattr(list_ports, "comports", lambda *_: [])
    monkeypatch.setenv("TINYCL_BUILD", str(tmp_path))
    run = CliRunner()
    both = run.invoke(cli.main, ["flash", "--all", "--board", "/dev/ttyACM0"])
    assert both.exit_code == 2 and "or give --all" in both.output
    monkeypatch.setenv("TINYCL_BOARD", "sim")  # of a shell in which somebody works with one board
    every = run.invoke(cli.main, ["flash", "--all"])
    assert every.exit_code == 1 and "no board on any USB port" in every.output
    for option in (["--reinstall"], ["--micropython-board", "RPI_PICO"], ["--firmware", __file__]):
        refused = run.invoke(cli.main, ["flash", *option])
        assert refused.exit_code == 2 and "not for 'sim'" in refused.output
    assert not list(tmp_path.iterdir())
    one = run.invoke(cli.main, ["flash", "--json"])
    assert one.exit_code == 0, one.output
    [row] = json.loads(one.stdout)
    assert row["device"] == "sim" and row["board"] == row["hello"]["board"] and (tmp_path / "boards/sim/main.py").exists()


def test_boards_shows_the_sim_board_with_the_heap_that_was_asked_for(micropython: str) -> None:
    free = [json.loads(tinycl("boards", "--json", "--heap-kb", kb)[1])["sim"]["free_bytes"] for kb in ("260", "1000")]
    assert free[1] - free[0] > 600_000


def test_help_names_every_command() -> None:
    from tinycl import cli

    text = cli.main.help or ""
    assert [name for name in cli.main.commands if not re.search(rf"\b{name}\b", text)] == []
