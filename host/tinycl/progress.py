"""Progress bars for everything that takes longer than a moment; on standard error, so that --json stays clean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
