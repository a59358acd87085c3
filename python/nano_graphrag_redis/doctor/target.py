"""What is examined: a deployment's settings and its server, over the core's own connections."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self

from nano_graphrag_redis._core import BlockingKvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import EVERY_NAMESPACE, OF_EVERY_HOST
from nano_graphrag_redis.exceptions import StorageOperationError
from nano_graphrag_redis.storage_lifetime import Backend

Facts = dict[str, str]
"""The lines of a section of INFO, by name."""


class Target:
    """One deployment: the server that the settings name, and the namespaces in its keyspace.

    Args:
        config: Its settings. An embedded server is started by the first call.
        mends: Whether anything is written, which the files of ``redis_dual_write`` are to follow.
    """

    def __init__(self, config: RedisConfig, *, mends: bool = False) -> None:
        self.config = config
        follow = mends and config.redis_dual_write
        # Whatever fails is to be seen, and the examination leaves no trace.
        self._own_config = config.model_copy(
            update={
                "redis_outage_policy": {EVERY_NAMESPACE: "raise"},
                "redis_near_cache_mb": 0,
                "redis_ttl_sliding": False,  # nobody has asked for these values
                "redis_durability": "ack",
                "redis_dual_write": follow,
                "working_dir": config.working_dir if follow else None,
            }
        )
        self._backends: dict[str, Backend] = {}
        self._sections: dict[str, list[tuple[str, Facts]]] = {}
        self.refused: dict[str, StorageOperationError] = {}
        """The sections of INFO that were asked for and refused, each with the error."""

    def store(self, namespace: str) -> BlockingKvStore:
        """The store of a namespace, as every process with these settings has it."""
        backend = self._backends.get(namespace)
        if backend is None:
            backend = Backend(namespace, self._own_config)
            backend.join_server()
            self._backends[namespace] = backend
        return backend.store.blocking

    @property
    def any_store(self) -> BlockingKvStore:
        """A store, for what is asked of the server and not of a namespace."""
        return self.store(OF_EVERY_HOST)

    def info(self, section: str) -> list[tuple[str, Facts]]:
        """A section of INFO from each primary; empty where it is refused, see ``refused``.

        Returns:
            The address of each, and what it said.
        """
        if section not in self._sections:
            try:
                answers = self.any_store.info(section)
            except StorageOperationError as error:
                self.refused[section] = error
                answers = []
            self._sections[section] = [(address, _facts(text)) for address, text in answers]
        return self._sections[section]

    def root_of(self, namespace: str) -> bytes:
        """What the keys of a namespace and its neighbours start with, up to the first ``:``."""
        return self.store(namespace).prefix.encode().removesuffix(f"{namespace}:".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for backend in self._backends.values():
            backend.close()


def _facts(text: str) -> Facts:
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in lines if colon}
