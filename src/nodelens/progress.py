"""Progress of long work: a bar with the time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console(stderr=True, soft_wrap=True, markup=False)
PLAIN_SECONDS = 30.0


class Bar:
    """Where a piece of long work tells how far it is."""

    def __init__(self, title: str, total: int, progress: Progress | None) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._first: int | None = None
        self._started = self._printed = time.monotonic()
        self._progress = progress
        self._task: TaskID | None = None
        if progress is not None:
            self._task = progress.add_task(title, total=total, note="")

    def reach(self, done: int, note: str = "") -> None:
        """Say that `done` of the total is finished; `note` stands beside the bar."""
        if self._first is None:
            self._first = self._done
        self._done = done
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._printed > PLAIN_SECONDS or done >= self._total:
            self._printed = time.monotonic()
            console.print(f"{self._title}: {done}/{self._total}{self._time_left()} {note}", highlight=False)

    def start_at(self, done: int) -> None:
        """Work that an earlier process did: shown, but not counted into the speed."""
        self._first = self._done = done
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def _time_left(self) -> str:
        finished = self._done - (self._first or 0)
        if finished <= 0 or self._done >= self._total:
            return ""
        left = (time.monotonic() - self._started) / finished * (self._total - self._done)
        return f", {left / 60:.0f} min left" if left > 90 else f", {left:.0f} s left"


@contextmanager
def progress(title: str, total: int) -> Iterator[Bar]:
    """Show progress towards `total` while the block runs."""
    if not console.is_terminal:
        yield Bar(title, total, None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        yield Bar(title, total, shown)
