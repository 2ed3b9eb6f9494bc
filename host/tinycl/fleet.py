"""Many boards at once, each with a job of its own: one that hangs, resets or is unplugged holds up no other. Depends on the
board interface and flash.py."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.live import Live
from rich.table import Table

from tinycl import samples
from tinycl.board.base import Board
from tinycl.errors import DataError
from tinycl.flash import send_blob
from tinycl.progress import console
from tinycl.shared.errors import TinyclError

Tell = Callable[[str], None]
Job = Callable[[Board, Tell], dict[str, Any]]

DEADLINE_S = 120.0  # a board that has not finished by then is left behind


@dataclass
class Row:
    """One board: what it is doing, and at the end what it has or why not."""

    name: str
    board: str = ""
    doing: str = "waiting"
    done: bool = False
    error: str = ""
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "board": self.board, "error": self.error, "seconds": round(self.seconds, 2), **self.facts}


def run(
    boards: Sequence[tuple[str, Board]], job: Callable[[int], Job], deadline_s: float = DEADLINE_S, show: bool = True
) -> list[Row]:
    """Enters every board, gives board i the job job(i), side by side; a row for each, in their order.

    A job returns what the table says of its board at the end, and calls `tell` on its way. Whatever it raises ends that board
    alone; one that is not done after deadline_s is left behind, said so, and closed when it lets go."""
    rows = [Row(name) for name, _ in boards]
    # Daemons: one that hangs must not hold up the end of the program either.
    tasks = [
        threading.Thread(target=_one, args=(board, job(i), row), name=f"board {name}", daemon=True)
        for i, ((name, board), row) in enumerate(zip(boards, rows, strict=True))
    ]
    for task in tasks:
        task.start()
    end = time.monotonic() + deadline_s
    if show:
        _watch(rows, tasks, end)
    for task in tasks:
        task.join(max(0.0, end - time.monotonic()))
    for row, task in zip(rows, tasks, strict=True):
        if task.is_alive():
            row.error = f"not done after {deadline_s:g} s ({row.doing}): reset the board, then run the same command again"
    return rows


def _one(board: Board, job: Job, row: Row) -> None:
    start = time.monotonic()

    def tell(text: str) -> None:
        row.doing = text
        row.seconds = time.monotonic() - start

    try:
        tell("connecting")
        with board:
            row.board = str(board.link.board.get("board", ""))
            row.facts = job(board, tell)
            row.done = True
            tell("done")
    except TinyclError as e:
        row.error = str(e)
    except Exception as e:  # somebody else's job: it must not take the fleet with it
        row.error = f"{type(e).__name__}: {e}"
    row.seconds = time.monotonic() - start


def _watch(rows: Sequence[Row], tasks: Sequence[threading.Thread], end: float) -> None:
    with Live(table(rows), console=console, refresh_per_second=8, transient=True) as live:
        while any(task.is_alive() for task in tasks) and time.monotonic() < end:
            time.sleep(0.125)
            live.update(table(rows))


def table(rows: Sequence[Row]) -> Table:
    """What each board is doing, or has."""
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"{len(rows)} boards", title_justify="left")
    for text in ("board", "id", "s", "what"):
        out.add_column(text, justify="right" if text == "s" else "left", overflow="fold")
    for row in rows:
        if row.error:
            what = f"FAILED: {row.error}"
        elif row.done:
            what = ", ".join(f"{key} {value}" for key, value in row.facts.items())
        else:
            what = row.doing
        out.add_row(row.name, row.board, f"{row.seconds:.1f}", what)
    return out


def room(count: int = 0, micropython: str | None = None, heap_kb: int | None = None) -> list[tuple[str, Board]]:
    """(name, board) of so many simulated boards, or of every real one that is plugged in and answers. NoBoard for none."""
    if count:
        from tinycl.board.pick import embedded

        return [(f"sim {i}", embedded("sim", micropython=micropython, heap_kb=heap_kb)) for i in range(count)]
    from tinycl.board.errors import NoBoard
    from tinycl.board.port import PortBoard, discover

    asked = discover()
    found = [port for port in asked if port.hello]
    if not found:
        raise NoBoard(
            f"0 of {len(asked)} USB ports have a board that answers: plug boards in, run 'tinycl flash --all', or take --sim 30"
        )
    return [(port.device, PortBoard(port)) for port in found]


def classes_of(folder: Path) -> list[tuple[str, Path]]:
    """(class, its samples): the files and folders of a folder, each named for its class. DataError for none."""
    found = [(p.stem if p.is_file() else p.name, p) for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    if not found:
        raise DataError(f"0 files in '{folder}': put a file or a folder of samples for each class there")
    return found


def teach(lesson: tuple[str, Path], blob: bytes | None = None) -> Job:
    """A job: sends the blob where the board has another or none, and enrols one class."""
    name, path = lesson

    def job(board: Board, tell: Tell) -> dict[str, Any]:
        client = board.client
        send_blob(client, blob, lambda what, done, total: tell(f"{what}, {done:,} of {total:,} bytes"))
        x = samples.read(str(path), samples.Format.of(client.status()))
        tell(f"learning '{name}'")

        def follow(event: dict[str, Any]) -> None:
            if event["t"] == "epoch":
                tell(f"learning '{name}', epoch {event['epoch']}, loss {event['loss']:.3f}")

        done = client.enrol(name, x, follow)
        return {
            "class": name,
            "samples": done["samples"],
            "validation": round(done["val"], 3),
            "rung": done["rung"],
            "classes": len(client.classes()),
        }

    return job
