"""Power cuts at every write of a board's flash, on littlefs under the unix MicroPython, and at random moments of an emulated
RP2040's. What the board holds afterwards must be what it held before, or after. Needs the repository's tests/device, which
MicroPython runs.

usage: python -m tinycl.bench.power [--kills N] [--seed N] [--out FILE]
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinycl.bench import save, tiny
from tinycl.board.base import BoardError, runtime
from tinycl.board.rp2040 import Rp2040Board
from tinycl.board.sim import find_micropython
from tinycl.shared.errors import TinyclError

TESTS = Path(__file__).parents[3] / "tests"
EACH = 12  # samples of a class
SCENARIOS = (  # of tests/device/power.py
    "first_blob",
    "upload",
    "activation",
    "same_blob",
    "enrolment",
    "growth",
    "forgetting",
    "base_forgotten",
    "starting_over",
    "renaming",
    "push",
    "migration",
)


def hard_samples(label: int, n: int, seed: int = 1) -> np.ndarray:
    """int8 [n, 8, 8, 1]: the class's own random picture under so much noise that a model has to grow."""
    picture = np.random.default_rng([99, label]).integers(0, 128, (1, tiny.SIDE, tiny.SIDE, 1))
    noise = np.random.default_rng([seed, label]).integers(-90, 91, (n, tiny.SIDE, tiny.SIDE, 1))
    return np.clip(picture + noise, 0, 127).astype(np.int8)


def lay_out(folder: Path) -> None:
    """The runtime, the scripts of tests/device and, in `chip`, the blobs, samples and old states that they use."""
    for name, data in runtime().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for script in (TESTS / "device").glob("*.py"):
        shutil.copy(script, folder)
    chip = folder / "chip"
    chip.mkdir(exist_ok=True)
    shutil.copy(TESTS / "vectors/tiny.tcb", chip)
    (chip / "tiny.raw").write_bytes((TESTS / "vectors/states/quadrants.raw").read_bytes())
    for old in (TESTS / "vectors/states").glob("v1*"):
        shutil.copy(old, chip)
    (chip / "grow.tcb").write_bytes(tiny.blob(seed=2, target=1.001))
    (chip / "grow.raw").write_bytes(b"".join(hard_samples(k, EACH).tobytes() for k in range(5)))


def run_script(folder: Path, script: str, *arguments: str, micropython: str | None = None, heap_kib: int = 4096) -> list[Any]:
    """Runs a script of tests/device under MicroPython; what it printed, each line as JSON. TinyclError where it fails."""
    command = [find_micropython(micropython), "-X", f"heapsize={heap_kib}k", script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line not in lines and line != "OSError: 28"]
        raise TinyclError(f"{script} {' '.join(arguments)} ended with {done.returncode}: " + "\n".join(said[-12:]))
    return [json.loads(line) for line in lines]


def power_cuts(scenarios: tuple[str, ...] = SCENARIOS, ways: str = "all") -> Iterator[dict[str, Any]]:
    """What every cut of each scenario led to: tests/device/power.py tells the fields."""
    with tempfile.TemporaryDirectory(prefix="tinycl-power-") as name:
        folder = Path(name)
        lay_out(folder)
        for scenario in scenarios:
            yield from run_script(folder, "power.py", "chip", ways, scenario)


# the emulated chip


class Operation(NamedTuple):
    """What is cut, and what it does when it is not: flash operations, cycles of work, what the board shows before and after."""

    name: str
    run: Callable[[Rp2040Board], Any]
    flash_operations: int
    cycles: int
    before: tuple[Any, ...]
    after: tuple[Any, ...]


PROBE = np.concatenate([tiny.samples(k, 4, seed=7) for k in range(4)])


def shown(board: Rp2040Board) -> tuple[Any, ...]:
    """All that a host can tell of a board's state: commit, blob, digest, classes, predictions."""
    status = board.client.status()
    classes, certainty = board.client.predict(PROBE)
    names = tuple(board.client.classes().items())
    return status["sequence"], status["blob"], status["digest"], names, classes.tobytes(), certainty.tobytes()


