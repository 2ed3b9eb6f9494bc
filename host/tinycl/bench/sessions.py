"""Sessions over a line on which something goes wrong: each must end complete, with the board's state and predictions equal to
those of a faultless run to the bit, or in a typed error within its deadline with the last commit intact. After an error the
line is healed, the board looked at, and the rest of the session done: the end must be the same. Everything about a session
follows from its seed. Depends on the sim board; runs boards side by side, each in a process of its own."""

import contextlib
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from tinycl.bench import tiny
from tinycl.bench.faults import EVENTS, KINDS, Fault, FaultyBoard
from tinycl.learned import Learned
from tinycl.link import client as client_module
from tinycl.link import link as link_module
from tinycl.link.client import Client
from tinycl.shared.errors import TinyclError

SCRIPTS = 24
SILENCE_S = 0.6
WAITS = (  # all shorter than on a real line, as this one is faster
    (link_module, "RETRY_S", 0.06),
    (link_module, "SILENCE_S", SILENCE_S),
    (link_module, "LOADING_S", 4.0),
    (client_module, "TRAIN_SILENCE_S", 1.2),  # a board says `alive` each half second
    (client_module, "LOADING_SILENCE_S", 1.2),
)
CALL_S = 12.0  # no call may take longer: an answer's deadline, then those of ABORT and HELLO
HUNG_S = 60.0  # a session that has not ended by then never will

Step = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Reference:
    """A script as it goes without faults: states[i] is what the board says before step i, results[i] what step i returns."""

    steps: tuple[Step, ...]
    states: tuple[Any, ...]
    results: tuple[Any, ...]
    bytes: dict[str, int]  # that each direction carries
    seconds: float


@dataclass
class Counts:
    """How sessions ended. bad: seeds of the hung and wrong ones, with what was wrong."""

    sessions: int = 0
    complete: int = 0
    typed_errors: Counter[str] = field(default_factory=Counter)
    hung: int = 0
    wrong: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    longest_call_s: float = 0.0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "sessions": self.sessions,
            "complete": self.complete,
            "typed_errors": self.typed_errors.total(),
            "errors": dict(sorted(self.typed_errors.items())),
            "hung": self.hung,
            "wrong": self.wrong,
            "bad": {str(seed): why for seed, why in sorted(self.bad.items())},
            "faults": dict(sorted(self.faults.items())),
            "longest_call_s": round(self.longest_call_s, 3),
            "seconds": round(self.seconds, 1),
        }


# what a session does


BLOBS = (tiny.blob(1), tiny.blob(2, target=1.001))
OTHER = tiny.blob(3)  # on the board before a session begins
PROBE = np.concatenate([tiny.samples(q, 4, seed=5) for q in range(4)])


def script(number: int) -> tuple[Step, ...]:
    """A blob, then four to seven steps that all succeed without faults, in a seeded order."""
    rng = random.Random(f"script {number}")
    which = number % 2
    steps: list[Step] = [("activate", (which,))]
    names = list(tiny.BASE)
    fresh = iter(("south-west", "südost", "zentral", "nord", "ost", "west", "süd", "mitte"))
    for _ in range(rng.randrange(4, 8)):
        kind = rng.choice(
            ["predict", "pull", "push", "start over", "watch", "status", "activate again"]
            + ["enrol"] * 4 * (len(names) < 5)
            + ["forget", "rename"] * (len(names) > 2)
        )
        if kind == "enrol":
            names.append(next(fresh))
            steps.append((kind, (names[-1], rng.randrange(4), rng.randrange(3, 13), rng.randrange(99))))
        elif kind == "forget":
            name = names.pop(rng.randrange(len(names)))
            steps.append((kind, (name,)))
        elif kind == "rename":
            at = rng.randrange(len(names))
            old, names[at] = names[at], next(fresh)
            steps.append((kind, (old, names[at])))
        elif kind == "activate again":
            names = list(tiny.BASE)
            steps.append(("activate", (which,)))
        elif kind in ("start over", "push"):
            names = list(tiny.BASE) + (["gelernt", "too"] if kind == "push" else [])
            steps.append((kind, (which,) if kind == "push" else ()))
        else:
            steps.append((kind, ()))
    return tuple(steps)


def do(client: Client, step: Step, pushed: tuple[bytes, ...]) -> Any:
    """One step, by the calls that a user has; what of its result must be the same in every run."""
    kind, args = step
    if kind == "activate":
        return client.send_blob(BLOBS[args[0]])["blob"]
    if kind == "enrol":
        name, quadrant, n, seed = args
        done = client.enrol(name, tiny.samples(quadrant, n, seed))
        return {key: done[key] for key in ("class", "samples", "kept", "val", "loss", "rung", "steps")}
    if kind == "forget":
        return client.forget(*args)["classes"]
    if kind == "rename":
        return client.rename(*args)["classes"]
    if kind == "start over":
        return client.start_over()["classes"]
    if kind == "pull":
        return learned_facts(client.pull())
    if kind == "push":
        return client.push(pushed[args[0]])["classes"]
    if kind == "watch":
        client.watch(0.01)
        client.link.listen(0.02)
        return client.watch(0)
    if kind == "status":
        return client.status()["digest"]
    assert kind == "predict"
    return predictions(client)


