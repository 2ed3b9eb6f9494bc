"""The cable of a simulated board: carries bytes between the board's pseudo-terminal and the one that the host opens, at the
speed and with the receive ring that the simulated line has. Depends on a POSIX system."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable

CHUNK_BYTES = 4096
BACKLOG_BYTES = 4096  # what a cable holds of one direction before it stops reading: back-pressure, as USB has it
PIECE_BYTES = 16  # a line of limited rate delivers in pieces of this size
OPEN_CHECK_S = 0.02


class Way:
    """One direction of a cable. bytes_per_s: 0 for as fast as it goes. Subclasses may change what `take` lets through.

    still: nothing is read while it is set, so that the sender's buffers fill.
    """

    def __init__(self, bytes_per_s: float = 0.0):
        self.bytes_per_s = bytes_per_s
        self.still = False
        self.carried = 0  # bytes that came in
        self.waiting: deque[tuple[float, bytes]] = deque()  # (not before, bytes)
        self.backlog = 0

    def take(self, data: bytes) -> None:
        """Bytes that have just come in."""
        self.carried += len(data)
        self.put(data)

    def put(self, data: bytes, delay_s: float = 0.0) -> None:
        """Queues bytes for the other end, none of which arrives before delay_s from now."""
        if not data:
            return
        due = time.monotonic() + delay_s
        if self.waiting:
            due = max(due, self.waiting[-1][0])
        if self.bytes_per_s:
            for at in range(0, len(data), PIECE_BYTES):
                piece = data[at : at + PIECE_BYTES]
                due += len(piece) / self.bytes_per_s
                self.waiting.append((due, piece))
        else:
            self.waiting.append((due, data))
        self.backlog += len(data)

    def ready(self) -> bytes:
        """The next bytes that are due, or none."""
        if self.waiting and self.waiting[0][0] <= time.monotonic():
            return self.waiting[0][1]
        return b""

    def took(self, n: int) -> None:
        """The first n bytes of what `ready` gave were delivered."""
        due, data = self.waiting.popleft()
        if n < len(data):
            self.waiting.appendleft((due, data[n:]))
        self.backlog -= n

    def wait_s(self) -> float:
        """Seconds until something is due."""
        return max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else 3600.0


class Cable(threading.Thread):
    """`board_tty` and `tty` are the paths for the board and for the host; `board_fd` is the board's end, opened.

    ring_bytes: what the board's UART holds; more is lost, silently, as an ESP32 loses it (0: back-pressure instead).
    on_interrupt: called where a Ctrl-C arrives for the board; True if it was one, so that it and all before it are gone from
    the line. on_open: called where a host opens its end (Linux). on_exit: called where `exit_fd` reports an end.
    """

    def __init__(
        self,
        to_board: Way,
        to_host: Way,
        ring_bytes: int = 0,
        on_interrupt: Callable[[], bool] | None = None,
        on_open: Callable[[], None] | None = None,
        on_exit: Callable[[], int] | None = None,
    ):
        super().__init__(daemon=True, name="cable")
        self.board_master, self.board_fd = _raw_pty()
        self.host_master, self.host_slave = _raw_pty()
        self.board_tty = os.ttyname(self.board_fd)
        self.tty = os.ttyname(self.host_slave)
        self.to_board = to_board
        self.to_host = to_host
        self.ring_bytes = ring_bytes
        self.overruns = 0  # bytes that found no room in the ring
        self.on_interrupt = on_interrupt
        self.on_open = on_open
        self.on_exit = on_exit
        self.exit_fd = -1
        self.alive = True
        self.wake_read, self.wake_write = os.pipe()
        if on_open:
            os.close(self.host_slave)  # while nobody else has it open, its master says so
            self.host_slave = -1
        self.opened = False

    def hang_up(self) -> None:
        """Pulls the cable: the host's port is gone. May be called twice, and from the cable's own thread."""
        self.alive = False
        with contextlib.suppress(OSError):
            os.write(self.wake_write, b"x")
        if threading.current_thread() is not self and self.is_alive():
            self.join()

    def run(self) -> None:
        try:
            while self.alive:
                self._turn()
        except OSError:  # an end is gone, so is the line
            pass
        finally:
            self.alive = False
            for fd in (self.board_master, self.board_fd, self.host_master, self.host_slave, self.wake_read, self.wake_write):
                with contextlib.suppress(OSError):
                    os.close(fd)

    def _turn(self) -> None:
        sources = []
        if self.to_host.backlog < BACKLOG_BYTES and not self.to_host.still:
            sources.append(self.board_master)
        if (self.to_board.backlog < BACKLOG_BYTES or self.ring_bytes) and not self.to_board.still and self._host_is_there():
            sources.append(self.host_master)
        wait = min(self.to_board.wait_s(), self.to_host.wait_s())
        full = [fd for fd, way in self._targets() if way.ready()]
        still = self.to_board.still or self.to_host.still or (self.on_open and not self.opened)
        timeout = min(wait if wait else 3600.0, OPEN_CHECK_S if still else 3600.0)
        watched = [*sources, self.wake_read] + ([self.exit_fd] if self.exit_fd >= 0 else [])
        readable, _, _ = select.select(watched, full, [], timeout)
        if self.wake_read in readable:
            os.read(self.wake_read, 64)
            return
        if self.board_master in readable:
            self.to_host.take(os.read(self.board_master, CHUNK_BYTES))
        if self.host_master in readable:
            try:
                data = os.read(self.host_master, CHUNK_BYTES)
            except OSError:
                if not self.on_open:
                    raise
                data = b""  # the host has just closed its end, and may open it again
            if 3 in data and self.on_interrupt and self.on_interrupt():
                termios.tcflush(self.board_fd, termios.TCIFLUSH)
                data = data[data.rindex(3) + 1 :]
            self.to_board.take(data)
        for fd, way in self._targets():
            while data := way.ready():
                if fd == self.board_master and self.ring_bytes:
                    data = self._into_ring(way, data)
                    if not data:
                        continue
                try:
                    way.took(os.write(fd, data))
                except BlockingIOError:
                    break
        if self.exit_fd in readable:
            ended, self.exit_fd = self.exit_fd, -1  # `stop`, on another thread, must not close it a second time
            os.close(ended)
            self.exit_fd = self.on_exit() if self.on_exit else -1
            if self.exit_fd < 0:
                self.alive = False

    def _targets(self) -> tuple[tuple[int, Way], ...]:
        return (self.board_master, self.to_board), (self.host_master, self.to_host)

    def _into_ring(self, way: Way, data: bytes) -> bytes:
        """As much of `data` as the board's ring has room for; the rest is lost."""
        held = struct.unpack("i", fcntl.ioctl(self.board_fd, termios.FIONREAD, bytes(4)))[0]
        room = max(0, self.ring_bytes - held)
        if room < len(data):
            self.overruns += len(data) - room
            due, _ = way.waiting.popleft()
            way.backlog -= len(data) - room
            data = data[:room]
            if data:
                way.waiting.appendleft((due, data))
        return data

    def _host_is_there(self) -> bool:
        if not self.on_open:
            return True
        poll = select.poll()
        poll.register(self.host_master, select.POLLIN)
        gone = any(event & select.POLLHUP for _, event in poll.poll(0))
        if not gone and not self.opened:
            self.opened = True
            self.on_open()
        elif gone:
            self.opened = False
        return not gone


def _raw_pty() -> tuple[int, int]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    return master, slave
