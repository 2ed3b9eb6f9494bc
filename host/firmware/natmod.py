"""Builds the native kernels, device/native/, for every architecture whose compiler is here, into build/natmod/ARCH/. The four
that have boards are named where they are left out; others of MicroPython's are tried where their compiler is there.

    python host/firmware/natmod.py [ARCH …]     # those and no others: one that cannot be built is then an error

Depends on MicroPython's source tree (source.py) and on pyelftools.
"""

import argparse
import os
import shutil
import sys
from importlib.util import find_spec

import source
from common import BUILD, ROOT, SOURCE, Trouble, report, run, shown, step

# architecture: its compilers, the first that is here serves, and the Debian packages that have one
BOARDS = {
    "x64": (["gcc"], "gcc"),  # for tests, under MicroPython's unix port
    "armv6m": (["arm-none-eabi-gcc"], "gcc-arm-none-eabi libnewlib-arm-none-eabi"),  # RP2040
    "armv7emsp": (["arm-none-eabi-gcc"], "gcc-arm-none-eabi libnewlib-arm-none-eabi"),  # RP2350
    "rv32imc": (  # ESP32-C3 and -C6
        ["riscv64-unknown-elf-gcc", "riscv32-unknown-elf-gcc", "riscv32-esp-elf-gcc"],
        "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    ),
}
OTHERS = {
    "armv7m": (["arm-none-eabi-gcc"], "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
    "armv7emdp": (["arm-none-eabi-gcc"], "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
    "xtensawin": (["xtensa-esp32-elf-gcc"], ""),
}
MODULE = "tinycl_native.mpy"


def main() -> None:
    known = {**BOARDS, **OTHERS}
    parser = argparse.ArgumentParser(description="Builds the native kernels for every architecture whose compiler is here.")
    parser.add_argument("arch", nargs="*", help=f"only these: {', '.join(known)}")
    asked = parser.parse_args().arch
    if unknown := [arch for arch in asked if arch not in known]:
        raise Trouble(f"no architecture '{unknown[0]}': choose among {', '.join(known)}")
    if find_spec("elftools") is None:
        raise Trouble("MicroPython's linker of native modules needs pyelftools: pip install pyelftools, or use 'make natmod'")
    if source.lacking(SOURCE):
        source.fetch(source.SUITE)
    left_out = []
    for arch in asked or known:
        if why := cannot(arch, *known[arch]):
            if asked:
                raise Trouble(why)
            if arch in BOARDS:
                left_out.append(why)
        else:
            build(arch)
    for why in left_out:
        step(f"left out: {why}")
    if len(left_out) == len(BOARDS):
        raise Trouble("nothing was built: install one of these compilers")


def cannot(arch: str, compilers: list[str], packages: str) -> str:
    """Why this architecture cannot be built, with the cure, or nothing."""
    if arch == "x64" and os.uname().machine not in ("x86_64", "amd64"):
        return f"x64 is for this machine's own processor, which is {os.uname().machine}: build it on x86-64"
    if any(shutil.which(compiler) for compiler in compilers):
        return ""
    cure = f"apt-get install {packages}" if packages else "install it from the maker of the chip"
    return f"{arch} needs {' or '.join(compilers)}, which is not here: {cure}"


def build(arch: str) -> None:
    out = BUILD / "natmod" / arch
    makefile = ROOT / "device/native/Makefile"
    settings = {"MPY_DIR": SOURCE.resolve(), "ARCH": arch, "OUT": out, "PYTHON": sys.executable}
    out.mkdir(parents=True, exist_ok=True)
    run(["make", "-f", makefile, *[f"{key}={value}" for key, value in settings.items()]], out / "make.log")
    made = out / MODULE
    step(f"{shown(made)}: {made.stat().st_size:,} bytes")


if __name__ == "__main__":
    report(main)
