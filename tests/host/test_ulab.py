"""The ulab kernels against the NumPy reference, within the tolerance that device/kernels/ulab.py states: with NumPy's
float32 in ulab's place on CPython, and on a real interpreter that has ulab where one is named."""

import importlib
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import kernel_cases
import numpy as np
import pytest
from blobs import tiny_blob, tiny_samples
from calls import run
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_server import Answer, serving

from tinycl.learn import kernels as reference
from tinycl.shared import fixed as f

NAMES = ("dot", "clip", "exp", "floor", "max", "min", "sum", "frombuffer", "array", "int8", "uint8")
HOW = (
    "no interpreter with ulab: build MicroPython's unix port with USER_C_MODULES=micropython-ulab and name it with the "
    "environment variable TINYCL_ULAB_MICROPYTHON"
)
Ulab = Callable[[kernel_cases.Case], Answer]


def stand_in(version: str = "6.12.0-2D-c") -> types.ModuleType:
    """A module `ulab` whose numpy is NumPy with float32 as its float, cut down to what the kernels may use."""
    numpy = types.ModuleType("ulab.numpy")
    for name in NAMES:
        setattr(numpy, name, getattr(np, name))
    numpy.float = np.float32  # type: ignore[attr-defined]
    numpy.zeros = lambda n: np.zeros(n, np.float32)  # type: ignore[attr-defined]
    ulab = types.ModuleType("ulab")
    ulab.numpy = numpy  # type: ignore[attr-defined]
    ulab.__version__ = version  # type: ignore[attr-defined]
    return ulab


def import_with(ulab: types.ModuleType) -> types.ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ulab", ulab)
        patch.delitem(sys.modules, "kernels.ulab", raising=False)
        try:
            return importlib.import_module("kernels.ulab")
        finally:
            sys.modules.pop("kernels.ulab", None)


@pytest.fixture(scope="module")
def ulab_micropython() -> str:
    path = os.environ.get("TINYCL_ULAB_MICROPYTHON")
    if not path:
        pytest.skip(HOW)
    return path


@pytest.fixture(scope="module", params=["stand-in", "interpreter"])
def ulab(request: pytest.FixtureRequest, flash: Path) -> Iterator[Ulab]:
    if request.param == "stand-in":
        kernels = import_with(stand_in())
        yield lambda case: run(kernels, *case)
    else:
        with serving(request.getfixturevalue("ulab_micropython"), flash) as ask:
            yield lambda case: ask("ulab", case)


def ints(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), np.int32).astype(np.int64)


def difference(ulab: Ulab, case: kernel_cases.Case, buffer: int) -> tuple[np.ndarray, np.ndarray]:
    """(largest difference in the buffer, reference's values) after the calls that the learner could make."""
    buffers, calls = case
    calls = [call for call in calls if 0 not in (call[4:5] if call[0] == "back" else call[7:8])]  # nothing to add up
    expected = ints(run(reference, buffers, calls)[0][buffer])
    return np.abs(ints(ulab((buffers, calls))[0][buffer]) - expected), expected


def for_many(test: Callable[[np.random.Generator], None]) -> None:
    @settings(max_examples=60)
    @given(st.integers(0, 2**32 - 1))
    def body(seed: int) -> None:
        test(np.random.default_rng(seed))

    body()


def test_dense(ulab: Ulab) -> None:
    """The reference cuts every weight down to 12 fraction bits; float32 keeps 24 bits of the sum."""

    def check(g: np.random.Generator) -> None:
        case = kernel_cases.dense(g)
        inputs = sum(call[7] for call in case[1])
        off, _ = difference(ulab, case, 2)
        largest = 1 << (f.W_FRAC - f.W_SHIFT + f.X_FRAC)  # 1.0
        assert (off <= (inputs + 1) * (1 << f.X_FRAC) + 8 * largest * (inputs + 1) * 2.0**-20).all()

    for_many(check)


def test_relu(ulab: Ulab) -> None:
    def check(g: np.random.Generator) -> None:
        case = kernel_cases.relu(g)
        assert ulab(case)[0][1] == run(reference, *case)[0][1]

    for_many(check)


def test_softmax(ulab: Ulab) -> None:
    """The reference's table has 256 steps an octave, and it rounds down."""

    def check(g: np.random.Generator) -> None:
        off, _ = difference(ulab, kernel_cases.softmax(g), 1)
        assert (off <= 0.002 * f.E_ONE).all()

    for_many(check)


def test_update(ulab: Ulab) -> None:
    """One unit of 2**-20: the reference rounds down; another for float32 and for the way back to integers."""

    def check(g: np.random.Generator) -> None:
        off, _ = difference(ulab, kernel_cases.update(g), 0)
        assert (off <= 2).all()

    for_many(check)


def test_back(ulab: Ulab) -> None:
    """The reference cuts every weight down to 8 fraction bits, and the errors of all classes add up to 2 at most."""

    def check(g: np.random.Generator) -> None:
        case = kernel_cases.back(g)
        first = case[1][0][5]
        off, _ = difference(ulab, case, 3)
        assert (off[:first] <= 2 * 2.0**-8 * f.E_ONE + 2).all()

    for_many(check)


