"""No password in a repr, a message, a traceback or a warning; and where a password may stand."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from nano_graphrag_redis import RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.exceptions import StorageConfigError
from nano_graphrag_redis.storage_lifetime import Backend

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


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(StorageConfigError, match=r"'ann' .* has no password: set redis_password"):
        RedisConfig.from_global_config({"redis_username": "ann"}, {})
    # It may be a password that somebody took for one.
    with pytest.raises(StorageConfigError, match="the user in redis_url has no password") as caught:
        RedisConfig.from_global_config({"redis_url": f"redis://{CANARY}@cache"}, {})
    assert CANARY not in str(caught.value)


HOSTS = ["h", "h:6379", "h:bad", "[::1]", "[fe80::1%eth0]", "a,b:7000", "", "run/redis.sock"]
SCHEMES = (
    *("redis", "rediss", "redis+unix", "unix", "redis+sentinel", "rediss+sentinel", "embedded"),
    *("valkey", "sentinel", "http", "REDIS", "redis+socket", ""),
)
QUOTED = "".join(f"%{ord(character):02x}" for character in CANARY)


def urls() -> Iterator[str]:
    """Every form in which a URL may hold a password, right ones and wrong ones."""
    users = ("u:{0}@", ":{0}@", "{0}@", "u:{0}/x@", "u:{0}?x@", "u:{0}#x@", "u:{0}:@", "u%3A{0}%40")
    ends = ("", "/0", "/{0}@x", "?password={0}", "?pass={0}&db=1", "#{0}", "?ssl_password={0}")
    for scheme, host, secret in itertools.product(SCHEMES, HOSTS, (CANARY, QUOTED)):
        start = f"{scheme}://" if scheme else ""
        for user in users:
            yield f"{start}{user.format(secret)}{host}"
            yield f"{start}h,{start}{user.format(secret)}{host}"
            yield f"{start}{user.format(secret)}{host},{start}u:other@{host}"
        for end in ends[2:]:
            yield f"{start}{host}{end.format(secret)}"


def shown(what: object) -> str:
    """Everything that shows it by its repr, its text or its fields."""
    texts = [str(what), repr(what), f"{what!r:>1}", repr([what]), pprint.pformat(what)]
    if dataclasses.is_dataclass(what) and not isinstance(what, type):
        texts.append(repr(dataclasses.asdict(what)))
    return " ".join(texts)


def holds(text: str) -> bool:
    return CANARY in text or QUOTED in text or CANARY in unquote(text)


def traced(error: BaseException) -> str:
    """A traceback with the variables of each of our frames, as tools that report errors send it."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in frames if "/nano_graphrag_redis/" in frame.filename]
    return "".join(traceback.format_exception(error)) + repr([frame.locals for frame in ours])


def settled(settings: dict[str, Any]) -> RedisConfig | StorageConfigError:
    try:
        return RedisConfig.from_global_config(settings, {})
    except StorageConfigError as error:
        return error


def test_no_form_of_a_url_is_shown_with_its_password(
    warnings_said: Callable[[], list[str]],
) -> None:
    accepted = 0
    for url in urls():
        for settings in ({"redis_url": url}, {"redis_url": url, "redis_cluster": True}):
            config = settled(settings)
            if isinstance(config, StorageConfigError):
                assert not holds(traced(config)), url
                continue
            accepted += 1
            assert not holds(shown(config) + shown(config.redis_url)), url
            assert not holds(shown(pickle.loads(pickle.dumps(config)))), url
            assert not holds(repr(config.core_settings("n", url="unix:///x"))), url
    assert accepted > 100
    assert not holds(" ".join(warnings_said()))


@dataclasses.dataclass
class Mine(RedisKVStorage):
    """As users write it: the decorator makes a new repr, which shows every field."""

    extra: int = 1


@pytest.mark.parametrize("kind", [RedisKVStorage, SyncRedisKVStorage, Mine])
@pytest.mark.parametrize(
    "settings",
    [
        {"redis_url": URL},
        {"redis_url": SEEDS, "redis_cluster": True},
        WATCHED,
        {"redis_password": CANARY},
        {"addon_params": {"redis_url": URL, "redis_sentinel_password": None}},
        {"addon_params": {"redis_password": CANARY}},
        {"openai_api_key": CANARY, "other_url": f"postgres://u:{CANARY}@h", "l": [[URL]]},
    ],
)
def test_no_storage_shows_a_password(kind: type[Any], settings: dict[str, Any]) -> None:
    storage = kind("full_docs", settings)
    frozen = RedisConfig.from_global_config(settings)
    assert not holds(shown(storage) + shown(storage.global_config) + repr(vars(storage)))
    assert not holds(shown(storage._backend) + repr(vars(storage._backend)))
    assert not holds(repr(frozen.core_settings("full_docs")))
    if kind is not SyncRedisKVStorage:
        assert not holds(shown(dataclasses.replace(storage, namespace="text_chunks")))
        assert not holds(shown(storage.sync))
    assert storage.global_config == settings, "it is to be used all the same"
    with pytest.raises(TypeError) as caught:
        pickle.dumps(storage)
    assert not holds(traced(caught.value))


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_password": CANARY, "redis_max_connections": "many"},
        {"redis_password": CANARY, "redis_no_such": 1},
        {"redis_url": URL, "redis_password_file": "file"},
        {"redis_sentinel_password": CANARY},
        {"redis_url": f"redis://:{CANARY}@h:bad"},
    ],
)
@pytest.mark.parametrize("kind", [Backend, SyncRedisKVStorage, RedisConfig.from_global_config])
def test_no_variable_of_a_frame_in_a_traceback_holds_a_password(
    kind: Callable[..., object], settings: dict[str, Any]
) -> None:
    arguments = ("full_docs",) if isinstance(kind, type) else ()
    with pytest.raises(StorageConfigError) as caught:
        kind(*arguments, settings)
    assert not holds(traced(caught.value))
    environ = {name.upper(): str(value) for name, value in settings.items()}
    with pytest.raises(StorageConfigError) as caught:
        RedisConfig.from_global_config({}, environ | {"REDIS_TTL_DOCS": "never"})
    assert not holds(traced(caught.value))


def test_pydantics_own_errors_show_no_input() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - which class is pydantic's business
        RedisConfig.model_validate({"redis_password": CANARY, "redis_max_connections": "many"})
    assert not holds(f"{caught.value} {caught.value!r}")