class Chip:
    """An emulated board in the same state before each operation: it goes back to one image of its flash, but where a cut
    left that state anyway."""

    def __init__(self, folder: Path):
        self.image = folder / "before.img"
        self.board = Rp2040Board(flash=folder / "flash.img")
        blob = tiny.blob()
        with self.board as board:
            board.client.send_blob(blob)
            board.client.enrol("third", tiny.samples(2, EACH))
            self.learned = board.client.pull()
            board.client.enrol("fourth", tiny.samples(3, EACH))
        shutil.copy(self.board.flash, self.image)

    def power_on(self, afresh: bool = False) -> Rp2040Board:
        self.board.stop()
        if afresh:
            shutil.copy(self.image, self.board.flash)
        self.board.start()
        self.board.connect()
        self.ready = afresh
        return self.board

    def operations(self) -> Iterator[Operation]:
        """Each kind of operation, done once without a cut."""
        other = tiny.blob(seed=2)
        kinds: dict[str, Callable[[Rp2040Board], Any]] = {
            "enrol": lambda board: board.client.enrol("fifth", tiny.samples(0, EACH, seed=3)),
            "forget": lambda board: board.client.forget("third"),
            "blob": lambda board: board.client.send_blob(other),
            "push": lambda board: board.client.push(self.learned),
        }
        for name, run in kinds.items():
            board = self.power_on(afresh=True)
            before = shown(board)
            assert board.chip is not None
            start = board.chip.state()
            run(board)
            end = board.chip.state()
            self.power_on()
            yield Operation(
                name,
                run,
                end["flash_operations"] - start["flash_operations"],
                end["cycles"] - end["asleep"] - (start["cycles"] - start["asleep"]),
                before,
                shown(board),
            )

    def kill(self, operation: Operation, again: bool, **cut: Any) -> tuple[str, str]:
        """(before, after or whole, what is wrong or nothing) of an operation whose power is cut. again: it is done once
        more where the board has the state before."""
        board = self.board if self.ready else self.power_on(afresh=True)
        assert board.chip is not None
        board.chip.cut(**cut)
        done = True
        try:
            operation.run(board)
        except TinyclError:
            done = False
            if board.chip.alive and not board.chip.wait(5):
                return "", "the operation failed with the power on"
        board = self.power_on()
        found = shown(board)
        if board.link.board["sequence"] != found[0]:
            return "", f"HELLO tells commit {board.link.board['sequence']}, STATUS {found[0]}"
        if found == operation.after:
            return "whole" if done else "after", ""
        if found != operation.before or done:
            return "", f"{found[:4]} ({board.link.board['slots']}): neither {operation.before[:4]} nor {operation.after[:4]}"
        if again:
            operation.run(board)
            if shown(board) != operation.after:
                return "before", f"done again it gives {shown(board)[:4]}, not {operation.after[:4]}"
        self.ready = not again
        return "before", ""

    def close(self) -> None:
        self.board.close()


def chip_kills(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Kills an emulated RP2040 so often, at flash operations and at points in time by turns, in operations of all kinds."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="tinycl-kills-") as name:
        chip = Chip(Path(name))
        try:
            operations = list(chip.operations())
            for k in range(count):
                operation = operations[k % len(operations)]
                if (k + k // len(operations)) % 2:
                    cut: dict[str, float] = {"cycles": rng.randrange(1, operation.cycles)}
                else:
                    torn = rng.choice((0.0, rng.random(), 1.0))
                    cut = {"flash_operations": rng.randrange(1, operation.flash_operations + 1), "torn": torn}
                state, wrong = chip.kill(operation, k % 5 == 0, **cut)
                yield {"kill": k, "operation": operation.name, **cut, "state": state, "wrong": wrong}
        finally:
            chip.close()


def main() -> int:
    """Status 1 where anything came up wrong."""
    parser = argparse.ArgumentParser(description="power cuts, on littlefs in RAM and on an emulated RP2040")
    parser.add_argument("--kills", type=int, default=200, help="of the emulated chip")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which it is killed")
    parser.add_argument("--out", type=Path, default=Path("out/bench/rp2040.json"), help="takes the figures beside what it has")
    options = parser.parse_args()
    figures: dict[str, Any] = {"power_cuts": 0, "power_cuts_wrong": 0, "flash_per_operation": {}}
    for told in power_cuts():
        print(json.dumps({key: value for key, value in told.items() if key != "files"}), flush=True)
        figures["power_cuts"] += told["cuts"]
        figures["power_cuts_wrong"] += len(told["wrong"])
        figures["flash_per_operation"][told["scenario"]] = {
            key: told[key] for key in ("writes", "erased_blocks", "programmed_bytes", "commits")
        }
    save(options.out, figures)
    try:
        Rp2040Board(flash=Path("unused"))
    except BoardError as e:
        print(f"no chip to kill: {e}")
    else:
        figures.update({"chip_kills": 0, "chip_kills_wrong": 0, "chip_kills_by_state": {}})
        for told in chip_kills(options.kills, options.seed):
            print(json.dumps(told), flush=True)
            figures["chip_kills"] += 1
            figures["chip_kills_wrong"] += bool(told["wrong"])
            states = figures["chip_kills_by_state"]
            states[told["state"]] = states.get(told["state"], 0) + 1
    save(options.out, figures)
    return 1 if figures["power_cuts_wrong"] or figures.get("chip_kills_wrong") else 0


if __name__ == "__main__":
    sys.exit(main())
