"""Any id comes back as it was given, and no two addresses share a key."""

from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from nano_graphrag_redis import SyncRedisKVStorage
from support.servers import RedisServer
from values.documents import ids
from values.stores import Stores

# So few characters that random addresses look alike, and glob characters among them.
_names = st.text("ab*?[]{}\\", min_size=1, max_size=3)
_alike_ids = st.text("ab*:@", max_size=4)


class Address(NamedTuple):
    """Where a value lies."""

    prefix: str
    workspace: str
    namespace: str
    id: str


addresses = st.builds(Address, _names, _names | st.just(""), _names, _alike_ids)


@settings(deadline=None)
@given(batch=st.dictionaries(ids, st.integers(), min_size=1, max_size=20))
def test_ids_come_back_as_they_were_given(stores: Stores, batch: dict[str, int]) -> None:
    for store in (stores.awaited, stores.blocking):
        store.drop()
        store.upsert(batch)
        assert sorted(store.all_keys()) == sorted(batch)
        assert store.get_by_ids(list(batch)) == list(batch.values())
        longer = "".join(batch) + "x"
        assert store.filter_keys([*batch, longer]) == {longer}
        assert store.delete_by_ids(list(batch)) == len(batch)
        assert store.all_keys() == []


@settings(deadline=None)
@given(two=st.lists(addresses, min_size=2, max_size=2, unique=True))
def test_no_two_addresses_share_a_key(server_process: RedisServer, two: list[Address]) -> None:
    one, other = two
    server = server_process
    with (
        server.client() as client,
        _open(server, one) as first,
        _open(server, other) as second,
    ):
        client.flushall()
        first.upsert({one.id: "one"})
        second.upsert({other.id: "other"})
        assert client.dbsize() == 2
        assert first.get_by_id(one.id) == "one"
        assert second.get_by_id(other.id) == "other"
        if one[:3] != other[:3]:
            assert first.all_keys() == [one.id]
            first.drop()
            assert second.all_keys() == [other.id]


def _open(server: RedisServer, address: Address) -> SyncRedisKVStorage:
    settings: dict[str, Any] = {
        "redis_url": server.url,
        "redis_key_prefix": address.prefix,
        "redis_workspace": address.workspace,
    }
    return SyncRedisKVStorage(address.namespace, settings)
