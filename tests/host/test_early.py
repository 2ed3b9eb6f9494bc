"""Samples that leave at the first exit: its own head, the certainty above which it speaks, what is kept of it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from blobs import tiny_blob, tiny_samples
from enrolment import Enrolment, quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from learner import EARLY_MISTAKES, NEVER_SURE, Learner

from tinycl.learn import kernels as reference

pytestmark = pytest.mark.usefixtures("board_time")


def grown(early_epochs: int = 4, noise: int = 90, **overrides: Any) -> Enrolment:
    """A learner that is never content, so that it ends at the deepest exit, with two classes enrolled."""
    made = Enrolment(tiny_blob(target_permille=1001, early_epochs=early_epochs, **overrides), reference)
    for label in (10, 11):
        made.stage([sample.tobytes() for sample in tiny_samples(label, 16, 0, noise)])
        for _ in made.enrol(f"class {label}"):
            pass
    return made


def force(made: Enrolment) -> Any:
    """To the deepest rung, whatever validation said; then the first exit's own head and its certainty."""
    learner = made.learner
    if not learner.has_early:
        quiet(made.recompute(learner.exit_of(learner.top)))
        learner.grow(learner.top)
    assert learner.has_early
    learner.begin_early()
    for _ in range(6):
        quiet(learner.epoch(5, False, True))
    for _ in range(3):
        quiet(learner.epoch(5, True))
    quiet(learner.set_sure())
    return learner


def memory(learner: Any) -> list[tuple[int, int, int, int]]:
    """Of every stored sample that is held back: its class, the first exit's answer, its certainty, the whole model's answer."""
    rows = []
    classes = learner.replay.classes
    for c in range(classes):
        for i in range(learner.blob.holdout_every - 1, learner.replay.counts[c], learner.blob.holdout_every):
            x, at = learner.where(c, i)
            early = reference.forward(learner.early_model, x, at, classes)
            certainty = learner.certainty(early)
            rows.append((c, early, certainty, learner.forward(x, at, classes)))
    return rows


def mistakes(rows: list[tuple[int, int, int, int]], sure: int) -> int:
    """Samples that would leave and be wrong where the whole model is right."""
    return sum(certainty > sure and early != c and full == c for c, early, certainty, full in rows)


@pytest.mark.parametrize("noise", [30, 90, 200])
def test_it_is_as_sure_as_the_memory_allows(noise: int) -> None:
    learner = force(grown(noise=noise))
    rows = memory(learner)
    allowed = len(rows) // EARLY_MISTAKES
    assert mistakes(rows, learner.sure) <= allowed
    assert learner.sure == 0 or mistakes(rows, learner.sure - 1) > allowed


class Memory:
    """A learner as `set_sure` sees it: samples of one class, of which the first exit gets some wrong; their certainties."""

    def __init__(self, certainties: list[int], wrong: set[int]):
        self.certainties, self.wrong = certainties, wrong
        self.classes, self.forwards, self.early_forwards, self.early_model = 1, 0, 0, None
        self.kernels = self
        self.blob = SimpleNamespace(holdout_every=2)
        self.sure = NEVER_SURE

    def count(self, c: int) -> int:
        return len(self.certainties)

    def where(self, c: int, i: int) -> tuple[None, int]:
        return None, i

    def forward(self, model: None, x: None, at: int, classes: int) -> int:
        self.at = at
        return int(at in self.wrong)

    def certainty(self, c: int) -> int:
        return self.certainties[self.at]

    def _forward_stored(self, c: int, i: int, classes: int) -> int:
        return c


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=900))
def test_as_many_mistakes_as_are_allowed_and_no_more(samples: list[tuple[int, bool]]) -> None:
    """Of those that are held back, whatever the order in which they come."""
    memory = Memory([certainty for certainty, _ in samples], {i for i, (_, wrong) in enumerate(samples) if wrong})
    quiet(Learner.set_sure(memory))
    samples = samples[memory.blob.holdout_every - 1 :: memory.blob.holdout_every]
    allowed = len(samples) // EARLY_MISTAKES
    assert memory.early_forwards == len(samples)

    def leave(sure: int) -> int:
        return sum(wrong and certainty > sure for certainty, wrong in samples)

    assert leave(memory.sure) <= allowed
    assert memory.sure == 0 or leave(memory.sure - 1) > allowed


