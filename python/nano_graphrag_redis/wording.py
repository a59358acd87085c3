"""Numbers in sentences."""

from __future__ import annotations


def plural(count: int, what: str, plural: str | None = None) -> str:
    """A number of things.

    Args:
        count: How many.
        what: One of them.
        plural: Several of them, where an ``s`` does not make it so.

    >>> plural(1, "id"), plural(1200, "id"), plural(0, "entry", "entries")
    ('1 id', '1,200 ids', '0 entries')
    """
    return f"{count:,} {what if count == 1 else plural or f'{what}s'}"
