"""A bad line between host and board: a cable that on the way flips, drops, repeats, swaps, inserts, delays or splits bytes, and
that at one chosen moment holds a direction still, is pulled out, or has the board reset, hang, or lose its power."""

import random
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

import serial

from tinycl.board.cable import Way
from tinycl.board.sim import SimBoard

KINDS = ("flip", "drop", "repeat", "swap", "insert", "delay", "split")
EVENTS = ("still", "still for ever", "hang", "reset", "unplug", "power cut")
NO_FAULT = 1 << 60


class FaultyWay(Way):
    """One direction. mean_gap: bytes between two faults, on average (0: none); kinds: which ones happen."""

    def __init__(self, seed: int = 0, mean_gap: int = 0, kinds: tuple[str, ...] = KINDS):
        super().__init__()
        self.rng = random.Random(seed)
        self.mean_gap = mean_gap
        self.kinds = kinds
        self.swallow = 0  # so many of the next bytes vanish
        self.flip_at = -1  # the byte this many from now is flipped
        self.faults = 0
        self.last = b""
        self.next_fault = self._gap()
        self.event_at = NO_FAULT  # before the byte this many from now, `event` happens
        self.event: Callable[[], None] = lambda: None

    def _gap(self) -> int:
        return 1 + int(self.rng.expovariate(1 / self.mean_gap)) if self.mean_gap else NO_FAULT

    def take(self, data: bytes) -> None:
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
        if self.event_at < len(data):
            self._carry(data[: self.event_at])
            data = data[self.event_at :]
            self.event_at = NO_FAULT
            self.faults += 1
            self.event()
        self.event_at -= len(data)
        self._carry(data)

    def _carry(self, data: bytes) -> None:
        while self.next_fault < len(data):
            self.put(data[: self.next_fault])
            data = self._break(data[self.next_fault :])
            self.next_fault = self._gap()
        self.next_fault -= len(data)
        self.put(data)

    def put(self, data: bytes, delay_s: float = 0.0) -> None:
        self.last = (self.last + data)[-64:]
        super().put(data, delay_s)

    def _break(self, rest: bytes) -> bytes:
        """One fault at the start of `rest`; returns what is still to be carried."""
        self.faults += 1
        kind = self.rng.choice(self.kinds)
        if kind == "flip":
            return bytes([rest[0] ^ (1 << self.rng.randrange(8))]) + rest[1:]
        if kind == "drop":
            return rest[self.rng.choice((1, 1, 2, 30, 300)) :]
        if kind == "repeat":
            return self.last[-self.rng.choice((1, 5, 60)) :] + rest
        if kind == "swap":  # two pieces arrive in the wrong order
            n = self.rng.choice((1, 4, 40))
            return rest[n : 2 * n] + rest[:n] + rest[2 * n :]
        if kind == "insert":
            return self.rng.choice((b"\x03", b"\x7e", b"\r\n", b"\x7e\x81\x80\xd4", self.rng.randbytes(9))) + rest
        if kind == "delay":
            self.put(rest[:1], self.rng.uniform(0.005, 0.05))
            return rest[1:]
        for i in range(min(8, len(rest))):  # split
            self.put(rest[i : i + 1], 0.002)
        return rest[8:]

    def heal(self) -> None:
        """No more faults from here on."""
        self.next_fault = self.event_at = NO_FAULT
        self.mean_gap = self.swallow = 0
        self.flip_at = -1
        self.still = False


@dataclass(frozen=True)
class Fault:
    """What goes wrong in one session.

    mean_gap: bytes between two faults of any of `kinds`, in both directions (0: none). event: one of EVENTS, or one of KINDS
    once; direction ("to_board", "to_host") and at_byte say before which byte, or at_s after how many seconds (where at_byte is
    negative). for_s: how long a pause lasts.
    """

    seed: int = 0
    mean_gap: int = 0
    kinds: tuple[str, ...] = KINDS
    event: str = ""
    direction: str = "to_board"
    at_byte: int = -1
    at_s: float = 0.0
    for_s: float = 0.0


class FaultyBoard(SimBoard):
    """A sim board on a cable that is good until `strike`, whose fault is for the connection that there is."""

    timers: tuple[threading.Timer, ...] = ()
    dark = False  # its power was cut, or its cable pulled

    def ways(self) -> tuple[FaultyWay, FaultyWay]:
        return FaultyWay(), FaultyWay()

    @property
    def to_board(self) -> FaultyWay:
        assert self.cable is not None and isinstance(self.cable.to_board, FaultyWay)
        return self.cable.to_board

    @property
    def to_host(self) -> FaultyWay:
        assert self.cable is not None and isinstance(self.cable.to_host, FaultyWay)
        return self.cable.to_host

    @property
    def faults(self) -> int:
        return self.to_board.faults + self.to_host.faults

    def strike(self, fault: Fault) -> None:
        """From now on the line is as `fault` says."""
        assert self.cable is not None
        ways = (
            FaultyWay(2 * fault.seed, fault.mean_gap, fault.kinds),
            FaultyWay(2 * fault.seed + 1, fault.mean_gap, fault.kinds),
        )
        if fault.event in KINDS:
            way = ways[fault.direction == "to_host"]
            way.kinds = (fault.event,)
            way.next_fault = max(0, fault.at_byte)
        elif fault.event:
            way = ways[fault.direction == "to_host"]
            event = self._event(fault, way)
            if fault.at_byte >= 0:
                way.event_at, way.event = fault.at_byte, event
            else:
                self._later(fault.at_s, event)
        self.cable.to_board, self.cable.to_host = ways

    def _event(self, fault: Fault, way: FaultyWay) -> Callable[[], None]:
        """Runs in the cable's thread, or in a timer's."""
        process, cable = self.process, self.cable
        assert process is not None and cable is not None

        def happen() -> None:
            if process.poll() is not None or not cable.alive:
                return  # it was another board, before its power was cut
            if fault.event == "reset":
                self.reset()
            elif fault.event == "power cut":
                self.dark = True
                process.kill()
            elif fault.event == "unplug":
                self.dark = True
                cable.hang_up()
            elif fault.event == "hang":
                self.hang()
                self._later(fault.for_s, lambda: process.send_signal(signal.SIGCONT))
            else:
                way.still = True
                if fault.event == "still":
                    self._later(fault.for_s, way.heal)

        return happen

    def _later(self, seconds: float, what: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, what)
        timer.daemon = True
        self.timers += (timer,)
        timer.start()

    def heal(self) -> None:
        """The line is good from here on, and the board goes on if it hung; one without power stays so until `start`."""
        for timer in self.timers:
            timer.cancel()
            timer.join()
        self.timers = ()
        if self.dark:  # perhaps a moment ago, so that nobody has noticed yet
            self.stop()
        self.dark = False
        if self.process and self.process.poll() is None:
            self.go_on()
        if self.cable:
            for way in (self.to_board, self.to_host):
                way.heal()

    def open_port(self) -> serial.Serial:
        if self.cable:
            self.cable.to_board, self.cable.to_host = self.ways()
        return super().open_port()
