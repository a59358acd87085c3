"""Numbers, sizes and durations in sentences."""

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


_UNITS = ((86_400, "day", "days"), (3600, "h", "h"), (60, "min", "min"), (1, "s", "s"))


def duration(seconds: int) -> str:
    """Whole seconds as people say them, in at most two units.

    >>> duration(125), duration(43_200), duration(259_200), duration(90_061), duration(0)
    ('2 min 5 s', '12 h', '3 days', '1 day 1 h', '0 s')
    """
    for place, (length, one, many) in enumerate(_UNITS):
        count, rest = divmod(seconds, length)
        if count:
            said = f"{count:,} {one if count == 1 else many}"
            below, name, names = _UNITS[place + 1] if rest else (1, "", "")
            lesser = rest // below
            return f"{said} {lesser} {name if lesser == 1 else names}" if lesser else said
    return "0 s"


def round_duration(seconds: int) -> str:
    """A time to live as a person says it: in hours, unless it is no round number of them.

    >>> round_duration(43200), round_duration(3600), round_duration(90)
    ('12 hours', '1 hour', '90 seconds')
    """
    for unit, size in (("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % size == 0:
            return plural(seconds // size, unit)
    raise AssertionError  # every number is divisible by one


def size(number: float) -> str:
    """Bytes as a person reads them.

    >>> size(999), size(4700), size(2_000_000_000)
    ('999 bytes', '4.7 kB', '2.0 GB')
    """
    from rich import filesize  # the command alone says sizes, and has it

    return filesize.decimal(round(number))
