"""The URL of the server: what is taken, what is refused, and that nothing secret is ever shown."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nano_graphrag_redis.config.secrets import redacted
from nano_graphrag_redis.config.url import RedisUrl


class Parts(NamedTuple):
    address: str
    username: str | None = None
    password: str | None = None


def parts(url: str) -> Parts:
    parsed = RedisUrl.parse(url)
    password = parsed.password.get_secret_value() if parsed.password else None
    return Parts(parsed.address, parsed.username, password)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", Parts("redis://cache:6379/0")),
        ("REDIS://Cache:7000/", Parts("redis://cache:7000/0")),
        ("redis://cache/3", Parts("redis://cache:6379/3")),
        ("redis://cache?db=3", Parts("redis://cache:6379/3")),
        ("redis://cache/3?db=3", Parts("redis://cache:6379/3")),
        ("rediss://cache", Parts("rediss://cache:6379/0")),
        ("REDISS://ann:pw@Cache:7000/2", Parts("rediss://cache:7000/2", "ann", "pw")),
        ("redis://[::1]:7000/1", Parts("redis://[::1]:7000/1")),
        ("redis://:pw@cache", Parts("redis://cache:6379/0", None, "pw")),
        ("redis://ann:p%40%2F%23w@cache", Parts("redis://cache:6379/0", "ann", "p@/#w")),
        ("redis://a%3Ann:p:w@cache", Parts("redis://cache:6379/0", "a:nn", "p:w")),
        ("redis://:@cache", Parts("redis://cache:6379/0")),
        ("unix:///run/redis.sock", Parts("redis+unix:///run/redis.sock?db=0")),
        ("redis+unix:///run/redis.sock?db=2", Parts("redis+unix:///run/redis.sock?db=2")),
        ("unix://ann:pw@/a%20b.sock", Parts("redis+unix:///a%20b.sock?db=0", "ann", "pw")),
    ],
)
def test_a_url_is_taken_apart(url: str, expected: Parts) -> None:
    assert parts(url) == expected


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("embedded://./cache/redis", Path("cache/redis")),
        ("embedded:///var/lib/graph", Path("/var/lib/graph")),
        ("embedded://my%20cache", Path("my cache")),
        ("embedded://~/cache", Path.home() / "cache"),
    ],
)
def test_an_embedded_url_names_a_directory(url: str, directory: Path) -> None:
    parsed = RedisUrl.parse(url)
    assert parsed.embedded_directory == directory
    assert parsed.username is None
    assert parsed.password is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must be redis://"),
        ("cache:6379", "add redis://"),
        ("localhost", "add redis://"),
        ("cache:6379/0", "add redis://"),
        ("/run/redis.sock", r"add redis\+unix://"),
        ("valkey://cache", "write redis://"),
        ("redis+socket:///run/redis.sock", r"write redis\+unix://"),
        ("sentinel://cache:26379", r"write redis\+sentinel://"),
        ("http://cache", "must be redis://"),
        ("redis://", "names no host"),
        ("redis://:6379/0", "names no host"),
        ("redis://my cache", "names no host"),
        ("redis://[fe80::1%eth0]:6379", "a zone"),
        ("redis://c%61che", "a % in its host"),
        ("redis://cache:port", "port from 1 to 65535"),
        ("redis://cache:0", "port from 1 to 65535"),
        ("redis://cache:65536", "port from 1 to 65535"),
        ("redis://[::1", "malformed IPv6"),
        ("redis://cache/one", "number for a database"),
        ("redis://cache/-1", "number for a database"),
        ("redis://cache/1/2", "number for a database"),
        ("redis://cache?db=", "number for a database"),
        ("redis://cache/1?db=2", "two databases"),
        ("redis://cache?protocol=3", "protocol: leave it out"),
        ("redis://cache?no_such=1", "no option but"),
        ("redis://cache?db=1&decode_responses=True", "decode_responses: leave it out"),
        ("redis://cache?socket_timeout=5", "set redis_socket_timeout"),
        ("redis://cache?socket_connect_timeout=5", "set redis_connection_timeout"),
        ("redis://cache?max_connections=5", "set redis_max_connections"),
        ("redis://cache?health_check_interval=5", "set redis_health_check_interval"),
        ("redis://cache?Retry_On_Timeout=yes", "set redis_retry_on_timeout"),
        ("redis://cache?timeout=5", "set redis_operation_timeout"),
        ("redis://cache?username=ann", "set redis_username"),
        ("redis://cache?password=", "set redis_password"),
        ("redis://cache?client_name=x", "client_name: leave it out"),
        ("redis://cache?encoding=utf-8", "encoding: leave it out"),
        ("redis+unix:///run/redis.sock?virtual_host=1", "virtual_host: write the database"),
        ("rediss://cache?ssl_ca_certs=ca.pem", "set redis_tls_ca_file"),
        ("rediss://cache?ssl_certfile=c.pem", "set redis_tls_cert_file"),
        ("rediss://cache?ssl_keyfile=k.pem", "set redis_tls_key_file"),
        ("redis+sentinel://one?service_name=m", "set redis_sentinel_master"),
        ("redis://cache/0#insecure", "fragment"),
        ("redis://:p#w@cache", "fragment"),
        ("redis://:p/w@cache", "percent-encode"),
        ("redis://:p?w@cache", "percent-encode"),
        ("redis://:%ff@cache", "no UTF-8"),
        ("redis://:p\nw@cache", "control character"),
        ("unix://relative.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("unix:///run/redis.sock?pass=pw", "redis_password"),
        ("unix:///run/re@dis.sock", "%40"),
        ("embedded://ann:pw@cache", "names a user"),
        ("embedded://ann%3Apw%40cache", "names a user"),
        ("embedded:///srv/a@b", "%40"),
        ("embedded://", "name a directory"),
        ("embedded://./cache?db=1", "name a directory"),
        ("rediss://cache#insecure", "fragment"),
        ("rediss://cache?ssl_cert_reqs=none", "ssl_cert_reqs: .* always verified"),
        ("redis+sentinel://cache/master", "number for a database"),
        ("redis+sentinel://one,,two", "names no host"),
        ("redis+sentinel://one,two:0", "port from 1 to 65535"),
        ("redis+sentinel://one,redis://two", "sentinels and other servers"),
        ("redis+sentinel://one,rediss+sentinel://two", "not all"),
        ("redis://one,two", "several servers in one URL"),
        ("redis://:a@one,redis://:b@two", "different users or passwords"),
        ("redis://one/0,redis://two/1", "two databases"),
        ("redis://one,redis+unix:///run/redis.sock", "all by redis://"),
    ],
)
def test_a_url_of_nothing_supported_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RedisUrl.parse(url)


def test_several_servers_are_one_url_and_one_user() -> None:
    url = RedisUrl.parse("redis://one, redis://ann:pw@two:7000/0,redis://three")
    assert url.address == "redis://one:6379/0"
    assert url.others == ("redis://two:7000/0", "redis://three:6379/0")
    assert url.username == "ann"
    assert str(url) == "redis://***@one:6379/0,redis://two:7000/0,redis://three:6379/0"
    plain = "redis://one:1/0,redis://two:2/0"
    assert str(RedisUrl.parse(plain)) == redacted(plain) == plain


@pytest.mark.parametrize(
    ("url", "addresses", "shown"),
    [
        (
            "redis+sentinel://one,two:7000,[::1]/3",
            ("redis://one:26379/3", "redis://two:7000/3", "redis://[::1]:26379/3"),
            "redis+sentinel://one:26379,two:7000,[::1]:26379/3",
        ),
        (
            "redis+sentinel://one,redis+sentinel://two",
            ("redis://one:26379/0", "redis://two:26379/0"),
            "redis+sentinel://one:26379,two:26379/0",
        ),
        (
            "REDISS+SENTINEL://ann:p,w@One",
            ("rediss://one:26379/0",),
            "rediss+sentinel://***@one:26379/0",
        ),
    ],
)
def test_a_url_names_sentinels(url: str, addresses: tuple[str, ...], shown: str) -> None:
    parsed = RedisUrl.parse(url)
    assert (parsed.address, *parsed.others) == addresses
    assert parsed.sentinel
    assert parsed.secure == url.lower().startswith("rediss")
    assert str(parsed) == shown
    if "@" not in url and url.count("://") == 1:
        assert redacted(url) == url


def test_a_comma_in_a_password_is_not_a_second_server() -> None:
    assert parts("redis://:a,b@cache").password == "a,b"


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_user_and_password_survive_percent_encoding(username: str, password: str) -> None:
    url = f"redis://{quote(username, safe='')}:{quote(password, safe='')}@cache:7000/5"
    assert parts(url) == Parts("redis://cache:7000/5", username, password)


CANARY = "s3cret"


@given(
    st.sampled_from(
        ["redis", "rediss", "unix", "redis+unix", "redis+sentinel", "embedded", "http", "REDIS"]
    ),
    st.text(alphabet="abc/?#@:,[]% \n"),
    st.text(alphabet="abc/?#@:,[]% \n"),
    st.sampled_from(["@cache:6379/0", "@cache", "@/run/redis.sock", "@one,redis://two", "@"]),
)
@example("redis", "", "/", "@cache")
@example("redis", "", "#", "@cache")
@example("redis", "", "@", "@cache")
def test_no_password_is_shown_whatever_the_url(
    scheme: str, before: str, after: str, server: str
) -> None:
    url = f"{scheme}://ann:{before}{CANARY}{after}{server}"
    assert CANARY not in redacted(url)
    try:
        parsed = RedisUrl.parse(url)
    except ValueError as error:
        assert CANARY not in str(error)
    else:
        assert CANARY not in f"{parsed} {parsed!r} {[parsed]}"


@pytest.mark.parametrize("url", [":s3cret@cache", "redis:s3cret@cache", "redis://:s3cret"])
def test_no_password_is_shown_of_what_is_no_url(url: str) -> None:
    assert CANARY not in redacted(url)


@pytest.mark.parametrize(
    "url", ["redis://cache:6379/0", "redis+unix:///run/redis.sock?db=1", "embedded://./cache"]
)
def test_a_url_without_credentials_is_shown_as_it_is(url: str) -> None:
    assert redacted(url) == url
    assert str(RedisUrl.parse(url)).startswith(url)
