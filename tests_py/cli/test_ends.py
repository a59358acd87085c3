"""How the command ends, and what it says then: codes for scripts, no credential, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, distribution, entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import nano_graphrag_redis
from nano_graphrag_redis._core import __version__
from nano_graphrag_redis.cli import main
from support.servers import RedisServer

Command = Callable[..., "subprocess.CompletedProcess[str]"]

NOWHERE = "redis://:canary@127.0.0.1:1"

COMMANDS = {
    "doctor": (),
    "stats": (),
    "get": ("full_docs", "a"),
    "keys": ("full_docs",),
    "drop": ("full_docs", "--yes"),
    "prune": (),
    "copy": ("--to-workspace", "other"),
    "export": ("--to", "files"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_server_it_ends_with_3_and_says_which(name: str, command: Command) -> None:
    ended = command(name, *COMMANDS[name], "--url", NOWHERE, "--json", REDIS_MAX_RETRIES="0")
    assert ended.returncode == 3
    said = ended.stdout + ended.stderr
    assert "127.0.0.1:1" in said
    assert "canary" not in said
    assert "Traceback" not in said
    json.loads(ended.stdout or ended.stderr)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_setting_ends_with_2_and_is_named_as_it_was_given(
    name: str, command: Command
) -> None:
    ended = command(name, *COMMANDS[name], "--url", "redis://:canary@", "--workspace", "a:b")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--url=" in ended.stderr
    assert "--workspace='a:b' (command line)" in ended.stderr
    assert "canary" not in ended.stderr
    ended = command(name, *COMMANDS[name], REDIS_MAX_CONNECTIONS="many")
    assert ended.returncode == 2
    assert "REDIS_MAX_CONNECTIONS='many' (environment)" in ended.stderr


def test_a_refused_login_ends_with_2(command: Command) -> None:
    with RedisServer(password="right") as server:
        wrong = {"REDIS_PASSWORD": "canary", "REDIS_URL": server.url}
        ended = command("keys", "full_docs", **wrong)
    assert ended.returncode == 2
    assert "redis_password" in ended.stderr
    assert "canary" not in ended.stderr


def test_an_option_that_there_is_not_ends_with_2(command: Command) -> None:
    for arguments in (("keys", "full_docs", "--wat"), ("wat",)):
        ended = command(*arguments)
        assert (ended.returncode, ended.stdout) == (2, "")


def test_the_help_tells_the_codes(command: Command) -> None:
    shown = command("--help", COLUMNS="100")
    assert shown.returncode == 0
    for code in (*range(5), 130):
        assert f"{code} " in shown.stdout


def test_each_command_has_help(command: Command) -> None:
    shown = command("--help").stdout
    for name in (*COMMANDS, "migrate", "verify", "run", "server", "metrics"):
        assert name in shown
    assert "--url" in command("export", "--help").stdout


def test_it_tells_its_version(command: Command) -> None:
    assert command("--version").stdout == f"nano-graphrag-redis {__version__}\n"


def test_the_installed_program_and_the_module_are_the_same() -> None:
    (program,) = entry_points(group="console_scripts", name="nano-graphrag-redis")
    assert program.load() is main


def needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """A distribution and all that it requires without an extra."""
    if name not in found:
        found[name] = distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


@pytest.fixture
def plain_environment(tmp_path: Path) -> Path:
    """What an installation without an extra brings."""
    packages = tmp_path / "packages"
    packages.mkdir()
    package = Path(nano_graphrag_redis.__path__[0])
    (packages / package.name).symlink_to(package)
    for name, dist in needed("nano-graphrag-redis", {}).items():
        if name != "nano-graphrag-redis":
            for top in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
                (packages / top).symlink_to(str(dist.locate_file(top)))
    return packages


@pytest.mark.parametrize("asked", ["--version", "--help", "doctor --help", "run --help"])
def test_the_command_needs_no_extra(asked: str, plain_environment: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-S", "-m", "nano_graphrag_redis", *asked.split()],
        env={"PYTHONPATH": str(plain_environment)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "nano-graphrag-redis" in ended.stdout


def test_an_installation_that_names_the_old_extra_goes_on() -> None:
    package = distribution("nano-graphrag-redis")
    assert "cli" in (package.metadata.get_all("Provides-Extra") or [])
    assert not any("'cli'" in line or '"cli"' in line for line in package.requires or ())
