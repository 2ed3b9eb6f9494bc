"""No call hangs, and none fails but in a typed error, whatever is at the other end of the line: boards that lie, chatter, stall
or repeat themselves for ever, each on a pseudo-terminal of its own, and every call of a client to each of them."""

import contextlib
import json
import os
import pty
import random
import threading
import time
import tracemalloc
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import serial

from tinycl.link import client as client_module
from tinycl.link import link as link_module
from tinycl.link.client import Client
from tinycl.link.errors import BoardSilent, LinkError
from tinycl.link.link import Link
from tinycl.shared import wire
from tinycl.shared.errors import TinyclError

RETRY_S, SILENCE_S, ALL_S = 0.05, 0.25, 0.6
HELLO = {"protocol": wire.VERSION, "agent": wire.RELEASE, "window": 256, "block": 4096}
STATUS = {"sample": [2, 2, 1], "q_low": 0, "q_high": 127, "classes": 2, "digest": 1, "enrolling": ""}
X = np.zeros((9, 2, 2, 1), np.int8)

CALLS: dict[str, Callable[[Client], object]] = {
    "hello": lambda c: c.link.hello(SILENCE_S),
    "recover": lambda c: c.link.recover(SILENCE_S),
    "listen": lambda c: c.link.listen(0.1),
    "close": lambda c: c.link.close(),
    "status": lambda c: c.status(),
    "classes": lambda c: c.classes(),
    "class number": lambda c: c.class_number("one"),
    "kernels": lambda c: c.choose_kernels("plain"),
    "send blob": lambda c: c.send_blob(bytes(9000)),
    "enrol": lambda c: c.enrol("name", X),
    "train": lambda c: c.train(lambda event: None),
    "forget": lambda c: c.forget("name"),
    "start over": lambda c: c.start_over(),
    "rename": lambda c: c.rename("one", "two"),
    "pull": lambda c: c.pull(),
    "watch": lambda c: c.watch(0.1),
    "predict": lambda c: c.predict(X),
    "abort": lambda c: c.abort(),
}


class Liar(threading.Thread):
    """The other end of a line. `say` gets what has come in and returns what goes out, and is asked again at once; nothing is
    read at all where it has the attribute `deaf`."""

    def __init__(self, say: Callable[[bytes], bytes]):
        super().__init__(daemon=True)
        self.say = say
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.ends = False
        self.start()

    def run(self) -> None:
        left = b""
        while not self.ends:
            came = b""
            if not hasattr(self.say, "deaf"):
                with contextlib.suppress(BlockingIOError):
                    came = os.read(self.master, 4096)
            left = left or self.say(came)
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(self.master, left) :] if left else b""
            time.sleep(0.001)

    def client(self) -> Client:
        client = Client(Link(serial.Serial(os.ttyname(self.slave))))
        client.link.window = HELLO["window"]
        client.link.board = HELLO
        return client

    def __enter__(self) -> "Liar":
        return self

    def __exit__(self, *_: object) -> None:
        self.ends = True
        self.join()
        os.close(self.master)
        os.close(self.slave)


def event(**fields: object) -> bytes:
    return wire.encode(wire.EVENT, 0, json.dumps(fields).encode())


class Answering:
    """Answers every request by `answer(kind, payload, number of the answer)`: a payload, or a line; HELLO, ABORT and STATUS
    rightly unless `all`."""

    def __init__(self, answer: Callable[[int, bytes, int], bytes], everything: bool = False):
        self.answer = answer
        self.everything = everything
        self.ear = wire.Decoder(1 << 14)
        self.count = 0

    def __call__(self, came: bytes) -> bytes:
        out = b""
        for kind, seq, payload in self.ear.feed(came):
            self.count += 1
            right = {wire.HELLO: HELLO, wire.STATUS: STATUS, wire.ABORT: ""}
            if kind in right and not self.everything:
                out += wire.encode(wire.OK, seq, json.dumps(right[kind]).encode())
            else:
                said = self.answer(kind, payload, self.count)
                out += said if said[:1] == b"\x7e" else wire.encode(wire.OK, seq, said)
        return out


def random_frames(rng: random.Random) -> Callable[[bytes], bytes]:
    kinds = [wire.OK, wire.ERROR, wire.NAK, wire.EVENT, wire.HELLO, 0, 255]
    return lambda _: wire.encode(rng.choice(kinds), rng.randrange(256), rng.randbytes(rng.choice((0, 1, 4, 60, 900))))


def deaf(came: bytes) -> bytes:
    return b""


deaf.deaf = True  # type: ignore[attr-defined]

