"""The paper's experiments on a small scale: a cell of the table, resumed, on joblib's processes and on a Dask cluster."""

import json
from pathlib import Path

import make_states
import numpy as np
import pytest

from tinycl.bench import targets
from tinycl.bench.paper import cell, checks, main, report, stream
from tinycl.bench.paper.setting import Setting
from tinycl.errors import DataError
from tinycl.learn import board_head
from tinycl.learned import Learned

ROOT = Path(__file__).parents[2]
NEEDED = {
    *("mac_ratio", "accuracy_loss", "bytes_ratio", "final_accuracy", "joint_accuracy", "forgetting", "best_distiller"),
    *("best_baseline", "delta_to_best_baseline", "stand_in"),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of one cell."""
    folder = tmp_path_factory.mktemp("paper")
    main.run(folder, ("digits",), quick=True, jobs=1, tell=lambda text: None)
    return folder


def test_the_table_says_what_it_must(out: Path) -> None:
    found = json.loads((out / "paper.json").read_text())["digits"]
    assert found.keys() >= NEEDED
    assert 0 < found["mac_ratio"]["mean"] < 1 and found["final_accuracy"]["mean"] > 0.9
    assert found["baselines"]["fine-tuning"]["mean"] < 0.5 < found["baselines"][found["best_baseline"]]["mean"]
    page = (out / "paper.html").read_text()
    assert page.count("<img") == 5 and "digits" in page and page.count("<table") == len(list(report.tables({"digits": found})))


def test_figures_are_as_stated(out: Path) -> None:
    """The quick rows of target_results.csv; `make bench-paper` checks the others."""
    rows = [row for row in targets.targets() if row.when == "test"]
    assert rows and targets.misses(rows, {"paper": json.loads((out / "paper.json").read_text())}) == []


def test_a_figure_that_is_off_or_missing_is_named() -> None:
    row = targets.Target("paper.digits.mac_ratio.mean", 0.2, 0.05, "test")
    assert targets.misses([row], {"paper": {"digits": {"mac_ratio": {"mean": 0.24}}}}) == []
    assert "0.26, stated is 0.2 within 0.05" in targets.misses([row], {"paper": {"digits": {"mac_ratio": {"mean": 0.26}}}})[0]
    assert "not measured" in targets.misses([row], {"paper": {}})[0]


def test_every_stated_figure_is_in_the_document() -> None:
    """docs/reproduction.md says what target_results.csv holds, in percent."""
    text = (ROOT / "docs/reproduction.md").read_text()
    for row in targets.targets():
        value = f"{100 * row.value:.1f}"
        assert f" {value} %" in text or f" {value} ± " in text, row.figure


def test_a_stopped_run_goes_on(out: Path) -> None:
    said: list[str] = []
    main.run(out, ("digits",), quick=True, jobs=1, tell=said.append)
    assert said[0] == "1 cells, 1 of them there already"


def test_a_dask_cluster_gives_the_same(out: Path, tmp_path: Path) -> None:
    """A real one of this machine, through joblib's backend."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        there = main.run(tmp_path, ("digits",), quick=True, cluster=cluster.scheduler_address, tell=lambda text: None)
    assert there == json.loads((out / "paper.json").read_text())


def test_no_cluster_is_said(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(OSError), main.workers(1, "tcp://127.0.0.1:1"):
        pass


def test_macs_of_a_stream_add_up(out: Path) -> None:
    """What the latents cost is counted for each sample and each try of a deeper exit; nothing is lost where none is tried."""
    events = [
        {"t": "grow", "to": 1},
        {"t": "grown", "accepted": True},
        {"t": "grow", "to": 3},
        {"t": "grown", "accepted": False},
        {"t": "grow", "to": 4},
        {"t": "grown", "accepted": True},
    ]
    macs = stream._latents_macs({"events": events}, {"exit": 0, "stored": 30}, 10, [0, 0, 0, 1, 2], [100, 1000, 5000])
    assert macs == 10 * 100 + 40 * 1000 + 40 * 5000
    assert stream._latents_macs({"events": []}, {"exit": 2, "stored": 30}, 10, [0, 0, 0, 1, 2], [100, 1000, 5000]) == 50_000


def test_macs_of_samples_that_leave_early() -> None:
    """Those that leave cost the first exit and its head; the others that head on top of all else."""
    learned = Learned(make_states.good())  # 16 inputs, of which the first exit has 9, sure above 200
    x = np.random.default_rng(3).integers(0, 128, (400, 16)).astype(np.int8)
    y = np.arange(400) % 2
    said = {"rung": 1, "exit": 1, "macs": 5000, "early_macs": 1020, "stored": 12, "events": []}
    step = stream._score(said, learned, x, y, [1000, 4900], 77)
    early = int(board_head.predict(learned, x).early.sum())
    assert 0 < early < 400
    assert step.macs_inference == early * 1020 + (400 - early) * (5000 + 20) and step.macs_training == 77
    assert step.left_early == early / 400 and sum(map(sum, step.confusion)) == 400


def test_conditions_change_what_they_say() -> None:
    setting = Setting("digits", 0)
    new = setting.new(20)
    noisy = checks.label_noise(0.2)(setting, new)
    assert [int((a != b).any(axis=(1, 2, 3)).sum()) for a, b in zip(noisy, new, strict=True)] == [4] * len(new)
    assert (np.abs(checks.sensor_noise(setting, new)[0].astype(int) - new[0]) > 0).mean() > 0.3
    copied = checks.near_copy(setting, new)
    assert (copied[0] != new[0]).any() and all(a is b for a, b in zip(copied[1:], new[1:], strict=True))
    with pytest.raises(DataError, match="have no groups"):
        checks.one_group(setting, new)


def test_bytes_decide_how_many_samples_are_kept() -> None:
    setting = Setting("digits", 0)
    count = setting.per_class(0.05)
    assert count * 10 * 64 <= 0.05 * setting.train_bytes < (count + 1) * 10 * 64
    with pytest.raises(DataError, match="less than a sample a class"):
        setting.per_class(0.001)
    assert cell.told([stream.Step(0, 0, [1.0, 0.5], [[2, 0], [1, 1]], 10, 5, 0.0, 1, 2, 3)])["final_accuracy"] == 0.75
