"""The page on monitoring names every metric as a scrape does, and asks for no other."""

from __future__ import annotations

import re

from nano_graphrag_redis.metrics.families import FAMILIES
from support.host import ROOT

PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")


def test_the_table_is_the_list_of_metrics() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| `(nano_graphrag_)?redis_", line)]
    assert rows == [
        f"| `{family.name}` | {family.kind} | "
        f"{', '.join(f'`{label}`' for label in family.labels)} | {family.meaning} |"
        for family in FAMILIES
    ]


def test_every_query_names_metrics_that_there_are() -> None:
    queries = PAGE.partition("## Useful queries")[2].partition("## Alerts")[0]
    found = re.findall(r"\b(?:nano_graphrag_)?redis_[a-z_]+", queries)
    named = {re.sub(r"_bucket$", "", name) for name in found}
    assert named
    assert named <= {family.name for family in FAMILIES}
