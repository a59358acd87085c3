"""The version stands in Cargo.toml, and nowhere else."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess

import nano_graphrag_redis
from support.host import ROOT


def version() -> str:
    """What Cargo.toml says of the package."""
    package = (ROOT / "Cargo.toml").read_text(encoding="utf-8").partition("\n[lib]")[0]
    (said,) = re.findall(r'^version = "(.+)"$', package, re.MULTILINE)
    return str(said)


def test_the_core_and_the_installed_package_are_of_the_version_in_cargo_toml() -> None:
    assert nano_graphrag_redis.__version__ == version()
    assert importlib.metadata.version("nano-graphrag-redis") == version()


def test_make_says_the_version() -> None:
    said = subprocess.run(
        ["make", "--silent", "--no-print-directory", "version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == version()


def test_pyproject_leaves_the_version_to_cargo_toml() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in text
    assert f'"{version()}"' not in text


def test_the_lock_file_has_the_version() -> None:
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    assert f'name = "nano-graphrag-redis"\nversion = "{version()}"' in lock


def test_the_toolchain_that_is_asked_for_is_the_one_in_cargo_toml() -> None:
    needed = re.findall(r'^rust-version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    for file in ("README.md", "tools/check-machine"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.findall(r"Rust toolchain,? \(?(1\.\d+)", text) == needed, file


def test_all_is_every_other_extra_but_the_empty_one() -> None:
    extras = set(importlib.metadata.metadata("nano-graphrag-redis").get_all("Provides-Extra") or [])
    assert extras == {"all", "cli", "embedded", "otel", "prometheus"}
    required = importlib.metadata.requires("nano-graphrag-redis") or []
    (of_all,) = [line for line in required if re.search(r"extra == ['\"]all['\"]", line)]
    (named,) = re.findall(r"\[(.+?)\]", of_all)
    assert set(named.split(",")) == extras - {"all", "cli"}
