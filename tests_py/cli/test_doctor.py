"""``doctor``: what it says of a server, and how it ends for a script."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.peer import Peer
from support.servers import RedisServer

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server in good order, of each test's own."""
    with RedisServer(appendonly="yes", maxmemory_policy="noeviction") as server:
        yield server


def test_a_healthy_server_ends_with_0(command: Command, server: RedisServer) -> None:
    examined = command("doctor", "--url", server.url)
    assert (examined.returncode, examined.stderr) == (0, "")
    assert "0 errors, 0 warnings" in examined.stdout


def test_an_error_ends_with_1_and_says_why_and_what_to_do(
    command: Command, server: RedisServer
) -> None:
    server.client().config_set("maxmemory-policy", "allkeys-lru")
    shown = command("doctor", "--url", server.url)
    assert shown.returncode == 1
    assert "✗ maxmemory-policy is allkeys-lru" in shown.stdout
    assert "CONFIG SET maxmemory-policy" in shown.stdout
    told = command("doctor", "--url", server.url, "--json")
    report = json.loads(told.stdout)
    assert (told.returncode, report["errors"]) == (1, 1)
    (error,) = (each for each in report["findings"] if each["severity"] == "error")
    assert error["check"] == "eviction-policy"
    assert error["why"]
    assert error["remedy"]


def test_a_refused_login_and_a_file_without_a_password_are_settings(
    command: Command, server: RedisServer, tmp_path: Path
) -> None:
    server.client().config_set("requirepass", "secret")
    for examined in (
        command("doctor", "--url", server.url),
        command("keys", "x", "--url", server.url),
    ):
        assert examined.returncode == 2
    told = command("doctor", "--url", server.url, REDIS_PASSWORD="wrong")
    assert told.returncode == 2
    assert "✗ the server refused the login" in told.stdout
    assert "check redis_username and redis_password" in told.stdout
    for file in (tmp_path / "none", Path("/dev/zero")):
        refused = command("doctor", "--url", server.url, REDIS_PASSWORD_FILE=str(file))
        assert refused.returncode == 2
        assert "redis_password_file cannot be read" in " ".join(refused.stderr.split())
        assert "check that the server runs" not in refused.stdout


def test_repair_mends_what_may_be_mended(command: Command, server: RedisServer) -> None:
    settings = {"redis_url": server.url, "redis_ttl": {"full_docs": 600}}
    with (
        SyncRedisKVStorage("full_docs", settings) as docs,
        SyncRedisKVStorage("text_chunks", settings) as chunks,
    ):
        docs.upsert({"doc-1": {"content": "Marley was dead"}})
        chunks.upsert({"chunk-1": {"content": "Marley", "full_doc_id": "doc-1"}})
    found = command("doctor", "--url", server.url)
    assert found.returncode == 1
    assert "doc-1" in found.stdout
    assert "--repair mends it" in found.stdout
    mended = command("doctor", "--url", server.url, "--repair", "--json")
    report = json.loads(mended.stdout)
    assert (mended.returncode, report["errors"]) == (0, 0)
    assert [each["check"] for each in report["repaired"]] == ["ttl"]


def test_repair_with_dual_writing_is_told_whose_files_follow(
    command: Command, server: RedisServer, tmp_path: Path
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as docs:
        docs.upsert({"doc-1": {"content": "Marley was dead"}})
    file = tmp_path / "kv_store_full_docs.json"
    file.write_text('{"doc-1": {}, "doc-2": {}}')
    repair = ("doctor", "--url", server.url, "--repair", "--json")
    untold = command(*repair, REDIS_DUAL_WRITE="true")
    assert untold.returncode == 2
    assert "name its working_dir with --in DIR" in json.loads(untold.stderr)["message"]
    mended = command(*repair, "--in", str(tmp_path), REDIS_DUAL_WRITE="true")
    assert mended.returncode == 0
    assert json.loads(file.read_text()).keys() == {"doc-2"}


# Whose documents were forgotten has to be known: they are to be inserted again.
@pytest.mark.parametrize("broken_off", ["Ctrl-C", "refused"])
def test_a_repair_that_is_broken_off_says_what_it_has_done(
    environ: dict[str, str], broken_off: str
) -> None:
    waiting = threading.Event()

    def answered(words: list[bytes]) -> bytes:
        name = words[0]
        if name == b"SCAN":
            chunks = words[3].startswith(b"nano_graphrag:text_chunks:")
            keys = b"*0\r\n" if chunks else b"*1\r\n$29\r\nnano_graphrag:full_docs:doc-1\r\n"
            return b"*2\r\n$1\r\n0\r\n" + keys
        if name == b"PERSIST" and broken_off == "Ctrl-C":
            waiting.set()
            return b""
        answers = {
            b"TYPE": b"+string\r\n",
            b"PTTL": b":60000\r\n",
            b"GET": b'$15\r\n{"content":"x"}\r\n',
            b"MGET": b'*1\r\n$15\r\n{"content":"x"}\r\n',
            b"EXISTS": b":1\r\n",
            b"UNLINK": b":1\r\n",
            b"PERSIST": b"-NOPERM no permissions to run the 'persist' command\r\n",
        }
        return answers.get(name, b"+OK\r\n")

    repair = [sys.executable, "-m", "nano_graphrag_redis", "doctor", "--repair", "--json"]
    with (
        Peer(answered) as peer,
        subprocess.Popen(
            repair, env=environ | {"REDIS_URL": peer.url}, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        if broken_off == "Ctrl-C":
            assert waiting.wait(timeout=60)
            process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=60)
    assert process.returncode == {"Ctrl-C": 130, "refused": 4}[broken_off]
    report = json.loads(shown)
    (done,) = report["repaired"]
    assert (done["check"], done["ids"]) == ("documents-without-chunks", ["doc-1"])
    assert report["complete"] is False


def test_the_line_of_the_user_asks_no_server(command: Command) -> None:
    shown = command("doctor", "--acl", "--workspace", "acme", "--url", "redis://127.0.0.1:1")
    assert shown.returncode == 0
    assert shown.stdout.startswith(
        "ACL SETUSER nano_graphrag reset on >PASSWORD ~nano_graphrag@acme:*"
    )
    assert shown.stdout.count("\n") == 1


@pytest.mark.parametrize("columns", ["80", "40"])
def test_advice_is_shown_to_its_end_however_narrow_it_is(
    command: Command, server: RedisServer, columns: str
) -> None:
    with SyncRedisKVStorage("full_docs", {"redis_url": server.url}) as docs:
        docs.upsert({f"doc-{n}": {"content": "Marley was dead"} for n in range(12)})
    where = ("--url", server.url)
    (error,) = (
        each
        for each in json.loads(command("doctor", *where, "--json").stdout)["findings"]
        if each["severity"] == "error"
    )
    shown = command("doctor", *where, COLUMNS=columns).stdout.splitlines()
    assert len(error["why"]) > 80
    assert f"  why {error['why']}" in shown
    assert f"  do  {error['remedy']}" in shown
    assert f"  ids {', '.join(error['ids'])} and 2 more" in shown
    assert shown[-1] == "1 error, 0 warnings"


def test_what_a_storage_would_log_of_its_server_is_said_as_a_finding_only(command: Command) -> None:
    with RedisServer(appendonly="no", maxmemory_policy="noeviction") as server:
        shown = command("doctor", "--url", server.url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "! the append-only file is off" in shown.stdout
    assert "0 errors, 1 warning\n" in shown.stdout