NESTED = b"[" * 8000
SHAPES = [b"", b"null", b"[]", b"{}", b"7", b'"text"', b'[["a"]]', b'[["a", "b"]]', b"[[1, 2]]", b"1e999", b"\xff\xfe", NESTED]
BOARDS: dict[str, Callable[[random.Random], Callable[[bytes], bytes]]] = {
    "silent": lambda rng: lambda came: b"",
    "deaf": lambda rng: deaf,
    "echo": lambda rng: lambda came: came,
    "noise": lambda rng: lambda came: rng.randbytes(500),
    "heads": lambda rng: lambda came: b"\x7e\xff\xff\xd5" * 100,
    "console": lambda rng: lambda came: b"Traceback (most recent call last):\r\n>>> ",
    "random frames": random_frames,
    "alive for ever": lambda rng: lambda came: event(t="alive"),
    "metrics for ever": lambda rng: lambda came: event(t="metrics", free=1),
    "events that are no JSON": lambda rng: lambda came: wire.encode(wire.EVENT, 0, NESTED),
    "NAKs": lambda rng: lambda came: wire.encode(wire.NAK, 0, rng.randbytes(1)),
    "empty NAKs": lambda rng: lambda came: wire.encode(wire.NAK, 0),
    "half frames": lambda rng: lambda came: event(t="alive")[: rng.randrange(1, 12)],
    "one frame a byte at a time": lambda rng: (lambda line: lambda came: line.pop(0) if line else b"")(
        [bytes([c]) for c in event(t="alive", text="x" * 9000)]
    ),
    "any payload": lambda rng: Answering(lambda kind, payload, n: rng.randbytes(rng.choice((0, 1, 2, 4, 8, 12, 516)))),
    "any shape": lambda rng: Answering(lambda kind, payload, n: SHAPES[n % len(SHAPES)]),
    "any shape, HELLO too": lambda rng: Answering(lambda kind, payload, n: rng.choice(SHAPES), everything=True),
    "zeros": lambda rng: Answering(lambda kind, payload, n: bytes(12)),
    "ones": lambda rng: Answering(lambda kind, payload, n: b"\xff" * 12),
    "classes without end": lambda rng: Answering(
        lambda kind, payload, n: json.dumps([[f"{n} {i}", 1] for i in range(16)]).encode()
    ),
    "one class again and again": lambda rng: Answering(lambda kind, payload, n: json.dumps([["one", 1]] * 16).encode()),
    "a state without end": lambda rng: Answering(lambda kind, payload, n: b"\x00\x00\x40\x00x"),
    "blocks of nothing": lambda rng: Answering(lambda kind, payload, n: bytes(12)),
    "refusals": lambda rng: Answering(lambda kind, payload, n: wire.encode(wire.ERROR, n & 255, rng.randbytes(40))),
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, name, seconds in (
        (link_module, "RETRY_S", RETRY_S),
        (link_module, "SILENCE_S", SILENCE_S),
        (link_module, "LOADING_S", ALL_S),
        (link_module, "ANSWER_S", ALL_S),
        (link_module, "JOB_S", ALL_S),
        (client_module, "TRAIN_SILENCE_S", SILENCE_S),
        (client_module, "LOADING_SILENCE_S", SILENCE_S),
    ):
        monkeypatch.setattr(module, name, seconds)
    yield


def attempt(board: str, name: str) -> tuple[str, float, object]:
    rng = random.Random(f"{board} {name}")
    with Liar(BOARDS[board](rng)) as liar:
        client = liar.client()
        start = time.monotonic()
        try:
            outcome: object = CALLS[name](client)
        except Exception as e:
            outcome = e
        took = time.monotonic() - start
        client.link.port.close()
        return name, took, outcome


@pytest.mark.parametrize("board", BOARDS)
def test_no_call_hangs(short, board):
    with ThreadPoolExecutor(len(CALLS)) as pool:
        for name, took, outcome in pool.map(lambda name: attempt(board, name), CALLS):
            assert not isinstance(outcome, Exception) or isinstance(outcome, TinyclError), (name, repr(outcome))
            # the slowest: an enrolment's own deadline for each of its requests, then those of ABORT and HELLO
            assert took < 8 * ALL_S, (name, took)


@pytest.mark.parametrize("name", ["train", "status"])
@pytest.mark.parametrize("board", ["alive for ever", "metrics for ever", "NAKs", "silent", "random frames"])
def test_nothing_but_an_answer_is_an_answer(short, board, name):
    """These boards never answer: the call ends in BoardSilent (or an error as plain), and not before its deadline."""
    _, took, outcome = attempt(board, name)
    assert isinstance(outcome, LinkError), outcome
    if board == "alive for ever":
        assert isinstance(outcome, BoardSilent) and took >= ALL_S and "are allowed" in outcome.text
    if board in ("metrics for ever", "silent"):
        assert isinstance(outcome, BoardSilent) and SILENCE_S <= took < ALL_S + 1, took


@pytest.mark.parametrize("board", ["noise", "heads", "random frames", "classes without end", "a state without end"])
def test_no_board_makes_the_host_take_memory(short, board):
    """tracemalloc sees what Python allocates: the line buffer of 16 kB, and a few frames."""
    attempt(board, "status")
    tracemalloc.start()
    try:
        for name in ("status", "classes", "pull", "listen"):
            attempt(board, name)
        assert tracemalloc.get_traced_memory()[1] < 600_000
    finally:
        tracemalloc.stop()
