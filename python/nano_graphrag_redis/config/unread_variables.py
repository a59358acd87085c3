"""Variables that were meant for this library but have another name, and are therefore not read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .did_you_mean import ENCRYPTED, Meant, is_injected, meant_by_key, meant_by_variable
from .namespaces import PER_NAMESPACE
from .warn_once import warn_once

SettingPath = tuple[str, ...]
"""A setting, or a setting and a namespace."""

_NO = ("0", "false", "no", "off")
_WITHOUT_A_NETWORK = ("embedded:", "unix:", "redis+unix:")


def warn_of_unread(
    variables: Mapping[SettingPath, tuple[str, ...]],
    environ: Mapping[str, str],
    values: Mapping[str, object],
    given: Collection[SettingPath],
) -> None:
    """Warns once about each setting that the environment was probably meant to set, but does not.

    If the setting has a value anyway, the variable is for another program and there is no warning.

    Args:
        variables: The names of the variables of each setting.
        environ: The environment.
        values: The settings that were found, in all sources.
        given: The settings, and the settings of namespaces, that were found.
    """
    paths = {name: path for path, names in variables.items() for name in names}
    unread: dict[str, dict[str, Meant]] = {}
    for name in sorted(environ):
        value = environ[name].strip()
        if not value or name in paths or is_injected(name, value):
            continue
        for setting in PER_NAMESPACE:
            if f"{name}_".startswith(f"{setting.upper()}_"):
                _warn_of_namespace(name, setting, paths)
                break
        else:
            meant = meant_by_variable(name, paths)
            if meant is not None and _is_missed(meant, value, paths, values, given):
                unread.setdefault(meant.name, {})[name] = meant
    for wanted, names in unread.items():
        _warn(wanted, names, "redis_url" not in values)


def _warn_of_namespace(name: str, setting: str, paths: Mapping[str, SettingPath]) -> None:
    known = [each.lower() for each in paths if each.startswith(f"{setting.upper()}_")]
    meant = meant_by_key(name, known) if name != setting.upper() else ""
    advice = f"did you mean {meant.upper()}?" if meant else f"use the key {setting} for others"
    warn_once(
        f"{name} is not read: only the host's namespaces and embedding_cache have a variable; "
        f"{advice}"
    )


def _is_missed(
    meant: Meant,
    value: str,
    paths: Mapping[str, SettingPath],
    values: Mapping[str, object],
    given: Collection[SettingPath],
) -> bool:
    """Whether a default takes the place of what ``meant`` stands for."""
    url = str(values.get("redis_url") or "").strip().lower()
    if meant.form == ENCRYPTED.form:
        return value.lower() not in _NO and not url.startswith(("rediss", *_WITHOUT_A_NETWORK))
    if meant.name in ("REDIS_USERNAME", "REDIS_PASSWORD") and (
        "@" in url or "redis_password_file" in values or url.startswith(_WITHOUT_A_NETWORK)
    ):
        return False
    return not any(paths[each] in given for each in meant.name.split(" or "))


def _warn(wanted: str, names: Mapping[str, Meant], on_localhost: bool) -> None:
    forms = {meant.form for meant in names.values()} - {""}
    form = ENCRYPTED.form if ENCRYPTED.form in forms else min(forms, default="")
    are = "is" if len(names) == 1 else "are"
    default = "Without it the server is redis://localhost:6379"
    message = (
        f"{', '.join(names)} (environment) {are} not read: did you mean {Meant(wanted, form)}?"
    )
    warn_once(f"{message} {default}" if wanted == "REDIS_URL" and on_localhost else message)
