"""Writes the tables of docs/configuration.md from ``RedisConfig``: ``make settings-page``.

They are part of the page, so that it reads the same in the repository and on the site. A test fails
where they differ from the source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nano_graphrag_redis import RedisConfig
from nano_graphrag_redis.config.namespaces import (
    KNOWN_NAMESPACES,
    PER_NAMESPACE,
    environment_names,
)
from nano_graphrag_redis.config.settings_with_defaults import DEFAULT_OUTAGE_POLICIES, DEFAULT_TTLS

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_NO_VARIABLE = {"clear_on_start": "", "redis_ttl": "one [for each namespace](#for-each-namespace)"}


def settings_table() -> str:
    """One row for each setting, in the order of the source, each a place to link to."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for key, field in RedisConfig.model_fields.items():
        if key == "working_dir":  # the host's own
            continue
        variable = _NO_VARIABLE.get(key, f"`{key.upper()}`")
        meaning = field.description or ""
        default = field.get_default(call_default_factory=True)
        name = f'<a id="{key}"></a>[`{key}`](#{key})'
        names = "<br>".join(filter(None, (name, variable)))
        rows.append(f"| {names} | {_shown(default)} | {meaning} |")
    return "\n".join(rows)


def namespaces_table() -> str:
    """What each of the known namespaces has by default, and the variables that change it."""
    rows = [
        "| namespace | time to live | outage policy | variables |",
        "| --- | --- | --- | --- |",
    ]
    for namespace in KNOWN_NAMESPACES:
        variables = [name for key in PER_NAMESPACE for name in environment_names(key, namespace)]
        ttl = DEFAULT_TTLS.get(namespace, 0)
        rows.append(
            f"| `{namespace}` | {f'{ttl} s' if ttl else 'never expires'} "
            f"| `{DEFAULT_OUTAGE_POLICIES.get(namespace, 'raise')}` "
            f"| {'<br>'.join(f'`{name}`' for name in variables)} |"
        )
    return "\n".join(rows)


def _shown(default: Any) -> str:
    """A default as it is written in the environment."""
    if default is None or default == "" or (not isinstance(default, (bool, int)) and not default):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def with_tables(page: str) -> str:
    """The page with both tables as the source has them.

    Raises:
        ValueError: A table has no place on it.
    """
    for name, table in (("settings", settings_table()), ("namespaces", namespaces_table())):
        begin, end = f"<!-- table of {name}, by make settings-page -->", f"<!-- end of {name} -->"
        if begin not in page or end not in page:
            raise ValueError(f"{PAGE.name} has no place for the table of {name}: {begin}")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
