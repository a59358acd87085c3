"""Makes upstream's queries leave out reports and chunks that are not stored.

While a document is inserted, the graph refers to reports and chunks that are not stored: reports
are dropped first and written minutes later, chunks last. The queries of nano-graphrag 0.0.8.2 raise
KeyError or TypeError on them. Here upstream's own functions get a stand-in for what is missing, and
the stand-ins are removed from their results. A function whose source is not the known one is left
as it is.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from types import ModuleType
from typing import Any, Final

from nano_graphrag_redis.config.warn_once import warn_once
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.optional_imports import imported

logger = logging.getLogger("nano_graphrag_redis")

Query = Callable[..., Awaitable[Any]]


class _Filled:
    """A storage of the host in which every id has a value: a stand-in for those that have none."""

    def __init__(self, storage: Any, stand_in: Mapping[str, Any]) -> None:
        self._storage = storage
        self._stand_in = stand_in

    async def get_by_id(self, id: str) -> Any:
        found = await self._storage.get_by_id(id)
        return self._stand_in if found is None else found

    async def get_by_ids(self, ids: Iterable[str], fields: Any = None) -> list[Any]:
        found = await self._storage.get_by_ids(ids, fields)
        return [self._stand_in if value is None else value for value in found]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def _without(stand_in: Mapping[str, Any], found: list[Any], what: str) -> list[Any]:
    present = [value for value in found if value is not stand_in]
    if missing := len(found) - len(present):
        logger.info(
            "a query goes on without %s that the storage does not have, as while a document is "
            "inserted",
            plural(missing, what),
        )
    return present


def _reports(original: Query) -> Query:
    @functools.wraps(original)
    async def find(node_datas: Any, query_param: Any, community_reports: Any) -> list[Any]:
        stand_in: dict[str, Any] = {"report_string": "", "report_json": {}}
        # The one report that may be asked for is chosen among those that there are.
        several = copy.copy(query_param)
        several.local_community_single_one = False
        found = await original(node_datas, several, _Filled(community_reports, stand_in))
        present = _without(stand_in, found, "report")
        return present[:1] if query_param.local_community_single_one else present

    return find


def _chunks(original: Query) -> Query:
    @functools.wraps(original)
    async def find(
        node_datas: Any, query_param: Any, text_chunks_db: Any, knowledge_graph_inst: Any
    ) -> list[Any]:
        stand_in = {"content": ""}
        storage = _Filled(text_chunks_db, stand_in)
        found = await original(node_datas, query_param, storage, knowledge_graph_inst)
        return _without(stand_in, found, "chunk")

    return find


class _Present(_Filled):
    """A storage of the host whose batches hold what there is, and nothing for the rest."""

    async def get_by_ids(self, ids: Iterable[str], fields: Any = None) -> list[Any]:
        found = await super().get_by_ids(ids, fields)
        return _without(self._stand_in, found, "chunk")


def _naive(original: Query) -> Query:
    @functools.wraps(original)
    async def answer(
        query: Any, chunks_vdb: Any, text_chunks_db: Any, query_param: Any, global_config: Any
    ) -> Any:
        storage = _Present(text_chunks_db, {})
        return await original(query, chunks_vdb, storage, query_param, global_config)

    return answer


_PATCHES: Final[Mapping[str, tuple[Callable[[Query], Query], str]]] = {
    "_find_most_related_community_from_entities": (
        _reports,
        "331ad149c0cc6aa7d7c2b5874b17f04102bde95726145468e9c6858015b2d5fb",
    ),
    "_find_most_related_text_unit_from_entities": (
        _chunks,
        "361a09e5f9b44451c156cbf66cb72c54c71095e4541c54d803c4229f2b0b5998",
    ),
    "naive_query": (
        _naive,
        "ae42c0b9fd38c936fc83b909180764c76402b50986e505b2f7f11bd8c4b36e43",
    ),
}
"""Each function of the host that fails on a missing value: the patch, and its source's SHA-256."""


def register(host: ModuleType, undo: ExitStack) -> None:
    """Patches upstream's queries; ``undo`` gets the callback to restore them."""
    module = imported("nano_graphrag._op")
    unknown = []
    for name, (patch, digest) in _PATCHES.items():
        original: Any = getattr(module, name, None)
        if original is None:
            continue  # nothing of that name can fail
        if _digest(original) != digest:
            unknown.append(name)
            continue
        patched = patch(original)
        # GraphRAG calls those that its module has imported by their names.
        for place in (module, imported("nano_graphrag.graphrag")):
            if getattr(place, name, None) is original:
                setattr(place, name, patched)
                undo.callback(_restore, place, name, patched, original)
    if unknown:
        version = getattr(host, "__version__", "of unknown version")
        warn_once(
            f"{', '.join(unknown)}, of nano-graphrag {version}, is not what 0.0.8.2 has, and is "
            "left as it is: a query may raise KeyError or TypeError while a document is inserted, "
            "when a report or chunk is not stored yet"
        )


def _restore(place: Any, name: str, patched: Query, original: Any) -> None:
    if getattr(place, name) is patched:  # else someone wrapped it after us
        setattr(place, name, original)


def _digest(function: Any) -> str | None:
    """SHA-256 of a function's source; None where there is no source."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(source.encode()).hexdigest()
