"""``changes [NAMESPACE]``: who wrote what, as ``redis_changes`` has recorded it."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, NoReturn

import typer

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import KNOWN_NAMESPACES, OF_EVERY_HOST
from nano_graphrag_redis.exceptions import StorageOperationError, StorageUnavailableError
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.migration.open_store import opened
from nano_graphrag_redis.printable import visible, visible_json

from .completion import namespaces_for_completion
from .exit_codes import Exit
from .session import Session

_PAGE = 1000
"""Keys that one SCAN looks at, and entries of one request."""
_EVERY = 0.5
"""Seconds between two looks for new entries, under ``--follow``."""
_NAMESPACES_EVERY = 20
"""Looks after which streams of further namespaces are looked for, which walks the database."""
_LONGEST = 10
"""Ids that a line names; ``--json`` has all that were recorded."""

_Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAMESPACE]",
        help="Only this namespace. Default: all of the keyspace.",
        show_default=False,
        autocompletion=namespaces_for_completion,
    ),
]
_Follow = Annotated[bool, typer.Option("--follow", help="Go on printing new changes until Ctrl-C.")]
_Last = Annotated[
    int,
    typer.Option(
        "--last", help="How many of the latest changes to show first.", min=0, max=1_000_000_000
    ),
]


_Entry = tuple[str, list[tuple[bytes, bytes]]]
"""An entry of a stream: its id, and its fields."""


@dataclass(frozen=True, order=True)
class _Change:
    at: tuple[int, int]
    namespace: str
    operation: str
    who: str
    name: str
    count: int
    ids: tuple[str, ...]

    @classmethod
    def of(cls, namespace: str, id: str, fields: list[tuple[bytes, bytes]]) -> _Change:
        """An entry, whoever wrote it: what is missing or no text of ours is shown as it is."""
        texts = {
            name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields
        }
        milliseconds, _, number = id.partition("-")
        count = texts.get("count", "")
        return cls(
            (int(milliseconds), int(number)),
            namespace,
            texts.get("op", ""),
            texts.get("who", ""),
            texts.get("name", ""),
            int(count) if re.fullmatch("[0-9]{1,19}", count) else 0,
            _ids(texts.get("ids", "[]")),
        )

    @property
    def id(self) -> str:
        return "{}-{}".format(*self.at)

    def data(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "id": self.id,
            "time": self._time("milliseconds"),
            "namespace": self.namespace,
            "operation": self.operation,
            "who": self.who,
            "name": self.name or None,
            "count": self.count,
            "ids": list(self.ids),
        }

    def line(self) -> str:
        """The same for a person, without an unprintable character."""
        who = f"{self.name} ({self.who})" if self.name else self.who
        named = " ".join(self.ids[:_LONGEST])
        more = self.count - min(len(self.ids), _LONGEST)
        ids = f": {named}" if named else ""
        rest = f" and {more:,} more" if named and more > 0 else ""
        what = f"{self.operation} {plural(self.count, 'id')}{ids}{rest}"
        return visible(f"{self._time('seconds')} {self.namespace} {who} {what}")

    def _time(self, precision: str) -> str:
        try:
            at = datetime.fromtimestamp(self.at[0] / 1000, tz=timezone.utc)
        except (OverflowError, ValueError, OSError):  # an entry of another's, of any number
            return str(self.at[0])
        return at.isoformat(timespec=precision).replace("+00:00", "Z")


def _ids(text: str) -> tuple[str, ...]:
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return tuple(id for id in ids if isinstance(id, str)) if isinstance(ids, list) else ()


class _Streams:
    """The streams that are read, and how far."""

    def __init__(self, config: RedisConfig, only: str | None, stack: ExitStack) -> None:
        self._config = config
        self._only = only
        self._stack = stack
        self._stores: dict[str, BlockingKvStore] = {}
        self._last: dict[str, str] = {}
        self.refused: dict[str, StorageOperationError] = {}
        """Why a stream cannot be read, of those that cannot, by namespace."""
        self.away: StorageUnavailableError | None = None
        """Why streams were not all looked for or read the last time: a server did not answer."""
        self.cut: list[str] = []
        """The streams that had lost entries by the latest ``new`` that nobody has read."""
        self.more = False
        """Whether there may be more than the latest ``new`` has read."""

    def look(self) -> None:
        """Opens the streams that there are and are not known yet.

        Where a part of a cluster does not answer, those of the host's namespaces: the others may
        have them.
        """
        self.away = None
        names = {self._only} if self._only is not None else set()
        try:
            if self._only is None:
                names.update(_recorded(self._config))
        except StorageUnavailableError as error:
            if not self._config.redis_cluster:
                raise
            self.away = error
            names.update(KNOWN_NAMESPACES)
        for name in sorted(names):
            if name not in self._stores and name not in self.refused:
                self._stores[name] = self._stack.enter_context(opened(name, self._config))

    def latest(self, number: int) -> list[_Change]:
        """The latest changes, the oldest first, of the streams whose server answers."""
        found: list[_Change] = []
        for name in list(self._stores):
            try:
                entries = self._read(name, None, max(number, 1))
            except StorageUnavailableError as error:
                if self._only is not None:
                    raise
                self.away = error
                continue
            self._last[name] = entries[0][0] if entries else "0-0"
            found += [_Change.of(name, id, fields) for id, fields in entries]
        return sorted(found)[max(len(found) - number, 0) :]

    def new(self) -> list[_Change]:
        """What has come since, the oldest first, of the streams whose server answers."""
        found: list[_Change] = []
        self.away, self.cut, self.more = None, [], False
        for name in list(self._stores):
            last = self._last.get(name, "0-0")
            try:
                # The last one once more: if it is gone, those after it may be, too.
                entries = self._read(name, _before(last), _PAGE)
            except StorageUnavailableError as error:
                self.away = error
                continue
            self.more |= len(entries) == _PAGE
            if entries and entries[0][0] == last:
                del entries[0]
            elif entries and last != "0-0":
                self.cut.append(name)
            if entries:
                self._last[name] = entries[-1][0]
            found += [_Change.of(name, id, fields) for id, fields in entries]
        return sorted(found)

    def _read(self, name: str, after: str | None, number: int) -> list[_Entry]:
        """Entries of a stream. One of several that cannot be read hides none of the others."""
        try:
            return self._stores[name].changes(after, number)
        except StorageOperationError as error:
            if self._only is not None:
                raise
            del self._stores[name]
            self.refused[name] = error
            return []


def _before(id: str) -> str:
    """The id right before another, after which that one comes first."""
    milliseconds, _, number = id.partition("-")
    if int(number):
        return f"{milliseconds}-{int(number) - 1}"
    return f"{int(milliseconds) - 1}-{2**64 - 1}" if int(milliseconds) else id


def changes(
    session: Session, namespace: _Name = None, follow: _Follow = False, last: _Last = 100
) -> Exit | None:
    """Show who wrote what, oldest first: time, namespace, process, and the ids.

    REDIS_CHANGES=on records it, at most once: an entry may be missing, and none is made up.

    Exits 1 if nothing was recorded, or if a stream cannot be read, and 3 if its server does not
    answer; the others are shown. With --follow, a server that goes away is waited for.
    """
    config = session.bare.model_copy(update={"redis_changes": False})
    with ExitStack() as stack:
        streams = _Streams(config, namespace, stack)
        streams.look()
        found = streams.latest(last)
        if not follow:
            session.output.show(
                [change.data() for change in found],
                lambda: session.output.lines(change.line() for change in found),
            )
            for error in streams.refused.values():
                session.output.refuse(error)
            if streams.away:
                session.output.refuse(streams.away)
                return Exit.NO_SERVER
            if not found and last and not streams.refused:
                session.output.say("no changes were recorded: set REDIS_CHANGES=on", "dim")
                return Exit.FOUND
            return Exit.FOUND if streams.refused else None
        session.output.lines(_shown(session, found))
        return _follow(session, streams)


def _follow(session: Session, streams: _Streams) -> NoReturn:
    """Prints what comes, until Ctrl-C."""
    told: set[str] = set()
    away = False
    for looks in itertools.count(1):
        for name in streams.refused.keys() - told:
            session.output.refuse(streams.refused[name])
            told.add(name)
        if not streams.more:
            time.sleep(_EVERY)
        found = streams.new()
        for name in streams.cut:
            cut = f"changes of {visible(name)} were cut off before they were read: the stream keeps"
            session.output.refuse(LookupError(f"{cut} about 10,000"))
        session.output.lines(_shown(session, found))
        failed = streams.away or _looked(streams, looks)
        if failed and not away:
            session.output.refuse(failed)
            session.output.say("waiting for the server, until Ctrl-C", "dim")
        elif away and not failed:
            session.output.say("the server answers again", "dim")
        away = failed is not None
    raise AssertionError("it goes on for ever")


def _looked(streams: _Streams, looks: int) -> StorageUnavailableError | None:
    """Looks for further streams from time to time; the error if the server did not answer."""
    if looks % _NAMESPACES_EVERY:
        return None
    try:
        streams.look()
    except StorageUnavailableError as error:
        return error
    return streams.away


def _shown(session: Session, found: list[_Change]) -> Iterator[str]:
    """A line each; with ``--json`` a document a line, since there is no last one."""
    for change in found:
        yield (
            visible_json(change.data(), ascii_only=True)
            if session.output.as_json
            else (change.line())
        )


def _recorded(config: RedisConfig) -> list[str]:
    """The namespaces of the keyspace with a stream, sorted. Walks the whole database."""
    found: set[str] = set()
    for workspace in {config.workspace_for(name) for name in (*config.redis_shared_namespaces, "")}:
        at = f"@{workspace}" if workspace else ""
        root = f"{config.redis_key_prefix}{at}:@changes:".encode()
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", root) + b"*"
        with opened(OF_EVERY_HOST, config) as store:
            cursor, keys = store.scan(0, pattern, _PAGE)
            while True:
                names = {_namespace(key.removeprefix(root)) for key in keys}
                found |= {
                    name
                    for name in names
                    if name is not None and config.workspace_for(name) == workspace
                }
                if not cursor:
                    break
                cursor, keys = store.scan(cursor, pattern, _PAGE)
    return sorted(found)


def _namespace(name: bytes) -> str | None:
    """What follows the root of a key, if a storage can have it as its namespace."""
    try:
        namespace = name.decode()
    except UnicodeDecodeError:
        return None
    return namespace if namespace and not re.search("[:@]", namespace) else None
