"""Who competes. Each module is one backend, written the way its title says; shared is only `pools`.

A peer opens one storage for each namespace, with the host's method names. All keep the same JSON
under keys of their own prefix, with the same TTL, on the same server and port.
"""

import importlib
import importlib.util
from typing import Any, Protocol, runtime_checkable

from benches.server import Server

# Seconds; 0 keeps a value for ever. What this library does when it is told nothing.
TTL = {"llm_response_cache": 43_200}


NEAR_MEBIBYTES = 64
"""How much a cache of local copies may hold: all that is read from it fits."""


class Storage(Protocol):
    """The part of the host's contract that the benchmark calls."""

    async def get_by_id(self, id: str, /) -> Any: ...
    async def get_by_ids(self, ids: list[str], fields: set[str] | None = None, /) -> list[Any]: ...
    async def filter_keys(self, data: list[str], /) -> set[str]: ...
    async def upsert(self, data: dict[str, Any], /) -> None: ...
    async def index_done_callback(self) -> None: ...
    async def close(self) -> None: ...


class BlockingReader(Protocol):
    """A client for callers without an event loop."""

    def get_by_id(self, id: str, /) -> Any: ...
    def close(self) -> None: ...


class Peer(Protocol):
    """One competitor. `name` is its prefix on the server too."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    async def open(self, server: Server, namespace: str, /) -> Storage: ...
    def open_blocking(self, server: Server, namespace: str, /) -> BlockingReader | None: ...


@runtime_checkable
class NearPeer(Peer, Protocol):
    """A competitor that can keep local copies."""

    async def open_near(self, server: Server, namespace: str, /) -> Storage: ...


OURS = "ours"
FILES = "json-files"
_CORE = "nano_graphrag_redis._core"
_POOLS = ("", "-64")
"""What the names of one peer with either pool size end in."""


def names() -> list[str]:
    """Every peer that is installed here, our own first."""
    ours = [OURS] if _installed("nano_graphrag_redis") and _installed(_CORE) else []
    redis_py = [name + size for name in ("straightforward", "hand-tuned") for size in _POOLS]
    files = [FILES] if _installed("nano_graphrag") else []  # not to be had for every Python
    return [*ours, *redis_py, "glide", *files]


def load(name: str) -> Peer:
    """The peer of that name. Nothing of the others is imported: some take seconds."""
    module_name = name.removesuffix(_POOLS[1]).replace("-", "_")
    module = importlib.import_module(f"benches.peers.{module_name}")
    peer: Peer = module.PEERS[name]
    return peer


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
