"""What a training step takes from the heap of a real MicroPython: nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blobs import RUNGS, tiny_blob


@pytest.mark.parametrize("rung", range(len(RUNGS)))
@pytest.mark.parametrize("kernels", ["viper", "plain"])
def test_training_steps_allocate_nothing(on_board: Callable[..., str], tmp_path: Path, kernels: str, rung: int) -> None:
    """With collection off, over 100 rounds of a step for each class, dealt and trained as an epoch does: linear, with hidden
    units, and behind the deeper exit. What is in the plain kernels' favour here is the width of this machine's small integers:
    on a 32-bit board they may take some."""
    (tmp_path / "blob").write_bytes(tiny_blob())
    taken, head, hidden = (int(v) for v in on_board("steps.py", kernels, str(tmp_path / "blob"), str(rung), "100").split())
    assert taken == 0
    assert (head, hidden) == (1, int(RUNGS[rung][1] > 0))  # the steps were some
