"""Every example in a docstring gives what it shows."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import nano_graphrag_redis
from support.servers import RedisServer

PACKAGE = Path(nano_graphrag_redis.__path__[0])
SHOWN = {"RedisKVStorage", "SyncRedisKVStorage", "RedisConfig"}
"""What a reader looks up first has an example."""


def examples() -> Iterator[tuple[str, str, str]]:
    """Module, name and docstring of each definition that has an example; imports nothing."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                docstring = ast.get_docstring(node) or ""
                if ">>> " in docstring:
                    yield module, getattr(node, "name", ""), docstring


EXAMPLES = {f"{module}.{name}": (module, text) for module, name, text in examples()}


def test_what_a_reader_looks_up_first_has_an_example() -> None:
    assert {name.rpartition(".")[2] for name in EXAMPLES} >= SHOWN


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_shows(name: str, server: RedisServer) -> None:
    module, text = EXAMPLES[name]
    globs = {**vars(import_module(module)), "url": server.url}
    example = doctest.DocTestParser().get_doctest(text, globs, name, module, 0)
    told: list[str] = []
    result = doctest.DocTestRunner().run(example, out=told.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(told)
