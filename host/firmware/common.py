"""What the scripts of this folder share: where things lie, one line per step, and errors that end with their cure.
Depends on the standard library only: these scripts run before anything is installed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TINYCL_BUILD") or ROOT / "build").absolute()
SOURCE = BUILD / "micropython" / "src"  # MicroPython's tree, complete with pico-sdk, tinyusb and mbedtls
FIRMWARE = BUILD / "firmware"

# What `make firmware USER_C_MODULES=…` of our Makefile leaves in the environment, and MicroPython's would take for its own.
OURS = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "USER_C_MODULES")

# commands of the cross toolchain, each with the Debian package that has it
TOOLCHAIN = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "arm-none-eabi-g++": "libstdc++-arm-none-eabi-newlib",
    "cmake": "cmake",
    "make": "make",
    "gcc": "gcc",
}


class Trouble(Exception):
    """Something that a person can put right; the text says how."""


def step(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def missing_tools(tools: dict[str, str]) -> list[str]:
    """The packages of the commands that are not there."""
    return sorted({package for command, package in tools.items() if shutil.which(command) is None})


def run(command: Sequence[str | Path], log: Path, cwd: Path | None = None, **variables: str) -> str:
    """Runs a command with its output in `log`, and a sign of life on a terminal; Trouble with the log's end on failure."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    start = time.monotonic()
    with log.open("w") as out:
        out.write(" ".join(words) + "\n")
        out.flush()
        environment = {key: value for key, value in os.environ.items() if key not in OURS} | variables
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=environment)
        try:
            while True:
                try:
                    process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    if sys.stdout.isatty():
                        print(f"\r  {time.monotonic() - start:4.0f} s  {_last_line(log):.100}\033[K", end="", flush=True)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)
    text = log.read_text(errors="replace")
    if process.returncode:
        tail = "\n".join(text.splitlines()[-25:])
        raise Trouble(f"{tail}\n'{words[0]}' ended with status {process.returncode}; the whole output is in {shown(log)}")
    return text


def _last_line(log: Path) -> str:
    with log.open("rb") as f:
        f.seek(max(0, log.stat().st_size - 400))
        lines = f.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def shown(path: Path) -> str:
    """A path as a person at the root of the project would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def report(script: Callable[[], None]) -> None:
    """Runs a script's main function; Trouble is a message and a status, not a traceback."""
    try:
        script()
    except Trouble as e:
        sys.exit(f"{Path(sys.argv[0]).name}: {e}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: stopped; the same command goes on from here")
