"""``verify --from``: are the host's files and Redis the same?"""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.text import Text

from nano_graphrag_redis import migration
from nano_graphrag_redis.migration import Verified, VerifiedNamespace
from nano_graphrag_redis.printable import visible

from .arguments import Directory, Only
from .exit_codes import Exit
from .output import table
from .progress_bars import told
from .session import Session

_NAMED = 10
"""Ids that are named for a person; JSON names the first thousand."""


def verify(session: Session, directory: Directory, namespace: Only = None) -> Exit | None:
    """Compare the JSON files of a working directory with Redis, id by id; writes nothing.

    Exits 1 if they differ.
    """
    with session.output.progress() as bars:
        verified = migration.verify(
            directory, session.config, namespaces=namespace, progress=told(bars)
        )
    session.output.show(
        {"ok": verified.ok, **asdict(verified)}, lambda: _report(session.where, verified)
    )
    return None if verified.ok else Exit.FOUND


def _report(where: str, verified: Verified) -> RenderableType:
    numbers = ("in file", "on server", "differing", "missing", "extra")
    made = table("namespace", *numbers, "digests", numbers=numbers)
    lists: list[RenderableType] = []
    for each in verified.namespaces:
        counts = (
            each.ids_in_file,
            each.ids_on_server,
            each.differing_count,
            each.missing_count,
            each.extra_count,
        )
        digests = "equal" if each.file_digest == each.server_digest else "differ"
        made.add_row(visible(each.namespace), *(f"{count:,}" for count in counts), digests)
        lists += _lists(each)
    said = (
        Text(f"the files and {where} hold the same", "bold green")
        if verified.ok
        else Text(f"the files and {where} differ", "bold red")
    )
    return Group(made, *lists, said)


def _lists(each: VerifiedNamespace) -> list[Text]:
    kinds = {
        "another value": (each.differing, each.differing_count),
        "only in the file": (each.missing, each.missing_count),
        "only on the server": (each.extra, each.extra_count),
    }
    return [
        Text(f"{visible(each.namespace)}, {kind}: {', '.join(map(visible, ids[:_NAMED]))}")
        + Text(f" and {count - _NAMED:,} more" if count > _NAMED else "")
        for kind, (ids, count) in kinds.items()
        if count
    ]
