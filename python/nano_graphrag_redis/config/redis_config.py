"""``RedisConfig``: the table of settings, filled from the sources and checked as a whole."""

from __future__ import annotations

import os
import reprlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError, ValidationInfo, field_validator, model_validator

from nano_graphrag_redis.exceptions import StorageConfigError

from . import sources
from .did_you_mean import meant_by_namespace
from .namespaces import (
    EVERY_NAMESPACE,
    KNOWN_NAMESPACES,
    MUST_NOT_EXPIRE,
    SINGLE_FLIGHT,
)
from .secrets import Hidden, guarded
from .settings_with_defaults import DEFAULT_OUTAGE_POLICIES, DEFAULT_TTLS, SettingsTable
from .types_and_limits import ZSTD_LEVELS, check_name
from .validation_errors import explain
from .warn_once import warn_once

_CORE_SETTINGS = (
    "cluster",
    "key_prefix",
    "min_connections",
    "max_connections",
    "connection_timeout",
    "socket_timeout",
    "operation_timeout",
    "prewarm_connections",
    "retry_on_timeout",
    "max_retries",
    "health_check_interval",
    "breaker_failures",
    "breaker_recovery",
    "durability",
    "durability_timeout",
    "max_value_bytes",
    "compression",
    "compression_min_bytes",
    "compression_level",
    "near_cache_mb",
    "single_flight_wait",
    "registry",
    "deferred_drop",
    "changes_name",
)
"""The settings that the core takes as they are, under the same name without ``redis_``."""


_Names = TypeVar("_Names", dict[str, int], dict[str, str], frozenset[str])


