"""Two graphs in two workspaces, one LLM cache."""

from support.host import HostRun


def test_a_second_graph_over_the_same_book_pays_no_llm_call(run: HostRun) -> None:
    first = run("environment", "index", "one")
    second = run("environment", "index", "two")
    assert second.calls == {"embedding": first.calls["embedding"]}
    assert (second.stores, second.answers) == (first.stores, first.answers)
