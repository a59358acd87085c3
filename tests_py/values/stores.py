"""The storages whose values are compared."""

from typing import Any, NamedTuple

from support.stores import RedisStore, Store


class Stores(NamedTuple):
    """The oracle, and our two classes over one keyspace."""

    oracle: Store
    awaited: RedisStore
    blocking: RedisStore
    files: dict[str, Any]
    """Settings of another oracle over the same file."""

    @property
    def all(self) -> tuple[Store, RedisStore, RedisStore]:
        """Those that a change is made in."""
        return self.oracle, self.awaited, self.blocking