class RedisConfig(SettingsTable):
    """The settings of a storage: validated, immutable, and never showing a secret.

    Example:
        >>> config = RedisConfig.from_env({"REDIS_URL": "redis://:secret@cache.example/2"})
        >>> config.redis_url
        RedisUrl('redis://***@cache.example:6379/2')
        >>> config.ttl_for("llm_response_cache")
        43200
    """

    def __init__(
        self,
        /,
        origins: Mapping[sources.SettingPath, sources.Origin] | None = None,
        **settings: Any,
    ) -> None:
        """Validates ``settings``, named as in ``global_config``.

        Args:
            origins: Where each setting was found, for the error message.
            **settings: The settings; the others have their defaults.

        Raises:
            StorageConfigError: A single error that names every invalid setting and its value.
        """
        refusal = None
        try:
            super().__init__(**settings)
        except ValidationError as refused:
            refusal = explain(refused, origins)
        # Raised out here, so that no __context__ leads to pydantic's error, which holds the input.
        if refusal is not None:
            settings.clear()  # they are variables of this frame
            raise StorageConfigError(refusal)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> RedisConfig:
        """Reads the environment only.

        Args:
            environ: The environment; ``os.environ`` if None.

        Raises:
            StorageConfigError: A value is invalid.
        """
        return cls.from_global_config({}, environ)

    @classmethod
    def from_global_config(
        cls, global_config: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> RedisConfig:
        """Reads the host's configuration, its ``addon_params`` and the environment.

        Args:
            global_config: What the host passes to a storage. A value of None means not set. Keys
                that do not start with ``redis_`` belong to the host.
            environ: The environment; ``os.environ`` if None.

        Raises:
            StorageConfigError: A value is invalid, or a ``redis_*`` key is unknown.
        """
        # Shown without secrets by whatever shows the variables of a traceback's frames.
        global_config = guarded(global_config)
        environ = guarded(os.environ if environ is None else environ)
        refusal = None
        try:
            found = sources.read(cls.model_fields, global_config, environ)
        except StorageConfigError as refused:
            refusal = refused
        if refusal is not None:
            # Without the frames that have single values at hand.
            raise refusal.with_traceback(None) from None
        return cls(found.origins, **found.values)

    @property
    def embedded_directory(self) -> Path | None:
        """The directory of an ``embedded://`` URL; None for any other URL."""
        return self.redis_url.embedded_directory

    def slides(self, namespace: str) -> bool:
        """Whether reads prolong the life of the values of ``namespace``."""
        return self.redis_ttl_sliding and self.ttl_for(namespace) > 0

    def ttl_for(self, namespace: str) -> int:
        """The TTL of ``namespace`` in seconds; 0 means no expiry."""
        return self.redis_ttl.get(namespace, DEFAULT_TTLS.get(namespace, 0))

    def outage_policy_for(self, namespace: str) -> str:
        """What a failing call on ``namespace`` does: ``raise``, ``miss`` or ``json``."""
        named = self.redis_outage_policy
        default = named.get(EVERY_NAMESPACE) or DEFAULT_OUTAGE_POLICIES.get(namespace, "raise")
        return named.get(namespace, default)

    def workspace_for(self, namespace: str) -> str:
        """The workspace of ``namespace``; empty if there is none, and for a shared namespace."""
        return "" if namespace in self.redis_shared_namespaces else self.redis_workspace

    def core_settings(self, namespace: str, *, url: str | None = None) -> dict[str, object]:
        """The settings that the core needs to serve ``namespace``.

        Args:
            namespace: The host's namespace.
            url: The URL of the socket, in place of an ``embedded://`` URL.

        Raises:
            StorageConfigError: ``namespace`` cannot be part of a key.
            ValueError: The URL is ``embedded://`` and ``url`` is not given.
        """
        try:
            check_name(namespace)
        except ValueError as reason:
            raise StorageConfigError(
                f"namespace {namespace!r} {reason}", namespace=namespace
            ) from None
        server = self.redis_url
        if server.embedded_directory is not None and url is None:
            raise ValueError("an embedded server is reached by the URL of its socket: pass url=")
        username, password, password_file = self._credentials()
        settings: dict[str, object] = {
            "namespace": namespace,
            "workspace": self.workspace_for(namespace),
            "url": url or server.address,
            "seeds": list(server.others),
            "username": username,
            "password": _revealed(password),
            "password_file": _absolute(password_file),
            "sentinel_master": self.redis_sentinel_master,
            "sentinel_username": self.redis_sentinel_username,
            "sentinel_password": _revealed(self.redis_sentinel_password),
            "tls_ca_file": _absolute(self.redis_tls_ca_file),
            "tls_cert_file": _absolute(self.redis_tls_cert_file),
            "tls_key_file": _absolute(self.redis_tls_key_file),
            "ttl": self.ttl_for(namespace),
            "ttl_max_age": self.redis_ttl_max_age if self.slides(namespace) else 0,
            "outage_policy": self.outage_policy_for(namespace),
            "dual_write_directory": self._dual_write_directory(namespace),
            "working_dir": self._origin(),
            "changes_host": socket.gethostname() if self.redis_changes else None,
            "single_flight": self.redis_single_flight if namespace in SINGLE_FLIGHT else "off",
        }
        return settings | {name: getattr(self, f"redis_{name}") for name in _CORE_SETTINGS}

    def _dual_write_directory(self, namespace: str) -> str | None:
        """The directory whose files are kept up with what is written; None for none.

        Raises:
            StorageConfigError: It is asked for, and there is no directory.
        """
        if not self.redis_dual_write:
            return None
        if self.working_dir is None:
            raise StorageConfigError(
                "redis_dual_write needs the host's working_dir, whose JSON files it keeps: give it "
                "in global_config, or turn it off",
                namespace=namespace,
            )
        return str(Path(self.working_dir).absolute())

    def _origin(self) -> str | None:
        """The directory whose graph fills the keyspace; None where a workspace tells graphs apart.

        Two graphs in one keyspace mix their reports; the core notes whose it is and warns.
        """
        if self.redis_workspace or self.working_dir is None:
            return None
        # Services that start elsewhere spell it otherwise: "../cache". Links stay as they are, so
        # that a release that moves behind one keeps its name. A path need not be UTF-8.
        directory = os.path.normpath(Path(self.working_dir).absolute())
        return directory.encode(errors="backslashreplace").decode()

    def _credentials(self) -> tuple[str | None, SecretStr | None, str | None]:
        """Who logs in: the user, the password, and the file that holds it instead.

        A private server is ours, on a socket of ours: it asks for nothing.
        """
        if self.redis_url.embedded_directory is not None:
            return None, None, None
        return (
            self.redis_username or self.redis_url.username,
            self.redis_password or self.redis_url.password,
            self.redis_password_file,
        )

    @field_validator("redis_max_connections")
    @classmethod
    def _hold_the_minimum(cls, most: int, info: ValidationInfo) -> int:
        least = info.data.get("redis_min_connections", 0)
        if most < least:
            raise ValueError(f"must be at least redis_min_connections, which is {least}")
        return most

    @field_validator("redis_compression_level")
    @classmethod
    def _hold_the_levels(cls, level: int | None, info: ValidationInfo) -> int | None:
        codec = info.data.get("redis_compression")
        if level is not None and codec == "lz4":
            raise ValueError("must be left out: lz4 has no levels")
        if level is not None and codec == "zstd" and level not in ZSTD_LEVELS:
            raise ValueError(f"must be from {ZSTD_LEVELS[0]} to {ZSTD_LEVELS[-1]} for zstd")
        return level

    @field_validator("redis_ttl", mode="before")
    @classmethod
    def _refuse_one_ttl_for_all(cls, ttls: object) -> object:
        if isinstance(ttls, Mapping) and EVERY_NAMESPACE in ttls:
            raise ValueError("must be a mapping {namespace: seconds}")
        return ttls

    @field_validator("redis_ttl")
    @classmethod
    def _warn_of_odd_ttls(cls, ttls: dict[str, int]) -> dict[str, int]:
        for namespace, seconds in ttls.items():
            if seconds < 0:
                warn_once(f"The TTL of {namespace} is {seconds}: below 0 is taken as 0, for ever")
            elif seconds > 0 and namespace in MUST_NOT_EXPIRE:
                warn_once(
                    f"{namespace} has a TTL of {seconds} s: {MUST_NOT_EXPIRE[namespace]}. "
                    "Set it to 0 unless that is meant"
                )
        return {namespace: max(seconds, 0) for namespace, seconds in ttls.items()}

    @field_validator("redis_ttl", "redis_outage_policy", "redis_shared_namespaces")
    @classmethod
    def _warn_of_likely_namespaces(cls, named: _Names, info: ValidationInfo) -> _Names:
        # No error: an application may have a namespace of its own called docs.
        for namespace in sorted(named):
            meant = meant_by_namespace(namespace)
            if meant:
                warn_once(
                    f"{info.field_name} names {namespace!r}, which is no namespace of "
                    f"nano-graphrag: did you mean {meant}? Ignore this if it is one of your own"
                )
        return named

    @field_validator("redis_outage_policy", mode="before")
    @classmethod
    def _name_for_all(cls, policy: object) -> object:
        return policy if isinstance(policy, Mapping) else {EVERY_NAMESPACE: policy}

    @model_validator(mode="after")
    def _warn_of_what_slides_nowhere(self) -> RedisConfig:
        ttls = {name: self.ttl_for(name) for name in {*KNOWN_NAMESPACES, *self.redis_ttl}}
        if self.redis_ttl_sliding and not any(ttls.values()):
            warn_once("redis_ttl_sliding does nothing: no namespace has a redis_ttl")
        for namespace, seconds in sorted(ttls.items()):
            if self.redis_ttl_sliding and seconds >= self.redis_ttl_max_age:
                warn_once(
                    f"redis_ttl_sliding does nothing for {namespace}: its TTL of {seconds} s is "
                    f"not below redis_ttl_max_age ({self.redis_ttl_max_age})"
                )
        return self

    @model_validator(mode="after")
    def _hold_the_limits_of_a_cluster(self) -> RedisConfig:
        url = self.redis_url
        if self.redis_cluster and not url.address.startswith(("redis://", "rediss://")):
            raise ValueError(
                "redis_cluster takes a redis_url of the form redis://HOST:PORT or rediss://HOST:PORT"
            )
        if self.redis_cluster and url.database:
            raise ValueError(
                f"redis_url names the database {url.database}, and a cluster has none but 0"
            )
        if url.others and not self.redis_cluster and not url.sentinel:
            raise ValueError("redis_url names several servers, which takes redis_cluster")
        return self

    @model_validator(mode="after")
    def _refuse_files_that_nobody_keeps(self) -> RedisConfig:
        if "json" in self.redis_outage_policy.values() and not self.redis_dual_write:
            raise ValueError(
                "redis_outage_policy 'json' reads the files that redis_dual_write keeps: turn that "
                "on too, or choose 'raise' or 'miss'"
            )
        return self

    @model_validator(mode="after")
    def _hold_the_limits_of_sentinels(self) -> RedisConfig:
        own = ("redis_sentinel_master", "redis_sentinel_username", "redis_sentinel_password")
        given = [name for name in own if getattr(self, name)]
        if not self.redis_url.sentinel:
            if given:
                raise ValueError(f"{given[0]} takes a redis_url of sentinels: redis+sentinel://")
            return self
        if not self.redis_sentinel_master:
            raise ValueError(
                "redis_url names sentinels: redis_sentinel_master has to say whose master, such as "
                "'mymaster'"
            )
        if self.redis_sentinel_username and not self.redis_sentinel_password:
            raise ValueError("redis_sentinel_username has no password: set redis_sentinel_password")
        if self.redis_cluster:
            raise ValueError("redis_cluster needs no sentinels: name servers of it in redis_url")
        if self.redis_near_cache_mb:
            raise ValueError("redis_near_cache_mb is not supported with sentinels yet")
        return self

    @model_validator(mode="after")
    def _refuse_half_a_login(self) -> RedisConfig:
        username, password, password_file = self._credentials()
        if password and password_file:
            raise ValueError(
                "redis_password (or the password in redis_url) and redis_password_file are one "
                "setting: keep one of them"
            )
        if username and not password and not password_file:
            # What stands in a URL without a colon may be a password in the place of a name.
            named = reprlib.repr(username)
            who = f"the user {named} (redis_username)" if self.redis_username else ""
            raise ValueError(
                f"{who or 'the user in redis_url'} has no password: set redis_password (to any "
                "text for a user that needs none), or write redis://:PASSWORD@HOST for a password "
                "alone"
            )
        return self

    @model_validator(mode="after")
    def _refuse_half_of_tls(self) -> RedisConfig:
        pair = ("redis_tls_cert_file", "redis_tls_key_file")
        given = [name for name in ("redis_tls_ca_file", *pair) if getattr(self, name)]
        if given and not self.redis_url.secure:
            raise ValueError(
                f"{given[0]} is of no use without TLS, and this redis_url asks for none: make it "
                f"{'rediss+sentinel' if self.redis_url.sentinel else 'rediss'}://"
            )
        if len(set(pair) & set(given)) == 1:
            raise ValueError(f"{' and '.join(pair)} need each other: set both, or neither")
        return self


def _revealed(secret: SecretStr | None) -> Hidden | None:
    return Hidden(secret.get_secret_value()) if secret else None


def _absolute(path: str | None) -> str | None:
    """The path of a file, which the working directory of the first call changes no more."""
    return None if path is None else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
