"""A name that is no setting is answered by the name that was meant, and by no other."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import (
    KNOWN_NAMESPACES,
    PER_NAMESPACE,
    environment_names,
)
from nano_graphrag_redis.config.sources import _NOT_IN_ENVIRONMENT
from nano_graphrag_redis.exceptions import StorageConfigError

WarningsSaid = Callable[[], list[str]]

KEYS = sorted({*RedisConfig.model_fields} - {"working_dir"}) + [
    f"redis_ttl_{namespace}" for namespace in KNOWN_NAMESPACES
]
VARIABLES = [key.upper() for key in RedisConfig.model_fields if key not in _NOT_IN_ENVIRONMENT] + [
    name
    for setting in PER_NAMESPACE
    for namespace in KNOWN_NAMESPACES
    for name in environment_names(setting, namespace)
]


def slips(name: str) -> Iterator[str]:
    """The name with each letter missing, doubled, wrong, or swapped with the next."""
    alphabet = string.ascii_lowercase if name.islower() else string.ascii_uppercase
    for i, letter in enumerate(name):
        other = alphabet[(alphabet.find(letter) + 7) % 26]
        yield name[:i] + name[i + 1 :]
        yield name[:i] + letter + name[i:]
        yield name[:i] + other + name[i + 1 :]
        yield name[:i] + name[i + 1 : i + 2] + letter + name[i + 2 :]


def hint(message: str) -> str:
    """What the message says was meant; empty for nothing."""
    found = re.search(r"did you mean (.*?)\?( |$)", message)
    return found[1] if found else ""


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("place", ["global_config", "addon_params"])
def test_a_key_with_one_slip_is_refused_with_the_key_that_was_meant(name: str, place: str) -> None:
    for key in {*slips(name)} - {*KEYS}:
        keys = {key: "s3cret"}
        with pytest.raises(StorageConfigError) as refusal:
            RedisConfig.from_global_config(
                keys if place == "global_config" else {"addon_params": keys}, {}
            )
        assert str(refusal.value).startswith(f"{key} ({place}) is no setting")
        assert name in hint(str(refusal.value)).split(" or "), key
        assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_with_one_slip_is_warned_about_once_with_the_one_that_was_meant(
    name: str, warnings_said: WarningsSaid
) -> None:
    said = 0
    for variable in sorted({*slips(name)} - {*VARIABLES}):
        if not variable.startswith("REDIS_"):
            continue  # another program's, as far as anybody can tell
        for _ in range(3):
            assert RedisConfig.from_env({variable: "s3cret"}) == RedisConfig()
        said += 1
        assert len(warnings_said()) == said, variable
        warning = warnings_said()[-1]
        assert warning.split()[0] == variable
        assert name in hint(warning).split(" or "), variable
        assert "s3cret" not in warning


@pytest.mark.parametrize("namespace", KNOWN_NAMESPACES)
@pytest.mark.parametrize("setting", ["redis_ttl", "redis_outage_policy"])
def test_a_namespace_with_one_slip_is_warned_about_with_the_one_that_was_meant(
    setting: str, namespace: str, warnings_said: WarningsSaid
) -> None:
    value = 60 if setting == "redis_ttl" else "miss"
    names = sorted({*slips(namespace)} - {namespace})
    for said, name in enumerate(names, 1):
        RedisConfig.from_global_config({setting: {name: value}}, {})
        assert len(warnings_said()) == said, name
        assert hint(warnings_said()[-1]) == namespace


FORM = "redis://HOST:PORT/DATABASE"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("redis_uri", "redis_url"),
        ("redis_host", f"redis_url, as {FORM}"),
        ("redis_port", f"redis_url, as {FORM}"),
        ("redis_db", f"redis_url, as {FORM}"),
        ("redis_ssl", "redis_url, as rediss://HOST:PORT/DATABASE"),
        ("redis_unix_socket_path", "redis_url, as redis+unix:///SOCKET?db=DATABASE"),
        ("redis_pass", "redis_password"),
        ("redis_user", "redis_username"),
        ("redis_ssl_ca_certs", "redis_tls_ca_file"),
        ("redis_socket_connect_timeout", "redis_connection_timeout"),
        ("redis_retry_attempts", "redis_max_retries"),
        ("redis_namespace", "redis_workspace"),
        ("redis_ttl_llm_cache", "redis_ttl_llm_response_cache"),
        ("redis_ttl_reports", "redis_ttl_community_reports"),
        ("redis_outage_policy_docs", "redis_outage_policy={'full_docs': ...}"),
    ],
)
def test_another_clients_key_is_answered_with_ours(key: str, meant: str) -> None:
    with pytest.raises(StorageConfigError) as refusal:
        RedisConfig.from_global_config({key: "1"}, {})
    assert hint(str(refusal.value)) == meant
    given: dict[str, Any] = {key: "1"}
    with pytest.raises(StorageConfigError) as refusal:
        RedisConfig(**given)
    # An argument has one spelling less: redis_ttl_<namespace> is a key.
    assert hint(str(refusal.value)).partition("={")[0] in meant


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"REDIS_URI": "redis://db"},
            (
                "REDIS_URI (environment) is not read: did you mean REDIS_URL? "
                "Without it the server is redis://localhost:6379"
            ),
        ),
        (
            {"REDIS_HOST": "db", "REDIS_PORT": "6380", "REDIS_DB": "2"},
            (
                "REDIS_DB, REDIS_HOST, REDIS_PORT (environment) are not read: did you mean "
                f"REDIS_URL, as {FORM}? Without it the server is redis://localhost:6379"
            ),
        ),
        (
            {"REDIS_HOST": "db", "REDIS_SSL": "true"},
            (
                "REDIS_HOST, REDIS_SSL (environment) are not read: did you mean REDIS_URL, as "
                "rediss://HOST:PORT/DATABASE? Without it the server is redis://localhost:6379"
            ),
        ),
        (
            {"REDIS_URL": "redis://db", "REDIS_TLS": "yes"},
            (
                "REDIS_TLS (environment) is not read: did you mean REDIS_URL, as "
                "rediss://HOST:PORT/DATABASE?"
            ),
        ),
        (
            {"REDIS_URL": "redis://db", "REDIS_PASS": "s3cret"},
            "REDIS_PASS (environment) is not read: did you mean REDIS_PASSWORD?",
        ),
        (
            {"redis_url": "redis://db"},
            (
                "redis_url (environment) is not read: did you mean REDIS_URL? "
                "Without it the server is redis://localhost:6379"
            ),
        ),
        (
            {"REDIS_TTL_REPORTS": "60"},
            (
                "REDIS_TTL_REPORTS is not read: only the host's namespaces and embedding_cache "
                "have a variable; did you mean REDIS_TTL_COMMUNITY_REPORTS?"
            ),
        ),
    ],
)
def test_another_clients_variables_are_one_warning_that_names_ours(
    environ: dict[str, str], expected: str, warnings_said: WarningsSaid
) -> None:
    for namespace in KNOWN_NAMESPACES:  # as a host makes its storages
        RedisConfig.from_global_config({}, environ).core_settings(namespace)
    assert warnings_said() == [expected]


def test_a_process_with_the_wrong_variable_says_so_when_it_makes_a_storage(
    monkeypatch: pytest.MonkeyPatch, warnings_said: WarningsSaid
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("REDIS_URI", "redis://db.example")
    SyncRedisKVStorage("full_docs").close()
    (warning,) = warnings_said()
    assert "REDIS_URI (environment) is not read: did you mean REDIS_URL?" in warning


@pytest.mark.parametrize(
    ("global_config", "expected"),
    [
        ({"redis_ttl": {"llm_cache": 60}}, ("redis_ttl", "llm_cache", "llm_response_cache")),
        ({"redis_ttl": {"Full_Docs": 0}}, ("redis_ttl", "Full_Docs", "full_docs")),
        ({"redis_outage_policy": {"docs": "miss"}}, ("redis_outage_policy", "docs", "full_docs")),
        (
            {"redis_shared_namespaces": "llm_cache"},
            ("redis_shared_namespaces", "llm_cache", "llm_response_cache"),
        ),
    ],
)
def test_a_namespace_that_the_host_has_not_is_warned_about_once(
    global_config: dict[str, Any], expected: tuple[str, ...], warnings_said: WarningsSaid
) -> None:
    for _ in range(3):
        RedisConfig.from_global_config(global_config, {})
    setting, said, meant = expected
    (warning,) = warnings_said()
    assert warning.startswith(f"{setting} names {said!r}, which is no namespace of nano-graphrag")
    assert hint(warning) == meant


KUBERNETES = {
    f"REDIS{service}_{name}": value
    for service in ("", "_MASTER", "_URL", "_CLUSTER", "_PASSWORD", "_TTL", "_TTL_DOC")
    for name, value in {
        "SERVICE_HOST": "10.96.0.7",
        "SERVICE_PORT": "6379",
        "SERVICE_PORT_REDIS": "6379",
        "PORT": "tcp://10.96.0.7:6379",
        "PORT_6379_TCP": "tcp://10.96.0.7:6379",
        "PORT_6379_TCP_PROTO": "tcp",
        "PORT_6379_TCP_PORT": "6379",
        "PORT_6379_TCP_ADDR": "10.96.0.7",
    }.items()
}
"""What the Services of one namespace put into every pod of it."""

IMAGES = {
    "REDIS_VERSION": "7.4.1",
    "REDIS_DOWNLOAD_URL": "https://download.redis.io/releases/redis-7.4.1.tar.gz",
    "REDIS_DOWNLOAD_SHA": "0" * 64,
    "REDIS_NAME": "/web/redis",
    "REDIS_ENV_REDIS_VERSION": "7.4.1",
    "REDIS_REPLICATION_MODE": "master",
    "REDIS_PORT_NUMBER": "6379",
    "REDIS_AOF_ENABLED": "yes",
    "REDIS_EXTRA_FLAGS": "--maxmemory 1gb",
    "REDIS_EXPORTER_LOG_FORMAT": "json",
    "REDIS_BASE_DIR": "/opt/redis",
    "REDISCLI_AUTH": "s3cret",
    "REDIS_PREFIX": "other",
    "REDIS_NAMESPACE": "other",
    "REDIS_POOL_SIZE": "5",
    "REDIS_SOCKET_TIMEOUT_MS": "100",
    "CELERY_BROKER_URL": "redis://broker",
    "KV_URL": "redis://kv",
}
"""What images of Redis hold, and other programs set for themselves."""


def test_what_a_deployment_sets_for_others_is_left_alone(warnings_said: WarningsSaid) -> None:
    assert RedisConfig.from_env(KUBERNETES | IMAGES) == RedisConfig()
    assert warnings_said() == []


@pytest.mark.parametrize(
    "given",
    [
        {"redis_url": "redis://db"},
        {"redis_url": "embedded://./cache"},
        {"redis_url": "rediss://db"},
    ],
)
def test_another_clients_variables_beside_ours_are_another_clients(
    given: dict[str, Any], warnings_said: WarningsSaid
) -> None:
    others = {"REDIS_URI": "redis://db", "REDIS_HOST": "db", "REDIS_PORT": "6379", "REDIS_TLS": "0"}
    RedisConfig.from_global_config(given, others)
    RedisConfig.from_env(others | {"REDIS_URL": given["redis_url"]})
    assert warnings_said() == []


def test_an_empty_variable_is_not_warned_about(warnings_said: WarningsSaid) -> None:
    RedisConfig.from_env({"REDIS_URI": "", "REDIS_HOST": " ", "REDIS_WORKSPCE": ""})
    assert warnings_said() == []


@pytest.mark.parametrize("namespace", [*KNOWN_NAMESPACES, "notes", "entities", "own"])
def test_a_namespace_like_none_of_the_hosts_is_an_applications_own(
    namespace: str, warnings_said: WarningsSaid
) -> None:
    RedisConfig(redis_ttl={namespace: 0}, redis_shared_namespaces=[namespace])
    assert warnings_said() == []
