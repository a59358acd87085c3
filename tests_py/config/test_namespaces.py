"""Time to live and outage policy: one value for each namespace, from several names and sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.types_and_limits import LONGEST_TTL
from nano_graphrag_redis.exceptions import StorageConfigError
from support.servers import RedisServer

WarningsSaid = Callable[[], list[str]]

HOST_NAMESPACES = ("full_docs", "text_chunks", "community_reports", "llm_response_cache")
CACHES = {"llm_response_cache": 43200, "embedding_cache": 43200}
SPELLINGS = [
    ("REDIS_TTL_DOCS", "full_docs"),
    ("REDIS_TTL_FULL_DOCS", "full_docs"),
    ("REDIS_TTL_CHUNKS", "text_chunks"),
    ("REDIS_TTL_TEXT_CHUNKS", "text_chunks"),
    ("REDIS_TTL_COMMUNITY_REPORTS", "community_reports"),
    ("REDIS_TTL_LLM_CACHE", "llm_response_cache"),
    ("REDIS_TTL_LLM_RESPONSE_CACHE", "llm_response_cache"),
    ("REDIS_TTL_EMBEDDING_CACHE", "embedding_cache"),
]


def read(global_config: dict[str, Any], **environ: str) -> RedisConfig:
    return RedisConfig.from_global_config(global_config, environ)


def test_only_caches_expire_by_default() -> None:
    namespaces = (*HOST_NAMESPACES, "embedding_cache", "own")
    ttls = {namespace: RedisConfig().ttl_for(namespace) for namespace in namespaces}
    assert ttls == dict.fromkeys(namespaces, 0) | CACHES


@pytest.mark.parametrize(("variable", "namespace"), SPELLINGS)
def test_both_names_of_a_ttl_are_read(variable: str, namespace: str) -> None:
    config = RedisConfig.from_env({variable: "77"})
    namespaces = (*HOST_NAMESPACES, "embedding_cache")
    assert {n: config.ttl_for(n) for n in namespaces} == {
        n: RedisConfig().ttl_for(n) for n in namespaces
    } | {namespace: 77}


def test_two_names_of_a_ttl_that_agree_are_one() -> None:
    config = read({}, REDIS_TTL_DOCS="5", REDIS_TTL_FULL_DOCS=" 5")
    assert config.ttl_for("full_docs") == 5


def test_two_names_of_a_ttl_that_disagree_are_refused_by_both_names() -> None:
    with pytest.raises(StorageConfigError, match="REDIS_TTL_DOCS='5' and REDIS_TTL_FULL_DOCS='6'"):
        read({}, REDIS_TTL_DOCS="5", REDIS_TTL_FULL_DOCS="6")
    with pytest.raises(StorageConfigError, match=r"redis_ttl\['full_docs'\]=5 and redis_ttl_full_"):
        read({"redis_ttl": {"full_docs": 5}, "redis_ttl_full_docs": 6})


def test_the_sources_of_ttls_are_weighed_namespace_by_namespace() -> None:
    config = read(
        {
            "redis_ttl": {"a": 1, "text_chunks": None},
            "redis_ttl_full_docs": 2,
            "addon_params": {"redis_ttl": {"a": 9, "b": 3, "full_docs": 9}},
        },
        REDIS_TTL_CHUNKS="4",
        REDIS_TTL_DOCS="9",
    )
    assert config.redis_ttl == {"a": 1, "full_docs": 2, "b": 3, "text_chunks": 4}


def test_a_ttl_of_zero_switches_the_default_off() -> None:
    assert read({}, REDIS_TTL_LLM_CACHE="0").ttl_for("llm_response_cache") == 0


@pytest.mark.parametrize("wrong", ["soon", "1.5", "1e3", str(LONGEST_TTL + 1)])
def test_a_ttl_that_is_no_number_of_seconds_is_refused(wrong: str) -> None:
    with pytest.raises(StorageConfigError, match=rf"^REDIS_TTL_LLM_CACHE='{wrong}' \(environ"):
        read({}, REDIS_TTL_LLM_CACHE=wrong)
    with pytest.raises(StorageConfigError, match=rf"^redis_ttl\['own'\]='{wrong}' \(global_"):
        read({"redis_ttl": {"own": wrong}})


@pytest.mark.parametrize("namespace", ["", "a:b", "a@b", 5])
def test_a_ttl_of_no_possible_namespace_is_refused(namespace: Any) -> None:
    with pytest.raises(StorageConfigError, match=r"redis_ttl.* \(global_config\): must"):
        read({"redis_ttl": {namespace: 5}})


def test_the_longest_ttl_is_one_that_the_server_takes(server: RedisServer) -> None:
    with server.client() as client:
        assert client.set("answer", "42", ex=LONGEST_TTL)
        assert client.ttl("answer") > LONGEST_TTL - 60


def test_a_negative_ttl_is_warned_about_once_and_means_for_ever(
    warnings_said: WarningsSaid,
) -> None:
    for _ in range(3):
        assert read({}, REDIS_TTL_LLM_CACHE="-5").ttl_for("llm_response_cache") == 0
    (warning,) = warnings_said()
    assert "llm_response_cache is -5" in warning


@pytest.mark.parametrize("namespace", ["full_docs", "text_chunks", "community_reports"])
def test_a_ttl_on_what_the_host_relies_on_is_honoured_and_warned_about_once(
    namespace: str, warnings_said: WarningsSaid
) -> None:
    for _ in range(3):
        assert read({f"redis_ttl_{namespace}": 60}).ttl_for(namespace) == 60
    (warning,) = warnings_said()
    assert warning.startswith(f"{namespace} has a TTL of 60 s: ")


def test_a_variable_for_another_namespace_is_warned_about_once_by_name(
    warnings_said: WarningsSaid,
) -> None:
    for _ in range(3):
        config = read({}, REDIS_TTL_MINE="5", REDIS_TTL="6", REDIS_OUTAGE_POLICY_MINE="miss")
        assert config == RedisConfig()
    named = sorted(warning.split()[0] for warning in warnings_said())
    assert named == ["REDIS_OUTAGE_POLICY_MINE", "REDIS_TTL", "REDIS_TTL_MINE"]


def test_settings_that_are_right_cause_no_warning(warnings_said: WarningsSaid) -> None:
    read({"redis_ttl": {"own": 5}}, REDIS_TTL_LLM_CACHE="60", REDIS_OUTAGE_POLICY="raise")
    assert warnings_said() == []


def policies(config: RedisConfig) -> str:
    """The first letters of the four namespaces' policies, and of another's."""
    return "".join(config.outage_policy_for(name)[0] for name in (*HOST_NAMESPACES, "own"))


def test_only_the_cache_misses_by_default() -> None:
    assert policies(RedisConfig()) == "rrrmr"


def test_one_outage_policy_holds_for_every_namespace() -> None:
    assert policies(read({"redis_outage_policy": "raise"})) == "rrrrr"
    assert policies(read({}, REDIS_OUTAGE_POLICY="miss")) == "mmmmm"


def test_an_outage_policy_may_be_named_for_a_namespace() -> None:
    assert policies(read({"redis_outage_policy": {"own": "miss"}})) == "rrrmm"
    assert policies(read({}, REDIS_OUTAGE_POLICY_FULL_DOCS="miss")) == "mrrmr"
    config = read({}, REDIS_OUTAGE_POLICY="miss", REDIS_OUTAGE_POLICY_TEXT_CHUNKS="raise")
    assert policies(config) == "mrmmm"


def test_the_sources_of_outage_policies_are_weighed_namespace_by_namespace() -> None:
    addon = {"addon_params": {"redis_outage_policy": {"own": "miss"}}}
    assert policies(read(addon, REDIS_OUTAGE_POLICY_FULL_DOCS="miss")) == "mrrmm"
    explicit = {"redis_outage_policy": {"own": "raise"}}
    assert policies(read(addon | explicit, REDIS_OUTAGE_POLICY="miss")) == "mmmmr"


def test_one_outage_policy_beats_the_named_ones_of_a_weaker_source() -> None:
    addon = {"addon_params": {"redis_outage_policy": {"own": "miss", "full_docs": "miss"}}}
    assert policies(read(addon | {"redis_outage_policy": "raise"})) == "rrrrr"


def test_a_wrong_outage_policy_is_refused_with_its_namespace() -> None:
    with pytest.raises(StorageConfigError, match=r"redis_outage_policy\['own'\]='jsn' \(global"):
        read({"redis_outage_policy": {"own": "jsn"}})
    with pytest.raises(StorageConfigError, match=r"^REDIS_OUTAGE_POLICY_FULL_DOCS='x' \(envir"):
        read({}, REDIS_OUTAGE_POLICY_FULL_DOCS="x")


def test_a_shared_namespace_lies_outside_the_workspace() -> None:
    config = RedisConfig(redis_workspace="w", redis_shared_namespaces="llm_response_cache")
    assert config.workspace_for("llm_response_cache") == ""
    assert config.workspace_for("full_docs") == "w"
