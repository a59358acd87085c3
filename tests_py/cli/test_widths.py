"""What is shown fits the screen: lines break between words, and a word that is too long stays."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.servers import RedisServer, server_binaries

Command = Callable[..., "subprocess.CompletedProcess[str]"]

LONG_ID = "doc-" + "0123456789" * 9


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """One kind of server is enough to see a screen."""
    return server_binaries()["valkey"]


@pytest.fixture
def url(server: RedisServer, tmp_path: Path) -> str:
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as storage:
        storage.upsert({"doc-1": {"content": "Marley was dead"}, LONG_ID: {"content": ""}})
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/kv_store_full_docs.json").write_text('{"doc-1": {"content": "other"}}')
    return server.url


@pytest.mark.parametrize(
    "columns", [40, *(pytest.param(wider, marks=pytest.mark.exhaustive) for wider in (80, 120))]
)
@pytest.mark.parametrize(
    "asked",
    [
        "doctor",
        "stats",
        "verify --from cache",
        "migrate --from cache",
        "keys full_doc",
        "--help",
        "prune --help",
    ],
)
def test_no_word_is_broken_on_a_narrow_screen(
    asked: str, columns: int, url: str, environ: dict[str, str], tmp_path: Path
) -> None:
    shown = on_a_screen(columns, asked, environ | {"REDIS_URL": url}, tmp_path)
    # Bars are drawn over each other, on a line that the cursor goes back on.
    lines = [line for line in shown.split("\n") if "\r" not in line]
    wide = [line for line in lines if len(line) > columns and " " in line.strip()]
    assert wide == []
    narrow = {re.sub(r"\W", "", word) for line in lines for word in line.split()}
    for name in ("REDIS_METRICS_DIR", "llm_response_cache", "redis_workspace", LONG_ID):
        cut = [word for word in narrow if len(word) > 5 and name.startswith(word) and word != name]
        assert [word for word in cut if word not in {"doctor", "doc1"}] == []
    assert "…" not in shown


def on_a_screen(columns: int, asked: str, environ: dict[str, str], home: Path) -> str:
    """What a terminal of a width shows, without colours."""
    outer, inner = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nano_graphrag_redis", *shlex.split(asked)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=environ | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "50"},
        cwd=home,
    )
    os.close(inner)
    shown = b""
    try:
        while read := os.read(outer, 65536):
            shown += read
    except OSError:  # the program has gone
        pass
    process.wait()
    os.close(outer)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n")


def test_a_table_that_does_not_fit_is_a_block_of_lines_for_each_row(
    url: str, environ: dict[str, str], tmp_path: Path
) -> None:
    shown = on_a_screen(40, "stats", environ | {"REDIS_URL": url}, tmp_path)
    assert "\nfull_docs\n  keys: 2\n" in shown


def test_an_export_advises_somebody_at_a_terminal_and_no_log(
    url: str, environ: dict[str, str], tmp_path: Path, command: Command
) -> None:
    shown = on_a_screen(200, "export --to out", environ | {"REDIS_URL": url}, tmp_path)
    assert "next: nano-graphrag-redis verify --from out;" in shown
    logged = command("export", "--to", "elsewhere", "--url", url)
    assert logged.returncode == 0
    assert "next" not in logged.stdout + logged.stderr


def test_what_no_terminal_shows_has_lines_of_any_length(command: Command, url: str) -> None:
    shown = command("stats", "--url", url, COLUMNS="40")
    assert re.search(r"^full_docs +2 .* for ever", shown.stdout, re.MULTILINE)


def test_a_reader_that_leaves_early_is_no_error(
    server: RedisServer, environ: dict[str, str]
) -> None:
    server.client().mset({f"nano_graphrag:full_docs:{i}": "1" for i in range(60_000)})
    line = f"{sys.executable} -m nano_graphrag_redis keys full_docs --url {server.url} | head -n 2"
    ended = subprocess.run(
        line, shell=True, env=environ, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("0\n1\n", "")


def completed(environ: dict[str, str], words: str, url: str) -> list[str]:
    """What the shell is offered for the last of the words."""
    asked = environ | {
        "_NANO_GRAPHRAG_REDIS_COMPLETE": "complete_bash",
        "COMP_WORDS": f"nano-graphrag-redis {words}",
        "COMP_CWORD": str(len(words.split())),
        "REDIS_URL": url,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "nano_graphrag_redis"],
        env=asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


def test_the_shell_completes_namespaces_of_the_server_and_without_one_those_of_the_host(
    server: RedisServer, environ: dict[str, str]
) -> None:
    server.client().set("nano_graphrag:full_of_notes:a", "1")
    assert completed(environ, "keys full", server.url) == ["full_docs", "full_of_notes"]
    assert completed(environ, "export --namespace full", "redis://127.0.0.1:1") == ["full_docs"]
    assert completed(environ, "drop full", "no url") == ["full_docs"]
