"""The URL of a server: parsed and validated."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pydantic import SecretStr

from .url_options import advice_on, scheme_for

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379

_SUPPORTED = (
    "redis://HOST:PORT/DATABASE, rediss:// for TLS, redis+unix:///SOCKET?db=DATABASE, "
    "redis+sentinel://HOST:PORT,HOST:PORT/DATABASE or embedded://DIRECTORY"
)
_SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_TCP = ("redis", "rediss", *_SENTINEL)
_EMBEDDED = "embedded://"
SEVERAL = re.compile(r"\s*,\s*(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)


def embedded_url(home: Path) -> str:
    """The URL of an embedded directory, which ``RedisUrl.parse`` reads."""
    return _EMBEDDED + re.sub(r"[%@?#]", lambda found: f"%{ord(found[0]):02X}", str(home))


@dataclass(frozen=True)
class RedisUrl:
    """The address of the server, and the credentials for it.

    Attributes:
        address: The URL without user and password, in the canonical form that the core reads:
            ``redis://host:port/database``, ``rediss://`` for TLS, or
            ``redis+unix:///path?db=database``. For an embedded server, ``embedded://`` and its
            directory.
        username: The ACL user, percent-decoded; None for the server's default user.
        password: The password, percent-decoded, or None.
        embedded_directory: The directory of an embedded server, else None.
        database: The database number.
        others: The addresses of further seed servers, in the form of ``address``.
        sentinel: Whether the addresses are those of sentinels.
    """

    address: str
    username: str | None = None
    password: SecretStr | None = None
    embedded_directory: Path | None = None
    database: int = 0
    others: tuple[str, ...] = ()
    sentinel: bool = False

    @classmethod
    def parse(cls, url: object) -> RedisUrl:
        """Reads ``url``.

        Raises:
            ValueError: It is no URL of a server supported here. The message holds none of it.
        """
        if isinstance(url, RedisUrl):
            return url
        if not isinstance(url, str):
            raise ValueError("must be text")
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in url):
            # urlsplit drops some of them without a word, a password's among them.
            raise ValueError("holds a control character: percent-encode it")
        if "#" in url:
            raise ValueError("has a fragment (write a # in a password as %23)")
        if url.lower().startswith(_EMBEDDED):
            return cls._embedded(url[len(_EMBEDDED) :])
        if any("\ud800" <= character <= "\udfff" for character in url):
            raise ValueError("must be UTF-8 and have no lone surrogate in it")
        servers = (parts for one in SEVERAL.split(url) for parts in _split(one))
        first, *others = map(cls._server, servers)
        return _together(first, others) if others else first

    @classmethod
    def _embedded(cls, path: str) -> RedisUrl:
        if not path or "?" in path or "://" in path:
            raise ValueError("must name a directory and nothing else: embedded://./cache/redis")
        directory = Path(_decoded(path)).expanduser()
        # Who carries over the form of other URLs has a password here, which would be shown.
        if "@" in path or "@" in _decoded(path).partition("/")[0]:
            raise ValueError(
                "names a user, and an embedded server has none: embedded://./cache/redis (write an "
                "@ in a directory's name as %40, with ./ before it)"
            )
        return cls(address=f"{_EMBEDDED}{path}", embedded_directory=directory)

    @classmethod
    def _server(cls, parts: SplitResult) -> RedisUrl:
        userinfo, _, host = parts.netloc.rpartition("@")
        username, _, password = userinfo.partition(":")
        database = _database(parts)
        if parts.scheme in _TCP:
            scheme = _SENTINEL.get(parts.scheme, parts.scheme)
            address = f"{scheme}://{_host_and_port(parts, host)}/{database}"
        else:
            if host or len(parts.path) < 2:
                raise ValueError("must name the absolute path of a socket: redis+unix:///run/redis")
            if "@" in parts.path:
                raise ValueError("has an @ in its path: write it as %40")
            address = f"redis+unix://{quote(_decoded(parts.path))}?db={database}"
        return cls(
            address=address,
            username=_decoded(username) or None,
            password=SecretStr(_decoded(password)) if password else None,
            database=database,
            sentinel=parts.scheme in _SENTINEL,
        )

    @property
    def secure(self) -> bool:
        """Whether the server uses TLS."""
        return self.address.startswith("rediss")

    def __repr__(self) -> str:
        return f"RedisUrl({str(self)!r})"

    def __str__(self) -> str:
        scheme, _, rest = self.address.partition("://")
        user = "***@" if self.username or self.password else ""
        if not self.sentinel:
            return ",".join((f"{scheme}://{user}{rest}", *self.others))
        places = [address.split("/")[2] for address in (self.address, *self.others)]
        return f"{scheme}+sentinel://{user}{','.join(places)}/{self.database}"


def _together(first: RedisUrl, others: list[RedisUrl]) -> RedisUrl:
    """One URL of several servers, where the same user logs in everywhere."""
    urls = [first, *others]
    if {url.address.partition("://")[0] for url in urls} not in ({"redis"}, {"rediss"}):
        raise ValueError("names several servers, and not all by redis:// or all by rediss://")
    if len({url.sentinel for url in urls}) > 1:
        raise ValueError("names sentinels and other servers")
    if len({url.database for url in urls}) > 1:
        raise ValueError("names two databases")
    users = [url for url in urls if url.username or url.password]
    if len({(url.username, _revealed(url.password)) for url in users}) > 1:
        raise ValueError("names several servers with different users or passwords")
    user = users[0] if users else first
    return replace(
        first,
        username=user.username,
        password=user.password,
        others=tuple(url.address for url in others),
    )


def _revealed(password: SecretStr | None) -> str | None:
    return password.get_secret_value() if password else None


def _split(url: str) -> list[SplitResult]:
    """The parts of a redis or socket URL, the scheme checked; one of sentinels names several."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("has a malformed IPv6 address") from None
    userinfo, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts and parts.scheme not in _SENTINEL:
        raise ValueError("names several servers in one URL: write redis://ONE:1,redis://TWO:2")
    if parts.scheme == "unix":
        parts = parts._replace(scheme="redis+unix")
    if parts.scheme not in (*_TCP, "redis+unix"):
        raise ValueError(_wrong_scheme(url, parts.scheme))
    if parts.scheme in _TCP and "@" in parts.path + parts.query:
        raise ValueError("has an @ in its path: percent-encode / and ? in user name and password")
    return [parts._replace(netloc=f"{userinfo}{at}{host}") for host in hosts.split(",")]