@pytest.mark.parametrize(("units", "tolerance"), [(0, 0.02), (16, 0.15)])
def test_chained_training(ulab: Ulab, units: int, tolerance: float) -> None:
    """After 600 steps: logits relative to the largest, which is all that softmax and prediction see, and predictions."""
    for seed in range(3):
        g = np.random.default_rng(seed)
        case = kernel_cases.training(g, 600, 60, units, 10, 4)
        rows = np.frombuffer(bytes.fromhex(case[0][6][1]), np.int8).reshape(-1, 60)
        unseen = np.clip(rows + g.integers(-30, 31, rows.shape), 0, 127)
        asked = kernel_cases.logits(case, run(reference, *case)[0], unseen)
        expected = np.array([ints(t) for t in run(reference, *asked)[0][4 : 4 + len(unseen)]]) / 2.0**f.Z_FRAC
        asked = kernel_cases.logits(case, ulab(case)[0], unseen)
        found = np.array([ints(t) for t in ulab(asked)[0][4 : 4 + len(unseen)]]) / 2.0**f.Z_FRAC
        off = np.abs((found - found.max(1, keepdims=True)) - (expected - expected.max(1, keepdims=True)))
        assert off.max() <= tolerance
        best = np.sort(expected, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > 2 * tolerance
        assert clear.mean() > 0.9
        assert (found.argmax(1) == expected.argmax(1))[clear].all()


def test_weights_survive_the_way_there_and_back(ulab: Ulab) -> None:
    values = [f.W_MAX, -f.W_MAX, 0, 1, -1, (1 << 22) + 1, -(1 << 22) - 1, 12345, -54321]
    case = ([kernel_cases.buffer("w", values)], [])
    assert ints(ulab(case)[0][0]).tolist() == values


def test_every_int8_is_converted_exactly(ulab: Ulab) -> None:
    """A weight of 1.0 on each of the 256 values in turn, at an odd offset of the buffer."""
    n = 256
    values = np.arange(-128, 128)
    buffers = [kernel_cases.buffer("w", [0, 1 << f.W_FRAC]), kernel_cases.buffer("B", [99, 99, 99, *values])]
    buffers += [kernel_cases.buffer("z", [0]) for _ in range(n)]
    case = (buffers, [["dense", "b0", 2, 1, 1, "b1", 3 + i, 1, f"b{2 + i}"] for i in range(n)])
    found = [ints(t)[0] for t in ulab(case)[0][2:]]
    assert found == [v << (f.Z_FRAC - f.X_FRAC) for v in values]


@pytest.mark.parametrize("version", ["6.0.2", "6.0.2-2D-c", "6.0.3-4D", "5.1.1-2D-c", "0.54.0", "", "unknown"])
def test_a_version_known_to_be_broken_is_refused(version: str) -> None:
    with pytest.raises(ImportError, match=r"may corrupt memory.*6\.0\.4 or newer"):
        import_with(stand_in(version))


@pytest.mark.parametrize("version", ["6.0.4", "6.0.13-2D", "6.12.0-2D-c", "7.0.0", "10.0.1-4D-c"])
def test_newer_versions_are_taken(version: str) -> None:
    assert import_with(stand_in(version)).NAME == "ulab"


def test_a_ulab_that_converts_wrongly_is_refused() -> None:
    ulab = stand_in()
    ulab.numpy.array = lambda values, dtype: np.zeros(len(values), dtype)
    with pytest.raises(ImportError, match="converts int8 wrongly"):
        import_with(ulab)


def test_micropython_falls_back_where_ulab_is_broken(micropython: str, flash: Path, tmp_path: Path) -> None:
    """On a firmware with ulab 6.0.2, the same job runs on other kernels."""
    (tmp_path / "ulab.py").write_text("__version__ = '6.0.2-2D-c'\nnumpy = None\n")
    script = f"import sys; sys.path[:0] = ['{flash}', '{tmp_path}']\nimport kernels; print(kernels.available())"
    done = subprocess.run([micropython, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.stdout.strip() == "['viper', 'plain']", done.stdout + done.stderr


def test_weight_bytes_are_those_of_the_interpreter(ulab_micropython: str, flash: Path) -> None:
    script = "from kernels import ulab; print(ulab.WEIGHT_BYTES, 4 if 1.0 + 1e-10 == 1.0 else 8)"
    done = subprocess.run([ulab_micropython, "-c", script], cwd=flash, capture_output=True, text=True, timeout=20)
    said, right = done.stdout.split()
    assert said == right, done.stderr
    assert import_with(stand_in()).WEIGHT_BYTES == 4


def test_a_learner_on_ulab_takes_the_same_steps(ulab_micropython: str, flash: Path, tmp_path: Path) -> None:
    """Two classes enrolled by the learner itself, with growth accepted and rejected and latents recomputed, in the heap of a
    small board: on ulab as on the integer kernels of the same interpreter, but for the weights."""
    (tmp_path / "blob").write_bytes(tiny_blob(target_permille=1000, epochs=6))
    (tmp_path / "samples").write_bytes(b"".join(tiny_samples(10 + k, 16, 0, 200).tobytes() for k in range(2)))
    found = {}
    for name in ("plain", "ulab"):
        command = [ulab_micropython, "-X", "heapsize=240k", "enrolment.py", name, tmp_path / "blob", tmp_path / "samples", "2"]
        done = subprocess.run(command, cwd=flash, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found[name] = [json.loads(line) for line in done.stdout.splitlines()]
        digests = [step.pop("digest") for step in found[name]]
        assert len(set(digests)) == 2
    assert found["ulab"] == found["plain"]
    assert {accepted for step in found["ulab"] for _, accepted in step["grown"]} == {True, False}
