"""A bad line between host and board: a pseudo-terminal whose bytes a thread carries to the board's own and back, and on the
way flips, drops, repeats, inserts, delays or splits some, holds one direction still, or hangs up. Depends on a POSIX system."""

import contextlib
import os
import pty
import random
import select
import threading
import time
import tty
from dataclasses import dataclass

import serial

from tinycl.board.sim import SimBoard
from tinycl.shared import wire

KINDS = ("flip", "drop", "repeat", "insert", "delay", "split")


@dataclass
class Rates:
    """mean_gap: bytes between two faults, on average; 0 for none. kinds: which ones happen."""

    mean_gap: int = 0
    kinds: tuple[str, ...] = KINDS


class Direction:
    """One way of the line. All but `carry` may be called from the test's thread."""

    def __init__(self, source: int, target: int, seed: int, rates: Rates):
        self.source = source
        self.target = target
        self.rng = random.Random(seed)
        self.rates = rates
        self.still = False  # nothing is read, so that the sender's buffers fill
        self.swallow = 0  # so many of the next bytes vanish
        self.flip_at = -1  # the byte this many from now is flipped
        self.carried = 0  # bytes read
        self.faults = 0
        self.waiting: list[tuple[float, bytes]] = []  # (not before, bytes)
        self.last = b""
        self.next_fault = self._gap()

    def _gap(self) -> int:
        return 1 + int(self.rng.expovariate(1 / self.rates.mean_gap)) if self.rates.mean_gap else 1 << 60

    def carry(self, data: bytes) -> None:
        self.carried += len(data)
        gone = min(self.swallow, len(data))
        self.swallow -= gone
        self.faults += gone > 0
        data = data[gone:]
        if 0 <= self.flip_at < len(data):
            data = data[: self.flip_at] + bytes([data[self.flip_at] ^ 0x10]) + data[self.flip_at + 1 :]
            self.faults += 1
            self.flip_at = -1
        elif self.flip_at >= 0:
            self.flip_at -= len(data)
        while self.next_fault < len(data):
            self._put(data[: self.next_fault])
            data = self._break(data[self.next_fault :])
            self.next_fault = self._gap()
        self.next_fault -= len(data)
        self._put(data)

    def _break(self, rest: bytes) -> bytes:
        """One fault at the start of `rest`; returns what is still to be carried."""
        self.faults += 1
        kind = self.rng.choice(self.rates.kinds)
        if kind == "flip":
            return bytes([rest[0] ^ (1 << self.rng.randrange(8))]) + rest[1:]
        if kind == "drop":
            return rest[self.rng.choice((1, 1, 2, 30, 300)) :]
        if kind == "repeat":
            return self.last[-self.rng.choice((1, 5, 60)) :] + rest
        if kind == "insert":
            return self.rng.choice((b"\x03", b"\x7e", b"\r\n", b"\x7e\x81\x80\xd4", self.rng.randbytes(9))) + rest
        if kind == "delay":
            self._put(rest[:1], self.rng.uniform(0.005, 0.05))
            return rest[1:]
        for i in range(min(8, len(rest))):  # split
            self._put(rest[i : i + 1], 0.002)
        return rest[8:]

    def _put(self, data: bytes, delay_s: float = 0.0) -> None:
        if data:
            before = self.waiting[-1][0] if self.waiting else 0.0
            self.waiting.append((max(before, time.monotonic() + delay_s), data))
            self.last = (self.last + data)[-64:]

    def flush(self) -> None:
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            due, data = self.waiting.pop(0)
            try:
                sent = os.write(self.target, data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self.waiting.insert(0, (due, data[sent:]))
                return


class FaultyLine:
    """Use as a context manager around the path of a board's port; `tty` is the path that the host opens."""

    def __init__(self, board_tty: str, seed: int = 0, rates: Rates | None = None):
        self.board_fd = os.open(board_tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.board_fd)
        self.host_fd, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.host_fd, False)
        self.tty = os.ttyname(self.slave)
        rates = rates or Rates()
        self.to_board = Direction(self.host_fd, self.board_fd, 2 * seed, rates)
        self.to_host = Direction(self.board_fd, self.host_fd, 2 * seed + 1, rates)
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def faults(self) -> int:
        return self.to_board.faults + self.to_host.faults

    def heal(self) -> None:
        """No more faults from here on."""
        for way in (self.to_board, self.to_host):
            way.next_fault = 1 << 60
            way.rates = Rates()
            way.still = False

    def _run(self) -> None:
        ways = (self.to_board, self.to_host)
        while self.running:
            open_ways = [w for w in ways if not w.still and sum(len(d) for _, d in w.waiting) < 4096]
            busy = any(w.waiting for w in ways)
            try:
                ready = select.select([w.source for w in open_ways], [], [], 0.001 if busy else 0.01)[0]
                for way in open_ways:
                    if way.source in ready:
                        way.carry(os.read(way.source, 1024))
                for way in ways:
                    way.flush()
            except OSError:  # an end is gone: so is the line
                break
        self._hang_up()

    def _hang_up(self) -> None:
        for fd in (self.board_fd, self.host_fd, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)

    def close(self) -> None:
        """Hangs up: the host's port is gone."""
        self.running = False
        self.thread.join()


class FaultyBoard(SimBoard):
    """A sim board behind a FaultyLine, a new one for every connection; `line` is the present one."""

    line: FaultyLine | None = None
    seed = 0
    rates = Rates()

    def open_port(self) -> serial.Serial:
        if self.line:
            self.line.close()
        self.line = FaultyLine(self.tty, self.seed, self.rates)
        self.port = serial.Serial(self.line.tty, exclusive=True)
        return self.port

    def stop(self) -> None:
        if self.line:
            self.line.close()
            self.line = None
        super().stop()


class CountingPort(serial.Serial):
    """A port that knows how many bytes of requests are on their way or unanswered, as the host can know it."""

    def watch(self) -> None:
        self.asked: dict[int, int] = {}
        self.most = 0
        self.sent = wire.Decoder(1 << 15)
        self.got = wire.Decoder(1 << 15)

    def write(self, data: bytes) -> int:
        for kind, seq, payload in self.sent.feed(bytes(data)):
            self.asked[seq] = len(wire.encode(kind, seq, payload))
        self.most = max(self.most, sum(self.asked.values()) + self.sent.n)
        return super().write(data)

    def read(self, size: int = 1) -> bytes:
        data = super().read(size)
        for kind, seq, _ in self.got.feed(data):
            if kind in (wire.OK, wire.ERROR):
                self.asked.pop(seq, None)
        return data
