"""What is measured, by `make bench` and by the tests: one file a subject beside this one."""

import json
from pathlib import Path
from typing import Any


def save(path: Path, figures: dict[str, Any]) -> None:
    """Adds figures to a JSON file of them, which several benches share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    had = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**had, **figures}, indent=1) + "\n")
