"""Progress bars of the command's long work: amount, rate, remaining time."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from nano_graphrag_redis import migration
from nano_graphrag_redis.humanize import size
from nano_graphrag_redis.printable import visible

_RATES_FIT, _LONG_BARS_FIT = 80, 120
"""Columns of a screen."""

_STEPS = {
    "check": "look over",
    "copy": "copy",
    "list": "list the ids of",
    "write": "write",
    "read": "read",
    "compare": "compare",
}


class Bars(Progress):
    """Progress bars of long operations: amount, rate, remaining time."""

    def __init__(self, *, disable: bool, console: Console) -> None:
        whole = Column(no_wrap=True)
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False, table_column=whole),
            _Amount(table_column=whole),
        ]
        if console.width >= _RATES_FIT:
            columns.insert(1, BarColumn(bar_width=40 if console.width >= _LONG_BARS_FIT else 8))
            columns += [_Rate(table_column=whole), TimeRemainingColumn(table_column=whole)]
        super().__init__(
            *columns,
            console=console,
            disable=disable,
            transient=True,
        )
        self._tasks_by_name: dict[str, TaskID] = {}

    def tell(self, what: str, done: float, total: float | None, unit: str) -> None:
        """How far a piece of work is; it gets a bar of its own the first time."""
        what = visible(what)
        task = self._tasks_by_name.get(what)
        if task is None:
            task = self.add_task(what, total=total, unit=unit)
            self._tasks_by_name[what] = task
        self.update(task, completed=done, total=total)


def told(bars: Bars) -> migration.Report:
    """Has the work on files tell ``bars`` how far it is."""

    def tell(progress: migration.Progress) -> None:
        what = f"{_STEPS[progress.step]} {progress.namespace}"
        bars.tell(what, progress.done, progress.total, progress.unit)

    return tell


class _Amount(ProgressColumn):
    def render(self, task: Task) -> Text:
        done = _amount(task.completed, task.fields["unit"])
        if task.total is None:
            return Text(done)
        return Text(f"{done} of {_amount(task.total, task.fields['unit'])}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{_amount(speed, task.fields['unit'])}/s", "cyan")


def _amount(number: float, unit: str) -> str:
    return size(number) if unit == "bytes" else f"{number:,.0f} {unit}"
