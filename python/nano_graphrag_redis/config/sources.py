"""Where settings come from, and which source wins.

A key in ``global_config`` overrides one in its ``addon_params``, which overrides the environment,
which overrides the defaults of ``nano-graphrag-redis run``. Per-namespace settings are resolved
namespace by namespace.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from nano_graphrag_redis.exceptions import StorageConfigError

from .did_you_mean import is_slip_of_ours, meant_by_key
from .namespaces import EVERY_NAMESPACE, KNOWN_NAMESPACES, PER_NAMESPACE, environment_names
from .secrets import SECRETS, holds_password
from .unread_variables import warn_of_unread
from .warn_once import warn_once

SettingPath = tuple[str, ...]
"""A setting, or a setting and a namespace."""

_NOT_IN_ENVIRONMENT = frozenset({"clear_on_start", "working_dir", "redis_ttl"})

UNDER_RUN: Final = "NANO_GRAPHRAG_REDIS_RUN"
"""The variable that ``run`` sets for the application and every process it starts.

It says that ``_RUN_DEFAULTS`` hold. The settings' own variables would hide what an application
reads from its ``.env`` file later, because readers of such files leave a variable that is set.
"""

_RUN_DEFAULTS: Final[Mapping[str, object]] = {
    "redis_single_flight": "on",
    "redis_cache_embeddings": "questions",
}
"""Defaults below ``run``, which starts workers that serve the same questions."""

_OTHER_NAMES = {"redis_dual_write": ("REDIS_DUAL_WRITE", "KV_BACKEND_MIGRATION")}


@dataclass(frozen=True)
class Origin:
    """Where a value was found: its name as the user wrote it, and the place."""

    name: str
    place: str


@dataclass
class Settings:
    """Values as found, unchecked, and where each came from."""

    values: dict[str, object] = field(default_factory=dict, repr=False)
    origins: dict[SettingPath, Origin] = field(default_factory=dict)

    def put(self, path: SettingPath, value: object, origin: Origin) -> None:
        """Sets a value, over what a weaker source said."""
        setting, *namespaces = path
        self.origins[path] = origin
        if setting not in PER_NAMESPACE:
            self.values[setting] = value
        elif namespaces:
            each = cast("dict[str, object]", self.values.setdefault(setting, {}))
            each[namespaces[0]] = value
        else:
            self.values[setting] = {EVERY_NAMESPACE: value}
            self.origins[setting, EVERY_NAMESPACE] = origin


def read(
    known: Collection[str], global_config: Mapping[str, object], environ: Mapping[str, str] | None
) -> Settings:
    """Collects the settings from all sources.

    Args:
        known: The names of all settings.
        global_config: The host's configuration; its other keys are left alone.
        environ: The environment, ``os.environ`` when None.

    Raises:
        StorageConfigError: An unknown ``redis_*`` key; two names of one setting that disagree.
    """
    environ = os.environ if environ is None else environ
    addon_params = global_config.get("addon_params") or {}
    if not isinstance(addon_params, Mapping):
        raise StorageConfigError(
            f"addon_params must be a mapping, not {type(addon_params).__name__}"
        )
    settings = Settings()
    if environ.get(UNDER_RUN, "").strip():
        for setting, default in _RUN_DEFAULTS.items():
            settings.put((setting,), default, Origin(setting, "nano-graphrag-redis run"))
    variables = variables_of(known)
    for found in _from_environment(variables, environ):
        settings.put(*found)
    for place, keys in (("addon_params", addon_params), ("global_config", global_config)):
        for path, value, origin in _from_mapping(known, keys, place):
            _warn_of_logged_secret(path[0], value, origin, environ)
            settings.put(path, value, origin)
    warn_of_unread(variables, environ, settings.values, settings.origins)
    return settings


def kv_backend(environ: Mapping[str, str] | None = None) -> Literal["json", "redis"]:
    """The backend named by ``STORAGE_KV_BACKEND``; ``json`` if it is unset or empty.

    Raises:
        StorageConfigError: The variable has another value.
    """
    asked = (os.environ if environ is None else environ).get("STORAGE_KV_BACKEND", "")
    backend = asked.strip().lower() or "json"
    if backend not in ("json", "redis"):
        raise StorageConfigError(
            f"STORAGE_KV_BACKEND={asked!r} (environment): must be 'redis' or 'json'"
        )
    return cast("Literal['json', 'redis']", backend)


def metrics_directory() -> str | None:
    """What ``REDIS_METRICS_DIR`` names, for a process that has no storage to read it for."""
    return os.environ.get("REDIS_METRICS_DIR") or None


def variables_of(known: Collection[str]) -> dict[SettingPath, tuple[str, ...]]:
    """Every setting that has variables, and their names."""
    variables: dict[SettingPath, tuple[str, ...]] = {
        (setting,): _OTHER_NAMES.get(setting, (setting.upper(),))
        for setting in known
        if setting not in _NOT_IN_ENVIRONMENT
    }
    of_namespaces = {
        (setting, namespace): environment_names(setting, namespace)
        for setting in PER_NAMESPACE
        for namespace in KNOWN_NAMESPACES
    }
    return variables | of_namespaces


def _from_environment(
    variables: Mapping[SettingPath, tuple[str, ...]], environ: Mapping[str, str]
) -> Iterator[tuple[SettingPath, object, Origin]]:
    for path, names in variables.items():
        yield from _from_variables(path, names, environ)


def _from_variables(
    path: SettingPath, names: tuple[str, ...], environ: Mapping[str, str]
) -> Iterator[tuple[SettingPath, object, Origin]]:
    """The value of a setting that may have several names; an empty variable counts as absent."""
    said = {name: environ[name].strip() for name in names if environ.get(name, "").strip()}
    if len({value.lower() for value in said.values()}) > 1:
        both = " and ".join(f"{name}={value!r}" for name, value in said.items())
        raise StorageConfigError(f"{both} (environment) are one setting: keep one of them")
    for name in list(said)[:1]:
        yield path, environ[name], Origin(name, "environment")


def _from_mapping(
    known: Collection[str], keys: Mapping[str, object], place: str
) -> Iterator[tuple[SettingPath, object, Origin]]:
    """The settings among the keys of a mapping; None counts as absent."""
    ttl_keys = {f"redis_ttl_{namespace}": namespace for namespace in KNOWN_NAMESPACES}
    found: dict[SettingPath, tuple[object, Origin]] = {}
    for key, value in keys.items():
        entries: list[tuple[SettingPath, object, str]]
        if key in ttl_keys:
            entries = [(("redis_ttl", ttl_keys[key]), value, key)]
        elif key in PER_NAMESPACE and isinstance(value, Mapping):
            entries = [((key, name), each, f"{key}[{name!r}]") for name, each in value.items()]
        elif key in known:
            entries = [((key,), value, key)]
        else:
            _refuse_if_ours([*known, *ttl_keys], key, place)
            continue
        for path, each, name in entries:
            if each is None:
                continue
            before, origin = found.setdefault(path, (each, Origin(name, place)))
            if before is not each and before != each:
                raise StorageConfigError(
                    f"{origin.name}={before!r} and {name}={each!r} ({place}) are one setting: "
                    "keep one of them"
                )
    for path, (first, origin) in found.items():
        yield path, first, origin


def _refuse_if_ours(known: list[str], key: object, place: str) -> None:
    """Refuses an unknown key that is meant for this library; the other keys are the host's."""
    if not isinstance(key, str):
        return
    if not key.lower().startswith("redis_") and not is_slip_of_ours(key, known):
        return
    meant = meant_by_key(key, known)
    raise StorageConfigError(
        f"{key} ({place}) is no setting of nano-graphrag-redis: "
        + (f"did you mean {meant}?" if meant else "see RedisConfig for the settings there are")
    )


def _warn_of_logged_secret(
    setting: str, value: object, origin: Origin, environ: Mapping[str, str]
) -> None:
    """Warns about a secret where the host logs it, unless the host itself put it there.

    The factory host copies ``REDIS_URL`` and ``REDIS_PASSWORD`` into ``global_config``.
    """
    secret = value if isinstance(value, str) else ""
    holds_one = bool(secret) if setting in SECRETS else holds_password(secret)
    if setting in (*SECRETS, "redis_url") and holds_one and environ.get(setting.upper()) != value:
        warn_once(
            f"{origin.name} ({origin.place}) holds a password, and nano-graphrag logs its "
            f"configuration at DEBUG: set {setting.upper()} in the environment instead"
        )
