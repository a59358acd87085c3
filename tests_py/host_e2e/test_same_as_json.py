"""The real host leaves on Redis what it leaves in its own JSON files, for the same price."""

import pytest

from support.host import HostRun

pytestmark = [
    pytest.mark.parametrize(
        "backend",
        [
            pytest.param("class", marks=pytest.mark.exhaustive),
            "environment",
            pytest.param("subclass", marks=pytest.mark.exhaustive),
        ],
    ),
    pytest.mark.timeout(600),  # the first test to want a run pays for it
]


def test_the_stores_are_ours(run: HostRun, backend: str) -> None:
    assert run(backend, "index").storage == "RedisKVStorage"


def test_no_json_store_is_written(run: HostRun, backend: str) -> None:
    assert not {name for name in run(backend, "index").files if name.startswith("kv_store_")}


def test_every_namespace_holds_the_same_keys(run: HostRun, backend: str) -> None:
    ours, json = run(backend, "index").stores, run("json", "index").stores
    assert {name: set(ids) for name, ids in ours.items()} == {
        name: set(ids) for name, ids in json.items()
    }


def test_every_namespace_holds_the_same_values(run: HostRun, backend: str) -> None:
    assert run(backend, "index").stores == run("json", "index").stores


def test_the_answers_are_the_same(run: HostRun, backend: str) -> None:
    assert run(backend, "index").answers == run("json", "index").answers


def test_the_llm_is_called_as_often(run: HostRun, backend: str) -> None:
    assert run(backend, "index").calls == run("json", "index").calls
