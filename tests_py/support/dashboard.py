"""The dashboard of Grafana in deploy/, as its panels and what they ask Prometheus for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from support.deployment import DEPLOY

DASHBOARD = DEPLOY / "grafana" / "dashboards" / "nano-graphrag-redis.json"


class Query(NamedTuple):
    """One query of a panel.

    Attributes:
        panel: The panel's title.
        expression: What it asks for, with Grafana's variables in it.
    """

    panel: str
    expression: str

    def for_prometheus(self, interval: str) -> str:
        """The expression as Grafana sends it, everything chosen."""
        known = {"$__rate_interval": interval, "$instance": ".*", "$namespace": ".*"}
        known |= {"$price": "0.01"}
        filled = self.expression
        for variable, value in known.items():
            filled = filled.replace(variable, value)
        assert "$" not in filled, filled
        return filled


def dashboard(path: Path = DASHBOARD) -> Mapping[str, Any]:
    """The dashboard."""
    loaded: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[Mapping[str, Any]]:
    """Its panels, without the headings of rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Every query of every panel."""
    for panel in panels():
        for target in panel["targets"]:
            yield Query(panel["title"], target["expr"])


def marks() -> Iterator[Query]:
    """Every query of an annotation, under its name."""
    for annotation in dashboard()["annotations"]["list"]:
        yield Query(annotation["name"], annotation["expr"])


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"\b(?:redis|nano_graphrag)[:_][a-z0-9_:]+", expression))
