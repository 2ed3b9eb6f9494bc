"""The learner itself, device/learner.py with growth.py and replay.py: on CPython with the NumPy reference as its kernels,
and the same job on a real MicroPython."""

import json
import subprocess
from array import array
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from blobs import META, tiny_blob, tiny_samples
from enrolment import Enrolment, report
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import plain
from replay import condense

from shared import fixed
from shared import plan as memory
from shared.blob import Blob
from shared.errors import PlanError
from tinycl.learn import kernels as reference

pytestmark = pytest.mark.usefixtures("board_time")

HARD = 200  # noise at which a linear head on the first exit is not enough


@pytest.fixture(params=[reference, plain], ids=["numpy", "plain"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def raw(label: int, n: int, noise: int = 30, seed: int = 0) -> list[bytes]:
    return [sample.tobytes() for sample in tiny_samples(label, n, seed, noise)]


def ready(kernels: ModuleType = reference, staged: int = 12, noise: int = 30, **overrides: Any) -> Enrolment:
    """A learner that knows the base classes, with samples of a fourth one staged."""
    made = Enrolment(tiny_blob(**overrides), kernels)
    made.stage(raw(10, staged, noise))
    return made


def all_logits(made: Enrolment) -> list[list[int]]:
    """Of every stored and staged sample."""
    learner = made.learner
    found = []
    for c in range(learner.classes):
        for i in range(learner.count(c)):
            learner._forward_stored(c, i, learner.classes)
            found.append([int(v) for v in learner.logits[: learner.classes]])
    return found


def weights(made: Enrolment) -> tuple[list[int], list[int]]:
    return [int(v) for v in made.learner.head], [int(v) for v in made.learner.hidden]


def train(made: Enrolment, epochs: int = 2) -> None:
    for _ in range(epochs):
        for _ in made.learner.epoch(4):
            pass


# memory


def held_back(learner, i: int) -> bool:
    """Every holdout_every-th sample of a class is validated on and not trained on."""
    every = learner.blob.holdout_every
    return i % every == every - 1


def drained(generator):
    """What a generator returns."""
    while True:
        try:
            next(generator)
        except StopIteration as e:
            return e.value


def test_buffers_are_those_of_the_plan() -> None:
    made = ready()
    learner, blob = made.learner, made.learner.blob
    assert {name: len(learner.buffers[name]) for name, _, _ in made.plan} == {name: n for name, _, n in made.plan}
    assert learner.replay.at(blob.max_classes - 1, blob.per_class - 1) + learner.inputs == len(learner.replay.buffer)
    assert blob.max_samples * learner.inputs == len(learner.stage)
    assert blob.max_classes * learner.w_stride == len(learner.head)
    assert learner.units * learner.u_stride == len(learner.hidden)


@pytest.mark.parametrize("top", range(4))
def test_a_full_learner_stays_inside_its_buffers(top: int) -> None:
    """The largest enrolments a blob allows, until there is no class left, on every length of the ladder."""
    made = Enrolment(tiny_blob(target_permille=1001, epochs=2, refit_epochs=1), reference, top)
    sizes = {name: len(buffer) for name, buffer in made.learner.buffers.items()}
    for k in range(META["max_classes"] - META["base_classes"]):
        made.stage(raw(10 + k, META["max_samples"]))
        list(made.enrol(f"new{k}"))
    assert {name: len(buffer) for name, buffer in made.learner.buffers.items()} == sizes  # a slice may lengthen an array
    assert made.learner.replay.classes == META["max_classes"]
    assert made.learner.rung <= top


@pytest.mark.parametrize("name", ["plain", "viper"])
def test_micropython_allocates_what_the_plan_says(name: str, micropython: str, flash: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(tiny_blob(per_class=200, max_samples=500))
    script = f"""
import gc, sys
import kernels
from enrolment import Enrolment
from shared import blob, plan
k = kernels.load("{name}")
b = blob.Blob(open("{tmp_path}/blob", "rb"))
p = plan.buffers(b, 3)
from learner import Learner
gc.collect()
before = gc.mem_alloc()
learner = Learner(b, k, 3, p)
gc.collect()
print(gc.mem_alloc() - before, plan.total_bytes(p, k.WEIGHT_BYTES))
"""
    done = subprocess.run([micropython, "-c", script], cwd=flash, capture_output=True, text=True, timeout=20)
    took, planned = (int(v) for v in done.stdout.split())
    assert planned > 60_000
    assert planned <= took <= planned + 4096


def test_a_plan_that_does_not_fit_is_refused_with_numbers() -> None:
    blob = Blob(tiny_blob())
    sizes = [memory.total_bytes(memory.buffers(blob, top)) for top in range(4)]
    assert sizes == sorted(sizes)
    for top in range(4):
        assert memory.fit(blob, sizes[top] + memory.RESERVE_BYTES)[0] == top
    with pytest.raises(PlanError, match=f"needs {sizes[0]} bytes and a reserve of {memory.RESERVE_BYTES}, the board has 1000"):
        memory.fit(blob, 1000)


# growth


def test_growing_does_not_change_the_function(kernels: ModuleType) -> None:
    """Through the whole ladder, with a training on every rung, so that there is something to change."""
    made = ready(kernels)
    learner = made.learner
    for rung in range(1, learner.top + 1):
        train(made)
        before = all_logits(made)
        leave, inputs = learner.exit, learner.n
        learner.grow(rung)
        if learner.exit != leave:
            assert learner.n > inputs
            list(made.recompute(learner.exit))
        assert all_logits(made) == before
    train(made)
    assert all_logits(made) != before
    assert any(weights(made)[1])


def test_new_units_can_learn(kernels: ModuleType) -> None:
    """A unit that starts with zero on both sides would never move: every unit that any sample puts between the flat ends
    of its ReLU has moved on both sides after two epochs."""
    made = ready(kernels)
    learner = made.learner
    train(made)
    learner.grow(2)
    active = set()
    for c in range(learner.classes):
        for i in range(learner.count(c)):
            learner._forward_stored(c, i, learner.classes)
            if not held_back(learner, i):
                active |= {k for k in range(learner.h) if 0 < learner.features[learner.inputs + k] < 127}
    head, hidden = (np.array(w) for w in weights(made))
    train(made)
    new_head, new_hidden = (np.array(w) for w in weights(made))
    moved_out = (new_head != head).reshape(-1, learner.w_stride)[:, learner.h_col :].any(0)
    moved_in = (new_hidden != hidden).reshape(-1, learner.u_stride).any(1)
    assert len(active) >= 2
    assert moved_out[sorted(active)].all() and moved_in[sorted(active)].all()


@pytest.mark.parametrize(("start", "rung"), [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)])
def test_shrinking_restores_to_the_bit(kernels: ModuleType, start: int, rung: int) -> None:
    made = ready(kernels)
    learner = made.learner
    if start:
        learner.grow(start)
    train(made)
    before = (learner.rung, weights(made), all_logits(made), learner.digest())
    learner.grow(rung)
    list(made.recompute(learner.exit))
    train(made)
    assert weights(made) != before[1]
    learner.shrink(before[0])
    assert (learner.rung, weights(made), all_logits(made), learner.digest()) == before


def test_a_step_that_does_not_help_is_taken_back() -> None:
    """An easy class, and a target that nothing reaches: every rung is tried, none is kept."""
    made = ready(target_permille=1001)
    trained = None  # on the first rung
    grown = []
    for event in made.enrol("new"):
        if event["t"] == "grow":
            trained = trained or weights(made)
        if event["t"] == "epoch" and event["rung"]:
            assert weights(made) != trained  # what is taken back is something
        if event["t"] in ("grow", "grown"):
            assert (weights(made), made.learner.rung) == (trained, 0)
        if event["t"] == "grown":
            grown.append(event)
    assert [(event["to"], event["accepted"]) for event in grown] == [(1, False), (2, False), (3, False)]
    assert all(event["after"] <= event["before"] for event in grown)
    assert made.learner.rung == 0 and not any(weights(made)[1])


def test_a_hard_class_makes_the_model_grow() -> None:
    made = ready(staged=16, noise=HARD, target_permille=1000, epochs=8)
    events = list(made.enrol("new"))
    grown = [event for event in events if event["t"] == "grown"]
    assert [event["to"] for event in grown if event["accepted"]] == [events[-1]["rung"]] == [made.learner.rung]
    assert all(event["accepted"] == (event["after"] > event["before"]) for event in grown)
    assert events[-1]["val"] == grown[-1]["after"]


def test_no_growth_where_the_target_is_met() -> None:
    events = list(ready(target_permille=900).enrol("new"))
    assert events[-1]["val"] >= 0.9 and events[-1]["rung"] == 0
    assert not [event for event in events if event["t"] == "grow"]


def test_an_enrolled_class_is_known_and_the_old_ones_are_not_forgotten(kernels: ModuleType) -> None:
    made = Enrolment(tiny_blob(), kernels)
    labels = [0, 1, 2]
    for k in range(3):
        made.stage(raw(10 + k, 16))
        list(made.enrol(f"new{k}"))
        labels.append(10 + k)
    right = 0
    for c, label in enumerate(labels):
        for sample in raw(label, 10, seed=1):
            made.learner.sample[:] = sample
            right += made.learner.predict()[0] == c
    assert right >= 0.9 * 10 * len(labels)


# training


class Recorder:
    """What a learner trains on: (class, number of the sample), in order."""

    def __init__(self, made: Enrolment):
        self.made = made
        self.train = made.learner.train
        self.seen: list[tuple[int, int]] = []
        made.learner.train = self.record

    def record(self, order: Any, n: int, shift: int, classes: int, early: bool = False) -> Any:
        learner = self.made.learner
        for k in range(n):
            label, at = order[2 * k], order[2 * k + 1]
            row = (at if at >= 0 else ~at) // learner.inputs
            i = row if at < 0 else row - label * learner.replay.per_class
            assert (at < 0) == (label == learner.replay.classes)
            assert 0 <= i < learner.count(label)
            self.seen.append((label, i))
        return self.train(order, n, shift, classes, early)


@settings(max_examples=40)
@given(
    staged=st.integers(2, META["max_samples"]),
    every=st.integers(2, 7),
    base=st.integers(2, META["per_class"]),
    seed=st.integers(1, 65535),
)
def test_classes_are_drawn_evenly_and_held_back_samples_never(staged: int, every: int, base: int, seed: int) -> None:
    made = ready(staged=staged, holdout_every=every, base_per_class=base, seed=seed)
    learner = made.learner
    counts = [base] * 3 + [staged]
    trained = [{i for i in range(n) if i % every != every - 1} for n in counts]
    recorder = Recorder(made)
    for _ in range(2):
        recorder.seen.clear()
        *_, (steps, loss) = learner.epoch(4)
        rounds = max(len(some) for some in trained)
        assert steps == len(recorder.seen) == rounds * 4
        assert 0 <= loss <= steps * learner.kernels.ONE
        assert Counter(c for c, _ in recorder.seen) == dict.fromkeys(range(4), rounds)
        for k in range(0, steps, 4):
            assert sorted(c for c, _ in recorder.seen[k : k + 4]) == [0, 1, 2, 3]
        for c, some in enumerate(trained):
            times = Counter(i for label, i in recorder.seen if label == c)
            assert set(times) == some  # all of them, and nothing that was held back
            assert max(times.values()) - min(times.values()) <= 1
    recorder.seen.clear()
    *_, (steps, _) = learner.epoch(4, True)
    assert steps == max(counts) * 4
    for c, n in enumerate(counts):
        assert {i for label, i in recorder.seen if label == c} == set(range(n))


def test_only_the_refit_sees_what_was_held_back() -> None:
    made = ready(staged=16, refit_epochs=2, holdout_every=4, early_epochs=0)
    recorder = Recorder(made)
    phases: list[str] = []
    before = 0
    for event in made.enrol("new"):
        if event["t"] == "epoch":
            seen = recorder.seen[before:]
            before = len(recorder.seen)
            phases.append(event["phase"])
            assert any(i % 4 == 3 for _, i in seen) == (event["phase"] == "refit")
    assert phases[-2:] == ["refit"] * 2 and set(phases[:-2]) == {"fit"}


def test_validation_is_the_mean_over_classes_of_held_back_samples() -> None:
    made = ready(staged=16, noise=HARD)
    train(made, 1)
    learner = made.learner
    shares = []
    for c in range(4):
        right = []
        for i in range(learner.count(c)):
            if held_back(learner, i):
                learner._forward_stored(c, i, 4)
                right.append(int(np.argmax(learner.logits[:4])) == c)
        shares.append(np.mean(right))
    assert shares[-1] >= 0.5
    assert learner.validate()[0] == int(65536 * np.mean(shares))  # exact here: shares in quarters
    assert len(set(shares)) > 1


def test_a_newest_class_that_is_missed_is_not_lost_in_the_mean() -> None:
    """Among many good classes the mean would stay over the target."""
    made = ready()
    train(made, 6)
    learner = made.learner
    learner.head[3 * learner.w_stride] = -fixed.W_MAX  # the bias of the newest of four classes
    assert learner.validate()[0] == 0
    learner.head[3 * learner.w_stride] = 0
    learner.head[0] = -fixed.W_MAX  # an older class that is missed counts as one of four
    assert 0 < learner.validate()[0] <= 65536 * 3 // 4


def test_random_numbers_visit_every_16_bit_number_but_0() -> None:
    learner = ready().learner
    assert len({learner.draw(1 << 16) for _ in range(65535)}) == 65535


# condensation


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 20),
    keep=st.integers(1, 8),
    used=st.integers(1, 12),
    values=st.sampled_from([[-128, 127], [0], [0, 1, 2], list(range(-128, 128))]),
)
def test_condense_keeps_distinct_samples(seed: int, count: int, keep: int, used: int, values: list[int]) -> None:
    g = np.random.default_rng(seed)
    rows = g.choice(values, (count, 12)).astype(np.int8)
    keep = min(count, keep)
    found = []
    for kernels in (reference, plain, reference):
        out = bytearray(b"\x55" * (3 + keep * 12 + 3))
        sums = array("i", bytes(48))
        chosen = drained(condense(kernels, bytearray(rows.tobytes()), count, 12, used, out, 3, keep, sums))
        found.append((chosen, bytes(out)))
        assert len(set(chosen)) == keep and chosen == sorted(chosen) and set(chosen) <= set(range(count))
        assert out[3:-3] == rows[chosen].tobytes()
        assert out[:3] == out[-3:] == b"\x55" * 3
    assert found[0] == found[1] == found[2]


