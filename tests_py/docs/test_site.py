"""The site: it builds without a warning, fetches nothing from elsewhere, and cannot drift."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_the_reference_has_every_public_name(site: Path) -> None:
    import nano_graphrag_redis

    page = (site / "api.html").read_text()
    headings = set(re.findall(r'<h\d id="nano_graphrag_redis\.[\w.]*?(\w+)"', page))
    assert set(nano_graphrag_redis.__all__) <= headings
    assert {"KvStore", "BlockingKvStore"} <= headings  # of the stub
