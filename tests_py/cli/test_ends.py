"""How the command ends, and what it says then: codes for scripts, no credential, no traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, distribution, entry_points
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest
from packaging.requirements import Requirement

import nano_graphrag_redis
from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis._core import __version__
from nano_graphrag_redis.cli import app, main
from support.peer import Peer
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


@pytest.mark.parametrize(
    "arguments",
    [
        ("changes", "--last", "99999999999999999999"),
        ("changes", "--last", str(2**63)),
        ("stats", "--watch", "--every", "1e300"),
        ("stats", "--watch", "--every", "nan"),
        ("stats", "--price-per-call", "inf"),
        ("migrate", "--from", ".", "--ttl", str(2**63)),
        ("keys", "full_docs", "--url", "redis://\udcff"),
    ],
    ids=str,
)
def test_what_is_no_sensible_value_of_an_option_ends_with_2(
    arguments: tuple[str, ...], command: Command
) -> None:
    ended = command(*arguments, "--workspace", "w", REDIS_URL=NOWHERE)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert arguments[-2] in ended.stderr
    assert "Traceback" not in ended.stderr


def run_on_a_full_disk(
    name: Literal["stdout", "stderr"], words: str, server: RedisServer, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs the command beside one document, with one of its outputs on a disk that is full."""
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as storage:
        storage.upsert({"a": 1})
    with Path("/dev/full").open("w") as full:
        outputs: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.run(
            [sys.executable, "-m", "nano_graphrag_redis", *words.split()],
            env=environ | {"REDIS_URL": server.url},
            text=True,
            timeout=60,
            check=False,
            **outputs | {name: full},
        )


# Containers set it: what cannot be written is met where it is said, and not at the end.
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    ["keys full_docs", "stats", "stats --json", "stats --watch", "doctor --acl", "--version",
     "--help", "run --help"],
)  # fmt: skip
def test_an_output_that_cannot_be_written_ends_with_4_and_says_why(
    words: str, unbuffered: str, server: RedisServer, environ: dict[str, str]
) -> None:
    environ["PYTHONUNBUFFERED"] = unbuffered
    ended = run_on_a_full_disk("stdout", words, server, environ)
    assert ended.returncode == 4, ended.stderr
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("keys full_docs", (0, "a\n")),
        ("get full_docs nowhere", (1, "")),
        ("keys a:b", (2, "")),
        ("run", (2, "")),
    ],
)
def test_a_stderr_that_cannot_be_written_changes_neither_result_nor_code(
    words: str,
    wanted: tuple[int, str],
    unbuffered: str,
    server: RedisServer,
    environ: dict[str, str],
) -> None:
    environ["PYTHONUNBUFFERED"] = unbuffered
    ended = run_on_a_full_disk("stderr", words, server, environ)
    assert (ended.returncode, ended.stdout) == wanted


