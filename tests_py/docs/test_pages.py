"""What the pages name is there: files, make targets, settings with their defaults, errors."""

from __future__ import annotations

import builtins
import importlib.util
import inspect
import re
from types import ModuleType

import pytest

import nano_graphrag_redis
import nano_graphrag_redis.exceptions
from nano_graphrag_redis import RedisConfig, doctor, metrics, migration
from nano_graphrag_redis.config import url
from nano_graphrag_redis.config.namespaces import (
    KNOWN_NAMESPACES,
    PER_NAMESPACE,
    environment_names,
)
from support.host import ROOT
from support.pages import PAGES, read

NOT_OURS = "working_dir"
"""The host's own; the settings only look at it."""


def errors_table() -> dict[str, list[str]]:
    """The rows of the table of docs/errors.md, by the name of the error."""
    lines = [line for line in read("docs/errors.md").splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows
    return {row[0].strip("`"): row for row in rows}


ERRORS = errors_table()
NOT_IN_THE_TABLE = {"StorageError"}
"""The parent of all, named above the table."""

VARIABLES = {key.upper() for key in RedisConfig.model_fields} | {
    variable
    for setting in PER_NAMESPACE
    for namespace in KNOWN_NAMESPACES
    for variable in environment_names(setting, namespace)
}


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/design/README.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", read(page))
    relative = [link for link in links if not re.match(r"[a-z]+:|#", link)]
    here = (ROOT / page).parent
    assert [link for link in relative if not (here / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_is_named_is_in_the_makefile(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", read(page), re.MULTILINE))
    assert named <= targets


def test_every_setting_that_the_readme_names_exists() -> None:
    text = read("README.md")
    named = set(re.findall(r"`(REDIS_[A-Z_]+)[`=]", text))
    assert named
    assert named <= VARIABLES
    keys = set(re.findall(r"`(redis_[a-z_]+)[`=]", text)) | set(re.findall(r'"(redis_\w+)":', text))
    assert keys <= set(RedisConfig.model_fields)


@pytest.fixture(scope="module")
def settings_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "tools/settings_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_settings_are_those_of_the_source(settings_page: ModuleType) -> None:
    page = read("docs/configuration.md")
    assert settings_page.with_tables(page) == page, "make settings-page"
    rows = re.findall(
        r'^\| <a id="(\w+)"></a>\[`(\w+)`\]\(#(\w+)\)(?:<br>| \|)', page, re.MULTILINE
    )
    assert all(len(set(row)) == 1 for row in rows), "a name links to its own row"
    keys = {row[0] for row in rows}
    assert set(RedisConfig.model_fields) - {NOT_OURS} <= keys


def test_a_page_without_a_place_for_the_tables_is_refused(settings_page: ModuleType) -> None:
    with pytest.raises(ValueError, match="no place for the table of settings"):
        settings_page.with_tables("# Configuration")


def test_the_page_of_settings_has_every_scheme_that_is_taken() -> None:
    section = read("docs/configuration.md").partition("\n| URL | server |\n")[2]
    schemes = set(re.findall(r"^\| `([a-z+]+)://", section, re.MULTILINE))
    assert schemes == {*url._TCP, "redis+unix", url._EMBEDDED.removesuffix("://")}
    supported = set(re.findall(r"([a-z+]+)://", url._SUPPORTED))
    assert supported <= schemes


@pytest.mark.parametrize("module", [doctor, metrics, migration])
def test_the_reference_has_every_function_of_a_public_module(module: ModuleType) -> None:
    functions = {name for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    shown = re.findall(r"^::: ([\w.]+)$", read("docs/api.md"), re.MULTILINE)
    assert functions
    assert {f"{module.__name__}.{name}" for name in functions} <= set(shown)


def test_the_errors_of_the_page_are_those_that_are_raised() -> None:
    public = {name for name in nano_graphrag_redis.__all__ if name.endswith("Error")}
    assert set(ERRORS) == public - NOT_IN_THE_TABLE


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_also_what_the_page_says(name: str) -> None:
    error = getattr(nano_graphrag_redis, name)
    known = {**vars(builtins), **vars(nano_graphrag_redis.exceptions)}
    for parent in re.findall(r"`(\w+)`", ERRORS[name][1]):
        assert issubclass(error, known[parent])
