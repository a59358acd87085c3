"""See ``contract/test_lifecycle.py``."""

import pytest

from contract.test_lifecycle import *  # noqa: F403
from support.places import Place
from support.stores import OpenRedisStore


@pytest.mark.parametrize("light", [False, True])  # type: ignore[no-redef]  # overrides the imported
def test_stats_name_the_namespace_its_size_and_its_memory(
    open_redis: OpenRedisStore, place: Place, light: bool
) -> None:
    """As there, but for a user who may not ask INFO, whose statistics say less."""
    store = open_redis("llm_response_cache")
    store.upsert({f"hash-{i}": {"return": "Bah!" * 100} for i in range(25)})
    stats = store.get_stats(light)
    assert stats["namespace"] == "llm_response_cache"
    if not light:
        assert stats["key_count"] == 25
        assert (stats["sample_memory_usage"] or 0) > 400
        asks_info = "redis_username" not in place.settings
        assert (stats["total_redis_memory"] is not None) == asks_info