def _wrong_scheme(url: str, scheme: str) -> str:
    if "://" in url:
        ours = scheme_for(scheme)
        meant = f"has the scheme of another client: write {ours}://; it " if ours else ""
        return f"{meant}must be {_SUPPORTED}"
    if url.startswith("/"):
        return "has no scheme: add redis+unix:// before the path of a socket"
    if url.strip():
        return "has no scheme: add redis://, or rediss:// for TLS"
    return f"must be {_SUPPORTED}"


def _host_and_port(parts: SplitResult, host: str) -> str:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must have a port from 1 to 65535")
    # A template with an empty variable gives redis://:6379; localhost would be the wrong guess.
    if not parts.hostname or " " in host:
        raise ValueError("names no host")
    if "%" in parts.hostname:
        what = "a zone (%...) in its IPv6 address" if ":" in parts.hostname else "a % in its host"
        raise ValueError(f"has {what}, which is not supported: name the host, or an address alone")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{name}:{port or (SENTINEL_PORT if parts.scheme in _SENTINEL else DEFAULT_PORT)}"


def _database(parts: SplitResult) -> int:
    """The number of the database: the path of a redis URL, else ``?db=``; 0 when not given."""
    query = parse_qsl(parts.query, keep_blank_values=True)
    for name, _ in query:
        if name != "db":
            advice = advice_on(name)
            if advice is not None:
                raise ValueError(f"has the option {name.lower()}: {advice}")
            raise ValueError(
                "may have no option but ?db=NUMBER: others are settings, such as redis_password or "
                "redis_socket_timeout"
            )
    given = [value for _, value in query]
    if parts.scheme in _TCP and parts.path.strip("/"):
        given.append(parts.path.strip("/"))
    if len(set(given)) > 1:
        raise ValueError("names two databases")
    number = given[0] if given else "0"
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise ValueError("must have a number for a database")
    return int(number)


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("holds a percent-encoding that is no UTF-8") from None
