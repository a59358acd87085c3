"""The architecture page counts the files of a read and of a write, and keeps them few."""

from __future__ import annotations

import pytest

from support.architecture import way
from support.host import ROOT

MOST = {"A read": 20, "A write": 24}
"""Files that whoever follows a call has to know. What takes more is to take another's place."""


@pytest.mark.parametrize("call", MOST)
def test_the_files_of_a_call_are_few_and_those_that_are_counted(call: str) -> None:
    steps, beside, told = way(call)
    assert (len(steps), len(beside)) == told
    assert len(steps) <= MOST[call]
    assert steps & beside == set()
    assert [name for name in sorted(steps | beside) if not (ROOT / name).is_file()] == []
