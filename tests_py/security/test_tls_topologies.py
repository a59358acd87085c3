"""TLS wherever a connection goes: to every server of a cluster, to sentinels and their master."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageAuthError
from support.certificates import Authority, tls_options
from support.cluster import RedisCluster
from support.sentinel import Sentinels
from support.servers import server_binaries


@pytest.fixture(params=["cluster", "sentinel"])
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority
) -> Iterator[dict[str, Any]]:
    """How to reach servers that speak TLS alone, to clients and to each other."""
    redis = server_binaries()["redis"]
    options = tls_options(authority.issue("server"), ca=authority)
    tls: dict[str, Any] = {"tls": True, "tls_replication": "yes", **options}
    if request.param == "cluster":
        with RedisCluster(redis, replicas=False, tls_cluster="yes", **tls) as cluster:
            yield {"redis_url": cluster.url, "redis_cluster": True}
    else:
        with Sentinels(redis, **tls) as sentinels:
            yield sentinels.settings


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_every_connection_is_one_of_tls(
    settings: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    with SyncRedisKVStorage("full_docs", settings | authority.settings) as storage:
        storage.upsert({f"id-{number}": number for number in range(100)})
        assert len(storage.all_keys()) == 100
        assert storage.get_by_ids(["id-7", "x"]) == [7, None]
    another = Authority(tmp_path, "another")
    with (
        SyncRedisKVStorage("full_docs", settings | another.settings) as storage,
        pytest.raises(StorageAuthError, match="redis_tls_ca_file"),
    ):
        storage.get_by_id("id-7")