def predictions(client: Client) -> list[list[float]]:
    found, certainty = client.predict(PROBE)
    return [found.tolist(), certainty.tolist()]


def learned_facts(data: bytes) -> Any:
    """What of a pulled file does not depend on how often the board committed before."""
    learned = Learned(data)
    return [learned.names, *(part.tolist() for part in (*learned.weights, *learned.latents))]


def state(client: Client) -> Any:
    """Everything that a session may change, as the board tells it."""
    now = client.status()
    return [now["blob"], now["digest"], now["rung"], now["enrolling"], client.classes(), predictions(client)]


def fault(seed: int, reference: Reference) -> Fault:
    """What goes wrong in this session: noise all along, or one thing at one point."""
    rng = random.Random(f"fault {seed}")
    if rng.random() < 0.2:
        return Fault(seed, rng.choice((300, 800, 2000, 5000)))
    direction = rng.choice(("to_board", "to_host"))
    at = rng.randrange(reference.bytes[direction])
    event = rng.choice(KINDS + EVENTS)
    for_s = rng.choice((0.02, 0.2, 0.5))
    if event in EVENTS and rng.random() < 0.3:
        return Fault(seed, event=event, direction=direction, at_s=rng.uniform(0, reference.seconds), for_s=for_s)
    return Fault(seed, event=event, direction=direction, at_byte=at, for_s=for_s)


# running one


class Runner:
    """One board, on which one session after the other runs."""

    def __init__(self) -> None:
        self.board = FaultyBoard()
        self.references: dict[int, Reference] = {}
        self.longest_s = 0.0

    def __enter__(self) -> "Runner":
        self.waits = [(module, name, getattr(module, name)) for module, name, _ in WAITS]
        for module, name, seconds in WAITS:
            setattr(module, name, seconds)
        self.board.__enter__()
        self.pushed = tuple(self._make_pushed(which) for which in range(len(BLOBS)))
        return self

    def __exit__(self, *_: Any) -> None:
        self.board.heal()
        self.board.close()
        for module, name, seconds in self.waits:
            setattr(module, name, seconds)

    def _make_pushed(self, which: int) -> bytes:
        client = self.board.client
        client.send_blob(BLOBS[which])
        client.enrol("gelernt", tiny.samples(2, 12, 77))
        client.enrol("too", tiny.samples(3, 9, 78))
        return client.pull()

    def reference(self, number: int) -> Reference:
        if number not in self.references:
            self.prepare()
            steps = script(number)
            client = self.board.client
            states = [state(client)]
            results = []
            self.board.strike(Fault())
            start = time.monotonic()
            self.board.link.hello()
            for step in steps:
                results.append(do(client, step, self.pushed))
            seconds = time.monotonic() - start
            carried = {"to_board": self.board.to_board.carried, "to_host": self.board.to_host.carried}
            self.prepare()  # and once more, to see each state
            client = self.board.client
            for i, step in enumerate(steps):
                again = do(client, step, self.pushed)
                if again != results[i]:
                    raise AssertionError(f"script {number} is not the same twice: step {i}, {step[0]}: {results[i]}, {again}")
                states.append(state(client))
            self.references[number] = Reference(steps, tuple(states), tuple(results), carried, seconds)
        return self.references[number]

    def prepare(self) -> None:
        """The same beginning for every session: a good line, no leftovers, another blob."""
        board = self.board
        board.heal()
        if not board.plugged:
            board.start()
        board.connect()
        for leftover in board.flash.glob("up-*"):
            leftover.unlink()
        board.client.send_blob(OTHER)

    def session(self, seed: int) -> tuple[str, str, str]:
        """(how it ended: "complete" or the name of an error, what was wrong: nothing as a rule, which fault)."""
        reference = self.reference(seed % SCRIPTS)
        self.prepare()
        board = self.board
        struck = fault(seed, reference)
        kind = struck.event or "noise"
        board.strike(struck)
        done = 0
        ended = "complete"
        try:
            self._call(board.link.hello, SILENCE_S)
            for step, want in zip(reference.steps, reference.results, strict=True):
                found = self._call(do, board.client, step, self.pushed)
                if found != want:
                    return "wrong", f"{kind}: step {done}, {step[0]} gave {found}, not {want}"[:400], kind
                done += 1
        except TinyclError as e:
            ended = type(e).__name__
        except TooSlow as e:
            return "hung", f"{kind}: step {done}: {e}", kind
        except Exception as e:
            return "wrong", f"{kind}: step {done}: {type(e).__name__}: {e}", kind
        try:
            wrong = self._finish(reference, done, ended == "complete")
        except Exception as e:
            wrong = f"afterwards: {type(e).__name__}: {e}"
        if wrong:
            return "wrong", f"{kind}, {ended} at step {done}: {wrong}", kind
        return ended, "", kind

    def _finish(self, reference: Reference, done: int, complete: bool) -> str:
        """Heals the line, looks at the board, does the rest; what was wrong, if anything."""
        board = self.board
        board.heal()
        if not board.plugged:
            board.start()
            board.connect()
        else:
            board.link.recover(2 * SILENCE_S)
        steps = reference.steps[done:]
        now = state(board.client)
        if complete:
            return "" if now == reference.states[-1] else f"the board is at {now}, not at {reference.states[-1]}"
        before = reference.states[done]
        after = reference.states[min(done + 1, len(reference.states) - 1)]
        if now == after and now != before:
            steps = steps[1:]
            done += 1
        elif now != before:
            return f"the board is at {now}, neither at {before} nor at {after}"
        for step, want in zip(steps, reference.results[done:], strict=True):
            found = do(board.client, step, self.pushed)
            if found != want:
                return f"then {step[0]} gave {found}, not {want}"
        end = state(board.client)
        return "" if end == reference.states[-1] else f"in the end the board is at {end}, not at {reference.states[-1]}"

    def _call(self, what: Callable[..., Any], *args: Any) -> Any:
        start = time.monotonic()
        try:
            return what(*args)
        finally:
            took = time.monotonic() - start
            self.longest_s = max(self.longest_s, took)
            if took > CALL_S:
                raise TooSlow(f"a call of {took:.1f} s, {CALL_S:g} s are allowed")


