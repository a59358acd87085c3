"""Two graphs in one keyspace mix their reports, so a process that meets another's is warned."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from redis import Redis

from nano_graphrag_redis import SyncRedisKVStorage
from support.conditions import eventually
from support.servers import RedisServer

MARK = b"nano_graphrag:@working_dir"


def use(server: RedisServer, working_dir: Path, **settings: str) -> None:
    config = {"redis_url": server.url, "working_dir": str(working_dir), **settings}
    with SyncRedisKVStorage("full_docs", config) as docs:
        docs.upsert({"doc-1": {}})


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_keyspace_filled_from_another_working_directory_is_warned_about_once(
    server: RedisServer, redis_client: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    use(server, theirs)
    eventually(lambda: redis_client.get(MARK) == str(theirs).encode())
    config = {"redis_url": server.url, "working_dir": str(ours)}
    with (
        SyncRedisKVStorage("full_docs", config) as docs,
        SyncRedisKVStorage("text_chunks", config) as chunks,
    ):

        def told() -> bool:
            docs.get_by_id("doc-1")
            chunks.get_by_id("chunk-1")
            return bool(warnings(caplog))

        eventually(told)
        told()
    (warning,) = warnings(caplog)
    assert str(ours) in warning
    assert str(theirs) in warning
    assert "redis_workspace" in warning
    assert redis_client.get(MARK) == str(theirs).encode()


def test_a_process_that_works_in_two_directories_is_warned(
    server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    config = {"redis_url": server.url, "working_dir": str(first)}
    with SyncRedisKVStorage("full_docs", config) as docs:
        docs.get_by_id("doc-1")
        use(server, second)
        use(server, second)
    (warning,) = warnings(caplog)
    assert str(first) in warning
    assert str(second) in warning


def test_a_directory_spelt_otherwise_is_the_same(
    server: RedisServer, redis_client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    monkeypatch.chdir(tmp_path / "service")
    use(server, Path("../graph"))
    eventually(lambda: redis_client.exists(MARK) == 1)
    assert redis_client.get(MARK) == str(tmp_path / "graph").encode()


def test_a_workspace_leaves_no_mark_and_the_mark_is_no_id(
    server: RedisServer, redis_client: Redis, tmp_path: Path
) -> None:
    use(server, tmp_path, redis_workspace="w")
    assert redis_client.keys() == [b"nano_graphrag@w:full_docs:doc-1"]
    use(server, tmp_path)
    eventually(lambda: redis_client.exists(MARK) == 1)
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as docs:
        assert docs.all_keys() == ["doc-1"]
        docs.drop()
    assert redis_client.exists(MARK) == 1
