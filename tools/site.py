"""What the documentation site has beyond its Markdown files, as hooks of mkdocs.

A link to a file that is no page (a source file, say) becomes that file's path in the repository. A
folder in the navigation stands for its pages. The version stands beside the name. Where the
repository's address is known, each page links to it: of ``REPOSITORY_URL``, else in a workflow.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CODE = re.compile(r"<pre\b.*?</pre>|<code\b[^>]*>.*?</code>", re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def on_config(config: MkDocsConfig) -> None:
    """Called by mkdocs with what ``mkdocs.yml`` says."""
    config.site_name = f"{config.site_name} {_version()}"
    if repository := _repository():
        # Not repo_url, for which the theme asks GitHub's API on every page.
        icon = "fontawesome/brands/git-alt"
        config.extra["social"] = [{"icon": icon, "link": repository, "name": "Source code"}]
    for section in config.nav or []:
        for items in section.values():
            items[:] = [_unfolded(config.docs_dir, item) for item in items]


def _version() -> str:
    """The version, which Cargo.toml alone says."""
    manifest = (Path(__file__).parents[1] / "Cargo.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', manifest, re.MULTILINE)
    if found is None:
        raise ValueError("Cargo.toml names no version")
    return found[1]


def _repository() -> str | None:
    """The address of the repository, if anything says it."""
    named = os.environ.get("REPOSITORY_URL")
    if named is None and "GITHUB_REPOSITORY" in os.environ:
        named = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    return named


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


def on_page_content(html: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page after it is rendered."""

    def unbroken(code: re.Match[str]) -> str:
        # A browser breaks a line after any hyphen, and `--` alone at its end names no option.
        if code[0].startswith("<pre"):
            return code[0]
        return _OPTION.sub(r'<span class="option">\g<0></span>', code[0])

    return _CODE.sub(unbroken, html)


def on_post_page(output: str, **_: Any) -> str:
    """Called by mkdocs with each page as it is written."""
    # The theme gives its dialog no name that could be read aloud.
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
