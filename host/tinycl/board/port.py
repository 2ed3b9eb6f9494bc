"""A real board behind a port: finding it, opening its port, and saying what is there where no agent answers. A board is known
by its unique id or its USB serial number, never by its path. Depends on pyserial."""

import contextlib
import errno
import getpass
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import serial
from serial.tools import list_ports

from tinycl.board.base import Board, BoardError
from tinycl.board.diagnosis import Tap, at_prompt, booting, diagnose
from tinycl.board.errors import (
    AtPrompt,
    ForeignProgram,
    InBootLoader,
    InRawRepl,
    NoAgent,
    NoBoard,
    NotMicroPython,
    OtherBoard,
    PortBusy,
    PortDenied,
    PortMissing,
    SeveralBoards,
    SilentPort,
)
from tinycl.board.firmware import in_boot_loader
from tinycl.board.repl import Repl
from tinycl.link.client import Client
from tinycl.link.errors import BoardGone, BoardSilent, LinkError
from tinycl.link.link import Link
from tinycl.shared.errors import TinyclError

BAUD = 115200  # of a UART; USB ignores it. rp2's UART loses bytes at 460,800 (micropython#6999)
HELLO_S = 3.0  # a board that runs answers in a tenth of that
START_S = 10.0  # a board that was reset a moment ago, by the opening of its port for one, has this long
BACK_S = 15.0  # a board that was reset and lost its port has this long to come back under whatever name

# (vendor, product or None for any): what it is. Others are tried too, if they have vendor and product ids at all.
KNOWN = {
    (0x2E8A, 0x0005): "RP2040 or RP2350 with MicroPython",
    (0x2E8A, None): "Raspberry Pi",
    (0x303A, 0x1001): "ESP32 with USB-JTAG",
    (0x303A, None): "Espressif",
    (0x10C4, 0xEA60): "ESP32 behind a CP210x",
    (0x1A86, None): "ESP32 behind a CH34x",
    (0x0403, None): "board behind an FTDI bridge",
    (0x239A, None): "Adafruit",
    (0x2341, None): "Arduino",
    (0xF055, None): "MicroPython",
}
Progress = Callable[[str], None]


@dataclass
class Found:
    """One port that may have a board: what it is, and either its HELLO or why there is none."""

    device: str
    vid: int = 0
    pid: int = 0
    usb_serial: str = ""
    product: str = ""
    hello: dict[str, Any] | None = None
    trouble: TinyclError | None = None

    @property
    def kind(self) -> str:
        """What its USB ids say, or empty."""
        return KNOWN.get((self.vid, self.pid)) or KNOWN.get((self.vid, None)) or ""

    @property
    def board(self) -> str:
        """The unique id that the board itself tells, or empty."""
        return str(self.hello.get("board", "")) if self.hello else ""

    def likely(self) -> bool:
        """A board for sure, or a port at which `flash` has something to do."""
        if self.hello or isinstance(self.trouble, AtPrompt | InRawRepl | InBootLoader | NotMicroPython | LinkError):
            return True
        return bool(self.kind) and isinstance(self.trouble, ForeignProgram | NoAgent)

    def describe(self) -> str:
        """One line for people."""
        usb = f"{self.product or self.kind or 'USB'} {self.vid:04x}:{self.pid:04x}" if self.vid else "no USB ids"
        number = f", USB serial {self.usb_serial}" if self.usb_serial else ""
        if self.hello:
            say = f"board {self.board}, agent {self.hello.get('agent')}, {self.hello.get('platform')}"
        else:
            say = str(self.trouble).partition(": ")[0] if self.trouble else "not asked"
        return f"{self.device} ({usb}{number}): {say}"


# ports


def usb_ports() -> list[Found]:
    """Ports with a USB vendor and product id: Bluetooth and built-in ones have none, and are never touched."""
    return [
        Found(p.device, p.vid, p.pid, p.serial_number or "", p.product or "")
        for p in sorted(list_ports.comports())
        if p.vid and p.pid and "bluetooth" not in f"{p.device} {p.description}".lower()
    ]


