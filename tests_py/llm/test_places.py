"""One limit for all on a cluster, behind sentinels, and as the user of the ACL line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from nano_graphrag_redis import RedisConfig, limit_llm
from nano_graphrag_redis.acl import acl_rules
from support.places import USER, Place, behind_sentinels, least_privilege, on_a_cluster
from support.servers import server_binaries

from .model import MODEL, Model, counted_since, counts


def _as_the_user() -> AbstractContextManager[Place]:
    return least_privilege(server_binaries()["valkey"])


def _on_a_cluster() -> AbstractContextManager[Place]:
    return on_a_cluster(server_binaries()["valkey"])


@pytest.mark.parametrize(
    "opened",
    [_as_the_user, _on_a_cluster, behind_sentinels],
    ids=["least privilege", "cluster", "sentinels"],
)
def test_every_call_takes_its_permit_from_the_server(
    opened: Callable[[], AbstractContextManager[Place]],
) -> None:
    model = Model()
    with opened() as place:
        place.prepare()
        if "redis_username" in place.settings:
            rules = acl_rules(RedisConfig(**place.settings), limits=True)
            admin: Any = place.server.client()
            admin.execute_command("ACL", "SETUSER", USER, *rules)
        ask = limit_llm(
            model.answer,
            dict(place.settings),
            model=MODEL,
            requests_per_minute=6_000,
            tokens_per_minute=600_000,
            concurrent=4,
        )
        before = counts()

        async def main() -> None:
            await asyncio.gather(*(ask(f"question {number}") for number in range(20)))

        asyncio.run(main())
        expected = {"permits": 20, "local_permits": 0, "pauses": 0}
        assert (counted_since(before), place.complaints()) == (expected, [])
