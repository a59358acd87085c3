r"""Text as it may be shown: in a terminal, a log line, an exception's message.

Ids, keys, values, file names and what a server answers are written by others. A control character
among them can clear a screen, set a window's title or forge a line of a log; a bidirectional one
shows a name as another. Everything that reaches a person goes through ``visible``; in the core, its
twin is ``src/printable.rs``.
"""

from __future__ import annotations

import json
import re
from typing import Any

_PRINTABLE_ASCII = re.compile(r"[ -~]*")


def visible(text: object, *, lines: bool = False) -> str:
    r"""``text`` with an escape in place of each character that is not printable.

    That is what ``str.isprintable`` says: C0, DEL, C1, format characters (bidirectional ones among
    them), lone surrogates, separators other than the space, and what no character is. Applied
    twice it changes nothing more.

    Args:
        text: Bytes are read as UTF-8, of which those that are none are shown as ``\xNN``.
        lines: Whether a newline is a newline: for a text of several lines that were made visible
            one by one.

    >>> print(visible("a\n\x1b[2J\u202e\udcff"), visible(b"\xff\xc3\xa9"), visible("[bold]"))
    a\n\x1b[2J\u202e\udcff \xffé [bold]
    """
    text = text.decode(errors="backslashreplace") if isinstance(text, bytes) else str(text)
    if _PRINTABLE_ASCII.fullmatch(text):
        return text
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in text
    )


def visible_json(data: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    r"""``data`` as JSON without a raw control character: the same data to whoever reads it.

    >>> print(visible_json(["\x9b", "\u202e", "é", "\U000e0041"]))
    ["\u009b", "\u202e", "é", "\udb40\udc41"]
    """
    text = json.dumps(data, ensure_ascii=ascii_only, indent=indent)
    # Newlines are between the parts, never in a string: there JSON itself escapes them.
    lines = (
        line if line.isprintable() else "".join(map(_escaped_in_json, line))
        for line in text.split("\n")
    )
    return "\n".join(lines)


def _escaped_in_json(character: str) -> str:
    if character.isprintable():
        return character
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
