"""The power goes at every single write to a board's flash, the flash is full, or it holds what it should not: real littlefs and
the real agent in one MicroPython (tests/device/power*.py say what must hold)."""

from pathlib import Path
from typing import Any

import natmod
import pytest

from tinycl.bench import life, power

pytest_plugins = ["emulated"]

FAULTS = (  # of tests/device/power_faults.py
    "full",
    "filled_late",
    "spare_samples_make_room",
    "every_block",
    "every_slot",
    "newer_version",
    "another_blob",
    "less_memory",
    "old_version",
    "push_of_another_blob",
    "wrap",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, micropython: str) -> Path:
    folder = tmp_path_factory.mktemp("power")
    power.lay_out(folder)
    return folder


@pytest.mark.parametrize("scenario", power.SCENARIOS)
def test_every_cut_gives_before_or_after(folder: Path, micropython: str, scenario: str) -> None:
    (told,) = power.run_script(folder, "power.py", "chip", "turn", scenario, micropython=micropython)
    assert told["wrong"] == []
    assert told["cuts"] == told["before"] + told["after"] == 2 * told["writes"] > 0
    assert told["commits"] == (scenario != "upload")  # wear: one commit, whatever was asked for


@pytest.mark.parametrize("scenario", FAULTS)
def test_a_flash_that_is_full_damaged_or_foreign(folder: Path, micropython: str, scenario: str) -> None:
    (told,) = power.run_script(folder, "power_faults.py", "chip", scenario, micropython=micropython)
    check: dict[str, Any] = {
        "every_block": lambda t: t["unmountable"] and t["newest"] and t["older"] and t["no blob"],
        "full": lambda t: t["enrolment"] and t["activation"] and t["push"],
    }
    assert check.get(scenario, lambda t: True)(told["told"])


# a long life


def test_thousands_of_enrolments_take_no_more_memory_than_the_first(micropython: str) -> None:
    readings = life.live(400, 200, micropython)
    assert [reading["cycles"] for reading in readings] == list(range(100, 500, 100))
    first, *others = readings
    assert life.growth(readings) <= life.PLAY_BYTES
    assert min(reading["in_use"] - first["in_use"] for reading in others) >= -life.PLAY_BYTES
    assert {reading["files"] for reading in readings} == {5}
    assert readings[-1]["sequence"] < 1000 and readings[0]["sequence"] > 0xFFFFFE00  # both numbers went round
    assert readings[-1]["next_uid"] < 200 and readings[0]["next_uid"] > 65000


def test_resets_change_no_bit(folder: Path, micropython: str) -> None:
    """At every third slice of a training."""
    (folder / "resets").mkdir()
    (told,) = power.run_script(folder, "life.py", "resets", "resets", micropython=micropython)
    assert told["resets"] > 10


@pytest.mark.parametrize("kernels", ["native", "viper", "plain"])
def test_collections_change_no_bit(folder: Path, micropython: str, tmp_path: Path, kernels: str) -> None:
    """Before and after every step of a training, and at every 64 bytes."""
    where = natmod.with_native(folder, tmp_path) if kernels == "native" else folder
    (where / f"collected-{kernels}").mkdir()
    (told,) = power.run_script(where, "life.py", "collected", f"collected-{kernels}", kernels, micropython=micropython)
    assert told["kernels"] == kernels and told["steps"] > 100


# an emulated chip, killed


@pytest.mark.usefixtures("firmware")
def test_a_killed_chip_has_the_state_before_or_after() -> None:
    """Each kind of operation, killed at flash operations and at moments; the bench does it 200 times."""
    told = list(power.chip_kills(8, seed=5))
    assert [one["wrong"] for one in told] == [""] * 8
    assert {"flash_operations", "cycles"} <= {key for one in told for key in one}
    assert any(one["state"] == "before" for one in told)
