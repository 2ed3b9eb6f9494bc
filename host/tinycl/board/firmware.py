"""MicroPython's firmware onto a chip: UF2 onto a boot drive (RP2040, RP2350), .bin through esptool (ESP32), downloads through
mpflash. Both tools run as programs of their own and may be missing. Depends on board/errors.py and board/places.py."""

import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tinycl.board.errors import FirmwareError, InBootLoader
from tinycl.board.places import cache

UF2_MAGIC = (0x0A324655, 0x9E5D5157, 0x0AB16F30)
HAS_FAMILY, NOT_FOR_FLASH = 0x2000, 0x0001
# What a boot drive calls itself: the families of UF2 that it takes.
FAMILIES = {"RPI-RP2": {0xE48BFF56}, "RP2350": {0xE48BFF57, 0xE48BFF58, 0xE48BFF59, 0xE48BFF5A}}
# Chip id in the header of an image for Espressif's chips: name, and where its boot loader lies in flash.
ESP32 = {
    0: ("ESP32", 0x1000),
    2: ("ESP32-S2", 0x1000),
    5: ("ESP32-C3", 0),
    9: ("ESP32-S3", 0),
    12: ("ESP32-C2", 0),
    13: ("ESP32-C6", 0),
    16: ("ESP32-H2", 0),
    18: ("ESP32-P4", 0x2000),
    23: ("ESP32-C5", 0x2000),
}
PIECE_BYTES = 16 * 1024
DRIVE_S = 15.0
ESPTOOL_S = 300.0
DOWNLOAD_S = 180.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BootDrive:
    """A mounted drive that takes UF2."""

    path: Path
    board_id: str
    model: str


def boot_drives(roots: Sequence[Path] | None = None) -> list[BootDrive]:
    """Boot drives among the folders of `roots`, or of where this system mounts drives."""
    if roots is None:
        home = os.environ.get("USER", "")
        roots = [Path(p) for p in ("/Volumes", "/media", f"/media/{home}", f"/run/media/{home}", "/mnt")]
    found = []
    for folder in [folder for root in roots for folder in [root, *_folders(root)]]:
        try:
            text = (folder / "INFO_UF2.TXT").read_text(errors="replace")
        except OSError:
            continue
        facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        drive = BootDrive(folder, facts.get("Board-ID", "").strip(), facts.get("Model", "").strip())
        if drive not in found:
            found.append(drive)
    return found


def unmounted(system: Path = Path("/sys/bus/usb/devices")) -> int:
    """Boot ROMs of RP2040 and RP2350 on the USB bus, mounted or not, where the system tells (Linux)."""
    count = 0
    for device in _folders(system):
        try:
            count += (device / "idVendor").read_text().strip() == "2e8a" and (
                (device / "idProduct").read_text().strip() in ("0003", "000f")
            )
        except OSError:
            continue
    return count


def in_boot_loader(roots: Sequence[Path] | None = None, system: Path = Path("/sys/bus/usb/devices")) -> InBootLoader | None:
    """The error for a board that shows its boot drive instead of a port, if there is one."""
    drives = boot_drives(roots)
    if drives:
        where = ", ".join(f"{d.path} ({d.board_id})" for d in drives)
        return InBootLoader(
            f"no port, but a board in its boot loader is mounted at {where}: install MicroPython with 'tinycl flash --firmware "
            "FILE.uf2', or unplug it and plug it in again without BOOTSEL to start what is on it"
        )
    if unmounted(system):
        return InBootLoader(
            f"no port, but a board in its boot loader is on USB, whose drive is not mounted: mount it ({_mount()}) and run "
            "'tinycl flash --firmware FILE.uf2', or plug it in again without BOOTSEL"
        )
    return None


def _mount() -> str:
    """How the drive is mounted by hand, by the label that its chip gives it."""
    return "udisksctl mount -b " + " or ".join(f"/dev/disk/by-label/{label}" for label in FAMILIES)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []


