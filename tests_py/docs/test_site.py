"""The site: it builds without a warning, fetches nothing from elsewhere, and cannot drift."""

from __future__ import annotations

import os
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
        env=os.environ | {"REPOSITORY_URL": "https://forge.example/us/code"},
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
    """Notes and runbooks are in it by their folder."""
    folders = tuple(re.findall(r": ([\w-]+/)(?: #.*)?$", read("mkdocs.yml"), re.MULTILINE))
    named = set(re.findall(r": ([\w/-]+\.md)$", read("mkdocs.yml"), re.MULTILINE))
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert named == {page for page in pages if not page.startswith(folders)}


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        fetched = [tag for tag in FETCHED.findall(path.read_text()) if 'rel="canonical"' not in tag]
        assert fetched == [], path


def test_the_page_of_settings_has_each_of_them(site: Path) -> None:
    page = (site / "configuration.html").read_text()
    missing = [key for key in RedisConfig.model_fields if f'<a id="{key}">' not in page]
    assert missing == ["working_dir"]  # the host's own


def test_no_line_can_end_within_the_name_of_an_option(site: Path) -> None:
    page = (site / "command.html").read_text()
    text = re.sub(r"<pre\b.*?</pre>", "", page, flags=re.DOTALL)
    named = re.findall(r"<code>[^<]*(?:<span class=\"?option\"?>--[^<]*)?", text)
    assert [code for code in named if re.search(r"(?<![\w-])--[a-z]", code.split("<span")[0])] == []
    assert sum("<span" in code for code in named) > 10


def test_every_page_says_the_version(site: Path) -> None:
    version = re.findall(r'^version = "(.+)"$', read("Cargo.toml"), re.MULTILINE)[0]
    for path in site.rglob("*.html"):
        assert f"nano-graphrag-redis {version}" in path.read_text(), path


def test_every_page_links_to_the_repository_where_its_address_is_known(site: Path) -> None:
    for path in site.rglob("*.html"):
        links = re.findall(r"<a href=\"?https://forge\.example/us/code\"?[^>]*>", path.read_text())
        assert [re.findall(r'title="([^"]*)"', link) for link in links] == [["Source code"]], path


def test_the_search_has_an_index_that_a_page_from_the_disk_can_load(site: Path) -> None:
    index = (site / "search/search_index.js").read_text()
    assert index.startswith("var __index = {")
    assert "redis_outage_policy" in index


def test_the_reference_has_every_public_name(site: Path) -> None:
    import nano_graphrag_redis

    page = (site / "api.html").read_text()
    headings = set(re.findall(r'<h\d id="nano_graphrag_redis\.[\w.]*?(\w+)"', page))
    assert set(nano_graphrag_redis.__all__) <= headings
    assert {"KvStore", "BlockingKvStore"} <= headings  # of the stub
