"""The site: it builds without a warning, fetches nothing from elsewhere, and cannot drift."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nano_graphrag_redis import RedisConfig
from support.host import ROOT
from support.pages import PAGES, read

FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    home = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", home],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What makes the tables of the site."""
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "tools" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(table: str) -> dict[str, list[str]]:
    """The cells of a table, by its first cell's code."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {cells[0].strip("`"): cells for cells in lines[2:]}


def test_the_site_has_every_page(site: Path) -> None:
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    made_of = {
        re.sub(r"(?:README|index)\.md$", "index.html", page).replace(".md", ".html")
        for page in pages
    }
    assert made_of <= built


def test_every_page_is_in_the_navigation() -> None:
    """Notes are in it by their folder."""
    named = set(re.findall(r": ([\w/-]+\.md)$", read("mkdocs.yml"), re.MULTILINE))
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert named == {page for page in pages if not page.startswith("design/")}


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        fetched = [tag for tag in FETCHED.findall(path.read_text()) if 'rel="canonical"' not in tag]
        assert fetched == [], path


def test_the_page_of_settings_has_each_of_them(site: Path) -> None:
    page = (site / "configuration.html").read_text()
    missing = [key for key in RedisConfig.model_fields if f"<code>{key}</code>" not in page]
    assert missing == ["working_dir"]  # the host's own


def test_no_mark_is_left_for_the_reader(site: Path) -> None:
    for path in site.glob("*.html"):
        assert "<!-- the table" not in path.read_text(), path


def test_the_readme_and_the_page_of_settings_agree(hooks: ModuleType) -> None:
    of_the_page = rows(hooks.settings_table())
    section = read("README.md").partition("\n## Settings\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    assert lines
    for line in lines:
        names, variables, default = (cell.strip() for cell in line.strip("|").split("|"))
        defaults = set()
        for key in re.findall(r"`([a-z][a-z_]*)`", names):
            row = of_the_page[key]
            assert row[1] in variables or key == "redis_ttl", key
            assert "Reserved" not in row[3], key
            defaults |= set(re.findall(r"`(.*)`", row[2]))
        for value in defaults - {"true", "false"}:
            # 5 for 5.0; the address without its first database.
            assert value.removesuffix("/0") in re.findall(
                r"[\w:/]+(?=\b(?!\.\d*[1-9]))", default
            ), line


def test_the_reference_has_every_public_name(site: Path) -> None:
    import nano_graphrag_redis

    page = (site / "api.html").read_text()
    headings = set(re.findall(r'<h\d id="nano_graphrag_redis\.[\w.]*?(\w+)"', page))
    assert set(nano_graphrag_redis.__all__) <= headings
    assert {"KvStore", "BlockingKvStore"} <= headings  # of the stub