def test_a_prediction_is_the_first_exits_where_it_is_sure() -> None:
    learner = force(grown())
    learner.sure = 120  # whatever the memory said: so that some leave and some do not
    classes = learner.replay.classes
    x = np.concatenate([tiny_samples(label, 12, 3, 120) for label in (0, 1, 2, 10, 11)])
    left = 0
    for sample in x:
        learner.sample[:] = sample.tobytes()
        found = learner.predict()
        whole = bytearray(learner.inputs)
        learner.backbone.latents(learner.sample, learner.exit, whole, 0)
        early = reference.forward(learner.early_model, whole, 0, classes)
        certainty = learner.certainty(early)
        if certainty > 120:
            left += 1
        else:
            early = learner.forward(whole, 0, classes)
            certainty = learner.certainty(early)
        assert found == (early, certainty)
    assert 0 < left < len(x)
    assert (learner.asked, learner.left_early) == (len(x), left)
    learner.sure = NEVER_SURE
    learner.predict()
    assert learner.left_early == left


def test_the_backbone_goes_on_where_it_left() -> None:
    learner = grown().learner
    whole, parts = bytearray(learner.inputs), bytearray(learner.inputs)
    for sample in tiny_samples(2, 5):
        learner.sample[:] = sample.tobytes()
        last = len(learner.blob.features) - 1
        n = learner.backbone.latents(learner.sample, last, whole, 0)
        at = learner.backbone.latents(learner.sample, 0, parts, 0)
        assert at + learner.backbone.latents(learner.sample, last, parts, at, 1) == n and parts == whole


def test_forgetting_takes_its_row_and_leaves_the_others() -> None:
    learner = force(grown())
    rows = np.array(learner.early).reshape(-1, 1 + learner.early_inputs)[: learner.replay.classes]
    learner.forget(1)
    after = np.array(learner.early).reshape(-1, 1 + learner.early_inputs)
    assert (after[: learner.replay.classes] == np.delete(rows, 1, 0)).all() and not after[learner.replay.classes :].any()


def test_starting_over_ends_it() -> None:
    made = grown()
    learner = force(made)
    learner.load_base()
    assert not learner.has_early and learner.sure == NEVER_SURE and learner.early_macs() == (0, 0)
    learner.set_rung(learner.top)  # as where a ladder begins beyond the first exit
    learner.sure = 0
    learner.clear_weights()
    assert learner.has_early and learner.sure == NEVER_SURE


def test_without_it_nothing_is_planned_or_kept() -> None:
    made = grown(early_epochs=0)
    learner = made.learner
    assert dict((name, items) for name, _, items in made.plan)["early"] == 0
    assert not learner.has_early and learner.sure == NEVER_SURE
    assert learner.early_macs() == (0, 0)


def test_what_it_costs_is_counted() -> None:
    """Training steps, and the passes that validate and that find the certainty, each at what its head costs."""
    made = Enrolment(tiny_blob(target_permille=1001, early_epochs=3, patience=1), reference)
    learner = made.learner
    counted = {"steps": 0, "early": 0, "passes": 0}

    def train(order: Any, n: int, shift: int, classes: int, early: bool = False) -> Any:
        counted["early" if early else "steps"] += n * (learner.early_macs() if early else learner.macs())[1]
        return Learner.train(learner, order, n, shift, classes, early)

    def stored(c: int, i: int, classes: int) -> int:
        counted["passes"] += learner.head_macs()
        return Learner._forward_stored(learner, c, i, classes)

    learner.train, learner._forward_stored = train, stored
    made.stage([sample.tobytes() for sample in tiny_samples(10, 16, 0, 200)])
    done = list(made.enrol("new"))[-1]
    assert learner.exit, "it did not grow: this shows nothing"
    assert counted["early"] > 0 and learner.early_forwards == 3 * (6 // 4) + 16 // 4
    early_passes = learner.early_forwards * learner.classes * (1 + learner.early_inputs)
    assert done["train_macs"] == sum(counted.values()) + early_passes
    assert done["sure"] == learner.sure and done["early_macs"] == learner.early_macs()[0]