def open_port(device: str, baud: int = BAUD, dtr: bool | None = None, rts: bool | None = None) -> Any:
    """The port, opened for this program alone, with DTR and RTS as asked for; None means both asserted.

    Both asserted: USB-CDC firmware sends nothing without DTR, and the reset circuit of ESP32 boards does nothing while the two
    are equal. Raises PortMissing, PortDenied or PortBusy.
    """
    try:
        if device.startswith(("socket://127.0.0.1:", "socket://localhost:")):
            from tinycl.board.emulator import ConsolePort

            return ConsolePort(int(device.rsplit(":", 1)[1]))
        if "://" in device:
            port = serial.serial_for_url(device, do_not_open=True)
        else:
            port = serial.Serial()
            port.port = device
            port.exclusive = True
        port.baudrate = baud
        # Opening raises both lines, and then pyserial sets DTR before RTS. DTR low and RTS high, even for a moment, resets an
        # ESP32: so DTR stays up until RTS is where it should be. Closing has the same order.
        port.dtr = True
        port.rts = rts is not False
        port.open()
        if dtr is False:
            port.dtr = False
        return port
    except (OSError, ValueError) as e:
        raise explain(device, e) from e


def close_port(port: Any) -> None:
    """Closes without resetting an ESP32: RTS goes first."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        port.rts = False
        port.dtr = False
    with contextlib.suppress(OSError):
        port.close()


def explain(device: str, e: Exception) -> BoardError:
    """The typed error for what the system said when a port was opened."""
    said = re.search(r"\[Errno (\d+)\]", str(e))  # pyserial keeps the number in the text only, for some ports
    code = getattr(e, "errno", None) or (int(said[1]) if said else None)
    if code in (errno.EACCES, errno.EPERM):
        return PortDenied(f"permission denied on {device}: {_permission(device)}")
    if code in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
        by = holders(device)
        who = (
            f"in use by {', '.join(by)}: close that"
            if by
            else f"in use by another program ('fuser -v {device}' tells): close it"
        )
        return PortBusy(f"{device} is {who}, then run the same command again")
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        there = ", ".join(found.device for found in usb_ports()) or "none"
        return PortMissing(f"there is no port {device} (USB ports now: {there}): plug the board in, or name one of those")
    if code == errno.ECONNREFUSED:
        return PortMissing(f"nothing listens at {device}: start the board, or name another port")
    return PortMissing(f"{device} is no serial port that can be opened ({e}): name another one, or leave it out")


def _permission(device: str) -> str:
    again = "then log out and in again"
    try:
        import grp

        found = os.stat(device)
        group = grp.getgrgid(found.st_gid)
        user = getpass.getuser()
    except (ImportError, OSError, KeyError):
        return "see who may open it, and have an administrator give you the right"
    if not found.st_mode & stat.S_IRGRP or not found.st_mode & stat.S_IWGRP:
        return (
            f"only its owner may open it (mode {stat.S_IMODE(found.st_mode):04o}): have an administrator add a udev rule that "
            'gives it to a group, such as SUBSYSTEM=="tty", GROUP="dialout", MODE="0660", and put you into that group'
        )
    if user in group.gr_mem:
        return f"it belongs to the group '{group.gr_name}', which you joined after you logged in: log out and in again"
    return (
        f"it belongs to the group '{group.gr_name}', and you ('{user}') are not in it: have an administrator run 'usermod -a "
        "-G "
        f"{group.gr_name} {user}', {again}"
    )


def holders(device: str) -> list[str]:
    """Programs that have a device open, as "name (process number)", where the system tells (Linux: those of this user)."""
    target = os.path.realpath(device)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.path.realpath(fd) == target for fd in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                me = ", this program itself" if int(process.name) == os.getpid() else ""
                found.append(f"{name} (process {process.name}{me})")
    return sorted(found)


# finding


def greet(port: Any, device: str, hello_s: float = HELLO_S, baud: int = BAUD) -> Link:
    """A Link that has said hello. Otherwise the NoAgent that fits, BoardGone, or what the agent itself says.

    Waits longer where the board was just reset, as opening the port does to many an ESP32. A rate other than BAUD is tried out:
    LineUnfit where the line does not carry it.
    """
    tap = port if isinstance(port, Tap) else Tap(port)
    link = Link(tap)
    start = time.monotonic()
    most = 0.5
    while True:
        try:
            link.hello(most)  # not longer at first: a prompt takes all of it for Python
            break
        except BoardSilent:
            most = min(2 * most, 2.0)
            waited = time.monotonic() - start
            if at_prompt(tap.heard) or waited > (START_S if booting(tap.heard) else hello_s):
                try:
                    raise diagnose(tap, device, bytes(tap.heard)) from None
                except serial.SerialTimeoutException as e:
                    raise SilentPort(f"{device} takes no bytes: its program hangs; reset the board") from e
                except (OSError, TypeError) as e:
                    raise BoardGone(f"{device} is gone ({e}): plug the board in again") from e
    if baud != BAUD:
        try:
            link.check_line()
        except LinkError:
            link.close()
            raise
    return link


def ask(found: Found, hello_s: float = HELLO_S, **lines: Any) -> Found:
    """Fills in HELLO or trouble; the port is closed again, and the session ended."""
    port = None
    try:
        port = open_port(found.device, **lines)
        link = greet(port, found.device, hello_s, lines.get("baud", BAUD))
        found.hello = link.board
        link.close()
    except TinyclError as e:
        found.trouble = e
    finally:
        if port is not None:
            close_port(port)
    return found


def discover(hello_s: float = HELLO_S, ports: Sequence[Found] | None = None, **lines: Any) -> list[Found]:
    """Every USB port (or `ports`), asked side by side, so that a silent one holds up no other."""
    asked = list(usb_ports() if ports is None else ports)
    threads = [threading.Thread(target=ask, args=(p, hello_s), kwargs=lines, daemon=True) for p in asked]
    for thread in threads:
        thread.start()
    end = time.monotonic() + START_S + 2 * hello_s + 5
    for thread, found in zip(threads, asked, strict=True):
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            found.trouble = SilentPort(f"{found.device} does not let go of this program: unplug the board and plug it in again")
    return asked


def find_one(
    selector: str = "",
    need_agent: bool = True,
    hello_s: float = HELLO_S,
    drives: Sequence[Path] | None = None,
    **lines: Any,
) -> Found:
    """The one board that a selector means: a port's path, a socket:// address, a USB serial number, the unique id that the
    board tells, or "" where only one board is there. need_agent=False: one that runs something else will do, to be deployed to.

    Raises NoBoard, SeveralBoards, or what keeps the only one that fits from answering; InBootLoader where a boot drive is there
    instead (drives: folders under which it is looked for).
    """
    ports = usb_ports()
    if "://" in selector or os.sep in selector or (os.name == "nt" and selector.upper().startswith("COM")):
        same = [p for p in ports if os.path.realpath(p.device) == os.path.realpath(selector)]
        return _usable(ask(same[0] if same else Found(selector), hello_s, **lines), need_agent)
    wanted = selector.lower()
    by_number = [p for p in ports if wanted and p.usb_serial.lower() == wanted]
    asked = discover(hello_s, by_number or ports, **lines)
    if wanted and not by_number:
        fits = [p for p in asked if p.board.lower() == wanted]
        if not fits:
            raise NoBoard(
                f"no board '{selector}' {_among(asked)}: plug it in, or name one of those by port, USB serial number or id"
            )
    else:
        likely = [p for p in asked if p.likely()]
        fits = [p for p in likely if p.hello] if need_agent else likely
        fits = fits or likely or (asked if len(asked) == 1 else [])
    if not fits and (waiting := in_boot_loader(drives)):
        raise waiting
    if not fits:
        raise NoBoard(
            f"no board {_among(asked)}: plug one in with a cable that carries data, or name its port"
            if asked
            else "no board: no port with USB vendor and product ids is there; plug one in with a cable that carries data"
        )
    if len(fits) > 1:
        lines_ = [p.describe() for p in fits]
        names = fits[0].board or fits[0].usb_serial or fits[0].device
        raise SeveralBoards(
            f"{len(fits)} boards are there, and none was named:\n  "
            + "\n  ".join(lines_)
            + f"\nname one by its port, USB serial "
            f"number or id, such as {names}",
            lines_,
        )
    return _usable(fits[0], need_agent)


def _usable(found: Found, need_agent: bool) -> Found:
    if found.trouble and (need_agent or not isinstance(found.trouble, NoAgent | NotMicroPython | LinkError)):
        raise found.trouble
    return found


def _among(asked: Sequence[Found]) -> str:
    return f"among {len(asked)} USB ports (" + "; ".join(p.describe() for p in asked) + ")" if asked else "on any USB port"


def wait_for(known: Found, seconds: float = BACK_S) -> str:
    """The port at which a board is now, after a reset: by its USB serial number, whatever its path has become."""
    end = time.monotonic() + seconds
    while True:
        if not known.usb_serial:  # nothing to know it by but the path
            if not known.device.startswith(os.sep) or os.path.exists(known.device):
                return known.device
        else:
            for port in usb_ports():
                if port.usb_serial == known.usb_serial:
                    return port.device
        if time.monotonic() > end:
            raise NoBoard(
                f"the board with USB serial {known.usb_serial or known.device} did not come back within {seconds:g} s: unplug "
                "it and "
                "plug it in again, then run the same command"
            )
        time.sleep(0.1)


# the board


@dataclass
class Lines:
    """How a port is opened: see open_port."""

    baud: int = BAUD
    dtr: bool | None = None
    rts: bool | None = None

    def options(self) -> dict[str, Any]:
        return {"baud": self.baud, "dtr": self.dtr, "rts": self.rts}


@dataclass
class PortBoard(Board):
    """A board that somebody deployed to, behind the port that `found` names. `link` and `client` are there once it is
    entered."""

    found: Found
    lines: Lines = field(default_factory=Lines)
    hello_s: float = HELLO_S

    name = "port"

    def __post_init__(self) -> None:
        self.port: Any = None
        self.link: Link = None  # type: ignore[assignment]  # until connect

    @classmethod
    def find(cls) -> list[str]:
        return [p.device for p in discover() if p.hello]

    @classmethod
    def of(cls, selector: str = "", **options: Any) -> "PortBoard":
        """The board that a selector means (see find_one)."""
        lines = Lines(**options)
        return cls(find_one(selector, **lines.options()), lines)

    def deploy(self) -> None:
        """Somebody did: see tinycl.flash."""

    def start(self) -> None:
        """It runs already."""

    def open_port(self) -> Any:
        self.disconnect()
        self.found.device = wait_for(self.found)
        self.port = open_port(self.found.device, **self.lines.options())
        return self.port

    def connect(self) -> None:
        """Opens the port, wherever it is now, and says hello. Raises OtherBoard where another board is there by now."""
        known = self.found.board
        self.link = greet(self.open_port(), self.found.device, self.hello_s, self.lines.baud)
        self.client = Client(self.link)
        here = self.link.board.get("board", "")
        if known and here != known:
            self.disconnect()
            raise OtherBoard(f"board {here} is at {self.found.device} now, not {known}: name the board anew")
        self.found.hello = self.link.board

    def restart(self) -> None:
        """A reset, as by its button; the port may come back under another name."""
        self.link.close()
        repl = Repl(self.port, self.found.device)
        repl.enter()
        repl.hard_reset()
        self.disconnect()
        time.sleep(0.5)  # a port that is about to vanish is there for a moment longer
        self.hello_s = START_S
        self.connect()

    def disconnect(self) -> None:
        """Ends the session, so that a person gets the REPL, and closes the port."""
        if self.port is None:
            return
        if self.link is not None and self.link.board:
            with contextlib.suppress(TinyclError, OSError):
                self.link.close()
        close_port(self.port)
        self.port = None

    def close(self) -> None:
        self.disconnect()
