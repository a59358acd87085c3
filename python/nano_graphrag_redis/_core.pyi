"""The Rust core, as Python sees it.

Two classes with the same methods: those of ``KvStore`` return a future of the running event loop,
those of ``BlockingKvStore`` block. The methods of ``RedisKVStorage`` document what each call does,
raises and costs; only the differences are documented here.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from .typed_dicts import ProcessMetrics, StorageStats

__all__ = [
    "BlockingKvStore",
    "FileWork",
    "JsonFile",
    "KvStore",
    "__version__",
    "close_at_exit",
    "file_of",
    "metrics",
    "note_fork",
    "prepare_fork",
]

__version__: str

def close_at_exit() -> None:
    """Keeps waiting threads from re-entering Python. Registered with ``atexit`` on import."""

def note_fork() -> None:
    """Notes that this process is a fork's child. Registered with ``os.register_at_fork``."""

def prepare_fork() -> None:
    """Readies what a child must not find half done. Registered with ``os.register_at_fork``."""

def file_of(directory: str | os.PathLike[str], namespace: str) -> Path:
    """The host's file for a namespace in a directory.

    Raises:
        StorageConfigError: The namespace is not a valid file name, or would lead out of the
            directory.
    """

def metrics(*, sample_every: float | None = None) -> ProcessMetrics:
    """This process's counters, including closed storages; a forked child starts from zero.

    Args:
        sample_every: Interval in seconds of a background sample of the servers in use: number and
            memory of each namespace's keys, and the servers' own memory, evictions and persistence.
            The last one is in ``sets``, under ``sample``. Between samples the servers are pinged;
            ``up`` is what came of it. 0 turns both off.

    Returns:
        Plain data that can be serialised as JSON.
    """

