"""Whatever a server answers: the documented class of error, and never a panic."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import redis

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import (
    StorageAuthError,
    StorageError,
    StorageOperationError,
    StorageUnavailableError,
)
from support.conditions import eventually
from support.peer import Peer
from support.proxy import Proxy
from support.servers import RedisServer, server_binaries

from .conftest import OpenStorage
from .rows import Row

KEY = "nano_graphrag:full_docs:a"
QUICK: dict[str, Any] = {"redis_max_retries": 1, "redis_breaker_failures": 1_000_000}

Provoked = AbstractContextManager[tuple[RedisServer, dict[str, Any]]]
"""A server that gives the answer, and the settings of who gets it."""


@contextmanager
def loading() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    """A server that reads its file, a millisecond for each of 20,000 keys."""
    slowly: dict[str, Any] = {
        "key_load_delay": "1000",
        "loading_process_events_interval_bytes": "1024",
    }
    with RedisServer(None, appendonly="no", **slowly) as server:
        with server.client() as client:
            client.mset({f"key-{number}": "x" * 100 for number in range(20_000)})
            client.save()
        server.kill()
        server.begin()
        eventually(lambda: server.says(b"-LOADING"))
        yield server, {}


@contextmanager
def read_only() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    with RedisServer(repl_diskless_sync_delay="0") as primary, RedisServer() as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", primary.port)
            eventually(lambda: bool(client.info("replication")["master_link_status"] == "up"))
        yield replica, {}


@contextmanager
def cannot_save() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    with RedisServer(save="3600 1000000") as server, server.client() as client:
        (server.directory / "dump.rdb").mkdir()  # which no file can replace
        client.bgsave()
        eventually(lambda: bool(client.info("persistence")["rdb_last_bgsave_status"] == "err"))
        yield server, {}


@contextmanager
def out_of_memory() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    with RedisServer() as server:
        server.client().config_set("maxmemory", "1")
        yield server, {}


@contextmanager
def without_a_password() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    with RedisServer(password="secret") as server:
        yield server, {}


@contextmanager
def with_a_wrong_password() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    with RedisServer(password="secret") as server:
        yield server, {"redis_password": "guessed"}


@contextmanager
def without_permission() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    line = "user default on nopass ~* +@connection"
    with RedisServer(config=(line,)) as server:
        yield server, {}


@contextmanager
def cluster_without_slots() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    with RedisServer(cluster_enabled="yes") as server:
        yield server, {}


@contextmanager
def busy_with_a_script() -> Iterator[tuple[RedisServer, dict[str, Any]]]:
    """Debian's server: the other has no scripts built in."""
    with RedisServer(server_binaries()["redis"], busy_reply_threshold="1") as server:

        def run() -> None:
            with contextlib.suppress(redis.RedisError):
                server.client().eval("while true do end", 0)

        running = threading.Thread(target=run)
        running.start()
        eventually(lambda: server.says(b"-BUSY"))
        yield server, {}
        server.client().script_kill()
        running.join()


PROVOKED: dict[str, tuple[Callable[[], Provoked], type[StorageError]]] = {
    "LOADING": (loading, StorageUnavailableError),
    "READONLY": (read_only, StorageOperationError),
    "MISCONF": (cannot_save, StorageOperationError),
    "OOM": (out_of_memory, StorageOperationError),
    "NOAUTH": (without_a_password, StorageAuthError),
    "WRONGPASS": (with_a_wrong_password, StorageAuthError),
    "NOPERM": (without_permission, StorageOperationError),
    "CLUSTERDOWN": (cluster_without_slots, StorageUnavailableError),
    "BUSY": (busy_with_a_script, StorageOperationError),
}


