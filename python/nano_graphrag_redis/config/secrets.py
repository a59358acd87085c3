"""Values that can be used but not shown, in a URL, a repr or among the variables of a traceback.

Error reporters show the repr of the local variables of every frame, and dataclasses show all their
fields; secrets must not appear there in plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .url import SEVERAL, RedisUrl

SECRETS: Final = ("redis_password", "redis_sentinel_password")
"""The settings whose value is never shown."""

_WORDS: Final = ("password", "passwd", "secret", "token", "api_key", "apikey", "credential")
"""What the name of a variable or setting of others has where its value is a secret."""

# Only what has this shape is shown, its user and password replaced. Anything else may hold an
# unescaped password in any place, so nothing of it is shown but the scheme.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PLACE = r"(\[[0-9a-f:.]+(%[\w.-]+)?\]|[^/?#@:,%\[\]]*)(:\d+)?"
_SHOWABLE = re.compile(
    rf"(?P<credentials>[^/?#]*@)?(?P<server>{_PLACE}(/[^?#@,]*)?(\?db=\d+)?)", re.IGNORECASE
)
_SENTINELS = re.compile(
    rf"rediss?\+sentinel://{_PLACE}(,{_PLACE})*(/\d*)?(\?db=\d+)?", re.IGNORECASE
)


def redacted(url: str) -> str:
    """Returns ``url`` without anything that may be a credential, well-formed or not."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "***"
    if "@" not in url and _SENTINELS.fullmatch(url):
        return url
    if "@" not in url and SEVERAL.search(url):
        return ",".join(redacted(one) for one in SEVERAL.split(url))
    shown = _SHOWABLE.fullmatch(url, scheme.end())
    plain, asked, _ = url.partition("?")
    if shown is None and asked and "@" not in url and _SHOWABLE.fullmatch(plain, scheme.end()):
        return f"{plain}?***"
    if shown is None:
        return f"{scheme[0]}***"
    return f"{scheme[0]}{'***@' if shown['credentials'] else ''}{shown['server']}"


def holds_password(url: str) -> bool:
    """Whether there is a password in a URL that can be used; of another one the refusal tells."""
    try:
        return RedisUrl.parse(url).password is not None
    except ValueError:
        return False


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
