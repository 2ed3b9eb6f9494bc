"""Everything that makes a board of this kit out of a board: firmware where it is missing or too old, runtime, blob, start,
HELLO. One board, or all of them side by side. Depends on board/port.py, board/repl.py, board/firmware.py and deploy.py."""

import contextlib
import io
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinycl.board import firmware
from tinycl.board.base import BoardError
from tinycl.board.errors import (
    BrokenFiles,
    FirmwareError,
    FirmwareLacks,
    FirmwareTooOld,
    InBootLoader,
    NoAgent,
    NoBoard,
    NotMicroPython,
    OtherBoard,
    SeveralBoards,
)
from tinycl.board.firmware import BootDrive, boot_drives
from tinycl.board.port import START_S, Found, Lines, close_port, discover, find_one, greet, open_port, usb_ports, wait_for
from tinycl.board.repl import Repl
from tinycl.deploy import Deployed, build, check_firmware, deploy, probe
from tinycl.link.client import Client
from tinycl.link.errors import BoardGone, LineUnfit, LinkError
from tinycl.shared.blob import Blob
from tinycl.shared.errors import TinyclError

RESTART_S = 20.0  # an agent that has many classes on a slow flash
NEW_PORT_S = 20.0  # from the end of a firmware's writing to its port

Tell = Callable[[str, int, int], None]  # (what, done, total); total 0: a line of news


def _nothing(what: str, done: int = 0, total: int = 0) -> None:
    pass


@dataclass
class Options:
    """firmware: an image to install where it is needed; reinstall: install it in any case; board: micropython.org's name of the
    board, for a download where the board itself cannot tell; natmod: folder of native kernels by architecture; drives: folders
    under which boot drives are looked for (None: where this system mounts them)."""

    firmware: Path | None = None
    reinstall: bool = False
    board: str = ""
    version: str = "stable"
    blob: bytes | None = None
    natmod: Path | None = None
    lines: Lines = field(default_factory=Lines)
    drives: Sequence[Path] | None = None


@dataclass
class Flashed:
    """What was done to one board. before: what was on it; firmware: name of the image that was installed, or empty; blob:
    "sent", "there" or empty; hello: what its agent says now."""

    board: str
    device: str
    before: str
    firmware: str
    deployed: Deployed
    blob: str
    hello: dict[str, Any]
    seconds: float

    @property
    def changed(self) -> bool:
        return bool(
            self.firmware or self.deployed.written or self.deployed.removed or self.deployed.moved or self.blob == "sent"
        )


def flash(selector: str = "", options: Options | None = None, tell: Tell = _nothing) -> Flashed:
    """Makes the board that `selector` means (see find_one; a boot drive's folder is one too) into one of this kit."""
    options = options or Options()
    _check(options)
    drives = boot_drives(options.drives)
    for drive in drives:
        if selector and Path(selector) == drive.path:
            return _flash_drive(drive, options, tell)
    try:
        found = find_one(selector, need_agent=False, drives=options.drives, **options.lines.options())
    except (NoBoard, InBootLoader):
        if selector or not drives:
            raise
        if len(drives) > 1:
            texts = [f"{d.path} ({d.board_id})" for d in drives]
            raise SeveralBoards(f"{len(drives)} boot drives are there: name one of {', '.join(texts)}", texts) from None
        return _flash_drive(drives[0], options, tell)
    return flash_found(found, options, tell)


