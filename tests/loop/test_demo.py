"""The main job on real data, on the sim board, with the figures that it must reach, all from the board's own predictions."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinycl import demo as main_job
from tinycl.board.sim import SimBoard
from tinycl.data import load

SEEDS = range(5)
KEYS = {
    *("dataset", "board", "kernels", "micropython", "base_classes", "steps", "classes", "confusion"),
    *("final_accuracy", "joint_accuracy", "forgetting", "seconds"),
}
STEP_KEYS = ["class", "samples", "accuracy", "per_class", "rung", "macs", "train_ms", "free_bytes", "replay_bytes"]


def mnist_folder() -> Path:
    """Where the real files lie: TINYCL_DATA, or shared/data beside the repository."""
    root = Path(os.environ.get("TINYCL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / "mnist").is_dir():
        pytest.skip(f"no MNIST in {root}/mnist: name the folder above it in TINYCL_DATA")
    return root / "mnist"


def run(data: str, folder: Path | None = None, **changes: Any) -> tuple[dict[str, Any], np.ndarray]:
    chosen = main_job.preset(load(data, folder))
    return main_job.run(replace(chosen, **changes), SimBoard())


@pytest.fixture(scope="session")
def digits(micropython: str) -> list[tuple[dict[str, Any], np.ndarray]]:
    return [run("digits", seed=seed) for seed in SEEDS]


def check_memory(report: dict[str, Any]) -> None:
    free = [step["free_bytes"] for step in report["steps"]]
    assert free == sorted(free), f"free memory shrinks: {free}"
    raw = [step["free_bytes_raw"] for step in report["steps"]]
    assert min(raw) > raw[0] - 1024, f"readings fall: {raw}"  # the collector's own noise is some hundred bytes
    for step in report["steps"]:
        assert 0 < step["replay_bytes"] <= step["replay_plan_bytes"] == report["plan"]["replay"]
    assert sum(report["plan"].values()) == report["plan_bytes"]


def test_digits_over_five_seeds(digits: list[tuple[dict[str, Any], np.ndarray]]) -> None:
    whole = main_job.summarise([report for report, _ in digits])
    assert whole["final_accuracy"] >= 0.95
    assert whole["joint_accuracy"] - whole["final_accuracy"] <= 0.02
    assert whole["forgetting"] <= 0.02
    assert whole["worst_class_accuracy"] >= 0.80
    assert len({tuple(report["base_classes"]) for report, _ in digits}) == len(digits)
    for report, _ in digits:
        assert len(report["base_classes"]) == 6 and len(report["steps"]) == 4
        assert all(step["samples"] == 15 for step in report["steps"])
        check_memory(report)


def test_digits_need_no_growth(digits: list[tuple[dict[str, Any], np.ndarray]]) -> None:
    """A linear head suffices for digits: the criterion is met at all but a few steps, and what is tried there is taken back."""
    tried = 0
    for report, _ in digits:
        assert [step["rung"] for step in report["steps"]] == [0, 0, 0, 0]
        tried += sum(bool(step["growth"]) for step in report["steps"])
    assert tried <= len(digits) * 4 // 10


def test_an_exclusive_or_makes_the_model_grow(micropython: str) -> None:
    """`same` and `different` cannot be told apart by a linear head; with growth they can, and never growing shows it."""
    grown, _ = run("pairs")
    chosen = main_job.preset(load("pairs"))
    held, _ = run("pairs", settings=replace(chosen.settings, target=0.0))
    assert [step["rung"] for step in held["steps"]] == [0, 0]
    first, last = grown["steps"]
    assert first["rung"] == 0 and last["rung"] >= 1
    assert any(event["accepted"] for event in last["growth"])
    assert all(event["accepted"] == (event["after"] > event["before"]) for event in last["growth"])
    hard = ("same", "different")
    with_growth = np.mean([last["per_class"][name] for name in hard])
    without = np.mean([held["steps"][-1]["per_class"][name] for name in hard])
    assert without < 0.7 and with_growth > without + 0.15
    assert last["macs"] > first["macs"]
    check_memory(grown)


def test_mnist_at_one_percent(micropython: str) -> None:
    report, _ = run("mnist", mnist_folder())
    assert report["base_classes"] == list("01234") and [s["class"] for s in report["steps"]] == list("56789")
    assert report["base_per_class"] == 60 and all(step["samples"] == 60 for step in report["steps"])
    assert np.sum(report["confusion"]) == 10_000
    assert report["final_accuracy"] >= 0.94
    assert report["joint_accuracy"] - report["final_accuracy"] <= 0.03
    check_memory(report)


def motion_file(folder: Path) -> Path:
    """A small data set of signals, [n, 48, 1, 3]: six gestures of a hand, each its own frequencies and axes, at any phase."""
    g = np.random.default_rng(5)
    time = np.arange(48)[None, :, None] / 48

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(6), n)
        cycles = np.array([[2, 2, 0], [4, 0, 4], [0, 7, 7], [7, 2, 0], [0, 4, 2], [4, 7, 4]])[y][:, None]
        phase, loud = g.random((len(y), 1, 3)), g.uniform(0.5, 0.8, (len(y), 1, 1))
        x = loud * np.sin(2 * np.pi * (cycles * time + phase)) * (cycles > 0) + g.normal(0, 0.05, (len(y), 48, 3))
        return x.clip(-1, 1)[:, :, None], y

    (x, y), (x_test, y_test) = part(120), part(40)
    path = folder / "gestures.npz"
    np.savez(path, x=x, y=y, x_test=x_test, y_test=y_test, classes=[f"gesture {c}" for c in range(6)])
    return path


def test_signals_are_learned_on_the_board(micropython: str, tmp_path: Path) -> None:
    """One dimension from end to end: conv1d on the host, in the blob and on the board, and classes that come later."""
    report, synthetic = run(str(motion_file(tmp_path)), base=3, samples=20)
    assert synthetic.shape == (3, 15, 48, 1, 3) and len(report["steps"]) == 3
    assert report["final_accuracy"] >= 0.9 and report["worst_class_accuracy"] >= 0.7
    assert report["joint_accuracy"] - report["final_accuracy"] <= 0.08
    check_memory(report)


def test_the_report(digits: list[tuple[dict[str, Any], np.ndarray]], tmp_path: Path) -> None:
    report, synthetic = digits[0]
    main_job.save(report, synthetic, tmp_path)
    read = json.loads((tmp_path / "report.json").read_text())
    assert set(read) >= KEYS
    for step in read["steps"]:
        assert set(STEP_KEYS) <= set(step)
    confusion = np.array(read["confusion"])
    right = confusion.trace() / confusion.sum()
    assert right == pytest.approx(read["final_accuracy"]) == pytest.approx(read["steps"][-1]["accuracy"])
    page = (tmp_path / "report.html").read_text()
    pictures = re.findall(r'src="([^"]{0,40})', page)
    assert len(pictures) == 6 and all(source.startswith("data:image/png;base64,") for source in pictures)
    assert "http" not in re.sub(r'src="[^"]*"', "", page)  # needs nothing from anywhere
    for name in ("overview", "samples", "accuracy", "confusion", "ladder", "board"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_a_seed_repeats_to_the_bit(digits: list[tuple[dict[str, Any], np.ndarray]]) -> None:
    again, synthetic = run("digits", seed=SEEDS[-1])
    report, before = digits[-1]
    assert np.array_equal(synthetic, before)
    assert [s["digest"] for s in again["steps"]] == [s["digest"] for s in report["steps"]]
