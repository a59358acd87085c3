"""Names that another program, or somebody who means harm, leaves where ours are."""

from __future__ import annotations

import random
import unicodedata

TRICKS = (
    "\x1b[2J\x1b]0;owned\x07",  # clears the screen, sets the window's title
    "\x9b31m",  # the same in one character of C1
    "\x7f\x08\x08",
    "\r\nERROR forged line",
    "\x00",
    "\u202egnp.exe\u202c",  # right to left
    "\u2066\u200f\u061c",
    "\u2028\u2029\x85",
    "\u200b\ufeff\u00ad",
    "\U000e0041",
    "[bold red]{}%s",
)
"""What a terminal or a reader acts on."""


def names(seed: int, count: int) -> list[str]:
    """Names of characters that are escaped where they are shown, and of ordinary ones."""
    chance = random.Random(seed)
    return ["".join(chance.choices((*TRICKS, "a", "é"), k=3)) for _ in range(count)]


def foreign_keys(prefix: bytes) -> list[bytes]:
    """Keys under a prefix that no storage makes."""
    return [
        prefix,
        prefix + b":id without a namespace",
        prefix + b"no colon at all",
        prefix + b"a@b:id",
        prefix + b"\xff\xfe:id",
        prefix + b"full_docs:\xff\x1b[2J",
        prefix + b"\x1b[31m\xc3:\x9b",
        prefix + b"@registry:",
        prefix + b"@registry:a@b",
        prefix + b"@\xff",
    ]


def raw_in(text: str) -> set[str]:
    """The characters of an output that a terminal acts on, or that lead a reader astray."""
    harmful = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {c for c in text if unicodedata.category(c) in harmful and c != "\n"}
