"""The files that the architecture page names for a call."""

from __future__ import annotations

import re
from typing import NamedTuple

from .pages import read

PAGE = "docs/architecture.md"


class Way(NamedTuple):
    """The files of a call, from the root of the repository.

    Attributes:
        steps: Those that the table of its steps links to.
        beside: Those of which code runs beside the way, as the text below the table names them.
        told: How many of each the text says there are.
    """

    steps: set[str]
    beside: set[str]
    told: tuple[int, int]


def way(call: str) -> Way:
    """What the section of this heading says."""
    section = read(PAGE).split(f"\n## {call}\n", 1)[1].split("\n## ", 1)[0]
    table, _, text = section.rpartition("|\n")
    steps = set(re.findall(r"\]\(\.\./([^)]+)\)", table))
    count = re.search(r"These (\d+) files are the way\. Code of (\d+) more", text)
    assert count is not None, f"no figures below the table of {call!r}"
    paragraph = text[count.end() :].split("\n\n", 1)[0]
    beside = {f"src/{name}" for name in re.findall(r"`([\w/]+\.rs)`", paragraph)}
    if "what does so beside a read" in paragraph:
        beside ^= way("A read").beside  # those that only a read enters are named, too
    return Way(steps, beside, (int(count[1]), int(count[2])))
