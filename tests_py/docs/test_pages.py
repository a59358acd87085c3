"""What the pages name is there: files, make targets, settings with their defaults, errors."""

from __future__ import annotations

import builtins
import inspect
import re
from types import ModuleType
from typing import Any

import pytest

import nano_graphrag_redis
import nano_graphrag_redis.exceptions
from nano_graphrag_redis import RedisConfig, doctor, metrics, migration
from nano_graphrag_redis.config import url
from nano_graphrag_redis.config.namespaces import (
    HOST_NAMESPACES,
    PER_NAMESPACE,
    environment_names,
)
from support.host import ROOT
from support.pages import PAGES, read

NOT_OURS = "working_dir"
"""The host's own; the settings only look at it."""


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the table under a heading of the README."""
    section = read("README.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert rows
    return rows


SETTINGS = {
    key: row for row in table("Settings") for key in re.findall(r"`([a-z][a-z_]*)`", row[0])
}

ERRORS = {row[0].strip("`"): row for row in table("Errors")}
NOT_IN_THE_TABLE = {"StorageError"}
"""The parent of all, named above the table."""

VARIABLES = {key.upper() for key in SETTINGS} | {
    variable
    for setting in PER_NAMESPACE
    for namespace in HOST_NAMESPACES
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


def test_the_settings_of_the_readme_are_those_there_are() -> None:
    assert set(SETTINGS) == set(RedisConfig.model_fields) - {NOT_OURS}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_has_the_variable_that_the_readme_names(key: str) -> None:
    variables = set(re.findall(r"`(REDIS_[A-Z_]+)`", SETTINGS[key][1]))
    assert variables <= VARIABLES
    if key == "clear_on_start":
        assert variables == set()
    elif key != "redis_ttl":  # has one for each namespace instead
        assert key.upper() in variables


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_has_the_default_that_the_readme_names(key: str) -> None:
    default: Any = RedisConfig.model_fields[key].get_default(call_default_factory=True)
    said = SETTINGS[key][2]
    if isinstance(default, bool):
        assert str(default).lower() in said
    elif isinstance(default, (int, float)):
        assert float(default) in map(float, re.findall(r"\d+(?:\.\d+)?", said))
    elif key == "redis_url":
        assert RedisConfig(redis_url=said.split("`")[1]).redis_url == default
    elif isinstance(default, str) and default:
        assert f"`{default}`" in said
    elif not isinstance(default, dict):
        assert said.startswith("none")


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


def test_the_errors_of_the_readme_are_those_that_are_raised() -> None:
    public = {name for name in nano_graphrag_redis.__all__ if name.endswith("Error")}
    assert set(ERRORS) == public - NOT_IN_THE_TABLE


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_also_what_the_readme_says(name: str) -> None:
    error = getattr(nano_graphrag_redis, name)
    known = {**vars(builtins), **vars(nano_graphrag_redis.exceptions)}
    for parent in re.findall(r"`(\w+)`", ERRORS[name][1]):
        assert issubclass(error, known[parent])
