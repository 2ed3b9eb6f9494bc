"""Holds measured figures against tests/target_results.csv, each within its tolerance. Depends on nothing beyond Python.

usage: python -m tinycl.bench.targets [FOLDER]   status 1 where a figure is out of its tolerance or missing
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parents[3] / "tests/target_results.csv"


class Target(NamedTuple):
    """figure: a file's name and the keys in it, with dots between (paper.har.mac_ratio.mean); when: test or bench."""

    figure: str
    value: float
    tolerance: float
    when: str


def targets(file: Path = FILE) -> list[Target]:
    """The rows of the file, in its order."""
    with file.open(newline="") as f:
        return [Target(r["figure"], float(r["value"]), float(r["tolerance"]), r["when"]) for r in csv.DictReader(f)]


def measured(target: Target, found: dict[str, Any]) -> float | None:
    """The figure in {file name: its JSON}; None where it is not there."""
    value: Any = found
    for key in target.figure.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return float(value)


def misses(rows: list[Target], found: dict[str, Any]) -> list[str]:
    """A line for each figure that is missing or out of its tolerance."""
    lines = []
    for row in rows:
        value = measured(row, found)
        if value is None:
            lines.append(f"{row.figure}: not measured, {row.value:g} is stated: run 'make bench'")
        elif abs(value - row.value) > row.tolerance:
            lines.append(
                f"{row.figure}: {value:g}, stated is {row.value:g} within {row.tolerance:g}: look why, or state it anew"
            )
    return lines


def main(argv: list[str]) -> int:
    folder = Path(argv[0] if argv else "out/bench")
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    rows = [row for row in targets() if row.when == "bench"]
    wrong = misses(rows, found)
    print("\n".join(wrong) or f"{len(rows)} figures are as stated")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
