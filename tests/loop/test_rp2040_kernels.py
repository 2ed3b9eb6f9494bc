"""The kernels on the emulated RP2040, where the native module's and the viper kernels' inner loops are ARMv6-M assembler that
runs nowhere else: equal to the NumPy reference to the bit. Needs `make firmware`, and a compiler for the native ones."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import kernel_cases
import natmod
import numpy as np
import pytest
from calls import run

from tinycl.board.repl import Repl
from tinycl.board.rp2040 import Rp2040Board
from tinycl.learn import kernels as reference

pytest_plugins = ["emulated"]
CALLS = (Path(__file__).parents[1] / "device/calls.py").read_text()
SEEDS = 14  # of each kernel
LARGEST = 20_000  # characters of a case's buffers, which lie in the board's memory several times over


@pytest.fixture(scope="module", params=["native", "viper"])
def chip(request: pytest.FixtureRequest, firmware: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repl]:
    """A board's REPL with `k`, the kernels to be tested, and calls.py."""
    if request.param == "native":
        natmod.build("armv6m")
    board = Rp2040Board(flash=tmp_path_factory.mktemp("rp2040") / "kernels.img")
    try:
        board.deploy()
        board.start()
        with board.repl() as repl:
            repl.execute(CALLS)
            code = (
                f"import gc, kernels, sys\nk = kernels.load({request.param!r})\nprint(k.NAME, 'kernels.thumb' in sys.modules)"
            )
            assert repl.execute(code).split()[0] == request.param
            assert request.param == "native" or repl.execute(code).split()[1] == "True"
            yield repl
    finally:
        board.close()


def agrees(repl: Repl, case: kernel_cases.Case) -> bool:
    buffers, returned = run(reference, *case)
    said = repl.execute(f"gc.collect()\nprint(run(k, {case[0]!r}, {case[1]!r}))", 60.0, "a kernel")
    return ast.literal_eval(said) == (buffers, [v if v is None else int(v) for v in returned])


@pytest.mark.parametrize("kernel", kernel_cases.KERNELS, ids=lambda k: k.__name__)
def test_kernels_on_the_chip_agree_to_the_bit(chip: Repl, kernel: Callable[[np.random.Generator], kernel_cases.Case]) -> None:
    tried = seed = 0
    while tried < SEEDS:
        case = kernel(np.random.default_rng([seed, 77]))
        seed += 1
        if sum(len(data) for _, data in case[0]) <= LARGEST:
            assert agrees(chip, case), (kernel.__name__, seed - 1)
            tried += 1


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("inputs", "units"), [(64, 0), (24, 12), (29, 13)])
def test_training_on_the_chip_agrees_to_the_bit(chip: Repl, inputs: int, units: int, extreme: bool) -> None:
    assert agrees(chip, kernel_cases.training(np.random.default_rng(3), 120, inputs, units, 6, 4, extreme))


HELD = """
import gc
from keeper import Keeper
from store import Store
def used():
    keeper = Keeper(Store(""), "viper", lambda: None)
    keeper.start()
    learner = keeper.learner
    plan = sum(len(learner.model[k]) * 4 for k in (2, 3))
    learner.predict()
    learner = None
    keeper.release()
    gc.collect()
    return plan, gc.mem_free()
used()
plan, released = used()
import sys
sys.modules["kernels.thumb"].let_go()
gc.collect()
print(plan, gc.mem_free() - released)
"""


def test_a_model_that_is_released_gives_its_memory_back(copied: Path) -> None:
    """The assembler kernels keep addresses in an array, which the collector takes for use of what lies there."""
    board = Rp2040Board(flash=copied)
    try:
        board.start()
        with board.repl() as repl:
            plan, held = map(int, repl.execute(HELD, 60.0, "a release").split())
        assert held < plan / 4, (plan, held)
    finally:
        board.close()
