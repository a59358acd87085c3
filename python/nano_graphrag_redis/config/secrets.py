"""Values that can be used but not shown, in a repr or among the variables of a traceback.

Error reporters show the repr of the local variables of every frame, and dataclasses show all their
fields; secrets must not appear there in plain text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .url import redacted

SECRETS: Final = ("redis_password", "redis_sentinel_password")
"""The settings whose value is never shown."""

_WORDS: Final = ("password", "passwd", "secret", "token", "api_key", "apikey", "credential")
"""What the name of a variable or setting of others has where its value is a secret."""


class Hidden(str):
    """Text whose repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Guarded(dict[str, Any]):
    """A configuration or an environment whose repr hides secrets.

    Otherwise an ordinary dict: reading a key returns the value.
    """

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{key!r}: {shown}' for key, shown in _shown(self))}}}"

    __str__ = __repr__


def guarded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with a repr that hides secrets, in ``addon_params`` too.

    A dict that contains nothing to hide is returned as it is.
    """
    if isinstance(settings, Guarded) or (type(settings) is dict and not _holds_secrets(settings)):
        return settings
    return Guarded(settings)


def _holds_secrets(settings: Mapping[str, Any]) -> bool:
    """Whether there is anything that ``Guarded`` shows otherwise, or that may hold such a thing."""
    for key, value in settings.items():
        if isinstance(value, dict):
            if _holds_secrets(value):
                return True
        elif isinstance(value, str):
            shown = redacted(value) if "://" in value or "redis_url" in str(key).lower() else value
            if shown != value:
                return True
        elif isinstance(value, (list, tuple, set, frozenset)):
            return True  # whose items are not looked at one by one
        if value and any(word in str(key).lower() for word in _WORDS):
            return True
    return False


def _shown(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        name = str(key).lower()
        if any(word in name for word in _WORDS):
            yield key, "'***'" if value else repr(value)
        elif isinstance(value, str):
            yield key, repr(redacted(value) if "://" in value or "redis_url" in name else value)
        elif isinstance(value, dict):
            yield key, repr(Guarded(value))
        else:
            shown = repr(value)
            yield key, "'***'" if "://" in shown else shown
