"""The checker finds what contradicts what a writer was told, and nothing else."""

from collections.abc import Callable

import pytest

from nano_graphrag_redis.exceptions import StorageTimeoutError
from support.checker import Checker

Step = Callable[[Checker], None]


def confirmed(checker: Checker) -> None:
    with checker.write("a"):
        pass


def unknown(checker: Checker) -> None:
    with checker.write("a"):
        raise StorageTimeoutError("no answer in time")


@pytest.mark.parametrize(
    ("steps", "right", "wrong"),
    [
        ([confirmed], {1}, {None, 2}),
        ([unknown], {None, 1}, {2}),
        ([confirmed, unknown, unknown], {1, 2, 3}, {None, 4}),
        ([confirmed, unknown, confirmed], {3}, {None, 1, 2}),
    ],
)
def test_the_final_value_lies_between_the_last_confirmed_and_the_last_attempted(
    steps: list[Step], right: set[int | None], wrong: set[int | None]
) -> None:
    checker = Checker()
    for step in steps:
        step(checker)
    for value in right:
        assert checker.wrong({"a": value}) == []
    for value in wrong:
        assert checker.wrong({"a": value})


@pytest.mark.parametrize(("was_there", "lines"), [(True, 0), (False, 1)])
def test_a_delete_that_misses_what_was_confirmed_is_wrong(was_there: bool, lines: int) -> None:
    checker = Checker()
    confirmed(checker)
    with checker.delete("a") as delete:
        delete.was_there = was_there
    assert len(checker.wrong({"a": None})) == lines
    assert len(checker.wrong({"a": 1})) == lines + 1
