"""No password in a repr, a message, a traceback or a warning; and where a password may stand."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.exceptions import StorageConfigError

CANARY = "s3cret-c4nary"
URL = f"redis://ann:{CANARY}@cache:6379/1"


SEEDS = f"redis://ann:{CANARY}@one,redis://ann:{CANARY}@two"
SENTINELS = f"redis+sentinel://ann:{CANARY}@one,two/1"
WATCHED = {"redis_url": SENTINELS, "redis_sentinel_master": "m", "redis_sentinel_password": CANARY}


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_password": CANARY},
        {"redis_url": URL},
        {"redis_url": SEEDS, "redis_cluster": "on"},
        WATCHED,
    ],
)
def test_a_configuration_shows_no_password(settings: dict[str, str]) -> None:
    config = RedisConfig.from_global_config(settings, {})
    assert CANARY not in f"{config} {config!r} {config.model_dump()} {config.model_dump_json()}"
    core = config.core_settings("full_docs")
    assert core["password"] == CANARY
    assert core["sentinel_password"] == settings.get("redis_sentinel_password")
    assert CANARY not in f"{core['url']} {core['seeds']}"


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_url": f"redis://:{CANARY}@cache:port"},
        {"redis_url": f"redis://:{CANARY}/x@cache"},
        {"redis_url": f"redis://:{CANARY}#x@cache"},
        {"redis_url": f"redis://:{CANARY}%ff@cache"},
        {"redis_url": f"rediss://:{CANARY}@cache#insecure"},
        {"redis_url": f"rediss://:{CANARY}@cache", "redis_tls_cert_file": "cert.pem"},
        {"redis_url": URL, "redis_password_file": "file"},
        {"redis_password": CANARY, "redis_password_file": CANARY},
        {"redis_password_file": [CANARY]},
        {"redis_url": f"redis://:{CANARY}@one,redis://:{CANARY}@two"},
        {"redis_url": f"unix://:{CANARY}@relative"},
        {"redis_url": {"password": CANARY}},
        {"redis_url": [URL]},
        {"redis_password": [CANARY]},
        {"redis_sentinel_password": CANARY},
        {"redis_url": "redis+sentinel://one", "redis_sentinel_password": CANARY},
        {"redis_url": f"redis+sentinel://:{CANARY}@one,two:port"},
        {"redis_url": f"redis+sentinel://:{CANARY}@one,rediss+sentinel://:{CANARY}@two"},
        {"redis_workspace": URL},
        {"redis_shared_namespaces": [[URL]]},
        {"redis_ttl": {"full_docs": URL}},
        {"redis_outage_policy": URL},
        {"redis_pasword": CANARY},
        {"redis_max_retries": -1, "redis_url": URL, "redis_password": CANARY},
    ],
)
def test_an_error_holds_no_password_down_to_its_traceback(settings: dict[str, Any]) -> None:
    sources: list[Callable[[], RedisConfig]] = [
        lambda: RedisConfig.from_global_config(settings, {}),
        lambda: RedisConfig.from_global_config({"addon_params": settings}, {}),
        lambda: RedisConfig(**settings),
    ]
    for source in sources:
        with pytest.raises(StorageConfigError) as caught:
            source()
        assert CANARY not in "".join(traceback.format_exception(caught.value))
        assert CANARY not in repr(caught.value)
        assert caught.value.__context__ is None


@pytest.mark.parametrize("place", ["global_config", "addon_params"])
@pytest.mark.parametrize("settings", [{"redis_password": CANARY}, {"redis_url": URL}])
def test_a_password_where_the_host_logs_it_is_warned_about_once(
    settings: dict[str, str], place: str, warnings_said: Callable[[], list[str]]
) -> None:
    global_config = settings if place == "global_config" else {"addon_params": settings}
    for _ in range(4):
        RedisConfig.from_global_config(global_config, {})
    (warning,) = warnings_said()
    (key,) = settings
    assert warning.startswith(f"{key} ({place}) holds a password")
    assert CANARY not in warning


def test_a_password_that_the_host_copied_from_the_environment_is_fine(
    warnings_said: Callable[[], list[str]],
) -> None:
    environ = {"REDIS_URL": URL, "REDIS_PASSWORD": CANARY}
    copied = {"redis_url": URL, "redis_password": CANARY}
    RedisConfig.from_global_config(copied, environ)
    RedisConfig.from_env(environ)
    assert warnings_said() == []


def test_the_settings_beat_the_user_and_password_of_the_url() -> None:
    core = RedisConfig(redis_url=URL, redis_username="bob", redis_password="other")
    settings = core.core_settings("full_docs")
    assert (settings["username"], settings["password"]) == ("bob", "other")
    assert settings["url"] == "redis://cache:6379/1"


def test_an_empty_password_is_none() -> None:
    config = RedisConfig.from_global_config({"redis_password": "", "redis_username": ""}, {})
    assert config == RedisConfig()


@pytest.mark.parametrize("settings", [{"redis_username": "ann"}, {"redis_url": "redis://ann@c"}])
def test_a_user_without_a_password_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(StorageConfigError, match=r"'ann' .* has no password: set redis_password"):
        RedisConfig.from_global_config(settings, {})
