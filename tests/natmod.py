"""The native kernels as the tests need them: built from device/native with this machine's compilers. Where MicroPython's source
tree or a compiler is missing, a test skips and says how to get it, or fails with TINYCL_REQUIRE_NATMOD in the environment."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPILERS = {
    "x64": "gcc",
    "armv6m": "arm-none-eabi-gcc",
    "armv7emsp": "arm-none-eabi-gcc",
    "rv32imc": "riscv64-unknown-elf-gcc",
}
PACKAGES = {"gcc": "gcc", "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi"}
PACKAGES["riscv64-unknown-elf-gcc"] = "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf"


def missing(why: str) -> None:
    """Skips, or fails where native modules are required."""
    if os.environ.get("TINYCL_REQUIRE_NATMOD"):
        pytest.fail(why)
    pytest.skip(why)


@functools.cache
def _build(arch: str) -> tuple[Path | None, str]:
    source = Path(os.environ.get("TINYCL_MICROPYTHON_SOURCE") or ROOT / "build/micropython/src")
    if not (source / "py/dynruntime.mk").is_file():
        return None, f"no MicroPython source tree at {source}: run 'make micropython-source' to build native kernels"
    compiler = COMPILERS[arch]
    if not shutil.which(compiler):
        return None, f"no {compiler}: apt-get install {PACKAGES[compiler]} to build native kernels for {arch}"
    command = [
        "make",
        "-f",
        str(ROOT / "device/native/Makefile"),
        f"MPY_DIR={source}",
        f"ARCH={arch}",
        f"PYTHON={sys.executable}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return ROOT / "build/natmod" / arch / "tinycl_native.mpy", ""


def build(arch: str) -> Path:
    """tinycl_native.mpy for that architecture, up to date."""
    path, why = _build(arch)
    if path is None:
        missing(why)
        raise AssertionError
    return path


def with_native(flash: Path, to: Path, arch: str = "x64") -> Path:
    """A copy of a board's flash that has the native kernels on it."""
    module = build(arch)
    shutil.copytree(flash, to, dirs_exist_ok=True)
    shutil.copy(module, to / "tinycl_native.mpy")
    return to
