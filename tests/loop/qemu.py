"""MicroPython on QEMU's boards, for tests: instruction sets whose boards have no emulator of their own. A firmware of `make
qemu` is started with its UART on a pair of sockets, reached through the host's own raw REPL, and finds its files in memory, as
a file system to be read. There is no flash, no clock and no `select`: the learner and its kernels run there, the agent does
not. Depends on the firmware and on mpremote (both 1.25 or newer, for the file system), on QEMU and on tinycl.board.repl."""

import ast
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import serial
from mpremote.romfs import VfsRomWriter

from tinycl.board.base import BoardError
from tinycl.board.diagnosis import PROMPT, RAW_BANNER, listen
from tinycl.board.repl import Repl

ROOT = Path(__file__).parents[2]
FIRMWARE = ROOT / "build/qemu"
ENTER_S = 30.0


@dataclass(frozen=True)
class Machine:
    """One of QEMU's boards, as MicroPython's port to QEMU is built for it: build/qemu/<name>.elf."""

    name: str
    program: str
    package: str  # Debian's, with the program
    options: tuple[str, ...]
    files_at: int  # an address in RAM that the firmware does not use


CORTEX_M3 = Machine(
    "MPS2_AN385",
    "qemu-system-arm",
    "qemu-system-arm",
    ("mps2-an385", "-semihosting"),  # the port calls it as it starts, and hangs without
    0x21000000,
)
RISC_V = Machine("VIRT_RV32", "qemu-system-riscv32", "qemu-system-misc", ("virt", "-bios", "none"), 0x84000000)

# What growth.py asks of a clock: this one stands still.
CLOCK = b"def ticks_ms():\n    return 0\n\n\ndef ticks_diff(a, b):\n    return a - b\n"

PREPARE = """
import gc, sys, uctypes, vfs
gc.enable()  # a soft reset leaves it as steps.py did
vfs.mount(vfs.VfsRom(uctypes.bytearray_at({at}, {size})), "/")
def run_script(name, arguments):
    sys.argv.clear()
    sys.argv.extend([name] + arguments)
    status = 0
    try:
        exec(open(name).read(), {{"__name__": "__main__"}})
    except SystemExit as e:
        status = e.args[0] if e.args else 0
    gc.collect()
    print("status", status)
"""


class Line:
    """Our end of the board's UART, with what Repl and mpremote use of pyserial's interface."""

    def __init__(self, end: socket.socket):
        self.end = end
        self.timeout = 1.0

    def close(self) -> None:
        self.end.close()

    def read(self, size: int = 1) -> bytes:
        data = b""
        until = time.monotonic() + self.timeout
        while len(data) < size and (left := until - time.monotonic()) > 0:
            self.end.settimeout(left)
            try:
                new = self.end.recv(size - len(data))
            except TimeoutError:
                break
            if not new:
                raise serial.SerialException("QEMU has ended")
            data += new
        return data

    def write(self, data: bytes) -> int:
        self.end.settimeout(ENTER_S)
        try:
            self.end.sendall(data)
        except TimeoutError as e:
            raise serial.SerialTimeoutException(str(e)) from e
        return len(data)

    @property
    def in_waiting(self) -> int:
        self.end.setblocking(False)
        try:
            return len(self.end.recv(65536, socket.MSG_PEEK))
        except BlockingIOError:
            return 0

    def inWaiting(self) -> int:  # noqa: N802 - pyserial's older name, which mpremote uses
        return self.in_waiting


class Qemu:
    """A board with `files` by path, running while the context lasts. BoardError where QEMU or the firmware is missing."""

    def __init__(self, machine: Machine, files: Mapping[str, bytes]):
        check(machine)
        self.machine = machine
        self.files = file_system({"time.py": CLOCK, **files})

    def __enter__(self) -> "Qemu":
        ours, theirs = socket.socketpair()
        command = [self.machine.program, "-machine", *self.machine.options, "-display", "none", "-monitor", "none"]
        command += ["-chardev", f"socket,id=uart,fd={theirs.fileno()}", "-serial", "chardev:uart"]
        command += ["-kernel", str(elf(self.machine))]
        with tempfile.NamedTemporaryFile(prefix="tinycl-qemu-") as image:
            image.write(self.files)
            image.flush()
            command += ["-device", f"loader,file={image.name},addr={self.machine.files_at:#x},force-raw=on"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            theirs.close()
            self.line = Line(ours)
            try:
                self.repl = Repl(self.line, f"QEMU's {self.machine.name}")
                listen(self.line, ENTER_S, PROMPT)  # what comes before it is up would only be waited for
                self.repl.enter(ENTER_S)
                self.line.timeout = ENTER_S  # a busy machine may leave QEMU no time
                self.prepare()
            except BaseException:
                self.stop()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.line.close()

    def prepare(self) -> None:
        self.repl.execute(PREPARE.format(at=self.machine.files_at, size=len(self.files)))

    def restart(self) -> None:
        """A soft reset: an empty heap, no modules, the same files."""
        self.line.write(b"\x04")
        listen(self.line, ENTER_S, RAW_BANNER + b">")
        self.line.timeout = ENTER_S
        self.repl.transport.prompted = True
        self.prepare()

    def run(self, script: str, *arguments: str, deadline_s: float = 60.0) -> tuple[str, int]:
        """Runs a script that lies there, as `micropython SCRIPT ARGUMENTS` would: (what it printed, its status)."""
        self.restart()
        said = self.repl.execute(f"run_script({script!r}, {list(arguments)!r})", deadline_s, script)
        text, _, status = said.rpartition("status ")
        return text, int(status)

    def value(self, code: str, deadline_s: float = 60.0) -> Any:
        """What `code` prints, a Python literal."""
        return ast.literal_eval(self.repl.execute(code, deadline_s))


def elf(machine: Machine) -> Path:
    return FIRMWARE / f"{machine.name}.elf"


def check(machine: Machine) -> None:
    """BoardError, with the cure, unless the machine can be started."""
    if not elf(machine).is_file():
        raise BoardError(f"no MicroPython for QEMU's {machine.name} at {elf(machine)}: run 'make qemu'")
    if not shutil.which(machine.program):
        raise BoardError(
            f"no {machine.program}: apt-get install {machine.package} (elsewhere: QEMU 7 or newer from your package manager)"
        )


def file_system(files: Mapping[str, bytes]) -> bytes:
    """The files in MicroPython's ROMFS format; a folder's are written one after the other."""
    writer = VfsRomWriter()
    folder = ""
    for path in sorted(files, key=lambda path: path.rpartition("/")):
        here, _, name = path.rpartition("/")
        if here != folder:
            if folder:
                writer.closedir()
            if here:
                writer.opendir(here)  # one level: no folder of a board lies in another
            folder = here
        writer.mkfile(name, files[path])
    if folder:
        writer.closedir()
    return bytes(writer.finalise())
