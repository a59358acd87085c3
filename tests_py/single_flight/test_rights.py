"""The user of least privilege may take a lease, in a workspace and in a shared LLM cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage
from nano_graphrag_redis.acl import PLACEHOLDER
from support.servers import RedisServer
from support.users import make_user

from .test_the_holder import leases

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "workspace": {"redis_workspace": "acme"},
    "shared": {
        "redis_workspace": "acme",
        "redis_shared_namespaces": ["llm_response_cache", "embedding_cache"],
        "redis_key_prefix": "a*[b]",
    },
}


@pytest.fixture
def server(server_binary: Path) -> Iterator[RedisServer]:
    """A server of this test's own, with a user that no other test wants."""
    with RedisServer(server_binary) as running:
        yield running


@pytest.mark.parametrize("namespace", ["llm_response_cache", "embedding_cache"])
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_user_of_least_privilege_may_take_a_lease(
    server: RedisServer, deployment: str, namespace: str
) -> None:
    settings = DEPLOYMENTS[deployment] | {
        "redis_url": server.url,
        "redis_username": "graph",
        "redis_password": PLACEHOLDER,
        "redis_single_flight": "on",
    }
    make_user(server, settings)

    async def main() -> None:
        async with RedisKVStorage(namespace, settings) as cache:
            assert await cache.get_by_id("question") is None
            assert len(leases(server.client())) == 1
            stats = await cache.get_stats(light=True)
        assert not any(stats["forgiven"].values())

    asyncio.run(main())
