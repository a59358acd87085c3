"""Every example of the README, run as it is written; only the server's address is another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from redis import Redis

from support.host import ROOT
from support.servers import RedisServer

ADDRESS = "redis://localhost:6379"
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """What one block of python is known by, and how it is seen to work.

    Attributes:
        marker: A piece of the block that no other block holds.
        after: What is run after it, in the same interpreter.
        printed: What both print.
        key: What then lies on the server.
    """

    marker: str
    after: str
    printed: str
    key: bytes


EXAMPLES = {
    "register": Example(
        "nano_graphrag_redis.register()",
        """
from nano_graphrag import GraphRAG
docs = GraphRAG(working_dir="./cache").full_docs
docs.sync.upsert({"doc-1": {}})
print(type(docs).__name__)
""",
        "RedisKVStorage\n",
        b"nano_graphrag:full_docs:doc-1",
    ),
    "class": Example(
        "key_string_value_json_storage_cls=RedisKVStorage",
        """
rag.full_docs.sync.upsert({"doc-1": {}})
print(type(rag.full_docs).__name__)
""",
        "RedisKVStorage\n",
        b"nano_graphrag@acme:full_docs:doc-1",
    ),
    "sync": Example(
        "with SyncRedisKVStorage(",
        "",
        "[{'content': 'Marley was dead: to begin with.'}, None]\n",
        b"nano_graphrag:full_docs:doc-1",
    ),
}

APPLICATION = """
from nano_graphrag import GraphRAG
docs = GraphRAG(working_dir="./cache").full_docs
docs.sync.upsert({"doc-1": {}})
"""


def of_language(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_every_block_is_run_by_one_test() -> None:
    runs = {text: 0 for _, text in BLOCKS}
    for block in of_language("python"):
        runs[block] += sum(example.marker in block for example in EXAMPLES.values())
    for block in of_language("console"):
        runs[block] += 1
    assert set(runs.values()) == {1}, runs
    assert len(runs) == README.count("```") // 2 == len(EXAMPLES) + 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_block_of_python_works(
    name: str, server: RedisServer, redis_client: Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    example = EXAMPLES[name]
    (block,) = (text for text in of_language("python") if example.marker in text)
    # An address in the example has to reach the server by itself.
    asked = {} if ADDRESS in block else {"STORAGE_KV_BACKEND": "redis", "REDIS_URL": server.url}
    script = tmp_path / "example.py"
    script.write_text(block.replace(ADDRESS, server.url) + example.after)
    done = subprocess.run(
        [sys.executable, script],
        env=environ | asked,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, example.printed), done.stderr
    assert "nano_graphrag_redis" not in done.stderr  # no warning of ours
    assert redis_client.exists(example.key)


def test_the_block_of_the_console_works(
    server: RedisServer, redis_client: Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    (block,) = of_language("console")
    lines = block.splitlines()
    assert all(line.startswith("$ ") for line in lines), "a console block that shows output"
    commands = "\n".join(line.removeprefix("$ ") for line in lines)
    (tmp_path / "app.py").write_text(APPLICATION)
    done = subprocess.run(
        ["bash", "-eu", "-c", commands.replace(ADDRESS, server.url)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert redis_client.exists("nano_graphrag:full_docs:doc-1")
