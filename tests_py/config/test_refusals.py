"""A wrong value is one error that names the setting as the user wrote it, its place and value."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from nano_graphrag_redis._core import KvStore
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.exceptions import StorageConfigError

WRONG: list[tuple[str, Any]] = [
    ("redis_url", "http://host"),
    ("redis_url", "redis://h\udcff"),
    ("redis_username", 5),
    ("redis_min_connections", -1),
    ("redis_min_connections", "many"),
    ("redis_max_connections", 0),
    ("redis_max_connections", 2.5),
    ("redis_max_connections", True),
    ("redis_connection_timeout", 0),
    ("redis_connection_timeout", False),
    ("redis_socket_timeout", -1),
    ("redis_socket_timeout", float("inf")),
    ("redis_operation_timeout", float("nan")),
    ("redis_operation_timeout", 86_401),
    ("redis_prewarm_connections", "maybe"),
    ("redis_retry_on_timeout", 2),
    ("redis_max_retries", -1),
    ("redis_health_check_interval", -0.5),
    ("redis_breaker_failures", 0),
    ("redis_breaker_recovery", 0),
    ("redis_outage_policy", "ignore"),
    ("redis_outage_policy", 1),
    ("redis_key_prefix", ""),
    ("redis_key_prefix", "a:b"),
    ("redis_workspace", "a@b"),
    ("redis_workspace", "\ud800"),
    ("redis_shared_namespaces", ["a:b"]),
    ("redis_shared_namespaces", 5),
    ("redis_max_value_bytes", 0),
    ("redis_max_value_bytes", 536_870_913),
    ("redis_durability", "always"),
    ("redis_durability", "replicas:0"),
    ("redis_durability_timeout", 0),
    ("redis_tracing", "loud"),
    ("redis_compression", "gzip"),
    ("redis_registry", "perhaps"),
    ("redis_compression_min_bytes", -1),
    ("redis_compression_min_bytes", "few"),
    ("redis_compression_level", "best"),
    ("redis_compression_level", True),
    ("redis_compression_level", 2**31),
    ("redis_compression_level", -(2**31) - 1),
    ("redis_ttl", 60),
    ("clear_on_start", "perhaps"),
]


def refusal(global_config: dict[str, Any], environ: dict[str, str] | None = None) -> str:
    """The message of the StorageConfigError that these settings cause."""
    with pytest.raises(StorageConfigError) as caught:
        RedisConfig.from_global_config(global_config, environ or {})
    assert caught.value.args == (str(caught.value),)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_named_with_its_key_and_place(key: str, value: Any) -> None:
    shown = repr(value)
    if key == "redis_shared_namespaces" and isinstance(value, list):
        shown = repr(value[0])
    assert refusal({key: value}).startswith(f"{key}={shown} (global_config): ")
    assert refusal({"addon_params": {key: value}}).startswith(f"{key}={shown} (addon_params): ")
    with pytest.raises(StorageConfigError, match=rf"^{key}.*\(argument\): "):
        RedisConfig(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        wrong
        for wrong in WRONG
        if isinstance(wrong[1], str) and wrong[1] and wrong[0][:5] == "redis"
    ],
)
def test_a_wrong_variable_is_named_as_it_is_spelt(key: str, value: str) -> None:
    message = refusal({}, {key.upper(): value})
    assert message.startswith(f"{key.upper()}={value!r} (environment): ")


class Unspeakable:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(10**5000, "<int>"), (Unspeakable(), "<Unspeakable")],
    ids=["a number of 5000 digits", "a repr that raises"],
)
def test_a_value_that_cannot_be_shown_is_named_by_its_type(value: object, shown: str) -> None:
    assert refusal({"redis_max_retries": value}).startswith(f"redis_max_retries={shown}")


def test_a_name_without_end_is_cut_short() -> None:
    assert len(refusal({}, {"REDIS_USERNAME": "a" * 100_000})) < 300


def test_dual_write_goes_by_its_other_name_too() -> None:
    assert RedisConfig.from_env({"KV_BACKEND_MIGRATION": "true"}).redis_dual_write
    both = {"KV_BACKEND_MIGRATION": "true", "REDIS_DUAL_WRITE": "false"}
    assert refusal({}, both).startswith("REDIS_DUAL_WRITE='false' and KV_BACKEND_MIGRATION='true'")


def test_dual_write_needs_a_working_dir() -> None:
    config = RedisConfig.from_env({"REDIS_DUAL_WRITE": "yes"})
    with pytest.raises(StorageConfigError, match=r"redis_dual_write needs .*working_dir"):
        config.core_settings("full_docs")


def test_reading_files_in_an_outage_needs_dual_write() -> None:
    message = refusal({}, {"REDIS_OUTAGE_POLICY_FULL_DOCS": "json"})
    assert "redis_outage_policy 'json'" in message
    assert "redis_dual_write" in message
    both = {"REDIS_OUTAGE_POLICY": "json", "REDIS_DUAL_WRITE": "yes"}
    assert RedisConfig.from_env(both).outage_policy_for("text_chunks") == "json"


def test_all_that_is_wrong_comes_in_one_error() -> None:
    message = refusal({"redis_max_retries": -1}, {"REDIS_SOCKET_TIMEOUT": "soon"})
    assert "redis_max_retries=-1 (global_config): " in message
    assert "REDIS_SOCKET_TIMEOUT='soon' (environment): " in message


def test_fewer_connections_at_most_than_at_least_are_refused() -> None:
    message = refusal({}, {"REDIS_MIN_CONNECTIONS": "60"})
    assert message == (
        "redis_max_connections=50 (default): must be at least redis_min_connections, which is 60"
    )
    assert RedisConfig(redis_min_connections=7, redis_max_connections=7).redis_max_connections == 7


@pytest.mark.parametrize(
    ("codec", "level"), [("zstd", 23), ("zstd", -131_073), ("lz4", 1), ("lz4", 9)]
)
def test_a_level_that_the_codec_has_not_is_refused(codec: str, level: int) -> None:
    settings = {"redis_compression": codec, "redis_compression_level": level}
    assert refusal(settings).startswith(f"redis_compression_level={level} (global_config): must be")
    # The core has the last word; what passes here passes there.
    core = RedisConfig().core_settings("t") | {"compression": codec, "compression_level": level}
    with pytest.raises(StorageConfigError, match=f"^redis_compression_level={level}: {codec} has"):
        KvStore(core)


@pytest.mark.parametrize(("codec", "level"), [("zstd", -131_072), ("zstd", 22), ("none", 99)])
def test_a_level_is_taken_by_its_codec_and_ignored_without_one(codec: str, level: int) -> None:
    config = RedisConfig(redis_compression=codec, redis_compression_level=level)
    KvStore(config.core_settings("t"))


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(StorageConfigError, match=r"^redis_foo \(argument\): is no setting"):
        RedisConfig(redis_foo="bar")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"redis_url": "redis://one,redis://two"}, "takes redis_cluster"),
        ({"redis_cluster": True, "redis_url": "redis://one/3"}, "the database 3"),
        ({"redis_cluster": True, "redis_url": "embedded://./cache"}, "redis://HOST:PORT"),
        ({"redis_cluster": True, "redis_url": "redis+unix:///run/redis.sock"}, "redis://HOST:PORT"),
    ],
)
def test_what_no_cluster_can_be_is_refused(settings: dict[str, Any], reason: str) -> None:
    assert reason in refusal(settings)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RedisConfig().redis_workspace = "other"


def test_a_configuration_copies_and_compares() -> None:
    config = RedisConfig(redis_password="secret", redis_ttl={"t": 5})
    assert copy.deepcopy(config) == config
    assert config != RedisConfig()


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


# The first text draws hypothesis' tables of characters, which takes a busy machine a second.
@limits(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(RedisConfig.model_fields)), junk, max_size=4))
def test_any_values_make_a_configuration_or_a_config_error(settings: dict[str, Any]) -> None:
    try:
        config = RedisConfig.from_global_config(settings, {})
    except StorageConfigError as error:
        assert len(error.args) == 1
    else:
        assert config.redis_max_connections >= 1


SENTINELS = {"redis_url": "redis+sentinel://one,two"}
MASTER = {"redis_sentinel_master": "mymaster"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (SENTINELS, "redis_sentinel_master has to say whose master"),
        (MASTER, "redis_sentinel_master takes a redis_url of sentinels"),
        ({"redis_sentinel_password": "s3cret"}, "takes a redis_url of sentinels"),
        (SENTINELS | MASTER | {"redis_sentinel_username": "u"}, "set redis_sentinel_password"),
        (SENTINELS | MASTER | {"redis_cluster": True}, "redis_cluster needs no sentinels"),
        (SENTINELS | MASTER | {"redis_near_cache_mb": 1}, "not supported with sentinels yet"),
        (
            SENTINELS | MASTER | {"redis_tls_ca_file": "ca.pem"},
            "asks for none: make it rediss+sentinel://",
        ),
        ({"redis_tls_ca_file": "ca.pem"}, "asks for none: make it rediss://"),
        (
            {"redis_url": "rediss://host", "redis_tls_key_file": "key.pem"},
            "redis_tls_cert_file and redis_tls_key_file need each other",
        ),
    ],
)
def test_settings_that_need_each_other_or_exclude_each_other_are_named(
    settings: dict[str, Any], reason: str
) -> None:
    message = refusal(settings)
    assert reason in message
    assert "s3cret" not in message
