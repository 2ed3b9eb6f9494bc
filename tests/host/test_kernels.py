"""The kernels: native, plain and viper on a real MicroPython, and the NumPy reference, equal to the bit."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import kernel_cases
import kernel_server
import natmod
import numpy as np
import pytest
from blobs import tiny_blob, tiny_samples
from calls import run
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_server import Answer, Serve

from tinycl.learn import kernels as reference
from tinycl.shared import fixed as f

VECTORS = Path(__file__).parent.parent / "vectors"


@pytest.fixture(scope="module")
def native_flash(flash: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flash with the native module on it, built for this machine."""
    return natmod.with_native(flash, tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def scripted(micropython: str, flash: Path) -> Iterator[Serve]:
    """serve(implementation, case) on one MicroPython that stays up for all tests; no native kernels there."""
    with kernel_server.serving(micropython, flash) as ask:
        yield ask


@pytest.fixture(scope="module")
def compiled(micropython: str, native_flash: Path) -> Iterator[Serve]:
    """The same with native kernels."""
    with kernel_server.serving(micropython, native_flash) as ask:
        yield ask


@pytest.fixture(params=["plain", "viper", "native"])
def serve(request: pytest.FixtureRequest) -> Callable[[kernel_cases.Case], Answer]:
    """serve(case) with each integer implementation."""
    ask = request.getfixturevalue("compiled" if request.param == "native" else "scripted")
    return lambda case: ask(request.param, case)


def numpy_gives(case: kernel_cases.Case) -> Answer:
    buffers, returned = run(reference, *case)
    return buffers, [v if v is None else int(v) for v in returned]


Run = Callable[[kernel_cases.Case], Answer]


@pytest.mark.parametrize("kernel", kernel_cases.KERNELS, ids=lambda k: k.__name__)
def test_all_integer_kernels_agree_to_the_bit(kernel: Callable, serve: Run) -> None:
    changed = set()

    @settings(max_examples=150)
    @given(st.integers(0, 2**32 - 1))
    def compare(seed: int) -> None:
        case = kernel(np.random.default_rng(seed))
        expected = numpy_gives(case)
        assert serve(case) == expected
        changed.add(expected[0] != [data for _, data in case[0]] or bool(expected[1][0]))

    compare()
    assert True in changed  # a kernel that does nothing at all would agree with itself


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("units", [0, 12])
def test_chained_training_agrees_to_the_bit(serve: Run, units: int, extreme: bool) -> None:
    case = kernel_cases.training(np.random.default_rng(3), 400, 24, units, 6, 4, extreme)
    expected = numpy_gives(case)
    assert serve(case) == expected
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
    kernels = set(kernel_cases.KERNELS) - {kernel_cases.wide_conv2d}
    assert {case["name"].split()[0] for case in cases} >= {k.__name__ for k in kernels} | {"training"}
    for case in cases:
        assert numpy_gives((case["buffers"], case["calls"])) == (case["after"], case["returned"]), case["name"]


def test_golden_vectors_are_reproduced() -> None:
    import make_kernels

    assert make_kernels.text() == (VECTORS / "kernels.json").read_text()


def golden(said: str) -> set[str]:
    """The names of the kernels that gave all golden vectors."""
    names = set(said.splitlines()[-2].removeprefix("kernels: ").split(", "))
    cases = len(json.loads((VECTORS / "kernels.json").read_text()))
    assert said.splitlines()[-1] == f"{cases * len(names - {'ulab'})} passed, 0 failed"
    return names


def test_golden_vectors_on_micropython(on_board: Callable[..., str]) -> None:
    assert golden(on_board("test_golden.py", heap_kib=240)) >= {"viper", "plain"}


def test_golden_vectors_in_c(micropython: str, native_flash: Path) -> None:
    assert golden(output([micropython, "test_golden.py"], native_flash)) >= {"native", "viper", "plain"}


def output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


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


# native kernels


@pytest.mark.parametrize("units", [0, 24])
def test_a_native_step_takes_nothing_from_the_heap(micropython: str, native_flash: Path, units: int) -> None:
    """Collection off, 100 rounds of an epoch over ten classes and forward passes: not one byte, and the weights did change."""
    code = f"""
import gc, kernels
from array import array
from calls import model
k = kernels.load("native")
head, hidden = k.weights(10 * 89), k.weights(24 * 65)
m = model(k, head, hidden, k.vector(10), k.vector(10), k.vector(24), bytearray(88), 64, {units}, 64, 24)
x = bytes((7 * i + i // 64) & 127 for i in range(10 * 6 * 64))
order = array("i", [c // 2 if c % 2 == 0 else 0 for c in range(20)])
cursor, counts = array("i", bytes(40)), array("i", [6] * 10)
def train(rounds):
    state = 77
    while rounds:
        rounds -= 1
        state = k.deal(order, cursor, counts, 10, 9, 6, 64, 3, 2, state)
        k.train(m, x, x, order, 10, 4, 10)
        k.forward(m, x, 0, 10)
train(1)
gc.collect()
gc.disable()
before = gc.mem_alloc()
train(100)
print(gc.mem_alloc() - before, max(head) > 0)
"""
    assert output([micropython, "-c", code], native_flash).split() == ["0", "True"]


def span(n: int) -> list[str]:
    return kernel_cases.buffer("i", np.zeros(n))


CONV = [1, 4, 4, 2, 4, 4, 3, 3, 1, 1, 0, 1, 0, 0, 0, 0]
CALLS = {  # the buffers of a call, and the call; each is right as it stands
    "conv2d": (
        [["B", "00" * 32], ["B", "00" * 54], span(6), ["B", "00" * 48], kernel_cases.buffer("i", CONV)],
        ["b0", "b1", "b2", "b3", "b4", 0],
    ),
    "maxpool2d": ([["B", "00" * 32], ["B", "00" * 8]], ["b0", 4, 4, 2, 2, 2, "b1", 0]),
    "dense": ([span(20), ["B", "00" * 9], span(2)], ["b0", 10, 2, 1, "b1", 0, 9, "b2"]),
    "relu": ([span(5), ["B", "00" * 6]], ["b0", 5, "b1", 1]),
    "softmax": ([span(3), span(3)], ["b0", 3, "b1"]),
    "update": ([span(20), ["B", "00" * 9], span(2)], ["b0", 10, 2, 1, "b1", 0, 9, "b2", 4]),
    "back": ([span(20), span(2), ["B", "00" * 9], span(9)], ["b0", 10, 2, 1, 9, "b1", "b2", 0, "b3"]),
    "distance": ([["B", "00" * 5], ["B", "00" * 5]], ["b0", 0, "b1", 0, 5]),
    "accumulate": ([["B", "00" * 5], span(4)], ["b0", 1, 4, "b1"]),
    "deal": (
        [kernel_cases.buffer("i", [1, 0, 0, 0]), span(2), kernel_cases.buffer("i", [4, 4])],
        ["b0", "b1", "b2", 2, 1, 4, 5, 3, 2, 77],
    ),
    "train": (
        [span(2 * 9), span(3 * 6), span(2), span(2), span(3), ["B", "00" * 8], ["B", "00" * 5], ["B", "0001"]],
        [*(f"b{i}" for i in range(8)), 5, 3, 5, 3, 4, 2],
    ),
    "forward": (
        [span(2 * 9), span(3 * 6), span(2), span(2), span(3), ["B", "00" * 8], ["B", "00" * 5]],
        [*(f"b{i}" for i in range(7)), 5, 3, 5, 3, 0, 2],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_native_call_is_refused_and_writes_nothing(compiled: Serve, name: str) -> None:
    """Each buffer one item too short, each number far out on either side: ValueError, and the board goes on."""
    buffers, arguments = CALLS[name]
    good = compiled("native", (buffers, [[name, *arguments]]))
    assert len(good[0]) == len(buffers)
    wrong = 0
    for i, (code, data) in enumerate(buffers):
        if name == "train" and i in (6, 7):  # the test's own: latents and labels of its steps
            continue
        short = [*buffers[:i], [code, data[: -2 if code == "B" else -8]], *buffers[i + 1 :]]
        with pytest.raises(AssertionError, match="ValueError: a size, an offset or a buffer"):
            compiled("native", (short, [[name, *arguments]]))
        wrong += 1
    for i, value in enumerate(arguments):
        if isinstance(value, str):
            continue
        for bad in (-1, 1000, 1 << 20, (1 << 30) - 1, -(1 << 30)):
            if name == "train":  # scratch of that size is the test's own
                bad = min(bad, 1 << 16)
            changed = [*arguments[:i], bad, *arguments[i + 1 :]]
            try:
                compiled("native", (buffers, [[name, *changed]]))
            except AssertionError as e:
                assert "Error: " in str(e)
                wrong += 1
            else:
                # a stride beyond the input is one window; these numbers of a deal are only counted with
                assert (name, i) in {("maxpool2d", 5), *(("deal", k) for k in range(4, 10))}, (name, i, bad)
    assert wrong > len(buffers)
    assert compiled("native", (buffers, [[name, *arguments]])) == good


@pytest.mark.parametrize("field", range(1, 15))
@pytest.mark.parametrize("value", [-1, 0, 5, 17, 1025, 1 << 20, -(1 << 31), (1 << 31) - 1])
def test_a_layer_that_leaves_its_buffers_is_refused(compiled: Serve, field: int, value: int) -> None:
    """Whatever stands in a layer's table: refused, or the same as the reference where that stays in bounds."""
    table = list(CONV)
    table[field] = value
    buffers, arguments = CALLS["conv2d"]
    case = ([*buffers[:4], kernel_cases.buffer("i", table)], [["conv2d", *arguments]])
    try:
        got = compiled("native", case)
    except AssertionError as e:
        assert "ValueError: a size" in str(e)
    else:
        assert got == compiled("plain", case)


def test_what_is_misaligned_is_refused(micropython: str, native_flash: Path) -> None:
    """A word load at an odd address would stop a Cortex-M0+."""
    code = """
import kernels
k = kernels.load("native")
w = memoryview(bytearray(44))
try:
    k.relu(w[1:41], 5, bytearray(5), 0)
except ValueError as e:
    print("refused", e)
"""
    assert output([micropython, "-c", code], native_flash).startswith("refused a size")


@pytest.mark.parametrize("shift", [0, 2, 5])
def test_clamping_is_left_out_only_where_no_weight_can_reach_the_limit(compiled: Serve, shift: int) -> None:
    """Weights that start some steps away from W_MAX and reach it, through the point where clamping begins."""
    g = np.random.default_rng(5)
    reached = 0
    for _ in range(20):
        case = kernel_cases.training(g, 60, 9, 5, 3, shift)
        for k in (0, 1):
            far = f.W_MAX - int(g.integers(1, 1 << (23 - shift)))
            values = np.where(g.random(len(case[0][k][1]) // 8) < 0.5, far, -far)
            case[0][k] = kernel_cases.buffer("w", values)
        case[0][6] = kernel_cases.buffer("B", np.full(9 * 12, 127))  # the same latents for all labels: errors stay large
        expected = numpy_gives(case)
        weights = np.frombuffer(bytes.fromhex(expected[0][0]), np.int32)
        reached += np.abs(weights).max() == f.W_MAX
        assert compiled("native", case) == expected
    assert 0 < reached < 20


def load_native(micropython: str, flash: Path) -> tuple[list[str], str]:
    """(available kernels, why native was refused)."""
    code = "import kernels; print(','.join(kernels.available())); print(kernels.available() and kernels.refused.get('native'))"
    names, why = output([micropython, "-c", code], flash).splitlines()
    return names.split(","), why


def test_where_it_fits_native_comes_first(micropython: str, native_flash: Path) -> None:
    assert load_native(micropython, native_flash)[0][:2] == ["native", "viper"]


def test_no_module_falls_back_to_viper(micropython: str, flash: Path) -> None:
    names, why = load_native(micropython, flash)
    assert names[0] == "viper" and "native" not in names and "tinycl_native" in why


@pytest.mark.parametrize("change", ["architecture", "abi", "empty"])
def test_a_module_for_another_board_falls_back_to_viper(
    micropython: str, native_flash: Path, tmp_path: Path, change: str
) -> None:
    data = natmod.build("x64").read_bytes()
    if change == "architecture":
        data = bytes([data[0], data[1], 4 << 2 | data[2] & 3]) + data[3:]  # says armv6m
    elif change == "abi":
        data = bytes([data[0], data[1] - 1]) + data[2:]
    else:
        data = b""  # one that is cut would hang MicroPython's loader: the deployment's checksums are for that
    flash = natmod.with_native(native_flash, tmp_path)
    (flash / "tinycl_native.mpy").write_bytes(data)
    names, why = load_native(micropython, flash)
    assert names[0] == "viper" and "native" not in names
    assert change == "empty" or "incompatible" in why


def test_an_enrolment_in_c_ends_in_the_same_state(micropython: str, native_flash: Path, tmp_path: Path) -> None:
    """A learner that grows, condenses and refits, with native kernels and with viper: digests, rungs and steps."""
    (tmp_path / "blob").write_bytes(tiny_blob(target_permille=1001, epochs=4))
    (tmp_path / "samples").write_bytes(b"".join(tiny_samples(10 + k, 16, noise=90).tobytes() for k in range(2)))
    said = {
        name: output([micropython, "enrolment.py", name, str(tmp_path / "blob"), str(tmp_path / "samples"), "2"], native_flash)
        for name in ("native", "viper")
    }
    assert said["native"] == said["viper"]
    assert all(json.loads(line)["grown"] for line in said["native"].splitlines())


@pytest.mark.parametrize("arch", ["armv6m", "armv7emsp", "rv32imc"])
def test_the_module_links_for_every_architecture(arch: str) -> None:
    data = natmod.build(arch).read_bytes()
    assert data[0] == ord("M") and len(data) < 16384
