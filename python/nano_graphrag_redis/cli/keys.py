"""``keys NAMESPACE``: the ids."""

from __future__ import annotations

from nano_graphrag_redis.migration.open_store import opened
from nano_graphrag_redis.printable import visible

from .arguments import Namespace
from .exit_codes import Exit
from .session import Session
from .unknown_namespaces import refused


def keys(session: Session, namespace: Namespace) -> Exit | None:
    """List the ids of a namespace, sorted, one per line; unprintable characters are escaped.

    Exits 1 if there is no such namespace.
    """
    with opened(namespace, session.looking) as store:
        ids = sorted(store.all_keys())

    session.output.show(ids, lambda: session.output.lines(map(visible, ids)))
    return None if ids else refused(session, [namespace])
