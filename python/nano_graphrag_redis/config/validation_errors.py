"""Turns pydantic's errors into one clear sentence per value, without secrets."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .did_you_mean import meant_by_key
from .namespaces import EVERY_NAMESPACE
from .secrets import SECRETS, redacted
from .settings_with_defaults import SettingsTable
from .sources import Origin, SettingPath

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class _Repr(reprlib.Repr):
    """A repr of any value: cut short, and of what has none its type."""

    def repr1(self, x: Any, level: int) -> str:
        try:
            return super().repr1(x, level)
        except Exception:  # noqa: BLE001 - a repr of others', or a number of more digits than Python writes
            return f"<{type(x).__name__}>"


_repr = _Repr()
_repr.maxstring = _repr.maxother = 80


def explain(refused: ValidationError, origins: Mapping[SettingPath, Origin] | None) -> str:
    """Explains each refused value: its name as the user wrote it, value, source and reason.

    Args:
        refused: What pydantic found.
        origins: Where the values were found; None when they were given as arguments.
    """
    return "; ".join(_sentence(error, origins) for error in refused.errors(include_url=False))


def _sentence(error: ErrorDetails, origins: Mapping[SettingPath, Origin] | None) -> str:
    path = tuple(part for part in error["loc"] if part != "[key]")
    if not path:
        return _reason(error)
    origin = _origin(path, origins)
    return f"{origin.name}{_shown(error)} ({origin.place}): {_reason(error)}"


def _origin(path: tuple[int | str, ...], origins: Mapping[SettingPath, Origin] | None) -> Origin:
    """Where the value was found: that of the namespace, or else of the setting as a whole."""
    if origins is None:
        return Origin(_name(path), "argument")
    exact = [origin for found, origin in origins.items() if found == path[:2]]
    whole = [origin for found, origin in origins.items() if found[0] == path[0]]
    return (exact + whole + [Origin(_name(path), "default")])[0]


def _name(path: tuple[int | str, ...]) -> str:
    return f"{path[0]}{''.join(f'[{part!r}]' for part in path[1:])}"


def _shown(error: ErrorDetails) -> str:
    """The value as far as it may be shown; a misspelt or misplaced setting may hold a secret."""
    setting, value = error["loc"][0], error["input"]
    if isinstance(value, Mapping):
        value = value.get(EVERY_NAMESPACE, value)
    if setting in (*SECRETS, "redis_password_file") or error["type"] == "extra_forbidden":
        return ""
    if isinstance(value, str) and (setting == "redis_url" or "://" in value):
        return f"={redacted(value)!r}"
    shown = _repr.repr(value)
    return "" if setting == "redis_url" or "://" in shown else f"={shown}"


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "extra_forbidden":
        meant = meant_by_key(str(error["loc"][0]), SettingsTable.model_fields)
        return "is no setting of nano-graphrag-redis" + (
            f": did you mean {meant}?" if meant else ""
        )
    return error["msg"].replace("Input should", "must")
