"""The kernels: plain and viper on a real MicroPython, and the NumPy reference, equal to the bit."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import kernel_cases
import kernel_server
import numpy as np
import pytest
from calls import run
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_server import Answer, Serve

from tinycl.learn import kernels as reference

VECTORS = Path(__file__).parent.parent / "vectors"


@pytest.fixture(scope="module")
def serve(micropython: str, flash: Path) -> Iterator[Serve]:
    """serve(implementation, case) on one MicroPython that stays up for all tests."""
    with kernel_server.serving(micropython, flash) as ask:
        yield ask


def numpy_gives(case: kernel_cases.Case) -> Answer:
    buffers, returned = run(reference, *case)
    return buffers, [v if v is None else int(v) for v in returned]


@pytest.mark.parametrize("kernel", kernel_cases.KERNELS, ids=lambda k: k.__name__)
def test_all_integer_kernels_agree_to_the_bit(kernel: Callable, serve: Serve) -> None:
    changed = set()

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def compare(seed: int) -> None:
        case = kernel(np.random.default_rng(seed))
        expected = numpy_gives(case)
        assert serve("plain", case) == expected
        assert serve("viper", case) == expected
        changed.add(expected[0] != [data for _, data in case[0]] or bool(expected[1][0]))

    compare()
    assert True in changed  # a kernel that does nothing at all would agree with itself


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("units", [0, 12])
def test_chained_training_agrees_to_the_bit(serve: Serve, units: int, extreme: bool) -> None:
    case = kernel_cases.training(np.random.default_rng(3), 400, 24, units, 6, 4, extreme)
    expected = numpy_gives(case)
    assert serve("plain", case) == expected
    assert serve("viper", case) == expected
    assert expected[0][0] != case[0][0][1]
    assert units == 0 or expected[0][1] != case[0][1][1]


def test_training_learns() -> None:
    """The chained steps are a training: the loss of the last quarter is a small part of that of the first."""
    losses = []
    for steps in (100, 300, 400):
        case = kernel_cases.training(np.random.default_rng(3), steps, 24, 12, 6, 4)
        losses.append(numpy_gives(case)[1][0] or 0)
    assert losses[2] - losses[1] < 0.1 * losses[0]


def test_the_learning_rate_halves_with_each_shift() -> None:
    for shift in range(1, 16):
        buffers = [
            kernel_cases.buffer("w", np.zeros(4)),
            kernel_cases.buffer("B", [64, -64, 127]),
            kernel_cases.buffer("w", [1 << 15]),
        ]
        after, _ = numpy_gives((buffers, [["update", "b0", 4, 1, 1, "b1", 0, 3, "b2", shift]]))
        steps = np.frombuffer(bytes.fromhex(after[0]), np.int32)
        assert steps.tolist() == [-((v << 15) >> shift) for v in (127, 64, -64, 127)]


def test_numpy_gives_the_golden_vectors() -> None:
    cases = json.loads((VECTORS / "kernels.json").read_text())
    assert {case["name"].split()[0] for case in cases} >= {k.__name__ for k in kernel_cases.KERNELS} | {"training"}
    for case in cases:
        assert numpy_gives((case["buffers"], case["calls"])) == (case["after"], case["returned"]), case["name"]


def test_golden_vectors_are_reproduced() -> None:
    import make_kernels

    assert make_kernels.text() == (VECTORS / "kernels.json").read_text()


def test_golden_vectors_on_micropython(on_board: Callable[..., str]) -> None:
    said = on_board("test_golden.py", heap_kib=240)
    names = said.splitlines()[-2].removeprefix("kernels: ").split(", ")
    assert {"viper", "plain"} <= set(names)
    cases = len(json.loads((VECTORS / "kernels.json").read_text()))
    assert said.splitlines()[-1] == f"{cases * len(set(names) - {'ulab'})} passed, 0 failed"


def test_a_wrong_golden_vector_fails(micropython: str, flash: Path, tmp_path: Path) -> None:
    lines = (VECTORS / "kernels.json").read_text().splitlines()
    case = json.loads(lines[1].rstrip(","))
    case["after"][-1] = "00" * (len(case["after"][-1]) // 2 + 1)
    (tmp_path / "wrong.json").write_text("[\n" + json.dumps(case) + "\n]\n")
    done = subprocess.run(
        [micropython, "test_golden.py", str(tmp_path / "wrong.json")], cwd=flash, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "plain: conv2d 0 differs" in done.stdout and "0 passed, " in done.stdout
