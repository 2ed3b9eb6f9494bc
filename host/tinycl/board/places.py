"""Where made things go: firmware, native kernels, emulators, the flash of boards that are no hardware. Depends on nothing."""

import os
from pathlib import Path


def cache() -> Path:
    """TINYCL_BUILD, the project's build/ in a checkout of it, or the user's cache."""
    if named := os.environ.get("TINYCL_BUILD"):
        return Path(named).absolute()
    root = Path(__file__).absolute().parents[3]
    if (root / "device").is_dir() and (root / "Makefile").exists():
        return root / "build"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinycl"
