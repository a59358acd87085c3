"""A second process over the stores and the graph of a first one: it asks again and pays nothing."""

import pytest

from support.host import HostRun

pytestmark = pytest.mark.timeout(600)  # the first test to want a run pays for it


def test_every_event_loop_gives_the_answers_of_the_first_process(run: HostRun) -> None:
    first, again = run("environment", "index"), run("environment", "ask")
    assert again.answers == first.answers * len(again.answers)
    assert len(again.answers) > 1


def test_no_llm_call_is_paid(run: HostRun) -> None:
    again = run("environment", "ask")
    embeddings = sum(mode != "global" for answers in again.answers for mode in answers)
    assert again.calls == {"embedding": embeddings}  # the host caches no embedding


def test_the_stores_stay_as_they_were(run: HostRun) -> None:
    assert run("environment", "ask").stores == run("environment", "index").stores


@pytest.mark.exhaustive
def test_a_second_graph_with_the_same_llm_cache_pays_no_llm_call(run: HostRun) -> None:
    first, second = run("environment", "index", "one"), run("environment", "index", "two")
    assert second.calls == {"embedding": first.calls["embedding"]}
    assert (second.stores, second.answers) == (first.stores, first.answers)
