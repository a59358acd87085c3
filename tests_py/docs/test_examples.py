"""Every block of code in the README and on the pages, run as it is written.

A page is one session: its blocks run one after another, in one directory and on one server that
was empty before. Only the server's address is another than the page says. A ``text`` block right
below a block is what that one prints. A block of the README has an interpreter of its own; one of
another page that uses the host is forked from one that has imported it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from support.host import ROOT
from support.pages import PAGES, Block, blocks, read
from support.preloaded import Preloaded
from support.servers import RedisServer

ADDRESS = "redis://localhost:6379"

RUN_ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("docs/benchmark.md", "class StraightforwardStorage:"): "benches/peers/straightforward.py",
}
"""A page and a piece of a block that is not run here, and the file that runs it."""

APPLICATION = """
from nano_graphrag import GraphRAG
docs = GraphRAG(working_dir="./cache").full_docs
docs.sync.upsert({"doc-of-the-app": {}})
"""
"""The ``app.py`` that the pages start."""


class Seen(NamedTuple):
    """How a block that shows nothing by itself is seen to work.

    Attributes:
        after: What is run after it, in the same interpreter.
        printed: What both print.
        key: What then lies on the server.
    """

    after: str
    printed: str
    key: str


SEEN = {
    ("README.md", "nano_graphrag_redis.register()"): Seen(
        """
from nano_graphrag import GraphRAG
docs = GraphRAG(working_dir="./cache").full_docs
docs.sync.upsert({"doc-3": {}})
print(type(docs).__name__)
""",
        "RedisKVStorage\n",
        "nano_graphrag:full_docs:doc-3",
    ),
    ("README.md", "key_string_value_json_storage_cls=RedisKVStorage"): Seen(
        """
rag.full_docs.sync.upsert({"doc-1": {}})
print(type(rag.full_docs).__name__)
""",
        "RedisKVStorage\n",
        "nano_graphrag@acme:full_docs:doc-1",
    ),
    ("README.md", "with SyncRedisKVStorage("): Seen(
        "",
        "[{'content': 'Marley was dead: to begin with.'}, None]\n",
        "nano_graphrag:notes:note-1",
    ),
    ("README.md", "nano-graphrag-redis run app.py"): Seen(
        "", "", "nano_graphrag:full_docs:doc-of-the-app"
    ),
}

DATA: dict[str, Callable[[str], Any]] = {"json": json.loads, "yaml": yaml.safe_load}
"""Languages that are read, not run."""

RUN = [page for page in PAGES if not page.startswith("docs/design/") and blocks(page)]
"""Notes are of their day; the pages are of today."""


def matching(block: Block, table: Mapping[tuple[str, str], object]) -> list[tuple[str, str]]:
    """The keys of a table that are about a block."""
    return [key for key in table if key[0] == block.page and key[1] in block.text]


def run(block: Block, command: list[str], environ: dict[str, str], home: Path) -> str:
    """What a block prints; a failure names the page and the line."""
    return printed(
        block,
        subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, check=False),
    )


def printed(block: Block, done: subprocess.CompletedProcess[str]) -> str:
    """What a block that has run has printed."""
    assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
    said = [line for line in done.stderr.splitlines() if "nano_graphrag_redis" in line]
    # The host shows what is logged at INFO, such as that the server is connected.
    warned = [line for line in said if not line.startswith("INFO:")]
    assert not warned, f"{block}: {done.stderr}"
    return done.stdout


def run_python(
    block: Block, url: str, environ: dict[str, str], home: Path, request: pytest.FixtureRequest
) -> str:
    after = next((SEEN[key].after for key in matching(block, SEEN)), "")
    # An address in the example has to reach the server by itself.
    asked = {} if ADDRESS in block.text else {"STORAGE_KV_BACKEND": "redis", "REDIS_URL": url}
    script = home / "example.py"
    script.write_text(block.text.replace(ADDRESS, url) + after, encoding="utf-8")
    if block.page != "README.md" and re.search(r"(from|import) nano_graphrag\b", block.text):
        host: Preloaded = request.getfixturevalue("host")
        return printed(block, host.run([str(script)], env=environ | asked, cwd=home))
    return run(block, [sys.executable, str(script)], environ | asked, home)


def run_console(block: Block, url: str, environ: dict[str, str], home: Path) -> tuple[str, str]:
    """What the commands print, and what the block says that they print."""
    lines = block.text.splitlines()
    commands = "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
    said = "".join(f"{line}\n" for line in lines if not line.startswith("$ "))
    script = commands.replace(ADDRESS, url)
    return run(block, ["bash", "-euo", "pipefail", "-c", script], environ, home), said


def test_the_pages_with_blocks_are_found() -> None:
    assert {"README.md", "docs/index.md", "docs/configuration.md"} <= set(RUN)


@pytest.mark.parametrize("table", [RUN_ELSEWHERE, SEEN], ids=["elsewhere", "seen"])
def test_what_is_said_of_a_block_is_said_of_one(table: Mapping[tuple[str, str], object]) -> None:
    told = [key for page in RUN for block in blocks(page) for key in matching(block, table)]
    assert sorted(told) == sorted(table)


@pytest.mark.parametrize("file", RUN_ELSEWHERE.values())
def test_the_file_that_runs_a_block_elsewhere_is_there(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.timeout(300)  # each block that builds a GraphRAG imports the host anew
@pytest.mark.parametrize("page", RUN)
def test_a_page_works_as_it_is_written(
    page: str,
    server: RedisServer,
    environ: dict[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    for block in blocks(page):
        if matching(block, RUN_ELSEWHERE):
            continue
        seen = next((SEEN[key] for key in matching(block, SEEN)), Seen("", block.shown or "", ""))
        if block.language == "python":
            said = run_python(block, server.url, environ, tmp_path, request)
            assert said == seen.printed, str(block)
        elif block.language == "console":
            said, wanted = run_console(block, server.url, environ, tmp_path)
            assert said == wanted or not wanted, str(block)
        elif block.language in DATA:
            assert DATA[block.language](block.text) is not None, str(block)
        else:
            pytest.fail(
                f"{block}: nothing here can run {block.language or 'a block of no'} language"
            )
        assert not seen.key or server.client().exists(seen.key), str(block)


@pytest.mark.parametrize("page", RUN)
def test_every_fence_is_closed(page: str) -> None:
    assert len(re.findall(r"^ *```", read(page), re.MULTILINE)) % 2 == 0
