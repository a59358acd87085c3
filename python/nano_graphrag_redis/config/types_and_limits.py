"""The types of settings, as pydantic types; values from the environment are always text."""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from .url import RedisUrl

LONGEST_WAIT: Final = 86_400.0
"""Seconds. A day; a longer timeout is a mistake of unit."""

LONGEST_TTL: Final = 9_000_000_000_000_000
"""Seconds. Redis keeps an expiry as signed 64-bit milliseconds and refuses what overflows them."""

LARGEST_VALUE: Final = 512 * 1024 * 1024
"""Bytes. Redis's own limit for one value (``proto-max-bulk-len``)."""

ZSTD_LEVELS: Final = range(-131_072, 22 + 1)
"""Those of Zstandard 1.5; the core asks its own copy."""

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


def _flag(value: object) -> object:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be one of {', '.join(_TRUE)} or {', '.join(_FALSE)}")


def _number(value: object) -> object:
    if isinstance(value, bool):  # True would pass for 1
        raise ValueError("must be a number")
    return value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def check_name(value: str) -> str:
    """Refuses a name that cannot be part of a key.

    If ``:`` were allowed, ``a`` + ``b:c`` and ``a:b`` + ``c`` would make the same key.

    Raises:
        ValueError: The name is empty, or contains ``:``, ``@`` or a lone surrogate.
    """
    if not value:
        raise ValueError("must not be empty")
    return _workspace(value)


def _workspace(value: str) -> str:
    if ":" in value or "@" in value:
        raise ValueError("must have no ':' and no '@' in it")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must have no lone surrogate in it")
    return value


def _names(value: object) -> object:
    if isinstance(value, str):
        return [name for name in (part.strip() for part in value.split(",")) if name]
    return value


def _absent_if_empty(value: object) -> object:
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must be UTF-8 and have no lone surrogate in it")
    # A host passes on REDIS_PASSWORD="", which a Compose file makes of a variable not set.
    return None if value == "" else value


def _path(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


word = BeforeValidator(_lower)

Flag = Annotated[bool, BeforeValidator(_flag)]
Name = Annotated[str, AfterValidator(check_name)]
Workspace = Annotated[str, AfterValidator(_workspace)]
Names = Annotated[frozenset[Name], BeforeValidator(_names)]
Text = Annotated[str | None, BeforeValidator(_absent_if_empty)]
Secret = Annotated[SecretStr | None, BeforeValidator(_absent_if_empty)]
Url = Annotated[RedisUrl, BeforeValidator(RedisUrl.parse)]
FilePath = Annotated[str | None, BeforeValidator(_path), BeforeValidator(_absent_if_empty)]
WorkingDir = Annotated[str | None, BeforeValidator(_path)]
OutagePolicy = Annotated[Literal["raise", "miss", "json"], BeforeValidator(_lower)]

Count = Annotated[int, BeforeValidator(_number)]
Seconds = Annotated[
    float, BeforeValidator(_number), Field(gt=0, le=LONGEST_WAIT, allow_inf_nan=False)
]
Interval = Annotated[
    float, BeforeValidator(_number), Field(ge=0, le=LONGEST_WAIT, allow_inf_nan=False)
]
"""Seconds; 0 for never."""

Ttl = Annotated[int, BeforeValidator(_number), Field(le=LONGEST_TTL)]
"""Seconds; a negative one is warned about and taken as 0, once all of them are known."""