def wait_for_drive(before: Sequence[BootDrive], roots: Sequence[Path] | None = None, seconds: float = DRIVE_S) -> BootDrive:
    """The drive that appears after a board was sent into its boot loader."""
    end = time.monotonic() + seconds
    while True:
        new = [drive for drive in boot_drives(roots) if drive not in before]
        if new:
            return new[0]
        if time.monotonic() > end:
            raise FirmwareError(
                f"no boot drive appeared within {seconds:g} s after the board went into its boot loader: mount it "
                f"({_mount()}), then run the same command again; or unplug the board and plug it in again to start what is on "
                "it"
            )
        time.sleep(0.2)


# UF2


def uf2_families(data: bytes, name: str) -> set[int]:
    """The families that a UF2 file is for; FirmwareError where it is none, or not whole."""
    if len(data) < 512 or len(data) % 512:
        raise FirmwareError(f"'{name}' has {len(data):,} bytes, a UF2 file has a multiple of 512: download it again")
    families, blocks, told = set(), set(), set()
    for at in range(0, len(data), 512):
        first, second, flags, _, size, number, count, family = struct.unpack_from("<8I", data, at)
        (last,) = struct.unpack_from("<I", data, at + 508)
        if (first, second, last) != UF2_MAGIC or size > 476:
            raise FirmwareError(f"block {at // 512} of '{name}' is not UF2: take the .uf2 file of MicroPython for this board")
        if not flags & HAS_FAMILY:
            raise FirmwareError(f"block {at // 512} of '{name}' does not say which chip it is for: take an official build")
        families.add(family)
        if not flags & NOT_FOR_FLASH and family != 0xE48BFF57:  # that one is a lone block, for an erratum of the RP2350
            blocks.add(number)
            told.add(count)
    if told != {len(blocks)} or max(blocks) != len(blocks) - 1:
        raise FirmwareError(f"'{name}' has {len(blocks)} of {max(told, default=0)} blocks: download it again")
    return families


def write_uf2(drive: BootDrive, data: bytes, name: str, progress: Progress | None = None) -> None:
    """Writes a UF2 file to a boot drive whose chip it is for; the chip starts it by itself, and the drive vanishes."""
    families = uf2_families(data, name)
    known = FAMILIES.get(drive.board_id)
    if known is None:
        raise FirmwareError(
            f"the drive {drive.path} calls itself '{drive.board_id}', known are {', '.join(FAMILIES)}: copy '{name}' to it by "
            "hand, "
            "if it is for that board"
        )
    if not families <= known:
        raise FirmwareError(
            f"'{name}' is for family {', '.join(f'0x{f:08x}' for f in sorted(families - known))}, the board on {drive.path} is "
            f"'{drive.board_id}' and takes {', '.join(f'0x{f:08x}' for f in sorted(known))}: take the image for this board"
        )
    written = 0
    try:
        with open(drive.path / "firmware.uf2", "wb", buffering=0) as f:
            while written < len(data):
                written += f.write(data[written : written + PIECE_BYTES])
                if progress:
                    progress(written, len(data))
            os.fsync(f.fileno())
    except OSError as e:
        # The chip may restart before the system has seen the end of its own writing: then the drive is gone, as it should.
        if written < len(data) or (drive.path / "INFO_UF2.TXT").exists():
            raise FirmwareError(
                f"{written:,} of {len(data):,} bytes were written to {drive.path}, then {e}: unplug the board, plug it in "
                "with BOOTSEL "
                "held, and run the same command again"
            ) from e


# ESP32


def esp32_image(data: bytes, name: str) -> tuple[str, int]:
    """(chip that a .bin is for, where it goes in flash); FirmwareError where it is none."""
    if len(data) < 24 or data[0] != 0xE9:
        raise FirmwareError(
            f"'{name}' is no image for an ESP32 (it begins with {data[:2].hex()}): take the .bin of MicroPython"
        )
    chip = struct.unpack_from("<H", data, 12)[0]
    if chip not in ESP32:
        raise FirmwareError(f"'{name}' is for Espressif's chip {chip}, which is not known here: write it with esptool itself")
    return ESP32[chip]


