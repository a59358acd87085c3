"""All output of the command: results on stdout, through rich or as JSON; the rest on stderr.

Nothing leaves here with a control character in it but rich's own colours: see ``visible``. What the
encoding of the stream cannot say is replaced.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.highlighter import JSONHighlighter
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.printable import visible, visible_json

PROGRAM = "nano-graphrag-redis"

_ANY_WIDTH = 10_000
"""Cells: more than a line of a table has."""


class Output:
    """The output of a command.

    Args:
        as_json: Print the result as one JSON document, and errors as another.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.quiet = as_json
        """Whether there are no bars."""
        # Ids and messages are no markup, whatever brackets are in them.
        self.out = _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.err = _Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)

    def show(self, data: Any, human: Callable[[], RenderableType | None]) -> None:
        """The result: ``data`` as JSON, or what ``human`` makes, which may be nothing."""
        if self.as_json:
            self.out.out(self.json(data), highlight=False)
            return
        shown = human()
        if shown is not None:
            self.out.print(shown)

    def json(self, data: Any) -> str:
        """A JSON document: what stdout cannot encode is escaped, so that nothing of it is lost."""
        return visible_json(data, indent=2, ascii_only=not self.out.encoding.startswith("utf"))

    def says(self, text: str) -> bool:
        """Whether stdout can encode this."""
        try:
            text.encode(self.out.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def say(self, text: str, style: str = "") -> None:
        """A line for whoever watches; nothing in JSON."""
        if not self.as_json:
            self.err.print(Text(text, style))

    def refuse(self, error: Exception) -> None:
        """Why a command ends early."""
        if self.as_json:
            told = {"error": type(error).__name__, "message": str(error)}
            if isinstance(error, StorageError):
                told |= {"namespace": error.namespace, "id": error.id}  # type: ignore[dict-item]
            ascii_only = not self.err.encoding.startswith("utf")
            self.err.out(visible_json(told, ascii_only=ascii_only), highlight=False)
        else:
            self.err.print(Text.assemble((f"{PROGRAM}: ", "bold red"), str(error)))

    @contextmanager
    def progress(self) -> Iterator[Bars]:
        """Bars on the terminal while work goes on; none where nobody looks."""
        with Bars(disable=self.quiet or not self.err.is_terminal, console=self.err) as bars:
            yield bars


class _Console(Console):
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is shown, its text made visible; colours and the cursor's moves are rich's own."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text, lines=True), style, control)

    def on_broken_pipe(self) -> None:
        """Leaves the exit code to the session, like everything else that goes wrong."""
        raise BrokenPipeError


class Bars(Progress):
    """Progress bars of long operations: amount, rate, remaining time."""

    def __init__(self, *, disable: bool, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Amount(),
            _Rate(),
            TimeRemainingColumn(),
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


def size(number: float) -> str:
    """Bytes as a person reads them.

    >>> size(999), size(4700), size(2_000_000_000)
    ('999 B', '4.7 kB', '2.0 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:  # noqa: PLR2004
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


class _Table(Table):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # A name that is folded cannot be copied, nor looked for: the terminal wraps long lines.
        # On a screen that is drawn on, no line may be longer than it is wide.
        if options.no_wrap:
            options = options.update(max_width=_ANY_WIDTH)
        return super().__rich_console__(console, options)


def table(*columns: str, numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """A table; the columns of numbers are set to the right."""
    made = _Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def document(value: Any, output: Output) -> RenderableType:
    """A JSON document, indented and coloured."""
    return JSONHighlighter()(Text(output.json(value)))


def replace_what_cannot_be_said() -> None:
    """Makes streams that are not UTF-8 print the escape of a character they cannot encode.

    A command must not fail because of a character in an id.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
