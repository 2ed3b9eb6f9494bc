"""A thousand sessions, each with something else going wrong on its line: complete, or a typed error and the last commit. And
whether what runs them would notice: see tinycl.bench.sessions. TINYCL_SESSIONS, TINYCL_FIRST_SEED: how many, from where."""

import dataclasses
import os
from collections.abc import Iterator

import pytest

from tinycl.bench import sessions
from tinycl.bench.faults import EVENTS, KINDS, Fault
from tinycl.shared.errors import TinyclError

pytestmark = pytest.mark.usefixtures("micropython")
SESSIONS = int(os.environ.get("TINYCL_SESSIONS", "1000"))
FIRST = int(os.environ.get("TINYCL_FIRST_SEED", "0"))


def test_sessions_over_a_bad_line():
    counts = sessions.run(range(FIRST, FIRST + SESSIONS))
    typed = {kind.__name__ for kind in _kinds(TinyclError)}
    assert not counts.bad, counts.bad  # by seed, each with what was wrong
    assert set(counts.typed_errors) <= typed
    assert counts.sessions == counts.complete + counts.typed_errors.total() == SESSIONS
    if SESSIONS >= 1000:
        assert set(counts.faults) == {"noise", *KINDS, *EVENTS}
        assert counts.complete > SESSIONS * 0.65 and counts.typed_errors.total() > SESSIONS * 0.1


def _kinds(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_kinds(k) for k in kind.__subclasses__()))


@pytest.fixture(scope="module")
def runner(micropython: str) -> Iterator[sessions.Runner]:
    with sessions.Runner() as made:
        yield made


NEVER = Fault()


@pytest.mark.parametrize("number", [0, 1])
def test_a_session_without_faults_is_complete(runner, monkeypatch, number):
    monkeypatch.setattr(sessions, "fault", lambda *_: NEVER)
    assert runner.session(number) == ("complete", "", "noise")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("direction", ["to_board", "to_host"])
def test_every_event_strikes(runner, monkeypatch, event, direction):
    """In the middle of a session, by the bytes of either direction; the errors are those that a user would see."""
    at = runner.reference(3).bytes[direction] // 2
    strike = Fault(event=event, direction=direction, at_byte=at, for_s=0.2)
    monkeypatch.setattr(sessions, "fault", lambda *_: strike)
    ended, wrong, _ = runner.session(3)
    assert wrong == ""
    allowed = {
        "still": {"complete"},
        "hang": {"complete"},
        "still for ever": {"BoardSilent"},
        "reset": {"BoardReset", "BoardSilent", "complete"},  # an upload goes on by itself
        "unplug": {"BoardGone"},
        "power cut": {"BoardGone"},
    }
    assert ended in allowed[event]


def test_what_is_wrong_is_noticed(runner, monkeypatch):
    """A state, and a result, that differ in one number from what the board gives."""
    real = runner.reference(2)
    for field in ("states", "results"):
        values = list(getattr(real, field))
        values[-1] = [values[-1], 1]
        runner.references[2] = dataclasses.replace(real, **{field: tuple(values)})
        monkeypatch.setattr(sessions, "fault", lambda *_: NEVER)
        ended, wrong, _ = runner.session(2)
        assert ended == "wrong" and wrong, field
    runner.references[2] = real


def test_a_lost_commit_is_noticed(runner, monkeypatch):
    """A power cut before which the board had told that it committed, on a flash that forgot."""
    number = next(n for n in range(sessions.SCRIPTS) if all(len(state[4]) > 2 for state in runner.reference(n).states[-2:]))
    last = runner.reference(number).bytes["to_board"] - 60
    monkeypatch.setattr(sessions, "fault", lambda *_: Fault(event="power cut", at_byte=last))
    real = runner.board.start

    def forgetful() -> None:
        for slot in runner.board.flash.glob("state?"):
            slot.unlink()
        real()

    monkeypatch.setattr(runner.board, "start", forgetful)
    ended, wrong, _ = runner.session(number)
    assert ended == "wrong" and "neither at" in wrong


def test_a_call_that_takes_too_long_is_noticed(runner, monkeypatch):
    monkeypatch.setattr(sessions, "fault", lambda *_: NEVER)
    monkeypatch.setattr(sessions, "CALL_S", 1e-6)
    assert runner.session(0)[0] == "hung"


def test_scripts_and_faults_follow_from_their_seeds(runner):
    assert sessions.script(7) == sessions.script(7) != sessions.script(8)
    reference = runner.reference(0)
    assert sessions.fault(40, reference) == sessions.fault(40, reference)
    steps = {kind for number in range(sessions.SCRIPTS) for kind, _ in sessions.script(number)}
    assert steps >= {"activate", "enrol", "forget", "rename", "pull", "push", "predict", "start over", "watch"}
