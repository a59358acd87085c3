"""A deployment in good health, and what the doctor says of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis.doctor import Finding, Severity, examine
from support.servers import RedisServer

CONTENTS: dict[str, dict[str, Any]] = {
    "full_docs": {"doc-1": {"content": "Marley was dead"}, "doc-2": {"content": "to begin with"}},
    "text_chunks": {
        "chunk-1": {"content": "Marley was dead", "full_doc_id": "doc-1"},
        "chunk-2": {"content": "to begin with", "full_doc_id": "doc-2"},
    },
    "community_reports": {"0": {"report_string": "ghosts"}},
    "llm_response_cache": {"hash": {"return": "humbug", "model": "m"}},
}


class Found(Protocol):
    """`found(**settings)`: the findings that are not as they should be."""

    def __call__(self, **settings: Any) -> list[Finding]: ...


@pytest.fixture
def healthy(server_binary: Path) -> Iterator[RedisServer]:
    """A server of the test's own, as the docs advise to run it, with a small graph's contents."""
    with RedisServer(server_binary, appendonly="yes", maxmemory_policy="volatile-lru") as server:
        for namespace, values in CONTENTS.items():
            with SyncRedisKVStorage(namespace, {"redis_url": server.url}) as storage:
                storage.upsert(values)
        yield server


@pytest.fixture
def found(healthy: RedisServer) -> Found:
    def examined(**settings: Any) -> list[Finding]:
        config = RedisConfig(**{"redis_url": healthy.url, **settings})
        return [f for f in examine(config) if f.severity is not Severity.OK]

    return examined
