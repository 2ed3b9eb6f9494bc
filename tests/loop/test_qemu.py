"""A second and a third instruction set: the runtime's kernels and its learner on QEMU's RISC-V board (the ESP32-C3's rv32imc)
and on its Cortex-M3, equal to the bit to the golden vectors, to the NumPy reference and to `sim`. Needs `make qemu` and QEMU:
skips without them, or fails where TINYCL_REQUIRE_QEMU is set."""

import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blobs
import kernel_cases
import natmod
import numpy as np
import pytest
import qemu
from calls import run as run_calls

from tinycl import deploy
from tinycl.board.base import BoardError
from tinycl.learn import kernels as reference

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/vectors"
SEEDS = 8  # of each kernel
STEPS = 40  # of a training
LARGEST = 20_000  # characters of a case's buffers, which lie in the board's memory several times over
natmod.script.BOARDS.setdefault("armv7m", natmod.script.OTHERS["armv7m"])  # no board of people's has it


@dataclass(frozen=True)
class Setup:
    """A board, the native module that lies on it, and whether the assembler of Cortex-M does."""

    machine: qemu.Machine
    native: str
    thumb: bool = False

    def __str__(self) -> str:
        parts = (self.machine.name, self.native and f"native {self.native}", self.thumb and "thumb")
        return " ".join(part for part in parts if part)

    @property
    def fast(self) -> list[str]:
        """Names of its kernels but the plain ones."""
        return ["native"] * bool(self.native) + ["viper"]


RISC_V = Setup(qemu.RISC_V, "rv32imc")
CORTEX_M3 = Setup(qemu.CORTEX_M3, "armv7m", thumb=True)
RP2040S_MODULE = Setup(qemu.CORTEX_M3, "armv6m", thumb=True)  # a larger Cortex-M runs it, with its loops in assembler
BARE = Setup(qemu.CORTEX_M3, "")  # viper's own code instead of the assembler
SETUPS = (RISC_V, CORTEX_M3, RP2040S_MODULE, BARE)
WRONG = (Setup(qemu.RISC_V, "armv7m"), Setup(qemu.CORTEX_M3, "rv32imc"))
JOBS = {"rejected growth": (30, 1001), "accepted growth": (200, 1000)}  # as test_learner has them: noise, target


@functools.cache
def cases() -> dict[str, list[kernel_cases.Case]]:
    """Of each kernel, and of a training with and without hidden units."""
    found: dict[str, list[kernel_cases.Case]] = {}
    for kernel in kernel_cases.KERNELS:
        drawn = (kernel(np.random.default_rng([seed, 78])) for seed in itertools.count())
        fitting = (case for case in drawn if sum(len(data) for _, data in case[0]) <= LARGEST)
        found[kernel.__name__] = list(itertools.islice(fitting, SEEDS))
    shapes = itertools.product([(64, 0), (24, 12), (29, 13)], [False, True])
    found["training"] = [
        kernel_cases.training(np.random.default_rng(3), STEPS, *shape, 6, 4, extreme) for shape, extreme in shapes
    ]
    return found


def vectors(name: str) -> bytes:
    """The cases of a kernel with what the NumPy reference gives, as the golden vectors are written."""
    lines = []
    for number, (buffers, calls) in enumerate(cases()[name]):
        after, returned = run_calls(reference, buffers, calls)
        case = {"name": f"{name} {number}", "buffers": buffers, "calls": calls, "after": after}
        lines.append(json.dumps(case | {"returned": [v if v is None else int(v) for v in returned]}))
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def job(name: str) -> tuple[bytes, bytes]:
    """A blob, and the samples of two classes to enrol."""
    noise, target = JOBS[name]
    samples = [blobs.tiny_samples(10 + k, 16, noise=noise).tobytes() for k in range(2)]
    return blobs.tiny_blob(target_permille=target, epochs=6), b"".join(samples)


@functools.cache
def mpy(machine: qemu.Machine) -> int:
    """What .mpy files its firmware loads."""
    with qemu.Qemu(machine, {}) as board:
        return int(board.value("print(sys.implementation._mpy)"))


def files(setup: Setup) -> dict[str, bytes]:
    """The runtime as `tinycl flash` would bring it there, the scripts of tests/device and what they read."""
    word = mpy(setup.machine)
    assert (setup.native in ("", *deploy.Abi.of(word).natives())) == (setup not in WRONG)
    built = deploy.build(word)
    assert not built.notes and set(built.skipped) <= {"kernels/thumb.py", "sensors/thumb.py"}
    found = {path: data for path, data in built.files.items() if path.endswith(".mpy")}
    if not setup.thumb:
        found.pop("kernels/thumb.mpy", None)
    if setup.native:
        found[deploy.NATIVE] = natmod.build(setup.native).read_bytes()
    for path in [*(ROOT / "tests/device").glob("*.py"), *VECTORS.glob("*.json"), *VECTORS.glob("*.tcb")]:
        found[path.name] = path.read_bytes()
    found |= {f"blobs/{path.name}": path.read_bytes() for path in (VECTORS / "blobs").iterdir()}
    found |= {f"{name}.json": vectors(name) for name in cases()}
    found["blob"] = blobs.tiny_blob()
    for name in JOBS:
        found[f"{name}.tcb"], found[f"{name}.samples"] = job(name)
    return found