class TooSlow(Exception):
    """A call outlived its deadline."""


# running many


def _worker(pipe: Connection) -> None:
    with Runner() as runner:
        while True:
            seed = pipe.recv()
            if seed is None:
                return
            pipe.send((*runner.session(seed), runner.longest_s))


class _Worker:
    """A process with a board, at work on one seed at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_worker, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.seed = -1
        self.since = 0.0

    def give(self, seeds: Iterator[int]) -> bool:
        """Sets it to work on the next of the seeds; False where there is none."""
        self.seeds = seeds
        self.seed, self.since = next(seeds, -1), time.monotonic()
        if self.seed >= 0:
            self.pipe.send(self.seed)
        return self.seed >= 0

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
            self.process.join(5)
        self.process.kill()
        self.process.join()


def run(seeds: Iterable[int], workers: int = 8, tell: Callable[[Counts], None] | None = None) -> Counts:
    """Runs a session for each seed; `tell` is called now and then with what is known so far."""
    counts = Counts()
    start = time.monotonic()
    shares: list[list[int]] = [[] for _ in range(workers)]
    for seed in seeds:
        shares[seed % SCRIPTS % workers].append(seed)  # so that no two have to find out how the same script goes
    busy: list[_Worker] = []
    try:
        for share in shares:
            busy.append(_Worker())
            if not busy[-1].give(iter(share)):
                busy.pop().end()
        while busy:
            ready = wait([worker.pipe for worker in busy], timeout=1.0)
            for worker in list(busy):
                if worker.pipe in ready:
                    _count(counts, worker.seed, *_ended(worker))
                elif time.monotonic() - worker.since > HUNG_S:
                    _count(counts, worker.seed, "hung", f"no end after {HUNG_S:g} s", "?", HUNG_S)
                    worker.process.kill()
                    worker.process.join()
                else:
                    continue
                busy.remove(worker)
                after = worker if worker.process.is_alive() else _Worker()
                if after.give(worker.seeds):
                    busy.append(after)
                else:
                    after.end()
            counts.seconds = time.monotonic() - start
            if tell:
                tell(counts)
    finally:
        for worker in busy:
            worker.process.kill()
    return counts


def _count(counts: Counts, seed: int, how: str, why: str, fault: str, longest_s: float) -> None:
    counts.sessions += 1
    counts.faults[fault] += 1
    counts.longest_call_s = max(counts.longest_call_s, longest_s)
    if how == "complete":
        counts.complete += 1
    elif how in ("hung", "wrong"):
        counts.hung += how == "hung"
        counts.wrong += how == "wrong"
        counts.bad[seed] = why
    else:
        counts.typed_errors[how] += 1


def _ended(worker: _Worker) -> tuple[str, str, str, float]:
    try:
        how, why, fault, longest_s = worker.pipe.recv()
        return how, why, fault, longest_s
    except (EOFError, OSError):  # the latter: it was killed while its answer was on the way
        worker.process.join()
        return "wrong", f"its process ended with status {worker.process.exitcode}", "?", 0.0


def main(argv: list[str]) -> int:
    """SESSIONS [FIRST_SEED [WORKERS]]: runs them and prints how they ended; status 1 where any hung or ended wrong."""
    count, first, workers = (int(argv[i]) if len(argv) > i else default for i, default in enumerate((1000, 0, 8)))
    counts = run(range(first, first + count), workers)
    for key, value in counts.as_dict().items():
        print(f"{key}: {value}")
    return 1 if counts.hung or counts.wrong else 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
