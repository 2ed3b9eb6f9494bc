"""Builds MicroPython for two of QEMU's boards into build/qemu/, out of the tree that source.py leaves: a Cortex-M3 (MPS2_AN385)
and a RISC-V with the instruction set of the ESP32-C3 (VIRT_RV32). QEMU itself is asked for too. Only what changed is compiled
again.

    python host/firmware/qemu.py [BOARD …]     # those and no others: one that cannot be built is then an error

Depends on MicroPython's source tree (source.py), on a compiler for each board and on QEMU.
"""

import argparse
import os
import shutil
import subprocess
from dataclasses import dataclass

import source
from common import BUILD, SOURCE, Trouble, missing_tools, report, run, shown, step

FOLDER = BUILD / "qemu"
OLDEST = (1, 25)
HEAP_BYTES = 240 * 1024  # what the RP2040's firmware has


@dataclass(frozen=True)
class Board:
    compilers: tuple[str, ...]  # the first that is here serves
    library: tuple[str, ...]  # files of the C library, of which the compiler must know one
    qemu: str
    packages: str  # Debian's, with all of these
    settings: tuple[str, ...] = ()


BOARDS = {
    "MPS2_AN385": Board(
        ("arm-none-eabi-gcc",),
        ("nosys.specs",),
        "qemu-system-arm",
        "make gcc gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm",
    ),
    "VIRT_RV32": Board(
        ("riscv64-unknown-elf-gcc", "riscv32-unknown-elf-gcc", "riscv32-esp-elf-gcc"),
        ("picolibc.specs", "nosys.specs"),
        "qemu-system-riscv32",
        "make gcc gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc",
        # Older libraries have no variant for `zicsr`, which was a part of `i` up to version 2.2 of the specification.
        ("RV32_ARCH=rv32imac -misa-spec=2.2",),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds MicroPython for QEMU's boards.")
    parser.add_argument("board", nargs="*", help=f"only these: {', '.join(BOARDS)}")
    asked = parser.parse_args().board
    if unknown := [name for name in asked if name not in BOARDS]:
        raise Trouble(f"no board '{unknown[0]}': choose among {', '.join(BOARDS)}")
    left_out = {name: why for name in asked or BOARDS if (why := cannot(name, BOARDS[name]))}
    if asked and left_out:
        raise Trouble("; ".join(left_out.values()))
    for why in left_out.values():
        step(f"left out: {why}")
    if len(left_out) == len(BOARDS):
        raise Trouble("nothing was built: install what one of these boards needs")
    if source.lacking(SOURCE):
        source.fetch(source.SUITE)
    version = source.version(SOURCE)
    if tuple(map(int, version.split("."))) < OLDEST:
        raise Trouble(
            f"{shown(SOURCE)} is MicroPython {version}, older than the file system that the tests use there: name a tree of "
            "1.25 or newer, source.py --tree PATH"
        )
    for name in asked or BOARDS:
        if name not in left_out:
            build(name, BOARDS[name])


def cannot(name: str, board: Board) -> str:
    """Why this board cannot be built or run, with the cure, or nothing."""
    missing = missing_tools({command: command for command in ("make", "gcc", board.qemu)})
    if (compiler := compiler_of(board)) is None:
        missing.append(" or ".join(board.compilers))
    elif not any(knows(compiler, file) for file in board.library):
        missing.append(f"a C library for {compiler}")
    if not missing:
        return ""
    return (
        f"{name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not here: apt-get install "
        f"{board.packages} (elsewhere: these and QEMU 7 or newer from your package manager)"
    )


def compiler_of(board: Board) -> str | None:
    return next((compiler for compiler in board.compilers if shutil.which(compiler)), None)


def knows(compiler: str, file: str) -> bool:
    asked = subprocess.run([compiler, f"-print-file-name={file}"], capture_output=True, text=True)
    return "/" in asked.stdout  # the bare name comes back for a file that it has not


def build(name: str, board: Board) -> None:
    folder = FOLDER / f"{name}.build"
    compiler = compiler_of(board)
    assert compiler
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.py"
    if not manifest.exists():  # nothing is frozen in: upstream's has its own tests, for which Debian's tree lacks a library
        manifest.touch()
    # As for the RP2040: the version is MicroPython's, and a build repeats.
    names = {
        "GIT_CEILING_DIRECTORIES": str(SOURCE.resolve().parent),
        "SOURCE_DATE_EPOCH": str(int((SOURCE / "py/mpconfig.h").stat().st_mtime)),
    }
    settings = [
        f"BOARD={name}",
        f"BUILD={folder}",
        f"FROZEN_MANIFEST={manifest}",
        f"MICROPY_HEAP_SIZE={HEAP_BYTES}",
        f"CROSS_COMPILE={compiler.removesuffix('gcc')}",
        *board.settings,
    ]
    step(f"compiling for {name}")
    run(["make", "-C", SOURCE / "ports/qemu", f"-j{os.cpu_count() or 1}", *settings], folder / "make.log", **names)
    made = FOLDER / f"{name}.elf"
    shutil.copyfile(folder / "firmware.elf", made)
    step(f"{shown(made)}: MicroPython {source.version(SOURCE)}, {compiler}")


if __name__ == "__main__":
    report(main)
