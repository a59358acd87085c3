"""Each alert keeps quiet on a healthy service, and fires once its cause is there.

The causes are real (``support.causes``) and act at once under one Prometheus with the rules of
deploy/, whose durations alone are shortened. What a day means to an alert takes a second one, with
shorter days.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import yaml

from support.causes import CAUSES, Cause, Scene, Stage
from support.conditions import eventually
from support.deployment import DEPLOY
from support.prometheus import Prometheus, shorter

RULES = DEPLOY / "prometheus" / "alerts.yml"


class Clock(NamedTuple):
    """How fast time goes for the rules.

    Attributes:
        factor: What their durations are divided by.
        interval: Seconds between two scrapes.
        healthy: Seconds for which the service is healthy before it is harmed.
    """

    factor: int
    interval: float
    healthy: float


MINUTES = Clock(60, 0.5, 25)
"""A minute is a second; healthy for longer than any alert waits."""

DAYS = Clock(2880, 0.125, 38)
"""A day is half a minute; healthy for longer than that."""

CLOCKS = {"HitRateFalls": DAYS}
"""For the alerts that look back a day; the others have ``MINUTES``."""

FIRES = 75.0
"""Seconds in which an alert fires: that is more than its windows, shortened, and its `for`."""


def alerts() -> dict[str, Any]:
    """Every alert, by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


PAIRS = [(alert, cause) for alert in alerts() for cause in CAUSES.get(alert, [None])]


@dataclass
class Day:
    """A service with everything that can be harmed, now harmed.

    Attributes:
        prometheus: What has the alerts.
        scenes: What was harmed.
        workers: The processes it scrapes, as ``HOST:PORT``.
        false_alarms: The alerts that fired before.
    """

    prometheus: Prometheus
    scenes: dict[Cause, Scene]
    workers: set[str]
    false_alarms: list[str] = field(default_factory=list)


def _played(clock: Clock, stack: ExitStack) -> Day:
    """Sets up the scenes, lets them be healthy for a while and harms them."""
    stage = Stage(stack)
    causes = {
        cause for alert, cause in PAIRS if cause is not None and CLOCKS.get(alert, MINUTES) == clock
    }
    scenes = {cause: cause(stage) for cause in causes}
    prometheus = stack.enter_context(
        Prometheus(
            *(worker.instance for worker in stage.workers),
            rules=[RULES],
            job="nano-graphrag",
            interval=clock.interval,
            shortened=clock.factor,
        )
    )
    return Day(prometheus, scenes, {worker.instance for worker in stage.workers})


@pytest.fixture(scope="module")
def days() -> Iterator[dict[Clock, Day]]:
    with ExitStack() as stack:
        days = {clock: _played(clock, stack) for clock in (MINUTES, DAYS)}
        began = time.monotonic()
        for clock, day in days.items():
            healthy = began + clock.healthy
            eventually(lambda healthy=healthy: time.monotonic() > healthy, clock.healthy + 5)
            # Quiet because all is well, and not because nothing was heard.
            heard = day.prometheus.series_now(f"avg_over_time(up[{clock.healthy:.0f}s]) > 0.5")
            assert {each["metric"]["instance"] for each in heard} == day.workers
            fired = day.prometheus.series_now('count_over_time(ALERTS{alertstate="firing"}[1h])')
            day.false_alarms += [str(each["metric"]) for each in fired]
            for scene in day.scenes.values():
                scene.harm()
        yield days


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("alert", "cause"),
    PAIRS,
    ids=[f"{alert}-{getattr(cause, '__name__', None)}" for alert, cause in PAIRS],
)
def test_an_alert_is_quiet_until_its_cause_is_there_and_fires_then(
    alert: str, cause: Cause | None, days: dict[Clock, Day]
) -> None:
    assert cause is not None, f"support/causes.py has no cause of {alert}"
    day = days[CLOCKS.get(alert, MINUTES)]
    assert [each for each in day.false_alarms if f"'{alert}'" in each] == []
    wanted = {"alertname": alert, "alertstate": "firing", **day.scenes[cause].labels()}
    selector = ",".join(f'{name}="{value}"' for name, value in wanted.items())
    # Some end soon, before this test's turn.
    fired = f"count_over_time(ALERTS{{{selector}}}[1h])"
    eventually(lambda: bool(day.prometheus.series_now(fired)), FIRES)


def test_every_cause_is_one_of_an_alert() -> None:
    assert set(CAUSES) == set(alerts())


def test_shortening_changes_durations_alone() -> None:
    text = RULES.read_text()
    shortened = shorter(text, 60)
    duration = r"(?<=[\[ ])\d+(ms|[smhd])\b"
    assert len(re.findall(duration, text)) == len(re.findall(r"\d+ms\b", shortened)) > 40
    assert re.sub(duration, "…", shortened) == re.sub(duration, "…", text)
    assert shorter("for: 2m", 60) == "for: 2000ms"
    assert shorter("rate(a_total[5m]) > 5 and b offset 1d", 60) == (
        "rate(a_total[5000ms]) > 5 and b offset 1440000ms"
    )
