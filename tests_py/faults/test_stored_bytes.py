"""What lies under a key: bytes that nobody can read, and every value there is."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.test_unreadable_values import CORRUPT
from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import CorruptValueError, StorageError, StorageOperationError
from support.servers import RedisServer
from support.stores import json_store, redis_store
from values.documents import documents, shallow_documents
from values.exact import difference

from .conftest import OpenStorage
from .rows import Row

PREFIX = "nano_graphrag:full_docs:"


def damaged(chance: random.Random, whole: list[bytes]) -> bytes:
    """A stored value that something has happened to."""
    stored = bytearray(chance.choice(whole))
    at = chance.randrange(len(stored))
    how = chance.randrange(5)
    if how == 0:
        return bytes(stored[:at])
    if how == 1:
        stored[at] ^= 1 << chance.randrange(8)
    elif how == 2:
        stored[at:at] = chance.randbytes(chance.randrange(1, 5))
    elif how == 3:
        del stored[at : at + chance.randrange(1, 9)]
    else:
        return chance.choice([*CORRUPT, chance.randbytes(chance.randrange(40))])
    return bytes(stored)


def reads(storage: SyncRedisKVStorage) -> list[Any]:
    """What each way to read the id gives: a value, or the error's class."""
    calls: list[Callable[[], Any]] = [
        lambda: storage.get_by_id("a"),
        lambda: storage.get_by_ids(["good", "a", "missing"])[1],
        lambda: storage.get_by_ids(["a"], {"content"})[0],
    ]
    return [found(call) for call in calls]


def found(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StorageError as error:
        assert (error.namespace, error.id) == ("full_docs", "a")
        return type(error)


@pytest.mark.row(21)
def test_damaged_bytes_are_an_error_and_never_absent(
    row: Row, server: RedisServer, open_storage: OpenStorage
) -> None:
    chance = random.Random(21)
    client = server.client()
    storage = open_storage().sync
    storage.upsert({"good": 1})
    text = {"content": "Marley was dead: to begin with. é " * 9, "tokens": 99, "of": [None, 1.5]}
    for codec in ("none", "zstd", "lz4"):
        forced: dict[str, Any] = {"redis_compression": codec, "redis_compression_min_bytes": 0}
        open_storage(**forced).sync.upsert({codec: text})
    whole: list[Any] = [client.get(PREFIX + codec) for codec in ("none", "zstd", "lz4")]
    silent, corrupt, trials = 0, 0, row.pick(quick=500, full=20_000)
    for _ in range(trials):
        stored = damaged(chance, whole)
        client.set(PREFIX + "a", stored)
        for read in reads(storage):
            silent += read is None and stored != b"null"
            corrupt += read is CorruptValueError
            assert not isinstance(read, type) or read is CorruptValueError, read
    assert corrupt > trials
    row.none("silent None", silent, of=3 * trials)
    row.saw("CorruptValueError", corrupt)


@pytest.mark.row(21)
def test_a_key_of_another_type_is_an_error_and_never_absent(
    row: Row, server: RedisServer, open_storage: OpenStorage
) -> None:
    client = server.client()
    storage = open_storage().sync
    storage.upsert({"good": 1})
    kinds: list[Callable[[str], object]] = [
        lambda key: client.rpush(key, b"1"),
        lambda key: client.hset(key, "content", b"1"),
        lambda key: client.sadd(key, b"1"),
        lambda key: client.zadd(key, {"content": 1}),
        lambda key: client.xadd(key, {"content": b"1"}),
    ]
    silent = 0
    for kind in kinds:
        client.delete(PREFIX + "a")
        kind(PREFIX + "a")
        silent += sum(read is not StorageOperationError for read in reads(storage))
    row.none("wrong types that were no StorageOperationError", silent, of=3 * len(kinds))


EACH = 24
"""Values of one example: drawn together, written together."""


def places(values: list[Any]) -> list[Any]:
    """Each value alone, and in containers beside the one before it."""
    placed = list(values)
    for value, other in zip(values, [*values[1:], None], strict=True):
        placed += [[value, other], (other, value), {"k": value, "l": other}, [[[value]]]]
        placed += [{"k": [value], "": {"l": other}}]
    return placed


# The defaults of the usual JSON libraries of Rust change a third of all floats.
@pytest.mark.row(22)
@pytest.mark.timeout(1_200)
def test_every_value_comes_back_as_json_kv_storage_gives_it(
    row: Row, server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    compared = differences = 0
    wanted = row.pick(quick=2_000, full=100_000)
    files = {"working_dir": str(tmp_path_factory.mktemp("json"))}

    with (
        json_store("values", files) as oracle,
        redis_store("sync", "values", {"redis_url": server.url}) as ours,
    ):

        @settings(
            max_examples=wanted // EACH,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(values=st.lists(shallow_documents, min_size=3, max_size=5), deep=documents)
        def compare(values: list[Any], deep: Any) -> None:
            nonlocal compared, differences
            placed = [deep, *places(values)]
            batch = {str(number): value for number, value in enumerate(placed)}
            oracle.upsert(batch)
            ours.upsert(batch)
            for expected, found in zip(
                oracle.get_by_ids(batch), ours.get_by_ids(batch), strict=True
            ):
                compared += 1
                differences += difference(found, expected) is not None

        while compared < wanted:
            compare()
    row.none("differences", differences, of=compared)