def write_esp32(port: str, file: Path, say: Callable[[str], None] | None = None) -> None:
    """Writes a .bin with esptool, which resets the chip into its boot loader, verifies by checksum there, and starts it."""
    chip, offset = esp32_image(file.read_bytes(), file.name)
    if find_spec("esptool") is None:
        raise FirmwareError("esptool, which writes an ESP32's firmware, is not installed: pip install 'tinycl[flash]'")
    name = chip.lower().replace("-", "")
    command = [sys.executable, "-m", "esptool", "--chip", name, "--port", port, "--baud", "460800", "write-flash"]
    status, said = _run([*command, f"0x{offset:x}", str(file)], ESPTOOL_S, say)
    if status:
        raise FirmwareError(
            f"esptool could not write '{file.name}' for {chip} through {port} ({said}): hold the board's BOOT button while "
            "you press "
            "EN, then run the same command again"
        )


# download


def download(board: str, version: str = "stable", say: Callable[[str], None] | None = None) -> Path:
    """MicroPython for a board (its name on micropython.org, such as RPI_PICO), by mpflash; FirmwareError says how to go
    without."""
    cure = "download it elsewhere from micropython.org/download, and name it with --firmware FILE"
    if not board:
        raise FirmwareError(
            f"which board is it? Name it as micropython.org does, such as --micropython-board RPI_PICO; or {cure}"
        )
    if find_spec("mpflash") is None:
        raise FirmwareError(f"mpflash, which downloads MicroPython, is not installed: pip install 'tinycl[flash]', or {cure}")
    folder = cache() / "firmware" / "downloads"
    with _one_download:  # of all boards of a kind that are flashed at once, the first has it downloaded
        there = _downloaded.get((board, version)) or _newest(folder, board, version.removeprefix("v"))
        if there is not None and there.is_file():
            return there
        folder.mkdir(parents=True, exist_ok=True)
        # Into an empty folder: mpflash's status is 0 whatever happens, so that only what lies there tells.
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as fresh:
            command = [sys.executable, "-m", "mpflash.cli_main", "download", "--board", board, "--version", version]
            status, said = _run([*command, "--serial", "none"], DOWNLOAD_S, say, {"MPFLASH_FIRMWARE": fresh})
            file = None if status else _newest(Path(fresh), board)
            if file is None:
                raise FirmwareError(f"mpflash got no MicroPython {version} for {board} (status {status}: {said}): {cure}")
            _downloaded[board, version] = kept = folder / file.name
            os.replace(file, kept)
        return kept


_one_download = threading.Lock()
_downloaded: dict[tuple[str, str], Path] = {}  # in this process: tomorrow another one may be `stable`


def _newest(folder: Path, board: str, version: str = r"\d+(?:\.\d+)*(?:-preview[.\w]*)?") -> Path | None:
    """The newest image of exactly this board, no variant of it, in a folder and those in it; version: of exactly this one."""
    name = re.compile(rf"{re.escape(board)}(?:-\d{{8}})?-v({version})\.(?:uf2|bin)")
    found = {f: n for f in folder.rglob("*") if (n := name.fullmatch(f.name))}
    return max(found, key=lambda f: [int(n) for n in re.findall(r"\d+", found[f][1])], default=None)


def _run(
    command: list[str], seconds: float, say: Callable[[str], None] | None, more: dict[str, str] | None = None
) -> tuple[int, str]:
    """(status, the line that tells the most of what a program said); what it says is passed on line by line."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "300", **(more or {})},
    ) as program:
        lines = []
        assert program.stdout is not None
        deadline = threading.Timer(seconds, program.kill)  # it may well say nothing
        deadline.start()
        try:
            for line in program.stdout:
                if line.strip():
                    lines.append(line.strip())
                    if say:
                        say(lines[-1])
            status = program.wait()
        except BaseException:
            program.kill()
            raise
        finally:
            deadline.cancel()
    telling = [line for line in lines if re.search("[Ee]rror|ould not|[Ff]ailed", line)] or lines or ["no message"]
    return status, re.sub(r"^[\d:]+ \| \W*", "", telling[-1])  # mpflash puts the time before it