@pytest.fixture(scope="module", params=SETUPS, ids=str)
def board(request: pytest.FixtureRequest) -> Iterator[qemu.Qemu]:
    """One after the other, as a board that waits at its prompt keeps a core busy."""
    setup: Setup = request.param
    try:
        qemu.check(setup.machine)
    except BoardError as e:
        if os.environ.get("TINYCL_REQUIRE_QEMU"):
            pytest.fail(str(e))
        pytest.skip(str(e))
    with qemu.Qemu(setup.machine, files(setup)) as running:
        yield running


@pytest.fixture
def setup(board: qemu.Qemu, request: pytest.FixtureRequest) -> Setup:
    found: Setup = request.node.callspec.params["board"]
    return found


# the kernels


def golden(board: qemu.Qemu, setup: Setup, file: str, cases: int) -> None:
    """Every integer implementation that loads there gives what the file says, to the bit."""
    names = [*setup.fast, "plain"]
    said, status = board.run("test_golden.py", file)
    assert said.split("\r\n")[:2] == [f"kernels: {', '.join(names)}", f"{cases * len(names)} passed, 0 failed"], said
    assert status == 0
    assert board.value("print('kernels.thumb' in sys.modules)") == setup.thumb  # the inner loops of viper


def test_golden_vectors(board: qemu.Qemu, setup: Setup) -> None:
    golden(board, setup, "kernels.json", len(json.loads((VECTORS / "kernels.json").read_text())))


@pytest.mark.parametrize("kernel", [*(kernel.__name__ for kernel in kernel_cases.KERNELS), "training"])
def test_kernels_agree_with_numpy_to_the_bit(board: qemu.Qemu, setup: Setup, kernel: str) -> None:
    golden(board, setup, f"{kernel}.json", len(cases()[kernel]))


# the learner


def test_training_steps_allocate_nothing(board: qemu.Qemu, setup: Setup) -> None:
    """With collection off, over 30 rounds, on every rung; small integers are as narrow here as on the boards people have."""
    for kernels, rung in itertools.product(setup.fast, range(len(blobs.RUNGS))):
        said, _ = board.run("steps.py", kernels, "blob", str(rung), "30")
        assert [int(v) for v in said.split()] == [0, 1, int(blobs.RUNGS[rung][1] > 0)], (kernels, rung)


@pytest.mark.parametrize("name", JOBS)
def test_enrolment_leaves_what_sim_leaves(
    board: qemu.Qemu, setup: Setup, on_board: Callable[..., str], tmp_path: Path, name: str
) -> None:
    """Two classes: digest, rung, steps and which growth was kept, as on the MicroPython that `sim` boards are."""
    for file, data in zip(("blob", "samples"), job(name), strict=True):
        (tmp_path / file).write_bytes(data)
    expected = on_board("enrolment.py", "viper", str(tmp_path / "blob"), str(tmp_path / "samples"), "2", heap_kib=240)
    for kernels in setup.fast:
        said, _ = board.run("enrolment.py", kernels, f"{name}.tcb", f"{name}.samples", "2")
        events: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
        assert events == [json.loads(line) for line in expected.splitlines()]
        assert len({event["digest"] for event in events}) == 2
        assert (events[-1]["rung"] > 0) == (name == "accepted growth")


@pytest.mark.parametrize("script", [("test_blob.py", ""), ("test_wire.py", "wire.json")], ids=lambda script: script[0])
@pytest.mark.parametrize("board", [RISC_V, CORTEX_M3], indirect=True, ids=str)
def test_formats(board: qemu.Qemu, script: tuple[str, str]) -> None:
    """The vectors of the blob's format and of the wire's."""
    said, status = board.run(*script)
    assert status == 0 and " passed, 0 failed" in said, said


# what is wrong or missing


@pytest.mark.parametrize("board", WRONG, indirect=True, ids=str)
def test_a_native_module_of_another_architecture_is_refused(board: qemu.Qemu) -> None:
    """By name, and the next best kernels serve."""
    assert board.value("import kernels\nprint((kernels.load('native'), kernels.available(), kernels.refused['native']))") == (
        None,
        ["viper", "plain"],
        "incompatible .mpy arch",
    )


def test_what_is_missing_is_said_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(qemu, "FIRMWARE", tmp_path)
    with pytest.raises(BoardError, match=r"no MicroPython for QEMU's VIRT_RV32 at .*VIRT_RV32\.elf: run 'make qemu'"):
        qemu.check(qemu.RISC_V)
    qemu.elf(qemu.RISC_V).touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BoardError, match=r"no qemu-system-riscv32: apt-get install qemu-system-misc"):
        qemu.check(qemu.RISC_V)


def test_the_build_says_what_it_needs(tmp_path: Path) -> None:
    for asked in ([], ["VIRT_RV32"]):
        command = [sys.executable, str(ROOT / "host/firmware/qemu.py"), *asked]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PATH": str(tmp_path)})
        said = done.stdout + done.stderr
        assert done.returncode == 1 and "Traceback" not in said
        assert "riscv64-unknown-elf-gcc or riscv32-unknown-elf-gcc or riscv32-esp-elf-gcc" in said
        assert "apt-get install make gcc gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc" in said
        assert ("MPS2_AN385 needs" in said) == (not asked)
