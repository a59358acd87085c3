"""The checks of what lies in the keyspace, over one walk that they share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from nano_graphrag_redis.config.namespaces import KNOWN_NAMESPACES, LLM_CACHE, MUST_NOT_EXPIRE
from nano_graphrag_redis.doctor.findings import Finding, Severity, examples
from nano_graphrag_redis.doctor.keyspace_scan import (
    CHUNKS,
    DOCUMENTS,
    KeyspaceScan,
    chunked_documents,
    registry_of,
)
from nano_graphrag_redis.doctor.target import Target
from nano_graphrag_redis.exceptions import CorruptValueError, StorageOperationError
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.printable import visible

MARK: Final = "working_dir"
"""The key beside the namespaces that holds the directory that fills the keyspace."""


def counts(_: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """How much there is."""
    said = ", ".join(
        f"{count:,} in {visible(name)}" for name, count in sorted(keyspace.counts.items())
    )
    yield Finding("contents", Severity.OK, f"keys: {said or 'none'}")


def foreign_keys(_: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Keys that no storage has made."""
    met = keyspace.unowned
    if met.count:
        yield Finding(
            "foreign-keys",
            Severity.WARNING,
            f"{plural(met.count, 'key')} under the prefix that no storage has made",
            why="another program writes there; they are in no namespace, and every command skips "
            "them",
            remedy="give each program a redis_key_prefix or a database of its own, then delete "
            "these keys",
            ids=met.examples,
            count=met.count,
        )