def test_condense_takes_one_of_each_cluster() -> None:
    g = np.random.default_rng(0)
    centres = g.integers(-100, 100, (5, 12))
    home = g.permutation(np.repeat(np.arange(5), [2, 3, 4, 5, 6]))
    rows = (centres[home] + g.integers(-5, 6, (20, 12))).astype(np.int8)
    chosen = drained(condense(reference, bytearray(rows.tobytes()), 20, 12, 12, bytearray(60), 0, 5, array("i", bytes(48))))
    assert sorted(home[chosen]) == [0, 1, 2, 3, 4]


# the same everywhere


@pytest.fixture(scope="module", params=[(30, 1001), (HARD, 1000)], ids=["rejected growth", "accepted growth"])
def job(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    """A blob, and the samples of two classes to enrol."""
    noise, target = request.param
    samples = b"".join(sample for k in range(2) for sample in raw(10 + k, 16, noise))
    return tiny_blob(target_permille=target, epochs=6), samples


@pytest.fixture(scope="module")
def expected(job: tuple[bytes, bytes], board_time: None) -> list[dict[str, Any]]:
    return report(job[0], reference, job[1], 2)


def test_jobs_cover_both_outcomes_of_growth(job: tuple[bytes, bytes], expected: list[dict[str, Any]]) -> None:
    outcomes = {accepted for step in expected for _, accepted in step["grown"]}
    assert outcomes == ({False} if expected[-1]["rung"] == 0 else {False, True})
    assert len({step["digest"] for step in expected}) == 2


def test_plain_on_cpython_gives_the_same_digest(job: tuple[bytes, bytes], expected: list[dict[str, Any]]) -> None:
    assert report(job[0], plain, job[1], 2) == expected


@pytest.mark.parametrize("name", ["plain", "viper"])
def test_micropython_gives_the_same_digest(
    name: str, job: tuple[bytes, bytes], expected: list[dict[str, Any]], on_board: Any, tmp_path: Path
) -> None:
    (tmp_path / "blob").write_bytes(job[0])
    (tmp_path / "samples").write_bytes(job[1])
    said = on_board("enrolment.py", name, str(tmp_path / "blob"), str(tmp_path / "samples"), "2", heap_kib=240)
    assert [json.loads(line) for line in said.splitlines()] == json.loads(json.dumps(expected))
