"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from typing import NamedTuple

from support.host import ROOT

PAGES = [
    path.relative_to(ROOT).as_posix()
    for where in ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/**/*.md")
    for path in sorted(ROOT.glob(where))
    if path.is_file()
]
"""Every page, by its path in the repository."""

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
        page: The page it stands on.
        line: Its first line there.
        language: What the fence says it is.
        text: What stands between the fences.
        shown: The text of a ``text`` block right below it: what it prints. None without one.
    """

    page: str
    line: int
    language: str
    text: str
    shown: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def commands(page: str) -> list[str]:
    """What a page shows as an indented block, a line each, without remarks."""
    outside = _FENCE.sub("", read(page))
    lines = re.findall(r"(?<=\n\n)((?:    \S.*\n)+)", outside)
    every = (line.partition(" #")[0].strip() for block in lines for line in block.splitlines())
    return [line for line in every if not line.startswith(("options:", "show_"))]


def blocks(page: str) -> list[Block]:
    """The blocks of a page that are more than the output of the block above them."""
    text, found = read(page), []
    fences = list(_FENCE.finditer(text))
    outputs = set()
    for index, fence in enumerate(fences):
        if index in outputs:
            continue
        following = fences[index + 1] if index + 1 < len(fences) else None
        shown = None
        if (
            following is not None
            and following["language"] == "text"
            and not text[fence.end() : following.start()].strip()
        ):
            shown = following["text"]
            outputs.add(index + 1)
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, fence["language"], fence["text"], shown))
    return found
