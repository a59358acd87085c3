"""The real host leaves on Redis what it leaves in its own JSON files, for the same price."""

import pytest
from support.host import HostRun

pytestmark = pytest.mark.parametrize("backend", ["class", "environment", "subclass"])


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


def test_the_second_process_gives_the_same_answers_in_every_event_loop(
    run: HostRun, backend: str
) -> None:
    first, *others = run(backend, "ask").answers
    assert [first] == run(backend, "index").answers
    assert others == [first] * len(others)


def test_the_second_process_pays_no_llm_call(run: HostRun, backend: str) -> None:
    again = run(backend, "ask")
    embeddings = sum(mode != "global" for answers in again.answers for mode in answers)
    assert again.calls == {"embedding": embeddings}  # the host caches no embedding


def test_the_second_process_leaves_the_stores_as_they_were(run: HostRun, backend: str) -> None:
    assert run(backend, "ask").stores == run(backend, "index").stores
