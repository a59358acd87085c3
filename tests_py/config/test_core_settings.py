"""What the core is given for a namespace."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import HOST_NAMESPACES, LLM_CACHE
from nano_graphrag_redis.exceptions import StorageConfigError
from support.host import ROOT


def test_the_core_is_given_every_setting_it_takes() -> None:
    config = RedisConfig.from_env(
        {
            "REDIS_URL": "redis://ann:p%40w@cache/2",
            "REDIS_WORKSPACE": "w",
            "REDIS_SHARED_NAMESPACES": "llm_response_cache",
            "REDIS_MIN_CONNECTIONS": "2",
        }
    )
    assert config.core_settings("full_docs") == {
        "namespace": "full_docs",
        "workspace": "w",
        "key_prefix": "nano_graphrag",
        "url": "redis://cache:6379/2",
        "seeds": [],
        "cluster": False,
        "username": "ann",
        "password": "p@w",
        "password_file": None,
        "sentinel_master": None,
        "sentinel_username": None,
        "sentinel_password": None,
        "tls_ca_file": None,
        "tls_cert_file": None,
        "tls_key_file": None,
        "ttl": 0,
        "ttl_max_age": 0,
        "outage_policy": "raise",
        "min_connections": 2,
        "max_connections": 50,
        "connection_timeout": 5.0,
        "socket_timeout": 5.0,
        "operation_timeout": 10.0,
        "prewarm_connections": False,
        "retry_on_timeout": True,
        "max_retries": 3,
        "health_check_interval": 30.0,
        "breaker_failures": 5,
        "breaker_recovery": 1.0,
        "durability": "ack",
        "durability_timeout": 3.0,
        "max_value_bytes": 67108864,
        "compression": "none",
        "compression_min_bytes": 1024,
        "compression_level": None,
        "near_cache_mb": 0,
        "single_flight": "off",
        "single_flight_wait": 60.0,
        "registry": False,
        "deferred_drop": False,
        "changes_host": None,
        "changes_name": "",
        "dual_write_directory": None,
        "working_dir": None,
    }
    cache = config.core_settings("llm_response_cache")
    assert (cache["workspace"], cache["ttl"], cache["outage_policy"]) == ("", 43200, "miss")


# The core has defaults of its own, for whoever uses it without Python: its tests.
def test_a_default_of_the_core_is_that_of_its_setting() -> None:
    text = (ROOT / "src" / "config" / "core_settings.rs").read_text(encoding="utf-8")
    constant = r"^pub const (\w+): \w+ = (?:Duration::from_secs\()?([\d *]+)\)?;"
    named = re.findall(constant, text, re.MULTILINE)
    of_settings = RedisConfig().core_settings("full_docs")
    assert len(named) == text.count("pub const ")
    for name, number in named:
        assert of_settings[name.lower()] == math.prod(map(int, number.split("*"))), name


def test_only_the_llm_cache_has_single_flight() -> None:
    config = RedisConfig(redis_single_flight="on")
    told = {name: config.core_settings(name)["single_flight"] for name in HOST_NAMESPACES}
    assert told == {name: "on" if name == LLM_CACHE else "off" for name in HOST_NAMESPACES}


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/run/secrets/redis", "/run/secrets/redis"),
        ("secrets/redis", f"{Path.cwd()}/secrets/redis"),
        ("~/redis", f"{Path.home()}/redis"),
        (Path("/run/redis"), "/run/redis"),
    ],
)
def test_a_file_stays_where_it_is_when_the_working_directory_changes(
    given: object, path: str
) -> None:
    config = RedisConfig(redis_url="rediss://cache", redis_tls_ca_file=given)
    assert config.core_settings("t")["tls_ca_file"] == path
    assert RedisConfig(redis_password_file=given).core_settings("t")["password_file"] == path


@pytest.mark.parametrize("namespace", ["", "a:b", "a@b", "\udc80"])
def test_a_namespace_that_makes_no_key_is_refused(namespace: str) -> None:
    with pytest.raises(StorageConfigError) as refusal:
        RedisConfig().core_settings(namespace)
    assert repr(namespace) in str(refusal.value)
    assert refusal.value.namespace == namespace


@pytest.mark.parametrize("namespace", ["t*", "with blank", "日本語", "{braces}", "[a-z]?"])
def test_a_namespace_may_hold_anything_else(namespace: str) -> None:
    assert RedisConfig().core_settings(namespace)["namespace"] == namespace


def test_an_embedded_server_is_reached_by_its_socket_without_login() -> None:
    config = RedisConfig(redis_url="embedded://./cache", redis_password="of another server")
    settings: dict[str, Any] = config.core_settings("t", url="redis+unix:///c/redis.sock")
    assert settings["url"] == "redis+unix:///c/redis.sock"
    assert (settings["username"], settings["password"]) == (None, None)
    config = RedisConfig(redis_url="embedded://./cache", redis_password_file="of another server")
    assert config.core_settings("t", url="unix:///c/redis.sock")["password_file"] is None
    with pytest.raises(ValueError, match="pass url="):
        config.core_settings("t")
