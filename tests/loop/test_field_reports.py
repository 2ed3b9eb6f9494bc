"""Binary data over a MicroPython serial port: what went wrong for others, each report by its name, on a real MicroPython behind
a line that behaves as theirs did. What is older than this file is in test_link.py, named there too."""

import contextlib
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator

import make_blobs
import numpy as np
import pytest

from tinycl.bench import tiny
from tinycl.board.port import PortBoard
from tinycl.board.sim import SimBoard
from tinycl.link import link as link_module
from tinycl.link.client import fingerprint
from tinycl.link.errors import BoardRefused, BoardSilent, LinkError
from tinycl.shared import wire

pytestmark = pytest.mark.usefixtures("micropython")
GOOD = make_blobs.tiny()
ALL = bytes(range(256))


def samples(n: int = 12) -> np.ndarray:
    return make_blobs.pictures(2, n)


@pytest.fixture
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RETRY_S", 0.07)


def uart(window: int, ring: int = 260, baud: int = 115200) -> SimBoard:
    """A board whose UART's ring has so many bytes, and that announces such a window."""
    board = SimBoard(baud=baud, ring_bytes=ring)
    board.deploy()
    (board.flash / "window").write_text(str(window))
    return board


@pytest.mark.parametrize("value", [b"\x03", b"\x0a", b"\x0d", b"\x04", b"\x01", b"\x00", b"\xff", b"\x7e", b"\x7d", ALL])
def test_every_byte_comes_back(board, value):
    """micropython#6846, min-protocol#25 (0x03 interrupts the receiver), micropython#2347, #1260, #8833 (0x0A becomes 0x0D0A):
    written to flash by the board, whose own checksum says so, and as they lie there."""
    data = value * (5000 // len(value))
    board.client.upload(data)
    [upload] = board.flash.glob("up-*")
    assert upload.read_bytes() == data
    assert board.client.status()["crc_errors"] == board.link.board["counters"]["crc_errors"]


def test_ctrl_c_is_data_for_the_length_of_a_session(board):
    """micropython#6846: switched off from HELLO to BYE, and on again after it, for good or ill."""

    def listens() -> bool:
        status = open(f"/proc/{board.process.pid}/status").read()  # noqa: SIM115
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(caught >> (signal.SIGINT - 1) & 1)

    if not os.path.exists("/proc"):
        pytest.skip("only Linux tells which signals a process takes")
    assert not listens()
    board.link._write(b"\x03\x03\x03")
    assert board.client.status()["classes"] == 2
    board.link.close()
    end = time.monotonic() + 5
    while not listens():
        assert time.monotonic() < end
        time.sleep(0.01)
    board.port.write(b"\x03")
    time.sleep(0.3)
    assert b">>> " in board.port.read(4096)
    board.reset()
    board.connect()
    assert board.client.status()["classes"] == 2


def test_much_on_the_way_up(board):
    """micropython#12037 (a write of more than 20 kB arrives short): 100 kB of answers, each counted, none repeated."""
    repeats = board.link.repeats
    got = 0
    while got < 100_000:
        got += len(board.link.request(wire.STATUS))
    assert board.link.repeats == repeats and board.link.lost_events == 0
    board.client.enrol("south", samples())
    assert len(board.client.pull()) > 500


def test_a_frame_that_never_ends(board, quick_retry):
    """micropython#8772, #16550 (read(n) blocks although poll said there is data): half a frame, then the same host again."""
    line = wire.encode(wire.PREDICT_DATA, board.link.seq, bytes(900))
    board.port.write(line[:500])
    start = time.monotonic()
    with pytest.raises(LinkError):
        board.link.request(wire.STATUS, silence_s=0.3)
    board.link.recover()
    assert board.client.status()["classes"] == 2
    assert time.monotonic() - start < 8


def test_a_host_that_does_not_read(board):
    """micropython#9638, tinyusb#2309: the host holds the port open and reads nothing. Each write of the board has an end (an
    answer 1 s, an event none), so that no length of time is special: here as long as some dozen of them."""
    before = board.client.status()
    board.client.watch(0.01)
    board.to_host.still = True
    for _ in range(12):  # each answer fills more of what the line holds, and then finds no room
        board.link._write(wire.encode(wire.STATUS, board.link.seq))
        board.link.seq = (board.link.seq + 1) & 255
        time.sleep(0.25)
    board.to_host.still = False
    board.link.recover()
    after = board.client.status()
    assert after["dropped"] > before["dropped"]  # counted, and told
    assert after["digest"] == before["digest"]
    assert board.client.enrol("south", samples())["samples"] == 12


def test_an_abort_through_a_full_buffer(board):
    """micropython#7996 (Ctrl-C cannot get through a full buffer): the board trains, nobody reads, and its line is full."""
    board.client.send_blob(make_blobs.tiny(target_permille=1001, epochs=255, patience=255))
    before = board.client.status()["digest"]
    board.client.open_enrolment("south", 12)
    board.client.send_samples(samples())
    board.to_host.still = True
    board.link._write(wire.encode(wire.TRAIN, board.link.seq))
    board.link._write(b"\x7e" * 1500)
    time.sleep(1.5)
    board.to_host.still = False
    start = time.monotonic()
    board.link.recover()
    assert time.monotonic() - start < 3
    status = board.client.status()
    assert (status["digest"], status["enrolling"]) == (before, "")


def test_a_ring_of_260_bytes_never_overflows():
    """micropython#12834, #4437 (an ESP32 drops what is past its ring, silently): everything at once, at a window of 256."""
    with uart(window=256) as board:
        assert board.link.window == 256
        board.client.send_blob(tiny.blob())
        board.client.enrol("south", tiny.samples(2, 12))
        board.client.predict(tiny.samples(3, 40))
        learned = board.client.pull()
        board.client.push(learned)
        board.client.forget("south")
        assert board.cable.overruns == 0 and board.link.repeats == 0
        status = board.client.status()
        assert (status["crc_errors"], status["overruns"], status["gaps"], status["repeats"]) == (0, 0, 0, 0)


@contextlib.contextmanager
def stutter(board: SimBoard) -> Iterator[None]:
    """A board that looks away for 10 ms again and again, as one that writes to its flash with interrupts off."""
    ends = threading.Event()

    def run() -> None:
        while not ends.wait(0.01):
            board.hang()
            time.sleep(0.01)
            board.go_on()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def test_a_ring_that_overflows_is_noticed(quick_retry):
    """micropython#12834: a board that announces more than its ring has. Bytes vanish, are counted, and are sent again."""
    with uart(window=1024, baud=460_800) as board:
        x = tiny.samples(3, 150)
        board.client.send_blob(tiny.blob())
        want = board.client.predict(x)[0]
        before = board.client.status()
        with stutter(board):
            found, _ = board.client.predict(x)
        assert board.cable.overruns > 0 and board.link.repeats > 0
        assert np.array_equal(found, want)
        after = board.client.status()
        assert after["crc_errors"] + after["gaps"] > before["crc_errors"] + before["gaps"]


def test_a_rate_is_taken_after_a_test_at_that_rate(quick_retry):
    """micropython#6999 (bytes lost at 460,800 baud): whole windows there and back, before anything else is sent."""
    with uart(window=256) as board, stutter(board):
        board.link.check_line()
    with uart(window=2048, baud=460_800) as board, stutter(board):
        with pytest.raises((LinkError, BoardSilent), match=r"[1-9]\d* repeats: take a lower --baud|no answer"):
            board.link.check_line()
        assert board.cable.overruns > 0
        board.port.close()
        board.port = None
        with (
            pytest.raises((LinkError, BoardSilent)),
            PortBoard.of(board.tty, baud=460_800),
        ):  # whoever names a rate has it tested
            pass


def test_the_counters(board, quick_retry):
    """micropython#12834, #4437: each counter counts its own kind of fault, and no other."""

    def counted(strike: object) -> dict[str, int]:
        before = board.client.status()
        strike()  # type: ignore[operator]
        board.client.status()
        after = board.client.status()
        keys = ("crc_errors", "overruns", "gaps", "repeats", "skipped")
        return {key: after[key] - before[key] for key in keys if after[key] != before[key]}

    def ask() -> None:
        board.client.classes()

    def broken() -> None:
        board.to_board.flip_at = 8
        ask()

    def cut() -> None:  # bytes lost, so that the next frame begins inside this one; the window has room for both
        board.link._write(wire.encode(wire.CLASSES, board.link.seq, b"\x00" * 30)[:-12])
        ask()

    def lost_answer() -> None:
        board.to_host.swallow = 6
        ask()

    def out_of_turn() -> None:
        board.link._write(wire.encode(wire.CLASSES, (board.link.seq + 40) & 255))
        ask()

    def noise() -> None:
        board.link._write(b"hello board")
        ask()

    assert counted(ask) == {}
    found = counted(broken)
    assert found.pop("crc_errors") == 1 and set(found) <= {"skipped"}
    found = counted(cut)
    assert found.pop("overruns") == 1 and found.pop("crc_errors") == 1 and set(found) <= {"skipped", "repeats"}
    assert counted(lost_answer) == {"repeats": 1}
    found = counted(out_of_turn)
    assert found.pop("gaps") == 1 and set(found) <= {"repeats"}  # its NAK may find the next request under way
    assert counted(noise) == {"skipped": 11}
    assert set(board.link.hello()["counters"]) >= {"crc_errors", "overruns", "gaps", "repeats", "dropped", "skipped"}


def test_an_upload_whose_flash_lies(board):
    """micropython#17865, #4962, #8001 (files differ from their source): a byte changes on flash while the upload is open."""
    data = os.urandom(9000)
    board.link.request(wire.OBJECT_OPEN, struct.pack("<IIB", len(data), fingerprint(data), 1))
    for start in (0, 4096, 8192):
        for at in range(start, min(start + 4096, len(data)), 512):
            board.link.request(wire.OBJECT_DATA, data[at : min(at + 512, len(data))])
    [upload] = board.flash.glob("up-*")
    with upload.open("r+b") as f:
        f.seek(5000)
        f.write(bytes([data[5000] ^ 1]))
    with pytest.raises(BoardRefused, match="fingerprint"):
        board.link.request(wire.OBJECT_CLOSE)
    assert not list(board.flash.glob("up-*"))
