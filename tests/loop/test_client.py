"""What the client refuses before anything reaches the board, and what it does to other people's enrolments."""

import sys
import time
from collections.abc import Iterator

import blobs
import numpy as np
import pytest

from tinycl.board.sim import SimBoard
from tinycl.errors import SampleError, UnknownClass
from tinycl.link import link as link_module
from tinycl.link.errors import BoardRefused, BoardSilent, LinkError
from tinycl.link.link import Link
from tinycl.shared import errors, wire

pytestmark = pytest.mark.usefixtures("micropython")
GOOD = blobs.tiny_samples(3, 8)


@pytest.fixture(scope="module")
def running() -> Iterator[SimBoard]:
    with SimBoard() as board:
        yield board


@pytest.fixture
def board(running: SimBoard) -> SimBoard:
    """With a blob that takes 8x8 samples of 0..127."""
    running.connect() if running.port is None else running.link.recover()
    running.client.send_blob(blobs.tiny_blob(q_low=0))
    return running


def state(board: SimBoard) -> tuple[int, str, int]:
    now = board.client.status()
    return now["digest"], now["enrolling"], now["classes"]


POSITIVE = np.abs(GOOD.astype(int)).clip(0, 127).astype(np.int8)
BAD = {
    "4x4": (np.zeros((8, 4, 4, 1), np.int8), ("(8, 4, 4, 1)", "8, 8, 1")),
    "float": (np.zeros((8, 8, 8, 1)), ("float64", "0 to 127", "to_int8")),
    "beyond int8": (np.full((8, 8, 8, 1), 300), ("int64", "0 to 127")),
    "below q_low": (np.where(np.arange(8)[:, None, None, None] == 7, -3, POSITIVE).astype(np.int8), ("-3", "0 to 127")),
    "flat": (np.zeros((8, 64), np.int8), ("(8, 64)", "8, 8, 1")),
    "one sample": (np.zeros((8, 8, 1), np.int8), ("(8, 8, 1)",)),
    "none": (np.zeros((0, 8, 8, 1), np.int8), ("(0, 8, 8, 1)", "1 or more")),
}


@pytest.mark.parametrize("name", BAD)
def test_samples_are_checked_before_anything_is_sent(board, name):
    x, said = BAD[name]
    before = state(board)
    for attempt in (lambda: board.client.enrol("new", x), lambda: board.client.predict(x)):
        with pytest.raises(SampleError) as e:
            attempt()
        assert e.value.code == errors.SAMPLE and all(text in e.value.text for text in said) and ": " in e.value.text
        assert state(board) == before
    board.client.open_enrolment("new", 8)
    with pytest.raises(SampleError):
        board.client.send_samples(x)
    assert board.client.send_samples(POSITIVE) == 8  # the first of them is still the first


def test_another_blob_takes_other_samples(board):
    board.client.predict(POSITIVE)
    with pytest.raises(SampleError):
        board.client.predict(GOOD)
    board.client.send_blob(blobs.tiny_blob())
    assert len(board.client.predict(GOOD)[0]) == 8


def test_the_format_is_asked_once(board, monkeypatch):
    asked = []
    real = board.client.status
    monkeypatch.setattr(board.client, "status", lambda: asked.append(1) or real())
    for _ in range(3):
        board.client.predict(POSITIVE)
    assert len(asked) == 1


def test_an_answer_that_is_missing(board, monkeypatch):
    real = board.link.stream
    monkeypatch.setattr(
        board.link, "stream", lambda r, *a, **k: (p[:-2] if len(p) == 16 else p for p in list(real(r, *a, **k)))
    )
    with pytest.raises(LinkError, match="7 predictions for 8 samples"):
        board.client.predict(POSITIVE)


def test_class_numbers(board):
    assert [board.client.class_number(f"base{c}") for c in range(3)] == [0, 1, 2]
    with pytest.raises(UnknownClass, match=r"no class 'x' \(3 classes: base0, base1, base2\): choose") as e:
        board.client.class_number("x")
    assert e.value.code == errors.UNKNOWN_CLASS


def test_a_refused_enrolment_leaves_the_open_one(board):
    board.client.open_enrolment("mine", 8)
    board.client.send_samples(POSITIVE[:5])
    with pytest.raises(BoardRefused) as e:
        board.client.enrol("other", POSITIVE)
    assert e.value.code == errors.BUSY
    assert board.client.send_samples(POSITIVE[5:]) == 8


def test_ctrl_c_while_an_enrolment_is_opened(board, monkeypatch):
    real = board.link.request
    before = state(board)

    def request(kind, *rest, **options):
        answer = real(kind, *rest, **options)
        if kind == wire.ENROL_OPEN:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(board.link, "request", request)
    with pytest.raises(KeyboardInterrupt):
        board.client.enrol("new", POSITIVE)
    assert state(board) == before


def test_a_stream_that_is_left_early(board):
    """The request that waited for room was never sent: its number is free, and the next request works at once."""
    board.client.predict(POSITIVE)
    board.link.request(wire.PREDICT_OPEN)
    piece = POSITIVE.tobytes()
    answers = board.link.stream((wire.PREDICT_DATA, piece) for _ in range(40))
    next(answers)
    answers.close()
    repeats = board.link.repeats
    assert len(board.client.predict(POSITIVE)[0]) == 8
    assert board.link.repeats == repeats


class Talker:
    """A port whose board answers HELLO after `loading` seconds, and says `alive` until then unless `mute`."""

    def __init__(self, loading: float, mute: bool = False):
        self.loading, self.mute = loading, mute
        self.start = self.said = time.monotonic()
        self.ear = wire.Decoder(1 << 14)
        self.asked: list[int] = []
        self.in_waiting = 0
        self.sent = 0

    def reset_input_buffer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.asked += [seq for _, seq, _ in self.ear.feed(bytes(data))]

    def read(self, size: int = 1) -> bytes:
        time.sleep(0.01)
        now = time.monotonic()
        if now - self.start > self.loading:
            asked, self.asked = self.asked, []
            hello = b'{"protocol": %d, "window": 256}' % wire.VERSION
            return b"".join(wire.encode(wire.OK, seq, hello) for seq in asked)
        if now - self.said > 0.1 and not self.mute:
            self.said = now
            return wire.encode(wire.EVENT, 0, b'{"t": "alive"}')
        return b""


def test_a_board_that_loads_is_waited_for(monkeypatch):
    monkeypatch.setattr(link_module, "RETRY_S", 0.15)
    port = Talker(loading=1.5)
    assert Link(port).hello(deadline_s=0.5)["window"] == 256
    assert port.sent < 400  # no fillers into the buffer of a board that reads by itself


def test_a_board_that_loads_for_ever(monkeypatch):
    monkeypatch.setattr(link_module, "LOADING_S", 1.0)
    for mute, least, most in ((False, 0.9, 2.0), (True, 0.25, 0.9)):
        start = time.monotonic()
        with pytest.raises(BoardSilent):
            Link(Talker(loading=99, mute=mute)).hello(deadline_s=0.3)
        assert least < time.monotonic() - start < most


def test_boards_are_found(monkeypatch):
    assert SimBoard.find() == ["sim"]
    monkeypatch.setenv("TINYCL_MICROPYTHON", sys.executable)
    assert SimBoard.find() == []
