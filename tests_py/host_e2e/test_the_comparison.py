"""What the comparison with JSON rests on: an index that is worth comparing, and the same twice."""

import pytest

from support.host import HostRun

pytestmark = pytest.mark.timeout(600)  # the first test to want a run pays for it


@pytest.mark.exhaustive
def test_json_against_json_shows_no_difference(run: HostRun) -> None:
    once, again = run("json", "index"), run("json again", "index")
    assert (again.answers, again.stores, again.calls) == (once.answers, once.stores, once.calls)


def test_the_index_is_worth_comparing(run: HostRun) -> None:
    indexed = run("json", "index")
    assert indexed.storage == "JsonKVStorage"
    assert len(indexed.stores["text_chunks"]) >= 5
    assert len(indexed.stores["community_reports"]) >= 2
    assert all("\n> " in answer for answer in indexed.answers[0].values())


def test_each_llm_call_is_one_entry_of_the_cache(run: HostRun) -> None:
    indexed = run("json", "index")
    chats = indexed.calls.total() - indexed.calls["embedding"]
    assert chats == len(indexed.stores["llm_response_cache"])


@pytest.mark.exhaustive
def test_on_json_too_the_second_process_pays_no_llm_call(run: HostRun) -> None:
    assert set(run("json", "ask").calls) == {"embedding"}
