"""Whatever stands in the settings: a configuration, or one error that names it and no secret."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nano_graphrag_redis import RedisConfig, RedisKVStorage, SyncRedisKVStorage
from nano_graphrag_redis.exceptions import StorageConfigError

from .conftest import tried

CANARY = "c4n4ry-of-the-settings"
NAMES = sorted(name for name in RedisConfig.model_fields if name.startswith("redis_"))

words = st.sampled_from(
    ["", " ", "0", "-1", "1.5", "1e400", "nan", "inf", "true", "no", "raise", "miss", "zstd", "ack"]
)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, 1e-9, 1e18, 2**63])
values = st.recursive(
    st.none() | st.booleans() | numbers | words | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)
hosts = st.sampled_from(
    ["h", "", "[::1]", "127.0.0.1", "h:0", "h:99999", "é", "a,redis://b", "%00"]
)
KEPT = sorted((Path(__file__).parents[2] / "tests" / "corpora" / "urls").iterdir())
"""URLs that once did what they should not, and others of every form; the core reads them too."""

made_up = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["redis", "rediss", "valkey", "redis+unix", "unix", "embedded", "http", ""]),
    st.sampled_from(
        ["", f"u:{CANARY}@", f":{CANARY}@", "u@", "@", f"{CANARY}@", f"u%3A{CANARY}%40"]
    ),
    hosts,
    st.sampled_from(["", "/0", "/-1", "/x", "/9999999999", "//"]),
    st.sampled_from(["", "?db=1", f"?password={CANARY}", "#insecure", f"#{CANARY}", "?x=1&db=2"]),
)
urls = made_up | st.sampled_from([path.read_bytes().decode(errors="replace") for path in KEPT])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings name directories, which are made where the process is."""
    monkeypatch.chdir(tmp_path)


@dataclasses.dataclass
class Mine(RedisKVStorage):
    """A user's own, whose repr shows every field."""


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_no_url_that_was_found_once_is_shown_with_its_secret(kept: Path) -> None:
    url = kept.read_bytes().decode(errors="replace")
    try:
        config = RedisConfig(redis_url=url)
    except StorageConfigError as error:
        assert CANARY not in f"{error!s}{error!r}"
    else:
        assert CANARY not in f"{config!r}{config.redis_url!r}"
        assert CANARY not in repr(dataclasses.asdict(config.redis_url))
        assert CANARY not in repr(Mine("full_docs", {"redis_url": url}))


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = draw(st.dictionaries(st.sampled_from(NAMES), values, max_size=4))
    if draw(st.booleans()):
        found["redis_url"] = draw(urls)
    if draw(st.booleans()):
        found["redis_password"] = CANARY
    return found


@tried(400)
@given(config=configurations(), namespace=st.sampled_from(["full_docs", "", "a:b", "é", "*"]))
@example(config={"redis_operation_timeout": 1e300}, namespace="full_docs")
@example(config={"redis_max_value_bytes": 2**64}, namespace="full_docs")
def test_any_settings_make_a_storage_or_one_error_without_a_secret(
    config: dict[str, Any], namespace: str
) -> None:
    try:
        # It opens nothing, but the core has read all of it.
        SyncRedisKVStorage(namespace, config).close()
    except StorageConfigError as error:
        said = f"{error!s}{error!r}{error.__context__!r}{error.__cause__!r}"
        assert CANARY not in said
        assert "redis_" in said or "namespace" in said


variables = st.dictionaries(st.sampled_from([name.upper() for name in NAMES]), words, max_size=4)


@tried(200)
@given(environ=variables, url=urls)
def test_any_environment_makes_a_configuration_or_one_error_without_a_secret(
    environ: dict[str, str], url: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environ, "REDIS_URL": url}.items():
            patch.setenv(name, value)
        try:
            config = RedisConfig.from_env()
        except StorageConfigError as error:
            assert CANARY not in f"{error!s}{error!r}{error.__context__!r}{error.__cause__!r}"
        else:
            assert CANARY not in repr(config)
