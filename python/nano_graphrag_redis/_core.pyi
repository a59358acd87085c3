"""The Rust core, as Python sees it.

Two classes with the same calls: those of ``KvStore`` return a future of the running event loop,
those of ``BlockingKvStore`` block. What each call means, raises and costs stands at the method of
the same name of ``RedisKVStorage``; here stands what differs.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from .shapes import StorageStats

__all__ = [
    "BlockingKvStore",
    "FileWork",
    "JsonFile",
    "KvStore",
    "__version__",
    "close_at_exit",
    "file_of",
    "metrics",
]

__version__: str

def close_at_exit() -> None:
    """Lets no waiting thread back into Python any more. Registered with ``atexit`` on import."""

def file_of(directory: str | os.PathLike[str], namespace: str) -> Path:
    """The file in a directory that the host keeps a namespace in.

    Raises:
        StorageConfigError: The namespace is no file name, or would lead out of the directory.
    """

def metrics(*, census_every: float | None = None) -> dict[str, Any]:
    """What this process has counted, of storages open and closed; a forked child begins anew.

    Args:
        census_every: Have the servers in use looked at every so many seconds from now on, in the
            background: how many keys the namespaces have, what memory they take, how many keys were
            evicted; 0 for never. What the last look found is in ``sets``, under ``census``.

    Returns:
        Plain data, fit for JSON. ``bounds``: the upper bounds of the histograms' buckets, seconds.
        ``namespaces``: for each, ``operations`` (for each that was called: ``statuses``, calls by
        how they ended; ``histogram``, calls by duration, of each bucket alone and then of what is
        in none; ``seconds``, of all calls together), ``counts`` and ``forgiven`` (failures that
        callers were not told of, by kind). ``servers``: for each, ``counts`` (all that was ever
        counted) and ``sets`` (what each set of connections in use holds at this moment).
    """

@final
class KvStore:
    """One namespace on one server; every call returns a future of the running event loop.

    Args:
        settings: What ``RedisConfig.core_settings(namespace)`` gives.

    Raises:
        StorageConfigError: A setting is out of range. Nothing is opened.
        KeyError, TypeError: A setting is missing or of another type.
    """

    def __new__(cls, settings: Mapping[str, object]) -> KvStore: ...
    @property
    def prefix(self) -> str:
        """What every key of the namespace starts with: ``nano_graphrag:full_docs:``."""
    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
    @property
    def blocking(self) -> BlockingKvStore:
        """The blocking twin; the two are closed together."""
    def close(self) -> None:
        """Ends its use: calls under way finish, later ones raise ``StorageClosedError``."""
    def get_by_id(self, id: str) -> Awaitable[Any | None]: ...
    def get_by_ids(
        self,
        ids: Iterable[str],
        fields: Collection[str] | None = None,
        usable: Callable[[Any], bool] | None = None,
    ) -> Awaitable[list[Any | None]]:
        """As there. A value that is not ``usable`` counts as a miss, and None is given for it."""
    def filter_keys(self, ids: Iterable[str]) -> Awaitable[set[str]]: ...
    def upsert(self, data: dict[str, Any]) -> Awaitable[None]: ...
    def delete_by_id(self, id: str) -> Awaitable[bool]: ...
    def delete_by_ids(self, ids: Iterable[str]) -> Awaitable[int]: ...
    def drop(self) -> Awaitable[None]: ...
    def all_keys(self) -> Awaitable[list[str]]: ...
    def index_done(self) -> Awaitable[None]:
        """The barrier behind ``index_done_callback``."""
    def ping(self) -> Awaitable[bool]:
        """True, or the error why not."""
    def stats(self, light: bool = False) -> Awaitable[StorageStats]:
        """The dict of ``get_stats``."""
    def repair(self) -> Awaitable[tuple[int, int]]:
        """Makes the registry right again: how many ids it added, and how many it removed.

        Raises:
            StorageConfigError: ``redis_registry`` is off.
        """
    def scan(self, cursor: int, pattern: bytes, count: int) -> Awaitable[tuple[int, list[bytes]]]:
        """One page of SCAN over every key of the database: the next cursor and the keys."""
    def get_key(self, key: bytes) -> Awaitable[bytes | None]:
        """The JSON bytes under a Redis key of any namespace."""
    def memory(self, ids: Iterable[str]) -> Awaitable[int | None]:
        """Mean bytes that the server spends on a key, over the first 16 of the ids."""
    def info(self, section: str) -> Awaitable[list[tuple[str, str]]]:
        """A section of INFO from each primary: its address, and the text as the server gives it."""
    def look(self, keys: Sequence[bytes]) -> Awaitable[list[tuple[str, int | None]]]:
        """The type of each Redis key of any namespace (``none``: absent), and its TTL.

        The TTL is in milliseconds; None for a key that lives for ever.
        """
    def persist(self, ids: Iterable[str]) -> Awaitable[int]:
        """Lets the ids live for ever, and counts those that had a TTL."""
    def forbidden(self) -> Awaitable[list[str]]:
        """The commands that this user is refused, as an ACL names them, of those ever sent.

        Each is tried in a form that changes nothing; one without such a form is not.
        """
    def registry_drift(self) -> Awaitable[tuple[int, int] | None]:
        """How the registry differs from what is there, even where this storage keeps none.

        Returns:
            How many ids have a value and are not registered, and how many are registered and
            have none; None where there is no registry that is said to hold all.
        """

@final
class BlockingKvStore:
    """One namespace on one server; every call blocks its thread, and Ctrl-C interrupts it."""

    def __new__(cls, settings: Mapping[str, object]) -> BlockingKvStore: ...
    @property
    def prefix(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def blocking(self) -> BlockingKvStore: ...
    def close(self) -> None: ...
    def get_by_id(self, id: str) -> Any | None: ...
    def get_by_ids(
        self,
        ids: Iterable[str],
        fields: Collection[str] | None = None,
        usable: Callable[[Any], bool] | None = None,
    ) -> list[Any | None]: ...
    def filter_keys(self, ids: Iterable[str]) -> set[str]: ...
    def upsert(self, data: dict[str, Any]) -> None: ...
    def delete_by_id(self, id: str) -> bool: ...
    def delete_by_ids(self, ids: Iterable[str]) -> int: ...
    def drop(self) -> None: ...
    def all_keys(self) -> list[str]: ...
    def index_done(self) -> None: ...
    def ping(self) -> bool: ...
    def stats(self, light: bool = False) -> StorageStats: ...
    def repair(self) -> tuple[int, int]: ...
    def scan(self, cursor: int, pattern: bytes, count: int) -> tuple[int, list[bytes]]: ...
    def get_key(self, key: bytes) -> bytes | None: ...
    def memory(self, ids: Iterable[str]) -> int | None: ...
    def info(self, section: str) -> list[tuple[str, str]]: ...
    def look(self, keys: Sequence[bytes]) -> list[tuple[str, int | None]]: ...
    def persist(self, ids: Iterable[str]) -> int: ...
    def forbidden(self) -> list[str]: ...
    def registry_drift(self) -> tuple[int, int] | None: ...

@final
class JsonFile(Iterator[tuple[str, bytes]]):
    """The entries of a file of the host's ``JsonKVStorage``, one after another, in a stream.

    Iterating gives pairs of an id and its value as compact JSON in UTF-8, as it would be stored:
    ``json.loads`` makes of it what it makes of the file. Any JSON text is read that holds one
    object, or what is false to Python, ``null`` say: nothing. An id that no key can hold, for a
    lone surrogate, comes as it stands in the file, with its escapes. An id that occurs twice comes
    twice; for Python the last one counts. Memory grows with the largest value, not with the file.

    Args:
        path: The file.

    Raises:
        JsonFileError: It cannot be opened, or, when iterating, read: the message names the byte.
    """

    def __new__(cls, path: str | os.PathLike[str]) -> JsonFile: ...
    def __iter__(self) -> JsonFile: ...
    def __next__(self) -> tuple[str, bytes]: ...

@final
class FileWork:
    """Work between files and the server, a step of at most some megabytes at a time.

    Made by one of its static methods. Call ``step`` until it gives None, then look at ``result``.
    """

    @staticmethod
    def check(path: str | os.PathLike[str]) -> FileWork:
        """Reads a file over. Its result: ``ids``, ``size``."""
    @staticmethod
    def copy(
        store: BlockingKvStore, path: str | os.PathLike[str], checked: FileWork, dry_run: bool
    ) -> FileWork:
        """Copies a file to the server that was read over: ``checked`` is that work, at its end.

        Its result, which may be looked at any time: ``written``, ``replaced``, ``unchanged``,
        ``refused_count``, and ``refused``, the first of them as pairs of id and reason.
        """
    @staticmethod
    def export(
        store: BlockingKvStore, directory: str | os.PathLike[str], dry_run: bool
    ) -> FileWork:
        """Writes a namespace to its file in a directory. Its result: ``ids``, ``size``."""
    @staticmethod
    def compare(store: BlockingKvStore, path: str | os.PathLike[str]) -> FileWork:
        """Compares a file with the server.

        Its result: ``ids_in_file``, ``ids_on_server``, ``file_digest``, ``server_digest``, and the
        first ids of each kind and their count: ``differing``, ``missing``, ``extra``.
        """
    @staticmethod
    def fold(
        store: BlockingKvStore,
        directory: str | os.PathLike[str],
        ask: bool,
        within: float | None = None,
    ) -> FileWork:
        """Folds what was logged of the store's namespace into its file in a directory, in one step.

        ``ask`` is whether the server is asked what the ids are; else the log's own word holds.
        ``within`` is how many seconds it may wait for the server and for other processes; after
        them it raises, and the log stays to be folded later.
        Its result: ``ids`` and ``size`` of the file; None if there was nothing to fold.
        """
    def step(self) -> tuple[str, int, int | None, str] | None:
        """Does the next step: what it was, how much of it is done, of how much, in which unit."""
    @property
    def result(self) -> dict[str, Any]:
        """What came of it."""
