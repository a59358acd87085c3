"""``drop NAMESPACE``: deletes all its ids."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nano_graphrag_redis.exceptions import StorageConfigError
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.migration.open_store import opened
from nano_graphrag_redis.printable import visible

from .arguments import Namespace
from .exit_codes import Exit
from .session import Session
from .unknown_namespaces import refused

_PIECE = 5000
"""Ids deleted between two looks at the bar, and at Ctrl-C."""

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def drop(session: Session, namespace: Namespace, yes: Yes = False) -> Exit | None:
    """Delete every id of a namespace, after confirmation.

    Exits 1 if there is no such namespace.
    """
    with opened(namespace, session.bare) as store:
        ids = store.all_keys()
        if not ids and (mistyped := refused(session, [namespace])):
            return mistyped
        named = visible(namespace)
        question = f"Delete {plural(len(ids), 'id')} of {named} at {session.where_is(namespace)}?"
        if not yes and not _agreed(question):
            session.output.say("nothing was deleted")
            return Exit.USAGE
        deleted = 0
        with session.output.progress() as bars:
            for start in range(0, len(ids), _PIECE):
                deleted += store.delete_by_ids(ids[start : start + _PIECE])
                bars.tell(f"drop {namespace}", min(start + _PIECE, len(ids)), len(ids), "ids")
            # What came meanwhile, and what lies beside the namespace.
            store.drop()
    if session.config.redis_dual_write:
        # It knows none of the service's working directories.
        session.output.say(
            f"the files of redis_dual_write still hold them: remove kv_store_{named}.json and"
            f" kv_store_{named}.changes from each working directory before a service goes back to"
            " its files",
            "yellow",
        )
    session.output.show(
        {"namespace": namespace, "deleted": deleted},
        lambda: f"deleted {plural(deleted, 'id')} of {named}",
    )
    return None


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise StorageConfigError(f"{question} Nobody is here to answer: pass --yes")
    return typer.confirm(visible(question), err=True)
