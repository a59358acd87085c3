"""OpenTelemetry spans for the calls of a storage, by the semantic conventions for databases.

When tracing is off, this module is not imported and calls have no overhead: a traced storage gets
another store when it is created. Spans go to the tracer that the service has configured; names and
attributes follow https://opentelemetry.io/docs/specs/semconv/database/redis/. They contain no
values, and ids only if ``redis_tracing`` is ``ids``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

from ._core import BlockingKvStore, KvStore, __version__
from .config import RedisConfig
from .exceptions import StorageConfigError

MOST_IDS: Final = 100
"""Ids of a batch that its span names."""

_COMMANDS: Final[Mapping[str, str]] = {
    "get_by_id": "GET",
    "get_by_ids": "GET",
    "filter_keys": "EXISTS",
    "upsert": "SET",
    "replace": "SET",
    "delete_by_id": "UNLINK",
    "delete_by_ids": "UNLINK",
    "drop": "UNLINK",
    "all_keys": "SCAN",
    "index_done": "WAIT",
    "ping": "PING",
    "stats": "MEMORY USAGE",
}
"""Each call that has a span, and the command that does most of its work."""

_ON_IDS: Final = frozenset(
    {
        "get_by_id",
        "get_by_ids",
        "filter_keys",
        "upsert",
        "replace",
        "delete_by_id",
        "delete_by_ids",
    }
)
"""The calls whose first argument is an id, or some."""


def traced(store: KvStore, namespace: str, config: RedisConfig) -> KvStore:
    """The same store, each of whose calls is a span.

    Raises:
        StorageConfigError: The package ``opentelemetry-api`` is not installed.
    """
    spans = Spans(namespace, config)
    return cast("KvStore", _Traced(store, spans))


class Spans:
    """The spans of one namespace.

    Args:
        namespace: The host's namespace.
        config: Its settings: the address of the server, and whether to record ids.
    """

    def __init__(self, namespace: str, config: RedisConfig) -> None:
        try:
            from opentelemetry import trace
        except ModuleNotFoundError:
            raise StorageConfigError(
                f"redis_tracing={config.redis_tracing!r} needs the package opentelemetry-api: "
                "pip install opentelemetry-api"
            ) from None
        self._trace = trace
        self._tracer = trace.get_tracer("nano_graphrag_redis", __version__)
        self._with_ids = config.redis_tracing == "ids"
        self._namespace = namespace
        self._attributes = _attributes(namespace, config)

    @contextmanager
    def span(self, call: str, arguments: tuple[Any, ...]) -> Iterator[None]:
        """One call, from here to the end of the block."""
        attributes = dict(self._attributes)
        command = _COMMANDS[call]
        if call in _ON_IDS and arguments:
            ids = arguments[0]
            if call in {"get_by_ids", "filter_keys", "upsert", "replace", "delete_by_ids"}:
                ids = list(ids) if isinstance(ids, Collection) and not isinstance(ids, str) else []
                # As the conventions have it: a batch is one of two or more.
                if len(ids) > 1:
                    command = f"BATCH {command}"
                    attributes["db.operation.batch.size"] = len(ids)
            else:
                ids = [ids]
            if self._with_ids:
                attributes["nano_graphrag.ids"] = [str(id) for id in ids[:MOST_IDS]]
        attributes["db.operation.name"] = command
        attributes["nano_graphrag.operation"] = call
        with self._tracer.start_as_current_span(
            f"{command} {self._namespace}",
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
            # The message of an exception names the id, and a traceback may show more.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(self._trace.StatusCode.ERROR)
                raise


class _Traced:
    """A store of either kind, whose calls are spans; the rest of it is the store's own."""

    def __init__(self, store: KvStore | BlockingKvStore, spans: Spans) -> None:
        self._store = store
        self._spans = spans
        awaits = isinstance(store, KvStore)
        for call in _COMMANDS:
            body = getattr(store, call)
            setattr(self, call, (_awaited if awaits else _blocking)(spans, call, body))

    @property
    def blocking(self) -> BlockingKvStore:
        return cast("BlockingKvStore", _Traced(self._store.blocking, self._spans))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def _awaited(
    spans: Spans, call: str, body: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def run(*arguments: Any) -> Any:
        arguments = _kept(call, arguments)
        with spans.span(call, arguments):
            return await body(*arguments)

    return run


def _blocking(spans: Spans, call: str, body: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        arguments = _kept(call, arguments)
        with spans.span(call, arguments):
            return body(*arguments)

    return run


def _kept(call: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, an iterator of ids as a list: it can be read once, and is read twice."""
    if call in _ON_IDS and arguments and isinstance(arguments[0], Iterator):
        return (list(arguments[0]), *arguments[1:])
    return arguments


def _attributes(namespace: str, config: RedisConfig) -> dict[str, Any]:
    """What all spans of a namespace have in common; no credential is in an address."""
    attributes: dict[str, Any] = {
        "db.system.name": "redis",
        "db.namespace": str(config.redis_url.database),
        "nano_graphrag.namespace": namespace,
    }
    if config.redis_workspace:
        attributes["nano_graphrag.workspace"] = config.redis_workspace
    parts = urlsplit(config.redis_url.address)
    if parts.hostname:
        attributes |= {"server.address": parts.hostname, "network.transport": "tcp"}
        if parts.port is not None:
            attributes["server.port"] = parts.port
    else:
        attributes |= {"server.address": parts.path, "network.transport": "unix"}
    return attributes
