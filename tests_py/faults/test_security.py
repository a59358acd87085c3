"""Secrets are never visible, strangers never accepted, and a user of few rights lacks none."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageAuthError, StorageError, StorageUnavailableError
from support.certificates import HOST, Authority, Identity, self_signed, tls_options
from support.places import least_privilege
from support.scripts import run_script
from support.servers import RedisServer, server_binaries

from .rows import Row

CANARY = "s3cret-c4nary"

TELL_EVERYTHING = """
import io, json, logging, traceback
from prometheus_client import CollectorRegistry, generate_latest
from nano_graphrag_redis import RedisConfig
from nano_graphrag_redis.metrics import register

logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
registry = CollectorRegistry()
register(registry)

def tell(settings):
    try:
        config = RedisConfig.from_global_config(settings)
        print(config, repr(config), config.model_dump(), config.model_dump_json())
        storage = RedisKVStorage("full_docs", settings)
        print(storage, repr(storage), repr(storage.sync))
        with storage.sync as sync:
            sync.upsert({"a": {"n": 1}})
            print(sync.get_by_id("a"), sync.get_stats(), sync.check_health())
            print(generate_latest(registry).decode())
            sync.upsert({"b": {1, 2}})
    except StorageError as error:
        traceback.print_exc(file=sys.stdout)
        print(repr(error), vars(error), repr(error.__cause__), repr(error.__context__))
    print(generate_latest(registry).decode())

for settings in json.loads(sys.argv[2]):
    tell(settings)
"""


@pytest.mark.row(24)
def test_no_secret_is_seen_whatever_happens(row: Row, tmp_path: Path) -> None:
    file, wrong = tmp_path / "password", tmp_path / "wrong"
    file.write_text(CANARY)
    wrong.write_text(f"{CANARY}-wrong")
    with RedisServer(password=CANARY) as server:
        place = f"127.0.0.1:{server.port}"
        ours = {"redis_max_retries": 0, "redis_connection_timeout": 1.0}
        cases: list[dict[str, Any]] = [
            {"redis_url": server.url, "redis_password": CANARY},
            {"redis_url": f"redis://:{CANARY}@{place}"},
            {"redis_url": f"redis://default:{CANARY}@{place}", "redis_near_cache_mb": 1},
            {"redis_url": server.url, "redis_password_file": str(file)},
            {"redis_url": server.url, "redis_password_file": str(wrong)},
            {"redis_url": server.url, "redis_password_file": str(tmp_path / "missing")},
            {"redis_url": server.url, "redis_password": f"{CANARY}-wrong"},
            {"redis_url": f"redis://ann:{CANARY}@{place}"},
            {"redis_url": f"redis://:{CANARY}@127.0.0.1:1"},
            {"redis_url": f"rediss://:{CANARY}@{place}"},
            {"redis_url": f"rediss://:{CANARY}@{place}#insecure"},
            {"redis_url": f"redis+sentinel://:{CANARY}@{place}", "redis_sentinel_master": "m"},
            {
                "redis_url": f"redis+sentinel://{place}",
                "redis_sentinel_master": "m",
                "redis_sentinel_password": CANARY,
            },
            {"redis_url": f"redis://:{CANARY}@{place}", "redis_cluster": True},
            {"redis_url": server.url, "redis_password": CANARY, "redis_max_retries": -1},
            {"redis_password": CANARY, "redis_password_file": CANARY},
            {"redis_pasword": CANARY},
        ]
        told = run_script(TELL_EVERYTHING, server.url, json.dumps([ours | case for case in cases]))
    said = told.out + told.err
    assert told.code == 0, told.err
    # All of it was told: what went well, and what did not.
    assert said.count("# TYPE redis_") > 100
    assert said.count("Traceback") == len(cases)
    row.none("canary", said.count(CANARY), of=len(said))


@contextmanager
def serving(identity: Identity, **who: Authority) -> Iterator[RedisServer]:
    options = tls_options(identity, **who)
    with RedisServer(server_binaries()["redis"], tls=True, **options) as server:
        yield server


@pytest.mark.row(25)
def test_no_stranger_is_accepted(row: Row, tmp_path: Path) -> None:
    authority, another = Authority(tmp_path), Authority(tmp_path, "another")
    yesterday = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)
    trusted = authority.settings
    good = authority.issue("good")
    tries = row.pick(quick=1, full=100)
    accepted: list[str] = []

    def attempt(what: str, server: RedisServer, error: type[StorageError], **more: Any) -> None:
        """Each of the tries is a storage of its own, and so a handshake of its own."""
        settings = {"redis_url": server.url.replace("127.0.0.1", HOST), **trusted, **more}
        for _ in range(tries):
            with SyncRedisKVStorage("full_docs", settings) as storage:
                try:
                    storage.upsert({"a": 1})
                except error as refused:
                    assert "redis_" in str(refused)  # it names the setting to look at
                    continue
            accepted.append(what)

    with serving(good, ca=authority) as server:
        attempt("wrong CA", server, StorageAuthError, **another.settings)
    with serving(authority.issue("old", not_after=yesterday), ca=authority) as server:
        attempt("expired", server, StorageAuthError)
    with serving(authority.issue("elsewhere", "cache.example"), ca=authority) as server:
        attempt("wrong host", server, StorageAuthError)
    with serving(self_signed(tmp_path), ca=authority) as server:
        attempt("self-signed", server, StorageAuthError)
    with serving(good, clients=authority) as server:
        attempt("no client certificate", server, StorageAuthError)
    with RedisServer() as server:
        url = server.url.replace("redis://", "rediss://")
        quick = {"redis_url": url, "redis_connection_timeout": 0.2, "redis_max_retries": 0}
        attempt("plaintext port", server, StorageUnavailableError, **quick)
    row.none(", ".join(accepted) or "accepted", len(accepted), of=6 * tries)


@pytest.mark.row(26)
@pytest.mark.parametrize("name", list(server_binaries()))
def test_a_user_of_few_rights_lacks_none(row: Row, name: str) -> None:
    """The contract suite runs under this user in tests_py/places; here is what it is asked."""
    with least_privilege(server_binaries()[name]) as place:
        place.prepare()
        admin = place.server.client()
        rights: Any = admin.acl_getuser("graph")
        for command in ("info", "config|get", "bgsave"):
            assert f"+{command}" not in str(rights["commands"])
        calls = 0
        for options in ({}, {"redis_registry": True}, {"redis_near_cache_mb": 1}):
            settings = place.settings | options
            place.permit(settings)
            assert RedisConfig(**settings).redis_username == "graph"
            with SyncRedisKVStorage("full_docs", settings) as storage:
                for number in range(row.pick(quick=20, full=500)):
                    storage.upsert({str(number): number})
                    assert storage.get_by_id(str(number)) == number
                    assert storage.filter_keys([str(number), "x"]) == {"x"}
                    assert storage.get_stats(light=True)["key_count"] > 0
                    assert storage.delete_by_id(str(number))
                    storage.index_done_callback()
                    calls += 6
                storage.drop()
                assert storage.check_health()
        row.none(f"NOPERM on {name}", len(place.complaints()), of=calls)