def test_watching_without_a_terminal_prints_one_report_after_another(
    server: RedisServer, environ: dict[str, str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "nano_graphrag_redis", "stats", "--watch", "--every", "0.1"],
        env=environ | {"REDIS_URL": server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        reports = 0
        for line in watching.stdout:
            reports += line.startswith(server.url)
            if reports == 3:
                break
        watching.stdout.close()
        assert watching.wait(timeout=60) == 141


INFO = {
    "used_memory": "5 bytes",
    "connected_clients": "5 connections",
    "instantaneous_ops_per_sec": "5 commands/s",
    "keyspace_hits": "50.0% of reads hit",
    "keyspace_misses": "50.0% of reads hit",
    "expired_keys": "5 keys expired",
    "evicted_keys": "5 evicted",
}


# Managed servers and proxies do: each was a KeyError. No server counts as far as the last two.
@pytest.mark.parametrize(
    ("lacks", "odd"),
    [
        *((name, "") for name in ("", *INFO)),
        ("instantaneous_ops_per_sec", "9" * 400),
        ("expired_keys", "9" * 400),
    ],
    ids=lambda text: text[:30],
)
def test_stats_show_what_a_server_says_of_itself_that_leaves_a_line_out(
    lacks: str, odd: str, environ: dict[str, str]
) -> None:
    told = dict.fromkeys(INFO, "5") | {lacks: odd}
    lines = "".join(f"{name}:{text}\r\n" for name, text in told.items() if text).encode()

    def answered(words: list[bytes]) -> bytes:
        if words[0] == b"INFO":
            section = lines if words[1] == b"stats" else b""
            return b"$%d\r\n%b\r\n" % (len(section), section)
        return b"*2\r\n$1\r\n0\r\n*0\r\n" if words[0] == b"SCAN" else b"$-1\r\n"

    said = [words for name, words in INFO.items() if words != INFO.get(lacks)]
    with (
        Peer(answered) as peer,
        subprocess.Popen(
            [sys.executable, "-m", "nano_graphrag_redis", "stats", "--watch", "--every", "0.1"],
            env=environ | {"REDIS_URL": peer.url},
            stdout=subprocess.PIPE,
            text=True,
        ) as watching,
    ):
        assert watching.stdout is not None
        of_server = next(
            line for line in islice(watching.stdout, 20) if line.startswith("server: ")
        )
        assert of_server == f"server: {', '.join(dict.fromkeys(said))}\n"
        watching.stdout.close()
        assert watching.wait(timeout=60) == 141


@pytest.mark.parametrize("options", [(), ("--json",)], ids=str)
def test_watching_waits_for_a_server_that_goes_away(
    options: tuple[str, ...], server_binary: Path, environ: dict[str, str]
) -> None:
    watch = ["stats", "--watch", "--every", "0.1", *options]
    with (
        RedisServer(server_binary) as own,
        subprocess.Popen(
            [sys.executable, "-m", "nano_graphrag_redis", *watch],
            env=environ | {"REDIS_URL": own.url, "REDIS_MAX_RETRIES": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching,
    ):
        assert watching.stdout is not None
        assert watching.stderr is not None
        lines = iter(watching.stdout.readline, "")
        assert any("full_docs" in line for line in lines)
        own.kill()
        assert any("Connection refused" in line for line in watching.stderr)
        own.start()
        with SyncRedisKVStorage("after", {"redis_url": own.url}) as storage:
            storage.upsert({"a": 1})
        assert any("after" in line for line in lines)
        watching.stdout.close()
        assert watching.wait(timeout=60) == 141


INTERRUPTED = """
import signal, sys

class Impatient:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pydantic":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Impatient)
from nano_graphrag_redis.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("words", ["keys full_docs", "run app.py"])
def test_ctrl_c_while_it_is_still_being_imported_ends_with_130(
    words: str, command: Command
) -> None:
    ended = command("-c", INTERRUPTED, *words.split(), python=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_an_address_that_is_none_is_named(command: Command, tmp_path: Path) -> None:
    refused = command("metrics", "--dir", str(tmp_path), "--address", "no address")
    assert refused.returncode == 4
    assert "--address no address and --port 9400 cannot be listened on" in refused.stderr


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


def test_the_help_of_each_command_ends_with_an_example_that_works(
    command: Command, tmp_path: Path
) -> None:
    for directory in ("cache", "metrics"):
        (tmp_path / directory).mkdir()
    (tmp_path / "cache/kv_store_full_docs.json").write_text('{"doc-1": {}}')
    examples = [example for group in app._GROUPS.values() for example in group.values()]
    with RedisServer(appendonly="yes", maxmemory_policy="noeviction") as server:
        there = {"REDIS_URL": server.url, "REDIS_CHANGES": "on", "COLUMNS": "200"}
        assert command("migrate", "--from", "cache", **there).returncode == 0
        for example in examples:
            words = shlex.split(example.partition(" |")[0])
            assert f"Example: nano-graphrag-redis {example}" in command(words[0], "--help").stdout
            ended = command(*words, **there)
            assert ended.returncode == 0, f"{example}: {ended.stderr}"
