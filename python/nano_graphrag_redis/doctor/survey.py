"""One walk over the keyspace, which every check of the contents shares."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from nano_graphrag_redis.answers import is_empty, is_unparseable
from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, LLM_CACHE
from nano_graphrag_redis.exceptions import CorruptValueError
from nano_graphrag_redis.migration.entries import Foreign, parted

from .patient import Patient

Progress = Callable[[int], None]

PAGE: Final = 512
"""Keys that one SCAN looks at; the values of one page are in memory at a time."""

DOCUMENTS: Final = "full_docs"
CHUNKS: Final = "text_chunks"
DOCUMENT_OF: Final = "full_doc_id"
"""The field of a chunk that names its document."""


@dataclass
class Survey:
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
    unowned: Foreign = field(default_factory=Foreign)


def take(patient: Patient, progress: Progress | None = None) -> Survey:
    """Walks over every key of the keyspace, and reads every value."""
    survey = Survey()
    met = 0
    own = patient.root_of(DOCUMENTS)
    shared = {patient.root_of(name) for name in HOST_NAMESPACES} - {own}
    for root in (own, *sorted(shared)):
        for keys in _pages(patient, root):
            by_namespace: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
            for key in set(keys):
                name = key.removeprefix(root)
                if name.startswith(b"@"):
                    with suppress(UnicodeDecodeError):
                        survey.beside.add(name[1:].decode())
                    continue
                entry = parted(name)
                if entry is None:
                    survey.unowned.add(key)
                elif _is_ours(patient, entry[0], root):
                    by_namespace[entry[0]].append((entry[1], key))
            for namespace, found in by_namespace.items():
                _look(patient, survey, namespace, found)
            met += len(keys)
            if progress:
                progress(met)
    return survey


def chunked_documents(patient: Patient) -> set[str]:
    """The documents that have chunks now."""
    survey = Survey()
    prefix = patient.store(CHUNKS).prefix.encode()
    for keys in _pages(patient, prefix):
        found = [(key.removeprefix(prefix).decode(errors="replace"), key) for key in keys]
        _look(patient, survey, CHUNKS, found)
    return set(survey.chunks_of)


def _pages(patient: Patient, prefix: bytes) -> Iterator[list[bytes]]:
    cursor, store = 0, patient.any_store
    pattern = re.sub(rb"([*?\[\]^\-\\])", rb"\\\1", prefix) + b"*"
    while True:
        cursor, keys = store.scan(cursor, pattern, PAGE)
        yield [key for key in keys if key.startswith(prefix)]
        if cursor == 0:
            return


def _is_ours(patient: Patient, namespace: str, root: bytes) -> bool:
    return patient.root_of(namespace) == root


def _look(patient: Patient, survey: Survey, namespace: str, found: list[tuple[str, bytes]]) -> None:
    if not found:
        return
    survey.counts[namespace] += len(found)
    readable = []
    looked = patient.store(namespace).look([key for _, key in found])
    for (id, _), (kind, ttl) in zip(found, looked, strict=True):
        if ttl is not None:
            survey.expiring[namespace].add(id)
        if kind == "string":
            readable.append(id)
        elif kind != "none":
            survey.foreign[namespace][id] = kind
    for id, value in _values(patient, survey, namespace, readable):
        _note(survey, namespace, id, value)


def _note(survey: Survey, namespace: str, id: str, value: Any) -> None:
    """Sorts a value by what the checks ask of it."""
    if namespace == LLM_CACHE:
        if is_empty(value):
            survey.empty_answers.add(id)
        elif is_unparseable(value):
            survey.unparseable_answers.add(id)
    elif not isinstance(value, dict):
        return
    elif namespace == DOCUMENTS and str(value.get("content") or "").strip():
        survey.documents.add(id)
    elif namespace == CHUNKS and isinstance(document := value.get(DOCUMENT_OF), str):
        survey.chunks_of[document].add(id)


def _values(
    patient: Patient, survey: Survey, namespace: str, ids: Sequence[str]
) -> list[tuple[str, Any]]:
    """The values of those of the ids that can be read; the others are noted."""
    if not ids:
        return []
    store = patient.store(namespace)
    try:
        return list(zip(ids, store.get_by_ids(ids), strict=True))
    except CorruptValueError:
        pass  # one of them: asked for one by one, each fails by itself
    values = []
    for id in ids:
        with suppress(CorruptValueError):
            values.append((id, store.get_by_id(id)))
    survey.corrupt[namespace].update({*ids} - {id for id, _ in values})
    return values