@pytest.mark.row(28)
@pytest.mark.parametrize("code", PROVOKED)
def test_an_error_of_a_real_server_has_its_documented_class(
    row: Row, code: str, open_storage: OpenStorage
) -> None:
    provoked, expected = PROVOKED[code]
    with provoked() as (server, settings):
        storage = open_storage(redis_url=server.url, **QUICK, **settings)
        wrong = 0
        for call in writes(storage.sync):
            with pytest.raises(StorageError) as caught:
                call()
            wrong += type(caught.value) is not expected
            assert caught.value.namespace == "full_docs"
            assert code in str(caught.value), caught.value
    row.none(f"of another class than {expected.__name__}, {code}", wrong, of=2)


def writes(storage: SyncRedisKVStorage) -> list[Callable[[], object]]:
    return [lambda: storage.upsert({"a": 1}), lambda: storage.upsert({"a": 1, "b": 2})]


SCRIPTED = {
    "MASTERDOWN Link with MASTER is down": StorageUnavailableError,
    "TRYAGAIN Multiple keys request during rehashing of slot": StorageUnavailableError,
    "CROSSSLOT Keys in request don't hash to the same slot": StorageOperationError,
    "NOREPLICAS Not enough good replicas to write.": StorageOperationError,
    "ERR max number of clients reached": StorageUnavailableError,
    "ERR unknown command": StorageOperationError,
    "SOMETHINGNEW of a later version": StorageOperationError,
    "lower case, no code": StorageOperationError,
    "": StorageOperationError,
}


@pytest.mark.row(28)
@pytest.mark.parametrize("line", SCRIPTED)
def test_an_error_that_a_peer_was_told_to_give_has_its_documented_class(
    row: Row, line: str, open_storage: OpenStorage
) -> None:
    with Peer(lambda _: b"-" + line.encode() + b"\r\n") as peer:
        storage = open_storage(redis_url=peer.url, **QUICK).sync
        calls: list[Callable[[], Any]] = [*writes(storage), lambda: storage.get_by_id("a")]
        for call in calls:
            with pytest.raises(StorageError) as caught:
                call()
            assert type(caught.value) is SCRIPTED[line], caught.value
    row.saw("scripted", len(SCRIPTED))


WELL_FORMED = [
    b"$1\r\n1\r\n", b"$-1\r\n", b"+OK\r\n", b":1\r\n", b"-ERR no\r\n", b"*-1\r\n", b"_\r\n",
    b"*2\r\n$1\r\na\r\n:-5\r\n", b"*1\r\n*1\r\n$0\r\n\r\n", b"%1\r\n+a\r\n:1\r\n", b"#t\r\n",
    b",1.5\r\n", b"(12345678901234567890\r\n", b"=7\r\ntxt:abc\r\n", b">2\r\n+a\r\n+b\r\n",
    b'$7\r\n"a\xff\x00b"\r\n', b"$20\r\n" + b"[" * 20 + b"\r\n", b"!3\r\nERR\r\n", b"~1\r\n:1\r\n",
]  # fmt: skip
DEEP = b"*1\r\n" * 200
LONG = [
    b"$536870912\r\nx",
    b"$9223372036854775807\r\nx",
    b"*1073741824\r\n",
    b"$99999999999999999999\r\n",
    b"$-5\r\n",
    DEEP,
]


def mangled(chance: random.Random) -> bytes:
    """A reply that is not what it should be: damaged, cut off, repeated, or of another kind."""
    reply = bytearray(chance.choice(WELL_FORMED) * chance.choice([1, 1, 1, 3]))
    at = chance.randrange(len(reply))
    match chance.randrange(6):
        case 0:
            del reply[at:]
        case 1:
            reply[at] = chance.randrange(256)
        case 2:
            reply[at:at] = chance.randbytes(chance.randrange(1, 9))
        case 3:
            reply = bytearray(chance.choice(LONG))
        case 4:
            reply = bytearray(chance.randbytes(chance.randrange(1, 60)))
    return bytes(reply)