def times_to_live(target: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Whether something will expire that the host relies on."""
    for namespace, consequence in MUST_NOT_EXPIRE.items():
        seconds = target.config.ttl_for(namespace)
        ids = keyspace.expiring[namespace]
        if seconds:
            yield Finding(
                "ttl",
                Severity.WARNING,
                f"{namespace} expires after {seconds} seconds, as redis_ttl says",
                why=consequence,
                remedy=f"set redis_ttl_{namespace}=0, then run this with --repair",
                namespace=namespace,
            )
        elif ids:
            yield Finding(
                "ttl",
                Severity.ERROR,
                f"{plural(len(ids), 'id')} of {namespace} will expire",
                why=consequence,
                remedy="--repair lets them live for ever; another process may be running with a "
                "redis_ttl of its own",
                namespace=namespace,
                ids=examples(ids),
                count=len(ids),
                repairable=True,
            )


def sliding_without_ttl(target: Target, _: KeyspaceScan) -> Iterator[Finding]:
    """Whether reads are to prolong lives that do not end, or cannot be prolonged."""
    config = target.config
    if not config.redis_ttl_sliding:
        return
    names = {*KNOWN_NAMESPACES, *config.redis_ttl}
    ttls = [seconds for name in names if (seconds := config.ttl_for(name))]
    if any(seconds < config.redis_ttl_max_age for seconds in ttls):
        return
    yield Finding(
        "ttl",
        Severity.WARNING,
        "redis_ttl_sliding is on, and prolongs nothing",
        why="no namespace has a redis_ttl below redis_ttl_max_age"
        if ttls
        else "no namespace has a redis_ttl",
        remedy="set redis_ttl, raise redis_ttl_max_age, or turn redis_ttl_sliding off",
    )


def documents_without_chunks(target: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Documents that a process has noted as indexed and not gone on with."""
    ids = interrupted(target, keyspace)
    if ids:
        yield Finding(
            "documents-without-chunks",
            Severity.ERROR,
            f"{plural(len(ids), 'document')} without chunks",
            why="the process that indexed them ended half-way; nano-graphrag takes them for done "
            "and never answers from them",
            remedy="--repair forgets them; then insert them again. Run it while nobody inserts",
            namespace=DOCUMENTS,
            ids=examples(ids),
            count=len(ids),
            repairable=True,
        )


def interrupted(target: Target, keyspace: KeyspaceScan) -> set[str]:
    """The documents without chunks that are still there, and still have none.

    None while a chunk cannot be read: whose it is cannot be said.
    """
    suspects = keyspace.documents - keyspace.chunks_of.keys()
    if not suspects or not _of_the_same_graphs(target):
        return set()
    # A walk is no snapshot: one that is being indexed may have got its chunks behind our back.
    chunked = chunked_documents(target)
    if chunked is None:
        return set()
    suspects -= chunked
    return suspects and suspects - target.store(DOCUMENTS).filter_keys(suspects)


def _of_the_same_graphs(target: Target) -> bool:
    """Whether documents and chunks are both of one workspace, or both shared by all."""
    return target.root_of(DOCUMENTS) == target.root_of(CHUNKS)


def chunks_without_document(target: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Chunks of documents that are not there."""
    if not _of_the_same_graphs(target):
        return
    named = keyspace.chunks_of.keys() - keyspace.documents
    # A chunk may name anything: a lone surrogate is in no id, and cannot be asked for.
    possible = {name for name in named if name.encode(errors="ignore").decode() == name}
    there = possible - target.store(DOCUMENTS).filter_keys(possible)
    gone = named - there
    ids = {id for document in gone for id in keyspace.chunks_of[document]}
    if ids:
        yield Finding(
            "chunks-without-document",
            Severity.WARNING,
            f"{plural(len(ids), 'chunk')} of {plural(len(gone), 'document')} that are not there",
            why="the documents were deleted or lost; queries still answer from these chunks",
            remedy="insert the documents again. They are not deleted by --repair: the graph "
            "refers to them, and without register() a query fails on a chunk that is missing",
            namespace=CHUNKS,
            ids=examples(ids),
            count=len(ids),
        )


def corrupt_values(_: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Values that cannot be read."""
    for namespace, ids in sorted(keyspace.corrupt.items()):
        yield Finding(
            "corrupt-value",
            Severity.ERROR,
            f"{plural(len(ids), 'value')} of {visible(namespace)} cannot be read",
            why="reading one raises CorruptValueError; in llm_response_cache it is paid for again",
            remedy="find out who writes there; then delete_by_ids, and insert what they held again",
            namespace=namespace,
            ids=examples(ids),
            count=len(ids),
        )


def useless_answers(_: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Cached answers that do no good, or keep the host from going on."""
    if ids := keyspace.empty_answers:
        yield Finding(
            "empty-answer",
            Severity.WARNING,
            f"{plural(len(ids), 'cached answer')} without text",
            why="the host goes on with nothing until it expires, and does not ask the model again",
            remedy="nano-graphrag-redis prune",
            namespace=LLM_CACHE,
            ids=examples(ids),
            count=len(ids),
        )
    if ids := keyspace.unparseable_answers:
        yield Finding(
            "unparseable-answer",
            Severity.WARNING,
            f"{plural(len(ids), 'cached answer')} that should be JSON and cannot be parsed",
            why="an insert that needs one for a community report fails until it expires",
            remedy="nano-graphrag-redis prune --unparseable",
            namespace=LLM_CACHE,
            ids=examples(ids),
            count=len(ids),
        )


def wrong_types(target: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Keys that another program keeps something else under."""
    for namespace, kinds in sorted(keyspace.foreign.items()):
        named = ", ".join(sorted(set(kinds.values())))
        yield Finding(
            "wrong-type",
            Severity.ERROR,
            f"{plural(len(kinds), 'key')} of {visible(namespace)} holds no string but: {named}",
            why="another program writes under this prefix; reading such an id raises "
            "StorageOperationError",
            remedy="give each program a redis_key_prefix or a database of its own, then delete "
            "these keys",
            namespace=namespace,
            ids=examples(kinds),
            count=len(kinds),
        )
    for namespace, kind in sorted(keyspace.foreign_registries.items()):
        yield Finding(
            "wrong-type",
            Severity.ERROR,
            f"{visible(registry_of(target, namespace))} holds no sorted set but: {kind}",
            why="another program writes under this prefix; with redis_registry, writing, listing "
            "and deleting ids of the namespace raise StorageOperationError",
            remedy="give each program a redis_key_prefix or a database of its own, then delete "
            "this key: the registry is made anew",
            namespace=namespace,
        )


def registry_drift(target: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Whether the registries hold what is there."""
    kept = target.config.redis_registry
    for namespace in keyspace.registered():
        if namespace in keyspace.foreign_registries:
            continue
        drift = target.store(namespace).registry_drift()
        if drift is None or drift == (0, 0):
            continue
        unregistered, without_value = drift
        yield Finding(
            "registry-drift",
            Severity.ERROR if kept else Severity.WARNING,
            f"the registry of {visible(namespace)} lacks {plural(unregistered, 'id')}, and "
            f"{plural(without_value, 'id')} in it {'is' if without_value == 1 else 'are'} gone",
            why="drop() and all_keys() of a process with redis_registry miss what it lacks",
            remedy="--repair makes it right; set redis_registry in every process that writes"
            if kept
            else "set redis_registry here as in the other processes, or delete the key "
            f"{visible(registry_of(target, namespace))} if none is to keep one",
            namespace=namespace,
            count=unregistered + without_value,
            repairable=kept,
        )


def interrupted_swaps(_: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Whether a process ended while it replaced all values of a namespace."""
    for name in sorted(keyspace.beside):
        swap, colon, namespace = name.partition(":")
        if swap != "swap" or not colon or not keyspace.counts.get(namespace):
            continue
        if f"{name}:lease" in keyspace.beside:
            continue  # its writer is at work, or has ended within the last seconds
        yield Finding(
            "mixed-reports",
            Severity.WARNING,
            f"{visible(namespace)} was half replaced when its writer ended: old and new are mixed",
            why="queries answer from reports of two states of the graph",
            remedy="insert a document: that replaces them all",
            namespace=namespace,
        )


def working_directories(target: Target, keyspace: KeyspaceScan) -> Iterator[Finding]:
    """Whether two graphs share the keyspace."""
    if target.config.redis_workspace:
        return
    directories = {
        name.partition(":")[2] for name in keyspace.beside if name.startswith(f"{MARK}:")
    }
    if MARK in keyspace.beside:
        # Another program may have written there too: then it is no directory of a graph.
        with suppress(StorageOperationError, CorruptValueError):
            noted = target.any_store.get_key(target.root_of(DOCUMENTS) + f"@{MARK}".encode())
            if noted is not None:
                directories.add(visible(noted))
    if target.config.working_dir is not None:
        directories.add(os.path.normpath(Path(target.config.working_dir).absolute()))
    if len(directories) > 1:
        yield Finding(
            "working-directories",
            Severity.ERROR,
            f"{len(directories)} working directories share this keyspace: "
            + ", ".join(map(visible, sorted(directories))),
            why="two graphs in one keyspace mix their documents and reports",
            remedy="give each graph a redis_workspace; if it is one graph that was moved, delete "
            f"the keys that begin with {target.root_of(DOCUMENTS).decode()}@{MARK}",
        )


CHECKS: Final[tuple[Callable[[Target, KeyspaceScan], Iterator[Finding]], ...]] = (
    counts,
    foreign_keys,
    times_to_live,
    sliding_without_ttl,
    documents_without_chunks,
    chunks_without_document,
    corrupt_values,
    useless_answers,
    wrong_types,
    registry_drift,
    interrupted_swaps,
    working_directories,
)
