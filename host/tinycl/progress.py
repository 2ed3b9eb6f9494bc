"""Progress bars for everything that takes longer than a moment; on standard error, so that --json stays clean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Update = Callable[[int, int], None]
console = Console(stderr=True, markup=False)  # names come from the user's data: [x] is text


@contextmanager
def stage(text: str) -> Iterator[Update]:
    """A bar named `text`; yields update(done, total)."""
    columns = (
        TextColumn("{task.description:<34}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(text, total=None)

        def update(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield update
        total = bars.tasks[0].total or 1
        bars.update(task, completed=total, total=total)


@contextmanager
def many() -> Iterator[Callable[[str, str, int, int], None]]:
    """A bar for each of many things that go on side by side; yields tell(name, what, done, total), where a total of 0 makes a
    line of news."""
    columns = (TextColumn("{task.description:<44}", markup=False), BarColumn(bar_width=30), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(name: str, what: str, done: int = 0, total: int = 0) -> None:
            text = f"{name}: {what}" if name else what
            if not total:
                console.print(text)
                return
            if name not in tasks:
                tasks[name] = bars.add_task(text)
            bars.update(tasks[name], description=text, completed=done, total=total)

        yield tell


def follow(update: Update, events: list[dict[str, Any]], epochs: int = 0) -> Callable[[dict[str, Any]], None]:
    """A listener for an enrolment: keeps the board's events, moves a bar of `epochs` (0: nobody knows how many), and writes a
    line where the model grows."""

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if event["t"] == "epoch":
            done = sum(e["t"] == "epoch" for e in events)
            update(done, max(done, epochs))
        elif event["t"] == "grow":
            console.print(
                f"validation {100 * event['val']:.0f} % is under the target of {100 * event['target']:.0f} %: "
                f"trying rung {event['to']}"
            )
        elif event["t"] == "grown":
            verdict = "kept" if event["accepted"] else "the old model comes back"
            console.print(f"rung {event['to']}: {100 * event['before']:.0f} % -> {100 * event['after']:.0f} %, {verdict}")

    return listen
