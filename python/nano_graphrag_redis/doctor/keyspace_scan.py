"""One walk over the keyspace, which every check of the contents shares."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, LLM_CACHE
from nano_graphrag_redis.exceptions import CorruptValueError
from nano_graphrag_redis.migration.namespaces_and_foreign_keys import Foreign, Met, parted
from nano_graphrag_redis.useless_cached_answers import is_empty, is_unparseable

from .target import Target

Progress = Callable[[int], None]

_AT_ONCE: Final = 64
"""Values in memory at a time."""

PAGE: Final = 512
"""Keys that one SCAN looks at."""

DOCUMENTS: Final = "full_docs"
CHUNKS: Final = "text_chunks"
DOCUMENT_OF: Final = "full_doc_id"
"""The field of a chunk that names its document."""

REGISTRY: Final = "registry:"
"""What the key of a namespace's registry has between the ``@`` and its name."""


@dataclass
class KeyspaceScan:
    """What the walk has met.

    Attributes:
        counts: Keys, by namespace.
        expiring: The ids that have a TTL, by namespace.
        foreign: The ids whose key is no string, with its type, by namespace.
        corrupt: The ids whose value cannot be read, by namespace.
        documents: The ids of documents that have text.
        chunks_of: For each document that a chunk names, the chunks that name it.
        empty_answers: The ids of cached answers that are null or blank.
        unparseable_answers: The ids of cached answers whose JSON the host cannot parse.
        beside: The keys beside the namespaces, by what follows the ``@``.
        foreign_registries: The namespaces whose registry is no sorted set, with its type.
        unowned: The keys that no storage has made.
    """

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    expiring: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    foreign: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    corrupt: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    documents: set[str] = field(default_factory=set)
    chunks_of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    empty_answers: set[str] = field(default_factory=set)
    unparseable_answers: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    foreign_registries: dict[str, str] = field(default_factory=dict)
    unowned: Foreign = field(default_factory=Foreign)

    def registered(self) -> list[str]:
        """The namespaces that have a registry."""
        names = (key.removeprefix(REGISTRY) for key in self.beside if key.startswith(REGISTRY))
        return sorted(name for name in names if parted(f"{name}:".encode()) == (name, ""))


def take(target: Target, progress: Progress | None = None) -> KeyspaceScan:
    """Walks over every key of the keyspace, and reads every value."""
    keyspace = KeyspaceScan()
    met = 0
    seen = Met()
    own = target.root_of(DOCUMENTS)
    shared = {target.root_of(name) for name in HOST_NAMESPACES} - {own}
    for root in (own, *sorted(shared)):
        for keys in _pages(target, root):
            by_namespace: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
            for key in filter(seen.is_new, keys):
                name = key.removeprefix(root)
                if name.startswith(b"@"):
                    with suppress(UnicodeDecodeError):
                        keyspace.beside.add(name[1:].decode())
                    continue
                entry = parted(name)
                if entry is None:
                    keyspace.unowned.add(key)
                elif _is_ours(target, entry[0], root):
                    by_namespace[entry[0]].append((entry[1], key))
            for namespace, found in by_namespace.items():
                _look(target, keyspace, namespace, found)
            met += len(keys)
            if progress:
                progress(met)
    _look_at_registries(target, keyspace)
    return keyspace


def registry_of(target: Target, namespace: str) -> bytes:
    """The key of a namespace's registry."""
    return target.root_of(namespace) + f"@{REGISTRY}{namespace}".encode()


def chunked_documents(target: Target) -> set[str] | None:
    """The documents that have chunks now; None if a chunk cannot be read."""
    keyspace = KeyspaceScan()
    prefix = target.store(CHUNKS).prefix.encode()
    for keys in _pages(target, prefix):
        found = [(key.removeprefix(prefix).decode(errors="replace"), key) for key in keys]
        _look(target, keyspace, CHUNKS, found)
    if keyspace.corrupt[CHUNKS] or keyspace.foreign[CHUNKS]:
        return None
    return set(keyspace.chunks_of)


def _pages(target: Target, prefix: bytes) -> Iterator[list[bytes]]:
    cursor, store = 0, target.any_store
    pattern = re.sub(rb"([*?\[\]^\-\\])", rb"\\\1", prefix) + b"*"
    while True:
        cursor, keys = store.scan(cursor, pattern, PAGE)
        yield [key for key in keys if key.startswith(prefix)]
        if cursor == 0:
            return


def _look_at_registries(target: Target, keyspace: KeyspaceScan) -> None:
    for namespace in keyspace.registered():
        ((kind, _),) = target.store(namespace).look([registry_of(target, namespace)])
        if kind not in {"zset", "none"}:
            keyspace.foreign_registries[namespace] = kind


def _is_ours(target: Target, namespace: str, root: bytes) -> bool:
    return target.root_of(namespace) == root


def _look(
    target: Target, keyspace: KeyspaceScan, namespace: str, found: list[tuple[str, bytes]]
) -> None:
    if not found:
        return
    keyspace.counts[namespace] += len(found)
    readable = []
    looked = target.store(namespace).look([key for _, key in found])
    for (id, _), (kind, ttl) in zip(found, looked, strict=True):
        if ttl is not None:
            keyspace.expiring[namespace].add(id)
        if kind == "string":
            readable.append(id)
        elif kind != "none":
            keyspace.foreign[namespace][id] = kind
    for start in range(0, len(readable), _AT_ONCE):
        ids = readable[start : start + _AT_ONCE]
        for id, value in _values(target, keyspace, namespace, ids):
            _note(keyspace, namespace, id, value)


def _note(keyspace: KeyspaceScan, namespace: str, id: str, value: Any) -> None:
    """Sorts a value by what the checks ask of it."""
    if namespace == LLM_CACHE:
        if is_empty(value):
            keyspace.empty_answers.add(id)
        elif is_unparseable(value):
            keyspace.unparseable_answers.add(id)
    elif not isinstance(value, dict):
        return
    elif namespace == DOCUMENTS and str(value.get("content") or "").strip():
        keyspace.documents.add(id)
    elif namespace == CHUNKS and isinstance(document := value.get(DOCUMENT_OF), str):
        keyspace.chunks_of[document].add(id)


def _values(
    target: Target, keyspace: KeyspaceScan, namespace: str, ids: Sequence[str]
) -> list[tuple[str, Any]]:
    """The values of those of the ids that can be read; the others are noted."""
    if not ids:
        return []
    store = target.store(namespace)
    try:
        return list(zip(ids, store.get_by_ids(ids), strict=True))
    except CorruptValueError:
        pass  # one of them: asked for one by one, each fails by itself
    values = []
    for id in ids:
        with suppress(CorruptValueError):
            values.append((id, store.get_by_id(id)))
    keyspace.corrupt[namespace].update({*ids} - {id for id, _ in values})
    return values
