"""The messages that the page of troubles quotes are those that the source can give."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from support.host import ROOT
from support.pages import read

PAGE = "docs/troubleshooting.md"
QUOTED = re.findall(r"^\| `([^`]+)` \|", read(PAGE), re.MULTILINE)


def python_texts() -> Iterator[str]:
    """Every text of the package as it is put together, ``{`` where a value goes in."""
    for path in (ROOT / "python").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "{" for p in node.values)
                yield "".join(str(part) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def rust_texts() -> Iterator[str]:
    """Every text of the core; a line that ends in a backslash goes on."""
    for path in (ROOT / "src").rglob("*.rs"):
        source = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
        yield from re.findall(r'"((?:[^"\\\n]|\\.)+)"', source)


@cache
def said() -> str:
    return "\n".join([*python_texts(), *rust_texts()])


def advice() -> list[str]:
    """What the core tells an operator to do, in the two places that tell the most."""
    classified = (ROOT / "src" / "error.rs").read_text(encoding="utf-8")
    classified = classified.partition("fn classify(")[2].partition("impl fmt::Display")[0]
    refused = (ROOT / "src" / "client" / "transport" / "tls" / "errors.rs").read_text(
        encoding="utf-8"
    )
    refused = refused.partition("#[cfg(test)]")[0]
    texts = re.findall(r'"([^"\n]{25,})"', classified + refused)
    return [text for text in texts if " " in text and not text.startswith("a certificate ")]


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) > 25
    assert len(advice()) > 20


@pytest.mark.parametrize("message", QUOTED)
def test_a_message_that_is_quoted_is_one_of_ours(message: str) -> None:
    assert message.strip() in said()


@pytest.mark.parametrize("text", advice())
def test_every_advice_of_the_core_is_explained(text: str) -> None:
    assert [quoted for quoted in QUOTED if quoted in text]