@final
class KvStore:
    """One namespace on one server; every call returns a future of the running event loop.

    Args:
        settings: The result of ``RedisConfig.core_settings(namespace)``.

    Raises:
        StorageConfigError: A setting is out of range. Nothing is opened.
        KeyError, TypeError: A setting is missing or has the wrong type.
    """

    def __new__(cls, settings: Mapping[str, object]) -> KvStore: ...
    @property
    def prefix(self) -> str:
        """The prefix of every key of the namespace, such as ``nano_graphrag:full_docs:``."""
    @property
    def closed(self) -> bool:
        """Whether ``close`` has been called."""
    @property
    def blocking(self) -> BlockingKvStore:
        """The blocking store on the same connections; closing one closes both."""
    def close(self) -> None:
        """Closes the store: calls in progress finish, later ones raise ``StorageClosedError``."""
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
    def replace(self, data: dict[str, Any]) -> Awaitable[None]:
        """Writes as ``upsert``, in place of all that is there: the other ids are deleted after it.

        Writers take turns. Others see old and new values mixed meanwhile, and none missing that is
        in both.

        Raises:
            StorageTimeoutError: Other writers take too long, or this one did.
        """
    def note_kept(self) -> None:
        """Counts a deferred drop after which nothing was written."""
    def delete_by_id(self, id: str) -> Awaitable[bool]: ...
    def delete_by_ids(self, ids: Iterable[str]) -> Awaitable[int]: ...
    def drop(self) -> Awaitable[None]: ...
    def all_keys(self) -> Awaitable[list[str]]: ...
    def index_done(self) -> Awaitable[None]:
        """The barrier behind ``index_done_callback``."""
    def ping(self) -> Awaitable[bool]:
        """Returns True, or raises the error."""
    def stats(self, light: bool = False) -> Awaitable[StorageStats]:
        """The dict of ``get_stats``."""
    def repair(self) -> Awaitable[tuple[int, int]]:
        """Repairs the registry; returns how many ids it added and how many it removed.

        Raises:
            StorageConfigError: ``redis_registry`` is off.
        """
    def scan(self, cursor: int, pattern: bytes, count: int) -> Awaitable[tuple[int, list[bytes]]]:
        """One page of SCAN over every key of the database: the next cursor and the keys."""
    def get_key(self, key: bytes) -> Awaitable[bytes | None]:
        """The JSON bytes under a Redis key of any namespace."""
    def memory(self, ids: Iterable[str]) -> Awaitable[int | None]:
        """Mean server memory per key in bytes, over the first 16 of the ids."""
    def info(self, section: str) -> Awaitable[list[tuple[str, str]]]:
        """A section of INFO from each primary: its address, and the server's text."""
    def look(self, keys: Sequence[bytes]) -> Awaitable[list[tuple[str, int | None]]]:
        """The type of each Redis key of any namespace (``none`` if it is missing), and its TTL.

        The TTL is in milliseconds; None for a key that does not expire.
        """
    def persist(self, ids: Iterable[str]) -> Awaitable[int]:
        """Removes the TTL of the ids, and returns how many had one."""
    def forbidden(self) -> Awaitable[list[str]]:
        """The commands this client may send that the server refuses to this user, by ACL name.

        Each is tried in a form that changes nothing; commands without such a form are not tried.
        """
    def limit(self, name: str, words: Sequence[str]) -> Awaitable[list[int]]:
        """Runs the script of a rate limit; ``llm_limits.lua`` says what it takes and gives."""
    def count(self, what: str, number: int) -> None:
        """Adds to a count of this namespace, by its name in ``metrics``.

        Raises:
            KeyError: There is none of this name.
        """
    def give_up(self) -> None:
        """Lets others make the value that the current task missed, as its end would."""
    def changes(
        self, after: str | None = None, count: int = 100
    ) -> Awaitable[list[tuple[str, list[tuple[bytes, bytes]]]]]:
        """Entries of the namespace's stream of changes: their ids, and fields with values.

        Args:
            after: The id of an entry: those after it, the oldest first. None: the newest first.
            count: How many at most.
        """
    def registry_drift(self) -> Awaitable[tuple[int, int] | None]:
        """How the registry differs from the stored values, even if this storage keeps none.

        Returns:
            How many ids have a value but are not registered, and how many are registered but
            have no value; None if there is no complete registry.
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
    def replace(self, data: dict[str, Any]) -> None: ...
    def note_kept(self) -> None: ...
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
    def limit(self, name: str, words: Sequence[str]) -> list[int]: ...
    def count(self, what: str, number: int) -> None: ...
    def give_up(self) -> None: ...
    def changes(
        self, after: str | None = None, count: int = 100
    ) -> list[tuple[str, list[tuple[bytes, bytes]]]]: ...
    def registry_drift(self) -> tuple[int, int] | None: ...

@final
class JsonFile(Iterator[tuple[str, bytes]]):
    """Streams the entries of a file of the host's ``JsonKVStorage``.

    Yields pairs of an id and its value as compact UTF-8 JSON, as it would be stored; ``json.loads``
    returns the same for it as for the file. Reads any JSON text that holds one object. A value
    that is false in Python, such as ``null``, has no entries. An id with a lone surrogate, which
    no key can hold, is returned as it is in the file, with its escapes. An id that occurs twice is
    yielded twice; in Python the last one wins. Memory grows with the largest value, not with the
    file.

    Args:
        path: The file.

    Raises:
        JsonFileError: The file cannot be opened or, while iterating, read; the message gives the
            byte offset.
    """

    def __new__(cls, path: str | os.PathLike[str]) -> JsonFile: ...
    def __iter__(self) -> JsonFile: ...
    def __next__(self) -> tuple[str, bytes]: ...

@final
class FileWork:
    """An operation between files and the server, in steps of at most a few megabytes.

    Created by its static methods. Call ``step`` until it returns None, then read ``result``.
    """

    @staticmethod
    def check(path: str | os.PathLike[str]) -> FileWork:
        """Validates a file. Result: ``ids``, ``size``."""
    @staticmethod
    def copy(
        store: BlockingKvStore, path: str | os.PathLike[str], checked: FileWork, dry_run: bool
    ) -> FileWork:
        """Copies a validated file to the server; ``checked`` is the finished ``check`` of it.

        Result, which can be read at any time: ``written``, ``replaced``, ``unchanged``,
        ``refused_count``, and ``refused``, the first of them as pairs of id and reason.
        """
    @staticmethod
    def export(
        store: BlockingKvStore, directory: str | os.PathLike[str], dry_run: bool
    ) -> FileWork:
        """Writes a namespace to its file in a directory. Result: ``ids``, ``size``."""
    @staticmethod
    def compare(store: BlockingKvStore, path: str | os.PathLike[str]) -> FileWork:
        """Compares a file with the server.

        Result: ``ids_in_file``, ``ids_on_server``, ``file_digest``, ``server_digest``, and the
        first ids of each kind and their count: ``differing``, ``missing``, ``extra``.
        """
    @staticmethod
    def fold(
        store: BlockingKvStore,
        directory: str | os.PathLike[str],
        ask: bool,
        within: float | None = None,
    ) -> FileWork:
        """Folds the change log of the store's namespace into its file in a directory, in one step.

        With ``ask``, values are read from the server; otherwise the logged values are used.
        ``within`` limits the seconds to wait for the server and for other processes; after
        that it raises, and the log stays to be folded later.
        Result: ``ids`` and ``size`` of the file, None if there was nothing to fold; of the lines
        that told of no change ``skipped_count``, and the first numbers in ``skipped_lines``.
        """
    def step(self) -> tuple[str, int, int | None, str] | None:
        """Does the next step; returns its name, how much is done, the total, and the unit."""
    @property
    def result(self) -> dict[str, Any]:
        """The result."""
