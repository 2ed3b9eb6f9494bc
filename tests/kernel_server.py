"""A MicroPython that stays up and runs kernels for the tests, through tests/device/serve_kernels.py."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kernel_cases

Answer = tuple[list[str], list[int | None]]  # buffers as hex, returned values
Serve = Callable[[str, kernel_cases.Case], Answer]


@contextmanager
def serving(micropython: str, flash: Path) -> Iterator[Serve]:
    """Gives ask(implementation, case), which fails where the board's side does."""
    command = [micropython, "-X", "heapsize=4m", "serve_kernels.py"]
    process = subprocess.Popen(command, cwd=flash, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdin and process.stdout
    stdin, stdout = process.stdin, process.stdout

    def ask(implementation: str, case: kernel_cases.Case) -> Answer:
        stdin.write(json.dumps({"implementation": implementation, "buffers": case[0], "calls": case[1]}) + "\n")
        answer = json.loads(stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["buffers"], answer["returned"]

    try:
        yield ask
        stdin.close()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
