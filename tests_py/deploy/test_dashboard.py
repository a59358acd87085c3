"""The dashboard names metrics that there are, and shows each; `make test-services` has it drawn."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from nano_graphrag_redis.metrics.families import FAMILIES, Family
from support.dashboard import Query, dashboard, marks, metrics_in, panels, queries
from support.deployment import DEPLOY, documents

SERIES = {
    name
    for family in FAMILIES
    for name in (
        [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
        if family.kind == "histogram"
        else [family.name]
    )
}
QUERIES = list(queries())
ASKED = [*QUERIES, *marks()]


@pytest.mark.parametrize("query", ASKED, ids=lambda query: str(query.panel))
def test_a_query_names_metrics_that_there_are(query: Query) -> None:
    named = metrics_in(query.expression)
    assert named
    assert named <= SERIES


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.name))
def test_every_metric_is_on_the_dashboard(family: Family) -> None:
    shown = {metric for query in QUERIES for metric in metrics_in(query.expression)}
    assert any(metric.startswith(family.name) for metric in shown)


def test_the_alerts_name_metrics_that_there_are() -> None:
    (alerts,) = documents("prometheus/alerts.yml")
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    named = {metric for rule in rules for metric in metrics_in(rule["expr"])}
    assert named <= SERIES | recorded


def test_panels_lie_beside_each_other_and_say_what_they_show() -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels():
        assert panel["description"].endswith(".")
        at = panel["gridPos"]
        taken.update((at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"]))
    assert max(taken.values()) == 1
    assert max(x for x, _ in taken) == 23
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_every_query_goes_to_the_provisioned_source() -> None:
    (sources,) = documents("grafana/provisioning/datasources/prometheus.yml")
    (source,) = sources["datasources"]
    asked = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    asked |= {
        each["datasource"]["uid"]
        for each in (*dashboard()["templating"]["list"], *dashboard()["annotations"]["list"])
        if each.get("type") != "textbox"
    }
    assert asked == {source["uid"]}
    (compose,) = documents("compose.yaml")
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]


def test_the_dashboard_is_where_grafana_looks_for_it() -> None:
    (provided,) = documents("grafana/provisioning/dashboards/files.yml")
    path = provided["providers"][0]["options"]["path"]
    (compose,) = documents("compose.yaml")
    assert f"./grafana/dashboards:{path}:ro" in compose["services"]["grafana"]["volumes"]


def test_every_file_below_grafana_and_prometheus_can_be_read() -> None:
    for path in [*DEPLOY.glob("grafana/**/*.yml"), *DEPLOY.glob("prometheus/**/*.yml")]:
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
