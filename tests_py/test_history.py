"""The checker of histories finds a planted contradiction, and accepts what may be unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.history import Operation, allowing_for_copies, contradictions, noted


def told(lines: str) -> list[Operation]:
    """Operations of one id: `process kind value called ended outcome`."""
    operations = []
    for line in lines.strip().splitlines():
        process, kind, value, called, ended, outcome = line.split()
        known = {"-": None, "true": True, "false": False}
        operations.append(
            Operation(
                "id",
                kind,
                process,
                int(called),
                known[value] if value in known else int(value),
                None if ended == "-" else int(ended),
                outcome,
            )
        )
    return operations


@pytest.mark.parametrize(
    "lines",
    {
        "one after the other": "a write 1 10 20 ok\nb read 1 30 40 ok\na delete true 50 60 ok",
        "at once": "a write 1 10 50 ok\nb write 2 10 50 ok\nc read 2 20 30 ok\nc read 1 60 70 ok",
        "unknown and seen late": "a write 1 10 - unknown\nb read - 20 30 ok\nb read 1 40 50 ok",
        "unknown and never seen": "a write 1 10 - unknown\nb read - 20 30 ok",
        "unknown after others": (
            "a write 1 10 - unknown\nb write 2 20 30 ok\nb read 2 40 50 ok\nb read 1 60 70 ok"
        ),
        "unknown delete": "a write 1 10 20 ok\nb delete - 30 40 unknown\na read - 90 95 ok",
        "unknown write, found by a delete": "a write 1 10 - unknown\nb delete true 30 40 ok",
    }.items(),
    ids=lambda case: case[0].replace(" ", "-"),
)
def test_what_has_an_order_is_accepted(lines: tuple[str, str]) -> None:
    assert contradictions(told(lines[1])) == []


@pytest.mark.parametrize(
    "lines",
    {
        "stale read": "a write 1 10 20 ok\na write 2 30 40 ok\nb read 1 50 60 ok",
        "lost write": "a write 1 10 20 ok\nb read - 30 40 ok",
        "read back": "a write 1 10 90 ok\nb read 1 20 30 ok\nc read - 40 50 ok",
        "missed by a delete": "a write 1 10 20 ok\nb delete false 30 40 ok",
        "found by a second delete": (
            "a write 1 10 20 ok\nb delete true 30 40 ok\nb delete true 50 60 ok"
        ),
        "unknown and applied twice": (
            "a write 1 10 - unknown\nb read 1 20 30 ok\nb write 2 40 50 ok\nb read 1 60 70 ok"
        ),
        "refused and seen": "a write 1 10 20 refused\nb read 1 30 40 ok",
        "written by nobody": "a read 7 10 20 ok",
    }.items(),
    ids=lambda case: case[0].replace(" ", "-"),
)
def test_what_has_none_is_shown(lines: tuple[str, str]) -> None:
    (shown,) = contradictions(told(lines[1]))
    assert shown.startswith("id:\n")


def test_a_copy_is_as_old_as_its_lease_at_most_and_never_older_than_its_own_write() -> None:
    before = "a write 1 10 20 ok\nb write 2 30 40 ok\n"
    for called, lease, wrong in [(60, 15, 1), (60, 30, 0)]:
        operations = told(before + f"near read 1 {called} 70 ok")
        allowing_for_copies(operations, "near", lease)
        assert len(contradictions(operations)) == wrong
    operations = told("near write 1 10 20 ok\nnear write 2 30 40 ok\nnear read 1 60 70 ok")
    allowing_for_copies(operations, "near", 1000)
    assert len(contradictions(operations)) == 1


def test_what_a_killed_process_has_noted_is_unknown_from_where_it_was_killed(
    tmp_path: Path,
) -> None:
    log = tmp_path / "p1"
    log.write_text(
        '{"number": 1, "kind": "write", "id": "id", "called": 10, "value": 1}\n'
        '{"number": 1, "ended": 20, "outcome": "ok"}\n'
        '{"number": 2, "kind": "write", "id": "id", "called": 30, "value": 2}\n'
        '{"number": 2, "ended": 4'
    )
    first, second = noted(log, "p1")
    assert (first.outcome, first.ended) == ("ok", 20)
    assert (second.outcome, second.ended) == ("unknown", None)
