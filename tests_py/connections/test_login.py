"""Where a connection goes and who it is there: database, user and password, unix socket."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from connections.conftest import Connections, OpenStorage
from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageAuthError, StorageUnavailableError
from support.servers import RedisServer

USER, PASSWORD = "marley", "p@ss:w/rd #1"
KEY = "nano_graphrag:full_docs:a"


@pytest.mark.parametrize("suffix", ["/3", "?db=3"])
def test_a_database_number_is_honoured(
    server: RedisServer, open_storage: OpenStorage, connections: Connections, suffix: str
) -> None:
    open_storage(redis_url=server.url + suffix).upsert({"a": 1})
    assert server.client(db=3).get(KEY) == b"1"
    assert server.client().dbsize() == 0
    assert [client["db"] for client in connections.open()] == ["3"]


@pytest.mark.parametrize("suffix", ["", "?db=3"])
def test_a_unix_socket_is_connected_to(
    server: RedisServer, open_storage: OpenStorage, connections: Connections, suffix: str
) -> None:
    open_storage(redis_url=server.unix_url + suffix).upsert({"a": 1})
    (client,) = connections.open()
    assert str(server.socket_path) in client["addr"]
    assert server.client(db=int(client["db"])).get(KEY) == b"1"
    assert client["db"] == (suffix[-1:] or "0")


@pytest.fixture
def user(server: RedisServer, connections: Connections) -> None:
    """The only one who gets in, since those who watch; may do what a storage does to its keys."""
    admin = server.client()
    admin.acl_setuser(
        USER,
        enabled=True,
        passwords=[f"+{PASSWORD}"],
        keys=["nano_graphrag:*"],
        categories=["+@read", "+@write", "+@connection"],
    )
    admin.acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+another"])


@pytest.mark.usefixtures("user")
def test_a_user_logs_in_by_the_settings(
    open_storage: OpenStorage, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_USERNAME", USER)
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    serves_as_the_user(open_storage(), connections)


@pytest.mark.usefixtures("user")
def test_a_user_logs_in_by_the_url(
    server: RedisServer,
    open_storage: OpenStorage,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials = f"{quote(USER)}:{quote(PASSWORD, safe='')}@"
    monkeypatch.setenv("REDIS_URL", server.url.replace("://", f"://{credentials}"))
    serves_as_the_user(open_storage(redis_url=None), connections)


def serves_as_the_user(storage: SyncRedisKVStorage, connections: Connections) -> None:
    storage.upsert({"a": 1})
    assert storage.get_by_id("a") == 1
    assert storage.all_keys() == ["a"]
    assert storage.delete_by_id("a") is True
    storage.drop()
    assert {client["user"] for client in connections.open()} == {USER}


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("username", [None, "scrooge"])
def test_the_password_of_one_user_lets_in_no_other(
    open_storage: OpenStorage, username: str | None
) -> None:
    storage = open_storage(redis_username=username, redis_password=PASSWORD)
    with pytest.raises(StorageAuthError) as caught:
        storage.get_by_id("a")
    assert PASSWORD not in str(caught.value)


# As a host name whose DNS is silent, or a file on a mount that hangs.
def test_a_password_file_that_cannot_be_read_to_its_end_keeps_nobody_from_another_server(
    server: RedisServer, open_storage: OpenStorage, tmp_path: Path
) -> None:
    silent = tmp_path / "password"
    os.mkfifo(silent)
    writer = os.open(silent, os.O_RDWR)
    stuck = [
        open_storage(
            redis_url=f"redis://127.0.0.1:{server.port}/{number}",
            redis_password_file=str(silent),
            redis_operation_timeout=1,
        )
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(storage.get_by_id, "a") for storage in stuck]
        other = open_storage(redis_url=f"redis://localhost:{server.port}")
        assert other.get_by_id("a") is None
        for call in calls:
            with pytest.raises(StorageUnavailableError):
                call.result()
    silent.unlink()
    os.close(writer)  # whoever waits for more goes on
