"""Working directories that the host's own storage made move to the server and back, by the command.

Forty of them; the first six where not everything is tried.
"""

from __future__ import annotations

import json
import random
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cli.test_files import Command
from support.servers import RedisServer, server_binaries
from support.stores import json_store

MOST = 5_000
"""Ids of the largest file."""

ODD_SIZES = {"full_docs": 64, "text_chunks": 256, "community_reports": 0}
"""Of the first directory: a batch, several, and a file of `{}`."""

NAMESPACES = [*ODD_SIZES, "llm_response_cache", "of_my_own"]
DIRECTORIES = [
    pytest.param(number, marks=[pytest.mark.exhaustive] if number >= 6 else [])
    for number in range(40)
]


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What the command copies is the same on every server."""
    return server_binaries()["valkey"]


def value(chance: random.Random, number: int) -> Any:
    """Of one of the shapes that the host stores."""
    text = "Marley was dead: \u2018to begin with\u2019. \U0001f47b\n" * chance.randrange(1, 12)
    return chance.choice(
        [
            {"content": text},
            {"tokens": number, "content": text, "chunk_order_index": 0, "full_doc_id": "doc-é"},
            {"return": text, "model": "gpt-4o"},
            {"report_json": {"rating": number / 7, "findings": []}, "level": -1, "nodes": ["A"]},
        ]
    )


def sizes(directory: int, chance: random.Random) -> dict[str, int]:
    if directory == 0:
        return ODD_SIZES
    namespaces = chance.sample(NAMESPACES, chance.randrange(1, len(NAMESPACES) + 1))
    # As many small files as large ones, and one that is as large as any.
    largest = {namespaces[0]: MOST} if directory == 1 else {}
    return {name: int(MOST ** chance.random()) for name in namespaces} | largest


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_directory_of_the_host_is_the_same_when_it_comes_back(
    directory: int, command: Command, server: RedisServer, tmp_path: Path
) -> None:
    chance = random.Random(directory)
    source, target = tmp_path / "cache", tmp_path / "back"
    source.mkdir()
    with ExitStack() as stack:
        for namespace, size in sizes(directory, chance).items():
            settings = {"working_dir": str(source)}
            storage = stack.enter_context(json_store(namespace, settings))
            storage.upsert({f"{namespace}-{n}": value(chance, n) for n in range(size)})
            storage.index_done_callback()
    began = time.monotonic()
    url = ("--url", server.url)
    for arguments in (
        ("migrate", "--from", source),
        ("verify", "--from", source),
        ("export", "--to", target),
    ):
        done = command(*map(str, arguments), *url)
        assert done.returncode == 0, done.stderr
    took = time.monotonic() - began
    print(f"{took:.2f} s for {sizes(directory, random.Random(directory))}")  # noqa: T201 - with -rP
    files = {path.name: json.loads(path.read_text("utf-8")) for path in source.glob("kv_store_*")}
    back = {path.name: json.loads(path.read_text("utf-8")) for path in target.glob("kv_store_*")}
    # A namespace without ids is on no server.
    assert back == {name: values for name, values in files.items() if values}
