"""What all tests share: the real MicroPython, a board's flash with the runtime on it, and the runtime's own modules on
CPython's path. Depends on pytest."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tinycl.board.base import BoardError, runtime
from tinycl.board.sim import find_micropython

ROOT = Path(__file__).parent.parent
collect_ignore = ["device"]  # MicroPython runs these itself

# `import learner`, `kernels.plain`, `shared.blob` as the board does it; the host's own names are tinycl.*
sys.path[:0] = [str(ROOT), str(ROOT / "device"), str(ROOT / "tests/device"), str(ROOT / "tests/vectors")]
sys.path.append(str(ROOT / "host/firmware"))  # scripts; behind all else, as tests have a natmod.py and a qemu.py too

settings.register_profile("tinycl", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test asserts a time
settings.load_profile("tinycl")


@pytest.fixture(scope="module")
def board_time() -> Iterator[None]:
    """What growth.py needs of MicroPython's own modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "ticks_ms", lambda: time.monotonic_ns() // 1_000_000, raising=False)
        patch.setattr(time, "ticks_diff", lambda a, b: a - b, raising=False)
        patch.setattr(gc, "mem_free", lambda: 0, raising=False)
        yield


@pytest.fixture(scope="session")
def micropython() -> str:
    """Path of a real MicroPython; where there is none, skips, or fails with CI or TINYCL_REQUIRE in the environment."""
    try:
        return find_micropython()
    except BoardError as e:
        if os.environ.get("CI") or os.environ.get("TINYCL_REQUIRE"):
            pytest.fail(str(e))
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as a board's flash: the runtime, the scripts of tests/device and the golden vectors."""
    folder = tmp_path_factory.mktemp("flash")
    contents = runtime()
    for path in [*(ROOT / "tests/device").glob("*.py"), *(ROOT / "tests/vectors").glob("*.json")]:
        contents[path.name] = path.read_bytes()
    for name, data in contents.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def on_board(micropython: str, flash: Path) -> Callable[..., str]:
    """on_board(script, *arguments, stdin=""): what a script that lies on the flash prints; fails where it fails."""

    def run(script: str, *arguments: str, stdin: str = "", heap_kib: int = 2048) -> str:
        command = [micropython, "-X", f"heapsize={heap_kib}k", script, *arguments]
        done = subprocess.run(command, cwd=flash, input=stdin, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return run
