"""``get NAMESPACE ID``: one value."""

from __future__ import annotations

from nano_graphrag_redis.migration.namespaces_and_foreign_keys import entries_of
from nano_graphrag_redis.migration.open_store import opened
from nano_graphrag_redis.printable import visible

from .arguments import Id, Namespace
from .exit_codes import Exit
from .output import document
from .session import Session
from .unknown_namespaces import no_namespace


def get(session: Session, namespace: Namespace, id: Id) -> Exit | None:
    """Print the value of an id as JSON.

    Exits 1 if there is no such id.
    """
    with opened(namespace, session.bare) as store:
        # None is a value as well, and an id that is not there is another matter.
        absent = bool(store.filter_keys([id]))
        value = None if absent else store.get_by_id(id)
    if absent:
        session.output.refuse(LookupError(_absent(session, namespace, id)))
        return Exit.FOUND
    output = session.output
    if output.out.is_terminal:
        output.show(value, lambda: document(value, output))
    else:  # nobody sees colours, which take a hundred times as long as the text
        output.lines([output.json(value)])
    return None


def _absent(session: Session, namespace: str, id: str) -> str:
    """Which of the two is not there, the id or the whole namespace, whose name may be mistyped."""
    others = set()
    for name, _ in entries_of(session.bare):
        if name == namespace:
            return f"{visible(namespace)} has no id {visible(id)}"
        others.add(name)
    return no_namespace(session, namespace, others)
