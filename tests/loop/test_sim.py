"""The simulated board as a thing of its own: what it leaves behind."""

import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.usefixtures("micropython")

KILLED = """
import os, signal
from tinycl.board.sim import SimBoard
board = SimBoard()
board.__enter__()
print(board.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_host_that_is_killed_leaves_no_board_running() -> None:
    host = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=60)
    pid = int(host.stdout)
    end = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") if os.path.exists("/proc") else subprocess.run(["ps", "-p", str(pid)]).returncode == 0:
        assert time.monotonic() < end
        time.sleep(0.05)
