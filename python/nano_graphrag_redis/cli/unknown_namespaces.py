"""A namespace that nobody has is a mistyped one: what is said of it, and how the command ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from nano_graphrag_redis.config.namespaces import KNOWN_NAMESPACES
from nano_graphrag_redis.migration.namespaces_and_foreign_keys import entries_of
from nano_graphrag_redis.printable import visible

from .exit_codes import Exit
from .session import Session


def refused(session: Session, namespaces: Iterable[str]) -> Exit | None:
    """Says which of the namespaces are neither the host's nor on the server; None for none of them.

    Walks the database, as far as it has to, if one of them is not the host's.
    """
    unknown = {*namespaces} - {*KNOWN_NAMESPACES}
    others: set[str] = set()
    if unknown:
        for name, _ in entries_of(session.bare):
            others.add(name)
            unknown.discard(name)
            if not unknown:
                break
    for name in sorted(unknown)[:1]:
        session.output.refuse(LookupError(no_namespace(session, name, others)))
        return Exit.FOUND
    return None


def no_namespace(session: Session, namespace: str, others: Collection[str]) -> str:
    """The sentence about a namespace that there is not, with those that there are."""
    none = f"there is no namespace {visible(namespace)} at {session.where}"
    if not others:
        return f"{none}, nor any other"
    return f"{none}; there are {', '.join(map(visible, sorted(others)))}"
