"""A process that dies between a document and its chunks leaves what is found and mended."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis.doctor import Severity, examine, repair
from support.proxy import Proxy
from support.servers import RedisServer

from .rows import Row

# As the host does: first the documents, then their chunks.
INDEX = """
import sys
from nano_graphrag_redis import SyncRedisKVStorage
config = {"redis_url": sys.argv[1]}
with (
    SyncRedisKVStorage("full_docs", config) as documents,
    SyncRedisKVStorage("text_chunks", config) as chunks,
):
    id = sys.argv[2]
    documents.upsert({id: {"content": "Marley was dead"}})
    chunks.upsert({f"chunk-of-{id}": {"content": "Marley", "full_doc_id": id}})
"""


def index(url: str, id: str, proxy: Proxy | None = None) -> int:
    """Indexes a document in a process of its own; its exit code.

    Args:
        url: The server.
        id: The document's.
        proxy: Kills the process just before its chunks reach the server.
    """
    with subprocess.Popen([sys.executable, "-c", INDEX, url, id]) as process:

        def die() -> None:
            process.kill()
            raise ConnectionAbortedError  # what it was sending does not pass

        if proxy is not None:
            proxy.interruption = (b"nano_graphrag:text_chunks:", die)
        return process.wait()


@pytest.mark.row(5)
def test_a_client_killed_between_a_document_and_its_chunks_is_found_and_repaired(
    row: Row, own_server: RedisServer
) -> None:
    deaths = row.pick(quick=2, full=50)
    lost = {f"lost-{number}" for number in range(deaths)}
    config = RedisConfig(redis_url=own_server.url)
    assert index(own_server.url, "whole") == 0
    with Proxy(own_server.port) as proxy:
        for id in lost:
            assert index(proxy.url, id, proxy) == -signal.SIGKILL
    (found,) = (finding for finding in examine(config) if finding.severity is Severity.ERROR)
    assert (found.check, found.count) == ("documents-without-chunks", deaths)
    (done,) = repair(config)
    assert done.count == deaths
    with SyncRedisKVStorage("full_docs", {"redis_url": own_server.url}) as documents:
        assert documents.filter_keys([*lost, "whole"]) == lost  # the host would index them again
    for id in lost:
        assert index(own_server.url, id) == 0
    left = [f for f in examine(config) if f.check == "documents-without-chunks"]
    row.none("documents without chunks left after repair", len(left), of=deaths)
