"""Which source wins, setting by setting, and which values each source takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis.config import RedisConfig, kv_backend
from nano_graphrag_redis.config.sources import _NOT_IN_ENVIRONMENT
from nano_graphrag_redis.exceptions import StorageConfigError

# Each setting in use now, with three values, each differing from the one before: as text for the
# environment, and as a host's configuration has them. The first differs from the default.
VALUES: Mapping[str, tuple[tuple[str, Any], ...]] = {
    "redis_url": (
        ("redis://one:1", "redis://one:1"),
        ("redis://two:2/2", "redis://two:2/2"),
        ("redis+unix:///three.sock?db=3", "redis+unix:///three.sock?db=3"),
    ),
    "redis_username": (("ann", "ann"), ("bob", "bob"), ("cy", "cy")),
    "redis_password": (("one", "one"), ("two", "two"), ("three", "three")),
    "redis_sentinel_master": (("one", "one"), ("two", "two"), ("three", "three")),
    "redis_sentinel_username": (("ann", "ann"), ("bob", "bob"), ("cy", "cy")),
    "redis_sentinel_password": (("one", "one"), ("two", "two"), ("three", "three")),
    "redis_password_file": (("/one", "/one"), ("/two", "/two"), ("/three", Path("/three"))),
    "redis_tls_ca_file": (("/one", "/one"), ("/two", "/two"), ("/three", Path("/three"))),
    "redis_tls_cert_file": (("/one", "/one"), ("/two", "/two"), ("/three", Path("/three"))),
    "redis_tls_key_file": (("/one", "/one"), ("/two", "/two"), ("/three", Path("/three"))),
    "redis_min_connections": (("1", 1), ("2", 2), ("3", 3)),
    "redis_max_connections": (("11", 11), ("12", 12), ("13", 13)),
    "redis_connection_timeout": (("1.5", 1.5), ("2", 2), ("3", 3.0)),
    "redis_socket_timeout": (("1.5", 1.5), ("2", 2), ("0.001", 0.001)),
    "redis_operation_timeout": (("1.5", 1.5), ("2", 2), ("86400", 86400)),
    "redis_prewarm_connections": (("on", True), ("NO", False), ("1", True)),
    "redis_retry_on_timeout": (("off", False), ("Yes", True), ("0", False)),
    "redis_max_retries": (("0", 0), ("1", 1), ("100", 100)),
    "redis_health_check_interval": (("0", 0), ("1.5", 1.5), ("2", 2)),
    "redis_breaker_failures": (("1", 1), ("2", 2), ("3", 3)),
    "redis_breaker_recovery": (("0.5", 0.5), ("2", 2), ("3", 3)),
    "redis_outage_policy": (("miss", "miss"), ("raise", "raise"), ("MISS", "miss")),
    "redis_ttl_sliding": (("on", True), ("off", False), ("1", True)),
    "redis_ttl_max_age": (("60", 60), ("61", 61), ("86400", 86400)),
    "redis_key_prefix": (("a", "a"), ("b", "b"), ("c*[é]", "c*[é]")),
    "redis_workspace": (("a", "a"), ("b", "b"), ("c{}", "c{}")),
    "redis_shared_namespaces": (("a", ["a"]), ("a, b", ("a", "b")), ("c,", {"c"})),
    "redis_max_value_bytes": (("1", 1), ("2", 2), ("536870912", 536870912)),
    "redis_compression": (("zstd", "zstd"), ("LZ4", "lz4"), ("none", "none")),
    "redis_compression_min_bytes": (("0", 0), ("1", 1), ("2", 2)),
    "redis_compression_level": (("-5", -5), ("0", 0), ("22", 22)),
    "redis_near_cache_mb": (("64", 64), ("0", 0), ("1048576", 1048576)),
    "redis_single_flight": (("on", "on"), ("Observe", "observe"), ("off", "off")),
    "redis_single_flight_wait": (("0.5", 0.5), ("2", 2), ("60", 60)),
    "redis_cache_embeddings": (("all", "all"), ("Questions", "questions"), ("off", "off")),
    "redis_deferred_drop": (("on", True), ("off", False), ("1", True)),
    "redis_changes": (("on", True), ("off", False), ("1", True)),
    "redis_changes_name": (("A b", "A b"), ("two", "two"), ("é", "é")),
    "redis_cluster": (("on", True), ("off", False), ("1", True)),
    "redis_registry": (("on", True), ("off", False), ("1", True)),
    "redis_durability": (("fsync", "fsync"), ("REPLICAS:2", "replicas:2"), ("ack", "ack")),
    "redis_durability_timeout": (("0.5", 0.5), ("2", 2), ("60", 60)),
    "redis_dual_write": (("on", True), ("off", False), ("1", True)),
    "redis_metrics_dir": (("/one", "/one"), ("/two", "/two"), ("/three", Path("/three"))),
    "redis_tracing": (("on", "on"), ("IDS", "ids"), ("off", "off")),
    "clear_on_start": (("true", True), ("off", False), ("1", True)),
    "working_dir": (("a", "a"), ("b", "b"), ("c", "c")),
}

# What a setting needs beside it to be valid.
TLS = {"redis_url": "rediss://cache"}
SENTINEL = {"redis_url": "redis+sentinel://cache", "redis_sentinel_master": "mymaster"}
COMPANIONS = {
    "redis_sentinel_master": {"redis_url": "redis+sentinel://cache"},
    "redis_sentinel_username": SENTINEL | {"redis_sentinel_password": "secret"},
    "redis_sentinel_password": SENTINEL,
    "redis_username": {"redis_password": "secret"},
    "redis_tls_ca_file": TLS,
    "redis_tls_cert_file": TLS | {"redis_tls_key_file": "/key"},
    "redis_tls_key_file": TLS | {"redis_tls_cert_file": "/cert"},
}


def configured(
    key: str, explicit: Any = None, addon: Any = None, env: str | None = None
) -> RedisConfig:
    """The configuration with one setting given in any of the three sources."""
    absent = explicit is None and addon is None and env is None
    companions = {} if absent else COMPANIONS.get(key, {})
    global_config = {**companions, key: explicit, "addon_params": {key: addon}}
    return RedisConfig.from_global_config(global_config, {} if env is None else {key.upper(): env})


def given(key: str, value: Any) -> Any:
    """What the configuration holds for a setting that was given as an argument."""
    return getattr(RedisConfig(**{key: value, **COMPANIONS.get(key, {})}), key)


def test_the_table_above_has_every_setting_in_use() -> None:
    in_use = {
        name
        for name, setting in RedisConfig.model_fields.items()
        if setting.json_schema_extra is None
    }
    assert in_use - {"redis_ttl"} == set(VALUES)


@pytest.mark.parametrize("key", VALUES)
def test_an_absent_setting_has_its_default(key: str) -> None:
    assert getattr(configured(key), key) == getattr(RedisConfig(), key)


@pytest.mark.parametrize("key", VALUES)
def test_explicit_beats_addon_params_beats_environment_beats_default(key: str) -> None:
    has_variable = key not in _NOT_IN_ENVIRONMENT
    (text, from_text), (_, in_addon), (_, explicit) = VALUES[key]
    env = text if has_variable else None
    for use_explicit, use_addon in itertools.product((False, True), repeat=2):
        config = configured(
            key, explicit if use_explicit else None, in_addon if use_addon else None, env
        )
        if use_explicit:
            expected = given(key, explicit)
        elif use_addon:
            expected = given(key, in_addon)
        elif has_variable:
            expected = given(key, from_text)
        else:
            expected = getattr(RedisConfig(), key)
        assert getattr(config, key) == expected


@pytest.mark.parametrize("key", [key for key in VALUES if key not in _NOT_IN_ENVIRONMENT])
def test_text_from_the_environment_is_the_same_value(key: str) -> None:
    for text, value in VALUES[key]:
        assert getattr(configured(key, env=text), key) == given(key, value)


@pytest.mark.parametrize("key", ["clear_on_start", "working_dir"])
def test_a_setting_of_the_application_alone_has_no_variable(key: str) -> None:
    config = RedisConfig.from_env({key.upper(): "1", f"REDIS_{key.upper()}": "1"})
    assert config == RedisConfig()


def test_an_empty_variable_counts_as_absent() -> None:
    names = [key.upper() for key in VALUES] + ["REDIS_TTL_DOCS", "REDIS_OUTAGE_POLICY_FULL_DOCS"]
    assert RedisConfig.from_env(dict.fromkeys(names, " ")) == RedisConfig()


def test_the_process_environment_is_read_when_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_WORKSPACE", "mine")
    assert RedisConfig.from_env().redis_workspace == "mine"
    assert RedisConfig.from_global_config({}).redis_workspace == "mine"


def test_an_explicit_empty_workspace_beats_the_environment() -> None:
    assert configured("redis_workspace", explicit="", env="theirs").redis_workspace == ""


def test_other_keys_of_the_host_are_left_alone() -> None:
    global_config: Any = {"working_dir": "./w", "best_model_func": print, "clear_all": 1, 5: 6}
    assert RedisConfig.from_global_config(global_config, {}).working_dir == "./w"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("redis_pasword", "redis_password"),
        ("redis_max_conections", "redis_max_connections"),
        ("redis_ttl_docs", "redis_ttl_full_docs"),
        ("REDIS_URL", "redis_url"),
    ],
)
@pytest.mark.parametrize("place", ["global_config", "addon_params"])
def test_an_unknown_key_is_refused_with_the_likeliest_name(
    key: str, meant: str, place: str
) -> None:
    keys = {key: "s3cret"}
    global_config = keys if place == "global_config" else {"addon_params": keys}
    with pytest.raises(StorageConfigError) as refusal:
        RedisConfig.from_global_config(global_config, {})
    assert str(refusal.value).startswith(f"{key} ({place}) is no setting")
    assert str(refusal.value).endswith(f"did you mean {meant}?")


def test_a_key_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(StorageConfigError, match="see RedisConfig"):
        RedisConfig.from_global_config({"redis_qqqqqqqqqqqqqqqq": 1}, {})


def test_addon_params_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(StorageConfigError, match="addon_params must be a mapping, not list"):
        RedisConfig.from_global_config({"addon_params": ["redis_url"]}, {})


@pytest.mark.parametrize("absent", [{}, {"STORAGE_KV_BACKEND": ""}])
def test_the_backend_is_json_when_nothing_is_said(absent: dict[str, str]) -> None:
    assert kv_backend(absent) == "json"


def test_the_backend_is_what_the_variable_says() -> None:
    assert kv_backend({"STORAGE_KV_BACKEND": "json"}) == "json"
    assert kv_backend({"STORAGE_KV_BACKEND": " Redis "}) == "redis"


def test_another_backend_is_refused_by_name() -> None:
    with pytest.raises(StorageConfigError, match=r"STORAGE_KV_BACKEND='mongo' .*'redis' or 'json'"):
        kv_backend({"STORAGE_KV_BACKEND": "mongo"})
