"""A long life: thousands of enrolments, each forgotten again, on a heap of the size of the sim board's, through the agent's own
handlers. Memory in use must stay flat, commit numbers and file numbers go round. Needs the repository's tests/device.

usage: python -m tinycl.bench.life [--cycles N] [--out FILE]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tinycl.bench import power, save
from tinycl.board.sim import HEAP_BYTES
from tinycl.shared.errors import TinyclError

HOST_KIB = 48  # of the heap are for the host, which lives in the same process here
PLAY_BYTES = 1024  # the collector takes what looks like a pointer for one


def live(cycles: int, between_restarts: int = 1000, micropython: str | None = None) -> list[dict[str, Any]]:
    """Readings of memory in use, one for each 100 cycles: tests/device/life.py tells the fields. Raises TinyclError where the
    board does not get through, or a restart does not find what was there."""
    readings = []
    with tempfile.TemporaryDirectory(prefix="tinycl-life-") as name:
        folder = Path(name)
        power.lay_out(folder)
        (folder / "life").mkdir()
        (begun,) = power.run_script(folder, "life.py", "begin", "life", micropython=micropython)
        digest = begun["digest"]
        for first in range(0, cycles, between_restarts):
            count = str(min(between_restarts, cycles - first))
            found, *windows, end = power.run_script(
                *(folder, "life.py", "cycles", "life", str(first), count),
                micropython=micropython,
                heap_kib=HEAP_BYTES // 1024 + HOST_KIB,
            )
            if found["digest"] != digest:
                raise TinyclError(f"after {first} cycles a restart found digest {found['digest']:08x}, not {digest:08x}")
            digest = end["digest"]
            readings += windows
    return readings


def growth(readings: list[dict[str, Any]]) -> int:
    """By how many bytes the largest reading of the later half exceeds that of the first half, in use at a window's end or at
    most within it: flat is up to PLAY_BYTES. A leak shows in every later window, a single low one is an accident."""
    half = len(readings) // 2
    first, later = readings[:half], readings[half:]
    return max(max(r[key] for r in later) - max(r[key] for r in first) for key in ("in_use", "most_in_use"))


def main() -> int:
    """Status 1 where memory in use grows."""
    parser = argparse.ArgumentParser(description="enrols and forgets, over and over")
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("out/bench/rp2040.json"), help="takes the figures beside what it has")
    options = parser.parse_args()
    readings = live(options.cycles)
    first, last = readings[0], readings[-1]
    figures = {
        "life_cycles": last["cycles"],
        "life_in_use_bytes": [first["in_use"], last["in_use"]],
        "life_most_in_use_bytes": [first["most_in_use"], last["most_in_use"]],
        "life_highest_in_use_bytes": max(reading["most_in_use"] for reading in readings),
    }
    print(json.dumps(figures))
    save(options.out, figures)
    if growth(readings) <= PLAY_BYTES:
        return 0
    print(f"memory in use grew by {growth(readings):,} bytes, allowed are {PLAY_BYTES:,}: look for what outlives an enrolment")
    return 1


if __name__ == "__main__":
    sys.exit(main())
