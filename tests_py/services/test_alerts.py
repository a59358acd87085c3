"""What Prometheus itself says of its configuration and of the alerts."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from support.deployment import DEPLOY

PROMETHEUS = DEPLOY / "prometheus"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_has_nothing_to_say(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> dict[str, Any]:
    """Every alert, by name."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_alert_is_seen_to_fire_and_to_keep_quiet() -> None:
    healthy, *bad_days = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    assert {test["alertname"] for test in healthy["alert_rule_test"]} == set(alerts())
    fired = str([day.get("promql_expr_test") for day in bad_days])
    assert [name for name in alerts() if f'alertname="{name}"' not in fired] == []


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    for rule in alerts().values():
        assert set(rule["annotations"]) == {"summary", "action", "runbook_url"}
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    pages = {path.stem: path.read_text() for path in (DEPLOY.parent / "docs/runbooks").glob("*.md")}
    assert set(pages) == set(alerts())
    monitoring = (DEPLOY.parent / "docs/monitoring.md").read_text()
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert f"Severity: {rule['labels']['severity']}." in pages[name]
        assert f"| [{name}](runbooks/{name}.md) | {rule['labels']['severity']} |" in monitoring
