"""Which tests run without ``--all``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from support.places import places
from support.servers import server_binaries

FIRST = server_binaries()["valkey"]
"""The server of what no server has a say in."""

MARKERS = (
    "exhaustive: repeats, elsewhere or with more, what another test shows; only with --all",
    "any_server: no server has a say in it; without --all it runs on the first server alone",
)


def takes_all(config: pytest.Config) -> bool:
    """Whether nothing is left out: that was asked for, or a test was named itself."""
    full = config.getoption("--faults", "quick") == "full"
    return full or bool(config.getoption("--all")) or any("::" in arg for arg in config.args)


def is_exhaustive(item: pytest.Item) -> bool:
    """Whether a test runs only where nothing is left out."""
    if item.get_closest_marker("exhaustive"):
        return True
    parameters = _parameters(item)
    elsewhere = _place(item) is not None or parameters.get("server_binary", FIRST) != FIRST
    # The host's own storage, the oracle, keeps files.
    everywhere = item.get_closest_marker("any_server") or parameters.get("open_store") == "json"
    return bool(elsewhere and everywhere)


def _place(item: pytest.Item) -> str | None:
    """The name of the place that a test is for, if it is for one."""
    place = _parameters(item).get("place")
    return next((name for name, opened in places().items() if opened is place), None)


def _parameters(item: pytest.Item) -> Mapping[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}
