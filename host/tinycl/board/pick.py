"""Which board a person means by a name: the simulated one, the emulated one, or a real one behind a port."""

from pathlib import Path
from typing import Any

from tinycl.board.base import Board
from tinycl.board.places import cache

EMBEDDED = ("sim", "rp2040")


def kept() -> Path:
    """Folder for the flash of the boards that are no hardware, from one command to the next."""
    return cache() / "boards"


def embedded(
    kind: str,
    kernels: str = "",
    flash: Path | None = None,
    micropython: str | None = None,
    heap_kb: int | None = None,
) -> Board:
    """A board that needs no hardware: `sim` or `rp2040`, its flash at `flash` or in a temporary place."""
    if kind == "rp2040":
        from tinycl.board.rp2040 import Rp2040Board

        return Rp2040Board(kernels=kernels, flash=flash)
    from tinycl.board.sim import HEAP_BYTES, SimBoard

    return SimBoard(micropython, heap_kb * 1024 if heap_kb else HEAP_BYTES, kernels, flash)


def pick(selector: str, micropython: str | None = None, heap_kb: int | None = None, **lines: Any) -> Board:
    """The board that `selector` means, not entered yet; a sim or rp2040 board keeps its flash under `kept()`.

    lines: baud, dtr, rts of a real port. Raises NoBoard, SeveralBoards and what else `tinycl.board.port` does.
    """
    if selector == "sim":
        return embedded("sim", "", kept() / "sim", micropython, heap_kb)
    if selector == "rp2040":
        return embedded("rp2040", "", kept() / "rp2040.img")
    from tinycl.board.port import PortBoard

    return PortBoard.of(selector, **lines)