def flash_all(
    options: Options | None = None,
    tell: Callable[[str, str, int, int], None] | None = None,
    boards: Sequence[Found] | None = None,
) -> list[tuple[Found, Flashed | TinyclError]]:
    """Every board there is (or `boards`), side by side, boot drives first if there is firmware for them; one that fails holds
    up none of the others. tell(device, what, done, total) is called from their threads."""
    options = options or Options()
    _check(options)
    failed: list[tuple[Found, Flashed | TinyclError]] = []
    if boards is None:
        failed = _start_drives(options, tell)
        boards = [f for f in discover(**options.lines.options()) if f.likely()]
    chosen = list(boards)
    if not chosen and not failed:
        raise firmware.in_boot_loader(options.drives) or NoBoard(
            "no board on any USB port: plug them in with cables that carry data"
        )
    outcomes: dict[int, Flashed | TinyclError] = {}

    def work(i: int, found: Found) -> None:
        def told(what: str, done: int = 0, total: int = 0) -> None:
            if tell:
                tell(name, what, done, total)

        name = found.device
        try:
            outcomes[i] = flash_found(found, options, told)
        except TinyclError as e:
            outcomes[i] = e
            told(f"failed: {e}")
        except Exception as e:
            outcomes[i] = BoardError(f"{type(e).__name__} at {found.device} ({e}): report this, and flash this board alone")
            told(f"failed: {outcomes[i]}")

    threads = [threading.Thread(target=work, args=(i, f), daemon=True) for i, f in enumerate(chosen)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed + [(found, outcomes[i]) for i, found in enumerate(chosen)]


def _start_drives(
    options: Options, tell: Callable[[str, str, int, int], None] | None
) -> list[tuple[Found, Flashed | TinyclError]]:
    """Gives the firmware at hand to every boot drive, so that its board gets a port; those that failed."""
    failed: list[tuple[Found, Flashed | TinyclError]] = []
    if options.firmware is None or options.firmware.suffix != ".uf2":
        return failed
    before, started = {p.device for p in usb_ports()}, 0
    for drive in boot_drives(options.drives):

        def told(done: int, total: int, name: str = str(drive.path)) -> None:
            if tell:
                tell(name, "writing the firmware", done, total)

        try:
            firmware.write_uf2(drive, options.firmware.read_bytes(), options.firmware.name, told)
            started += 1
        except TinyclError as e:
            failed.append((Found(str(drive.path)), e))
    end = time.monotonic() + NEW_PORT_S
    while len({p.device for p in usb_ports()} - before) < started and time.monotonic() < end:
        time.sleep(0.2)
    return failed


def flash_found(found: Found, options: Options, tell: Tell = _nothing) -> Flashed:
    """As `flash`, for a board that was found already. One port for every step; the board's id is told before anything is
    written, and a board that comes back from a reset must be the same."""
    start = time.monotonic()
    port, repl = None, None
    try:
        port, before, facts = _look(found, options, tell)
        repl = Repl(port, found.device) if facts is not None else None  # to be left again, however this ends
        installed = ""
        why = _needs_firmware(facts, found, options)
        if why is not None:
            tell(why, 0, 0)
            port, installed, facts = _install(port, facts, found, options, tell)
        assert facts is not None
        repl = Repl(port, found.device)
        built = build(facts["mpy"], options.natmod)
        done = deploy(repl, built, facts, lambda done, total: tell("writing the runtime", done, total))
        for line in done.news():
            tell(line, 0, 0)
        tell("starting the agent", 0, 0)
        repl.restart()
        repl = None
        link = greet(port, found.device, RESTART_S, options.lines.baud)
        if facts["board"] and link.board.get("board") != facts["board"]:
            raise OtherBoard(
                f"board {link.board.get('board')} answers, not {facts['board']}: unplug one of them, and start anew"
            )
        sent = send_blob(Client(link), options.blob, tell)
        if sent == "sent":
            link.hello()
        found.hello, found.trouble = link.board, None
        link.close()
        return Flashed(found.board, found.device, before, installed, done, sent, link.board, time.monotonic() - start)
    except BrokenFiles:
        if repl is not None:
            with contextlib.suppress(OSError, TypeError):
                repl.leave()  # no reset: at its next start a firmware may format what is not in order
            repl = None
        raise
    except (OSError, TypeError) as e:  # what pyserial lets through where a port went away
        raise BoardGone(f"{found.device} is gone ({e}): plug the board in again, then run the same command again") from e
    finally:
        if repl is not None:
            _leave(repl)
        if port is not None:
            close_port(port)


def _leave(repl: Repl) -> None:
    """Starts again what ran on a board before its REPL was entered, as far as it still can be reached."""
    with contextlib.suppress(OSError, TypeError):  # the port may be gone, or closed for a firmware's writing
        repl.restart()


def _check(options: Options) -> None:
    """Whatever can be seen to be wrong before a board is touched."""
    if options.blob is not None:
        Blob(io.BytesIO(options.blob))
    if options.firmware is not None:
        try:
            data = options.firmware.read_bytes()
        except OSError as e:
            raise FirmwareError(f"'{options.firmware}': {e.strerror}: name the image with --firmware FILE") from e
        if options.firmware.suffix == ".uf2":
            firmware.uf2_families(data, options.firmware.name)
        else:
            firmware.esp32_image(data, options.firmware.name)


def _look(found: Found, options: Options, tell: Tell) -> tuple[Any, str, dict[str, Any] | None]:
    """(port, what is on the board, what its firmware is or None), with the REPL in raw mode if there is one."""
    port = open_port(found.device, **options.lines.options())
    try:
        try:
            if found.trouble and (isinstance(found.trouble, LineUnfit) or not isinstance(found.trouble, LinkError)):
                raise found.trouble  # it was asked a moment ago
            link = greet(port, found.device, baud=options.lines.baud)
            before = f"agent {link.board.get('agent')}"
            link.close()
        except LineUnfit:
            raise
        except (NoAgent, NotMicroPython, LinkError) as e:  # an agent of another protocol, too
            before = str(e).partition(": ")[0]
            if isinstance(e, InBootLoader | NotMicroPython):
                tell(f"{found.device}: {before}", 0, 0)
                return port, before, None
        try:
            repl = Repl(port, found.device)
            repl.enter()
            try:
                facts = probe(repl)
            except BaseException:
                _leave(repl)
                raise
        except BoardError:
            if options.firmware is None or options.firmware.suffix == ".uf2":
                raise
            return port, before, None  # esptool needs no REPL
        version = ".".join(map(str, facts["version"]))
        what = f"{facts['machine'] or facts['platform']} with {facts['name']} {version}, {before}"
        tell(f"{found.device} is board {facts['board'] or 'without an id'}: {what}", 0, 0)
        return port, what, facts
    except BaseException:
        close_port(port)
        raise


def _needs_firmware(facts: dict[str, Any] | None, found: Found, options: Options) -> str | None:
    """Why firmware has to be installed, or None."""
    if facts is None:
        return f"{found.device} has no MicroPython that answers"
    if options.reinstall:
        return "installing the firmware anew, as asked for"
    try:
        check_firmware(facts)
    except FirmwareLacks:
        raise  # another build of the same version may be what its owner wants: they choose
    except (FirmwareTooOld, NotMicroPython) as e:
        return str(e).partition(": ")[0]
    return None


def _install(
    port: Any, facts: dict[str, Any] | None, found: Found, options: Options, tell: Tell
) -> tuple[Any, str, dict[str, Any]]:
    """Installs firmware; (port, name of the image, what the firmware is now), in raw mode again."""
    kind = options.board or (str(facts["build"]).partition("-")[0] if facts else "")
    file = options.firmware or firmware.download(kind, options.version, lambda line: tell(line, 0, 0))
    if file.suffix == ".uf2":
        if facts is None:
            raise FirmwareError(
                f"{found.device} has no REPL to send the board into its boot loader: hold BOOTSEL while you plug it in, and "
                "run the same "
                "command again"
            )
        before = boot_drives(options.drives)
        Repl(port, found.device).boot_loader()
        close_port(port)
        drive = firmware.wait_for_drive(before, options.drives)
        firmware.write_uf2(drive, file.read_bytes(), file.name, lambda done, total: tell("writing the firmware", done, total))
        time.sleep(0.5)
    else:
        chip, _ = firmware.esp32_image(file.read_bytes(), file.name)
        close_port(port)
        tell(f"writing {file.name} for {chip} with esptool", 0, 0)
        try:
            firmware.write_esp32(found.device, file, lambda line: tell(line, 0, 0))
        except FirmwareError:
            if facts is not None:
                with contextlib.suppress(BoardError):
                    port = open_port(found.device, **options.lines.options())
                    _leave(Repl(port, found.device))
                    close_port(port)
            raise
    found.device = wait_for(found, NEW_PORT_S)
    port, now = _enter_new(found, options, tell)
    if facts and facts["board"] and now["board"] != facts["board"]:
        _leave(Repl(port, found.device))
        close_port(port)
        raise OtherBoard(f"board {now['board']} is at {found.device} now, not {facts['board']}: unplug it, and start anew")
    return port, file.name, now


def _enter_new(found: Found, options: Options, tell: Tell) -> tuple[Any, dict[str, Any]]:
    """(port, what the firmware is) of a board that has just got its firmware."""
    end = time.monotonic() + START_S
    while True:
        port = None
        try:
            port = open_port(found.device, **options.lines.options())
            repl = Repl(port, found.device)
            repl.enter()
            facts = probe(repl)
            check_firmware(facts)
            tell(f"board {facts['board']} runs {facts['name']} {'.'.join(map(str, facts['version']))} now", 0, 0)
            return port, facts
        except (TinyclError, OSError):
            if port is not None:
                close_port(port)
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def _flash_drive(drive: BootDrive, options: Options, tell: Tell) -> Flashed:
    """A board that is in its boot loader: it has no id and no port until firmware runs."""
    tell(f"{drive.path} is the boot drive of {drive.model or drive.board_id}, nothing runs there", 0, 0)
    file = options.firmware or firmware.download(options.board, options.version, lambda line: tell(line, 0, 0))
    before = {p.device for p in usb_ports()}
    firmware.write_uf2(drive, file.read_bytes(), file.name, lambda done, total: tell("writing the firmware", done, total))
    end = time.monotonic() + NEW_PORT_S
    while True:
        new = [p for p in usb_ports() if p.device not in before]
        if new:
            break
        if time.monotonic() > end:
            raise NoBoard(
                f"'{file.name}' was written to {drive.path}, no port appeared within {NEW_PORT_S:g} s: unplug the board and "
                "plug it in "
                "again; if it shows its drive again, the image is not for it"
            )
        time.sleep(0.2)
    if len(new) > 1:
        texts = [p.describe() for p in new]
        raise SeveralBoards(f"{len(new)} ports appeared at once: name the board's:\n  " + "\n  ".join(texts), texts)
    with contextlib.suppress(TinyclError):
        close_port(_enter_new(new[0], options, tell)[0])  # in raw mode, from which what follows takes it
    done = flash_found(new[0], Options(**{**options.__dict__, "reinstall": False}), tell)
    done.before, done.firmware = f"boot drive {drive.board_id}", file.name
    return done


def send_blob(client: Client, blob: bytes | None, tell: Tell) -> str:
    """Sends a blob unless the board has it already; "sent", "there", or "" without one. The link must have said hello."""
    if blob is None:
        return ""
    if client.link.board.get("blob") == Blob(io.BytesIO(blob)).id:
        return "there"
    client.send_blob(blob, lambda done, total: tell("sending the blob", done, total))
    return "sent"
