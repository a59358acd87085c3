"""The entries of a keyspace, key by key, and the keys in it that belong to no storage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import OF_EVERY_HOST
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.printable import visible

from .open_store import opened

_PAGE: Final = 1000
"""Keys that one SCAN looks at."""

_COUNTED: Final = 10_000
"""Foreign keys that are told apart; more are counted as often as SCAN meets them."""

EXAMPLES: Final = 10
"""Foreign keys that are named."""


class Met:
    """What a walk by SCAN has met: it may tell a key twice.

    By hashes, some 100 bytes a key, of the first million. Of more, those that are told twice are
    counted twice.
    """

    MOST: Final = 1_000_000

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def is_new(self, key: object) -> bool:
        """Notes it; False if it was met before."""
        hashed = hash(key)
        if hashed in self._hashes:
            return False
        if len(self._hashes) < self.MOST:
            self._hashes.add(hashed)
        return True


@dataclass
class Foreign:
    """Keys under the prefix that belong to no namespace: another program writes there.

    They hold no namespace, or one that no storage can have, or bytes that are no UTF-8.
    """

    _keys: set[bytes] = field(default_factory=set)
    _more: int = 0

    def add(self, key: bytes) -> None:
        """Counts one; SCAN may meet it twice."""
        if len(self._keys) < _COUNTED or key in self._keys:
            self._keys.add(key)
        else:
            self._more += 1

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._keys) + self._more

    @property
    def examples(self) -> tuple[str, ...]:
        """A few of them, as they may be shown."""
        return tuple(map(visible, sorted(self._keys)[:EXAMPLES]))


def told_of_foreign(count: int, examples: tuple[str, ...]) -> str:
    """A sentence on foreign keys that were skipped; empty without any."""
    if not count:
        return ""
    more = f" and {count - len(examples):,} more" if count > len(examples) else ""
    return (
        f"skipped {plural(count, 'key')} that no storage has made: {', '.join(examples)}{more}; "
        "another program writes under this redis_key_prefix"
    )


def parted(name: bytes) -> tuple[str, str] | None:
    """Namespace and id of a key without its root; None for one that no storage has made."""
    try:
        namespace, colon, id = name.decode().partition(":")
    except UnicodeDecodeError:
        return None
    return (namespace, id) if colon and namespace and "@" not in namespace else None


def namespaces_of(config: RedisConfig, foreign: Foreign | None = None) -> list[str]:
    """The namespaces that the keyspace holds, sorted. Walks the whole database."""
    return sorted({namespace for namespace, _ in entries_of(config, foreign)})


def entries_of(config: RedisConfig, foreign: Foreign | None = None) -> Iterator[tuple[str, str]]:
    """Namespace and id of every key of the keyspace, some twice. Walks the whole database.

    Args:
        config: The settings.
        foreign: Counts the keys there that no storage has made.
    """
    for workspace in {config.workspace_for(name) for name in (*config.redis_shared_namespaces, "")}:
        at = f"@{workspace}" if workspace else ""
        root = f"{config.redis_key_prefix}{at}:".encode()
        for name in _names_under(root, config):
            entry = parted(name)
            if entry is None:
                if foreign is not None:
                    foreign.add(root + name)
            elif config.workspace_for(entry[0]) == workspace:
                yield entry


def _names_under(root: bytes, config: RedisConfig) -> Iterator[bytes]:
    """What follows ``root`` in the keys of the database, those beside the namespaces left out."""
    pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", root) + b"*"
    with opened(OF_EVERY_HOST, config) as store:
        cursor, keys = store.scan(0, pattern, _PAGE)
        while True:
            for key in keys:
                name = key.removeprefix(root)
                if key.startswith(root) and not name.startswith(b"@"):
                    yield name
            if not cursor:
                return
            cursor, keys = store.scan(cursor, pattern, _PAGE)
