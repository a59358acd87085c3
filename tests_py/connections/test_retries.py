"""What an attempt without an answer leads to: `redis_retry_on_timeout`, `redis_max_retries`."""

from typing import Any

import pytest

from connections.conftest import Connections, OpenStorage
from nano_graphrag_redis.exceptions import StorageTimeoutError
from support.servers import RedisServer


# A silent connection is not trusted again, so the server counts one more for each attempt.
@pytest.mark.parametrize(
    ("settings", "attempts"),
    [
        ({}, 4),
        ({"redis_max_retries": 1}, 2),
        ({"redis_max_retries": 0}, 1),
        ({"redis_retry_on_timeout": False}, 1),
    ],
    ids=str,
)
def test_a_write_without_an_answer_is_repeated_as_the_settings_say(
    server: RedisServer,
    open_storage: OpenStorage,
    connections: Connections,
    settings: dict[str, Any],
    attempts: int,
) -> None:
    storage = open_storage(redis_socket_timeout=0.5, **settings)
    storage.get_by_id("a")
    server.client().client_pause(60_000, all=False)  # writes wait; connections are still made
    with pytest.raises(StorageTimeoutError, match="unknown"):
        storage.upsert({"a": 1})
    assert connections.opened() == 1 + attempts
    assert storage.get_stats(light=True)["retries"] == attempts - 1


def test_a_connection_that_is_lost_is_replaced_whatever_a_timeout_means(
    server: RedisServer, open_storage: OpenStorage, connections: Connections
) -> None:
    storage = open_storage(redis_retry_on_timeout=False)
    storage.upsert({"a": 1})
    (client,) = connections.open()
    server.client().client_kill_filter(_id=client["id"])
    assert storage.get_by_id("a") == 1
