"""What importing the package costs: no host, no other client, no socket, little time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

SECONDS = 0.5
"""Five times what is promised, for a machine that has other work."""

WHAT_IS_THERE = """
import json, os, sys
def target(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # the one that listed them
        return ""
descriptors = [target(each) for each in os.listdir("/proc/self/fd")]
print(json.dumps([list(sys.modules), descriptors]))
"""

FOREIGN = {
    "nano_graphrag", "redis", "valkey", "numpy",
    "opentelemetry", "prometheus_client", "rich", "typer",
}  # fmt: skip


def fresh_interpreter(source: str, *flags: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", source],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(
    ("statement", "also"),
    [
        ("import nano_graphrag_redis", {"pydantic", "asyncio"}),
        ("from nano_graphrag_redis import SyncRedisKVStorage, RedisConfig, register", set[str]()),
        ("from nano_graphrag_redis import SyncRedisKVStorage as S; S('full_docs')", set[str]()),
    ],
)
def test_an_import_takes_neither_a_host_nor_another_client_nor_a_socket(
    statement: str, also: set[str]
) -> None:
    modules, descriptors = json.loads(fresh_interpreter(statement + WHAT_IS_THERE).stdout)
    assert "nano_graphrag_redis" in modules
    assert (FOREIGN | also) & set(modules) == set()
    assert [each for each in descriptors if each.startswith("socket:")] == []


def test_an_import_takes_little_time() -> None:
    told = fresh_interpreter("import nano_graphrag_redis", "-X", "importtime").stderr
    line = re.search(r"\| *(\d+) \| +nano_graphrag_redis$", told, re.MULTILINE)
    assert line is not None, told
    assert int(line[1]) / 1e6 < SECONDS
