"""Builds MicroPython for the RP2040 (board RPI_PICO) into build/firmware/rp2040.bin and rp2040.uf2, out of the tree that
source.py leaves. Only what changed is compiled again. Depends on the GNU toolchain for ARM and on CMake.

    python host/firmware/build.py [--user-c-modules PATH/micropython.cmake] [--output PATH]
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import source
import uf2
from common import FIRMWARE, SOURCE, TOOLCHAIN, Trouble, missing_tools, report, run, shown, step

# Frozen: the port's own modules (boot.py's _boot, rp2) and asyncio. Drivers that live in micropython-lib (onewire, dht,
# neopixel) are left out: Debian's tree comes without it, and nothing here needs them.
MANIFEST = 'freeze("$(PORT_DIR)/modules")\ninclude("$(MPY_DIR)/extmod/asyncio")\n'


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the RP2040's firmware.")
    parser.add_argument("--user-c-modules", default="", help="a micropython.cmake to be built in, as USER_C_MODULES= upstream")
    parser.add_argument("--output", type=Path, default=FIRMWARE / "rp2040.bin", help="the binary; its .uf2 comes beside it")
    options = parser.parse_args()
    modules = Path(options.user_c_modules).expanduser().resolve() if options.user_c_modules else None
    if modules and not modules.is_file():
        raise Trouble(f"USER_C_MODULES={modules} is no file: name the micropython.cmake of your modules")
    check_toolchain()
    if source.lacking(SOURCE):
        source.fetch(source.SUITE)
    build(options.output.resolve(), modules)


def check_toolchain() -> None:
    missing = missing_tools(TOOLCHAIN)
    if shutil.which("arm-none-eabi-gcc"):
        asked = subprocess.run(["arm-none-eabi-gcc", "-print-file-name=nosys.specs"], capture_output=True, text=True)
        if "/" not in asked.stdout:
            missing.append("libnewlib-arm-none-eabi")
    if missing:
        raise Trouble(
            f"{len(missing)} packages of the cross toolchain are missing: apt-get install {' '.join(sorted(missing))} "
            "(elsewhere: the Arm GNU toolchain, arm-none-eabi, and CMake from your package manager)"
        )


def build(output: Path, modules: Path | None) -> None:
    jobs = f"-j{os.cpu_count() or 1}"
    # One folder for each set of modules: MicroPython's generated headers do not follow a change of it.
    mark = "-" + hashlib.sha256(str(modules).encode()).hexdigest()[:8] if modules else ""
    folder = FIRMWARE / f"rp2040{mark}.build"
    logs = folder / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.py"
    if not manifest.exists() or manifest.read_text() != MANIFEST:  # left alone, it causes no work
        manifest.write_text(MANIFEST)
    # The version is MicroPython's, not that of the repository around it; the date is the source's, so that a build repeats.
    names = {
        "GIT_CEILING_DIRECTORIES": str(SOURCE.resolve().parent),
        "SOURCE_DATE_EPOCH": str(int((SOURCE / "py/mpconfig.h").stat().st_mtime)),
    }
    step("mpy-cross of this source")
    run(["make", "-C", SOURCE / "mpy-cross", jobs], logs / "mpy-cross.log", **names)
    step(f"configuring in {shown(folder)}" + (f", with {modules}" if modules else ""))
    settings = [
        "-DMICROPY_BOARD=RPI_PICO",
        "-DPICO_NO_PICOTOOL=1",  # it would be fetched from the network; the UF2 file is made here instead
        f"-DMICROPY_FROZEN_MANIFEST={manifest}",
        f"-DUSER_C_MODULES={modules}" if modules else "-UUSER_C_MODULES",
    ]
    run(["cmake", "-S", SOURCE / "ports/rp2", "-B", folder, *settings], logs / "cmake.log", **names)
    step("compiling")
    run(["make", "-C", folder, jobs], logs / "make.log", **names)
    image = (folder / "firmware.bin").read_bytes()
    output.parent.mkdir(parents=True, exist_ok=True)
    if not output.exists() or output.read_bytes() != image or not output.with_suffix(".uf2").exists():
        output.write_bytes(image)
        output.with_suffix(".uf2").write_bytes(uf2.pack(image))
    facts = {"micropython": source.version(SOURCE), "board": "RPI_PICO", "user_c_modules": str(modules or "")}
    output.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    step(f"{shown(output)}: {len(image):,} bytes, MicroPython {facts['micropython']}; the .uf2 is for a board's drive")


if __name__ == "__main__":
    report(main)
