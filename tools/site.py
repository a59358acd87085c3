"""What the documentation site has beyond its Markdown files, as hooks of mkdocs.

A link to a file that is no page (a source file, say) becomes that file's path in the repository. A
folder in the navigation stands for its pages.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


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
    folder = PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent

    def of_the_repository(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = normpath(str(folder / target.partition("#")[0]))
        if re.match(r"[a-z]+:|#", target) or path.startswith("docs/"):
            return link[0]
        return f"{text} (`{path}`)" if path not in text else text

    return _LINK.sub(of_the_repository, markdown)
