"""All output of the command: results on stdout, through rich or as JSON; the rest on stderr.

Nothing leaves here with a control character in it but rich's own colours: see ``visible``. What the
encoding of the stream cannot say is replaced.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.containers import Lines
from rich.highlighter import JSONHighlighter
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.printable import visible, visible_json

from .progress_bars import Bars

PROGRAM = "nano-graphrag-redis"

_ANY_WIDTH = 10_000
"""Cells: more than a line of a table has."""

_LINES = 5000
"""Lines that are written at a time."""


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
        self.out = _Console(highlight=False, markup=False, emoji=False)
        self.err = _Console(highlight=False, markup=False, emoji=False, stderr=True)

    def show(self, data: Any, human: Callable[[], RenderableType | None]) -> None:
        """The result: ``data`` as JSON, or what ``human`` makes, which may be nothing."""
        if self.as_json:
            self.lines([self.json(data)])
            return
        shown = human()
        if shown is not None:
            self.out.tell(shown)

    def lines(self, lines: Iterable[str]) -> None:
        """Lines of any number, each visible already, as they come."""
        coming = iter(lines)
        while some := list(islice(coming, _LINES)):
            self.out.file.write("\n".join(some) + "\n")
        self.out.file.flush()

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
            with _unheard():
                self.err.tell(Text(text, style))

    def advise(self, text: str) -> None:
        """What to do next, for somebody at a terminal.

        A log is read later, when a job may have given the directories of the advice another name.
        """
        if self.err.is_terminal:
            self.say(f"next: {text}", "dim")

    def refuse(self, error: Exception) -> None:
        """Why a command ends early."""
        with _unheard():
            if self.as_json:
                told = {"error": type(error).__name__, "message": str(error)}
                if isinstance(error, StorageError):
                    told |= {"namespace": error.namespace, "id": error.id}  # type: ignore[dict-item]
                ascii_only = not self.err.encoding.startswith("utf")
                self.err.out(visible_json(told, ascii_only=ascii_only), highlight=False)
            else:
                self.err.tell(Text.assemble((f"{PROGRAM}: ", "bold red"), str(error)))

    @contextmanager
    def progress(self) -> Iterator[Bars]:
        """Bars on the terminal while work goes on; none where nobody looks."""
        with Bars(disable=self.quiet or not self.err.is_terminal, console=self.err) as bars:
            yield bars


@contextmanager
def _unheard() -> Iterator[None]:
    """Goes on where stderr cannot be written: the result and the exit code are what counts."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass


class _Console(Console):
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is shown, its text made visible; colours and the cursor's moves are rich's own."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text, lines=True), style, control)

    def tell(self, shown: RenderableType) -> None:
        """Breaks lines between words at a terminal, and not at all elsewhere.

        A word that is longer than a line, such as an id, stays whole: it may be copied.
        """
        self.print(_in_words(shown, self.width) if self.is_terminal else shown, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Leaves the exit code to the session, like everything else that goes wrong."""
        raise BrokenPipeError


def _in_words(shown: RenderableType, width: int) -> RenderableType:
    if isinstance(shown, Group):
        return Group(*(_in_words(each, width) for each in shown.renderables))
    if isinstance(shown, str):
        shown = Text(shown)
    if not isinstance(shown, Text) or shown.no_wrap:
        return shown
    lines = [part for line in shown.split("\n", allow_blank=True) for part in _wrapped(line, width)]
    return Text("\n").join(lines)


def _wrapped(line: Text, width: int) -> Lines:
    """Rich's own wrapping cuts a word that is too long for a line."""
    breaks, start = [], 0
    for word in re.finditer(r"\S+", line.plain):
        if line.plain[start : word.start()].strip() and (
            cell_len(line.plain[start : word.end()]) > width
        ):
            start = word.start()
            breaks.append(start)
    parts = line.divide(breaks)
    for part in parts:
        part.rstrip()
    return parts


class _Table(Table):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # A name that is folded cannot be copied, nor looked for: the terminal wraps long lines.
        # On a screen that is drawn on, no line may be longer than it is wide.
        unbounded = options.update(max_width=_ANY_WIDTH)
        if console.is_terminal and console.measure(self, options=unbounded).maximum > console.width:
            return self._records()
        return super().__rich_console__(console, unbounded if options.no_wrap else options)

    def _records(self) -> RenderResult:
        """A block of lines for each row, where a row is wider than the screen."""
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            yield Text(str(cells[0]), "bold")
            for column, cell in zip(self.columns[1:], cells[1:], strict=True):
                if cell:
                    yield Text(f"  {column.header}: {cell}")


def table(*columns: str, numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """A table; the columns of numbers are set to the right."""
    made = _Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def document(value: Any, output: Output) -> RenderableType:
    """A JSON document, indented and coloured."""
    return JSONHighlighter()(Text(output.json(value), no_wrap=True, overflow="ignore"))


def replace_what_cannot_be_said() -> None:
    """Makes streams that are not UTF-8 print the escape of a character they cannot encode.

    A command must not fail because of a character in an id.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