# A thread or a loop that panics in the middle of a reply would take others' calls along.
@pytest.mark.row(29)
def test_malformed_replies_are_errors_and_never_a_panic(
    row: Row, open_storage: OpenStorage, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(29)
    times = row.pick(quick=400, full=20_000)
    lock = threading.Lock()

    def answer(_: list[bytes]) -> bytes | None:
        with lock:
            return mangled(chance) if chance.random() < 0.9 else None

    ended: dict[str, int] = {}
    with Peer(answer) as peer:
        short: dict[str, Any] = {
            "redis_url": peer.url,
            "redis_socket_timeout": 0.02,
            "redis_max_retries": 0,
            "redis_breaker_failures": 1_000_000,
        }
        plain = open_storage(**short)
        # Compressed, batches travel over the pool, whose replies another parser reads.
        pooled = open_storage("text_chunks", **short, redis_compression="zstd")
        calls: list[Callable[[], Any]] = [
            lambda: plain.sync.get_by_id("a"),
            lambda: plain.sync.upsert({"a": 1, "b": 2}),
            lambda: plain.sync.get_by_ids(["a", "b"]),
            plain.sync.all_keys,
            lambda: plain.sync.delete_by_id("a"),
            lambda: asyncio.run(pooled.get_by_ids([f"{n}" for n in range(70)])),
            lambda: asyncio.run(pooled.upsert({f"{n}": n for n in range(70)})),
        ]
        until = time.monotonic() + row.pick(quick=15, full=90)
        for number in range(times):
            kind = outcome(calls[number % len(calls)])
            ended[kind] = ended.get(kind, 0) + 1
            if time.monotonic() > until:
                break
        peer.script = lambda _: b"$1\r\n1\r\n"
        eventually(lambda: outcome(calls[0]) == "value")
        assert plain.sync.get_by_id("a") == 1, "the storage is not usable any more"
    said = capfd.readouterr().err
    assert "StorageOperationError" in ended
    assert "StorageUnavailableError" in ended
    row.none("panics", said.count("panicked"), of=sum(ended.values()))
    row.saw("errors", ", ".join(f"{count:,} {kind}" for kind, count in sorted(ended.items())))


def outcome(call: Callable[[], object]) -> str:
    """How a call ends; any other exception than ours is raised."""
    try:
        call()
    except StorageError as error:
        return type(error).__name__
    return "value"


@pytest.mark.row(29)
def test_replies_cut_into_bytes_are_read_as_whole_ones(
    row: Row, server: RedisServer, open_storage: OpenStorage
) -> None:
    count = row.pick(quick=30, full=500)
    with Proxy(server.port) as proxy:
        storage = open_storage(redis_url=proxy.url).sync
        proxy.one_byte = True
        values = {str(number): {"content": "é\r\n" * (number % 100)} for number in range(count)}
        storage.upsert(values)
        wrong = sum(
            found != value
            for found, value in zip(storage.get_by_ids(values), values.values(), strict=True)
        )
        row.none("values misread from single bytes", wrong, of=count)


def test_a_walk_that_a_server_sends_in_a_circle_is_an_error() -> None:
    def circling(words: list[bytes]) -> bytes:
        return b"*2\r\n$2\r\n17\r\n*0\r\n" if words[0] == b"SCAN" else b"+OK\r\n"

    with (
        Peer(circling) as peer,
        SyncRedisKVStorage("full_docs", {"redis_url": peer.url, **QUICK}) as storage,
        pytest.raises(StorageOperationError, match="SCAN 17 led to 17 again"),
    ):
        storage.all_keys()


@pytest.mark.parametrize("length", [b"536870913", b"9223372036854775807"])
def test_a_length_that_no_value_has_is_an_error_before_the_value_comes(length: bytes) -> None:
    with (
        Peer(lambda _: b"$" + length + b"\r\nx") as peer,
        SyncRedisKVStorage("full_docs", {"redis_url": peer.url, **QUICK}) as storage,
        pytest.raises(StorageError, match="a longer value than a server can hold"),
    ):
        storage.get_by_id("a")
