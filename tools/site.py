"""What the documentation site has beyond its Markdown files, as hooks of mkdocs.

The table of settings is made from ``RedisConfig`` while the site is built, so it cannot drift. A
link to a file that is no page (a source file, say) becomes that file's path in the repository. A
folder in the navigation stands for its pages.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from nano_graphrag_redis import RedisConfig
from nano_graphrag_redis.config.namespaces import (
    DEFAULT_OUTAGE_POLICIES,
    DEFAULT_TTLS,
    HOST_NAMESPACES,
    PER_NAMESPACE,
    environment_names,
)

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SETTINGS_MARK = "<!-- the table of settings -->"
NAMESPACES_MARK = "<!-- the table of namespaces -->"

_NO_VARIABLE = {"clear_on_start": "", "redis_ttl": "one [for each namespace](#for-each-namespace)"}
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def settings_table() -> str:
    """One row for each setting, in the order of the table in the source."""
    rows = ["| setting | environment | default | meaning |", "| --- | --- | --- | --- |"]
    for key, field in RedisConfig.model_fields.items():
        if key == "working_dir":  # the host's own
            continue
        variable = _NO_VARIABLE.get(key, f"`{key.upper()}`")
        meaning = field.description or ""
        default = field.get_default(call_default_factory=True)
        rows.append(f"| `{key}` | {variable} | {_shown(default)} | {meaning} |")
    return "\n".join(rows)


def namespaces_table() -> str:
    """What each of the host's namespaces has by default, and the variables that change it."""
    rows = [
        "| namespace | time to live | outage policy | variables |",
        "| --- | --- | --- | --- |",
    ]
    for namespace in HOST_NAMESPACES:
        variables = [name for key in PER_NAMESPACE for name in environment_names(key, namespace)]
        ttl = DEFAULT_TTLS.get(namespace, 0)
        rows.append(
            f"| `{namespace}` | {f'{ttl} s' if ttl else 'never expires'} "
            f"| `{DEFAULT_OUTAGE_POLICIES.get(namespace, 'raise')}` "
            f"| {', '.join(f'`{name}`' for name in variables)} |"
        )
    return "\n".join(rows)


def _shown(default: Any) -> str:
    """A default as it is written in the environment."""
    if default is None or default == "" or (not isinstance(default, (bool, int)) and not default):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def on_config(config: MkDocsConfig) -> None:
    """Called by mkdocs with what ``mkdocs.yml`` says."""
    for section in config.nav or []:
        for items in section.values():
            items[:] = [_unfolded(config.docs_dir, item) for item in items]


def _unfolded(docs: str, item: dict[str, str]) -> dict[str, Any]:
    """The item, or the pages of the folder that it names: its index first, the rest by name."""
    ((title, target),) = item.items()
    if not target.endswith("/"):
        return item
    pages = sorted(Path(docs, target).glob("*.md"), key=lambda page: page.name)
    pages.sort(key=lambda page: page.name != "README.md")
    return {title: [page.relative_to(docs).as_posix() for page in pages]}


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Called by mkdocs with the text of each page before it is rendered."""
    markdown = markdown.replace(SETTINGS_MARK, settings_table())
    markdown = markdown.replace(NAMESPACES_MARK, namespaces_table())
    folder = PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent

    def of_the_repository(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = normpath(str(folder / target.partition("#")[0]))
        if re.match(r"[a-z]+:|#", target) or path.startswith("docs/"):
            return link[0]
        return f"{text} (`{path}`)" if path not in text else text

    return _LINK.sub(of_the_repository, markdown)
