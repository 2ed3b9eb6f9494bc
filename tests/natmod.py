"""The native kernels as the tests need them: built by host/firmware/natmod.py where out of date. Where MicroPython's source
tree or a compiler is missing, a test skips and says how to get it, or fails with TINYCL_REQUIRE_NATMOD in the environment."""

import fcntl
import functools
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).parent.parent / "host/firmware"
_spec = importlib.util.spec_from_file_location("firmware_natmod", FIRMWARE / "natmod.py")
assert _spec and _spec.loader
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def missing(why: str) -> None:
    """Skips, or fails where native modules are required."""
    if os.environ.get("TINYCL_REQUIRE_NATMOD"):
        pytest.fail(why)
    pytest.skip(why)


@functools.cache
def _build(arch: str) -> tuple[Path, str]:
    folder = script.BUILD / "natmod" / arch
    if script.source.lacking(script.SOURCE):
        return folder, "no MicroPython source tree: run 'make micropython-source' to build native kernels"
    if why := script.cannot(arch, *{**script.BOARDS, **script.OTHERS}[arch]):
        return folder, why
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        script.build(arch)
    finally:
        os.close(lock)
    return folder / script.MODULE, ""


def build(arch: str) -> Path:
    """tinycl_native.mpy for that architecture, up to date."""
    path, why = _build(arch)
    if why:
        missing(why)
    return path


def with_native(flash: Path, to: Path, arch: str = "x64") -> Path:
    """A copy of a board's flash that has the native kernels on it."""
    module = build(arch)
    shutil.copytree(flash, to, dirs_exist_ok=True)
    shutil.copy(module, to / script.MODULE)
    return to
