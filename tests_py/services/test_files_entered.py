"""The files that a read and a write enter are those that the architecture page lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.entered import entered, package_without_inlining
from benches.server import running_server
from support.architecture import way


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_without_inlining(tmp_path_factory.mktemp("package"))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("call", ["read", "write"])
def test_a_call_enters_the_files_that_the_page_lists(call: str, package: Path) -> None:
    with running_server() as server:
        files = entered(package, server.url, call)
    steps, beside, _ = way(f"A {call}")
    listed = steps | beside
    assert (files - listed, listed - files) == (set(), set())
