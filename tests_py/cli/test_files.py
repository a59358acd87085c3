"""``migrate``, ``verify`` and ``export``: the way there and back, as an operator walks it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support.servers import RedisServer, server_binaries

Command = Callable[..., "subprocess.CompletedProcess[str]"]

FILES = {
    "full_docs": {"doc-1": {"content": "Marley was dead: \u2018to begin with\u2019."}},
    "llm_response_cache": {f"answer-{i}": {"return": str(i), "model": "m"} for i in range(30)},
}


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What the command says is the same of every server."""
    return server_binaries()["valkey"]


@pytest.fixture
def ours(command: Command, server: RedisServer) -> Command:
    return lambda *arguments, columns="80": command(
        *arguments, "--url", server.url, COLUMNS=columns
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A working directory of the host's."""
    directory = tmp_path / "cache"
    directory.mkdir()
    for namespace, values in FILES.items():
        text = json.dumps(values, indent=2, ensure_ascii=False)
        (directory / f"kv_store_{namespace}.json").write_text(text, encoding="utf-8")
    return directory


def test_there_and_back(
    ours: Command, files: Path, tmp_path: Path, redis_client: redis.Redis
) -> None:
    source = ("--from", str(files))
    before = ours("verify", *source, "--json")
    assert (before.returncode, json.loads(before.stdout)["ok"]) == (1, False)

    dry = ours("migrate", *source, "--dry-run")
    assert dry.returncode == 0
    assert "nothing was written" in dry.stdout
    assert redis_client.dbsize() == 0

    migrated = ours("migrate", *source)
    assert migrated.returncode == 0
    assert "31 ids in 2 files" in migrated.stderr
    assert "30 answers of llm_response_cache will expire 12 hours after" in migrated.stderr
    assert redis_client.dbsize() == 32  # with the note of whose keyspace it is

    again = json.loads(ours("migrate", *source, "--json").stdout)
    assert again["ok"]
    assert {each["namespace"]: each["unchanged"] for each in again["namespaces"]} == {
        "full_docs": 1,
        "llm_response_cache": 30,
    }

    same = ours("verify", *source)
    assert same.returncode == 0
    assert "hold the same" in same.stdout

    redis_client.set("nano_graphrag:full_docs:doc-1", "{}")
    redis_client.delete("nano_graphrag:llm_response_cache:answer-7")
    differ = ours("verify", *source)
    assert differ.returncode == 1
    assert "full_docs, another value: doc-1" in differ.stdout
    assert "llm_response_cache, only in the file: answer-7" in differ.stdout

    ours("migrate", *source)
    back = tmp_path / "back"
    exported = ours("export", "--to", str(back), "--json")
    assert exported.returncode == 0
    assert [file["ids"] for file in json.loads(exported.stdout)["files"]] == [1, 30]
    for namespace, values in FILES.items():
        assert json.loads((back / f"kv_store_{namespace}.json").read_bytes()) == values


def test_a_ttl_of_ones_own_is_taken(ours: Command, files: Path, redis_client: redis.Redis) -> None:
    only = ("--from", str(files), "--namespace", "llm_response_cache", "--ttl", "0")
    assert "will expire" not in ours("migrate", *only).stderr
    assert redis_client.ttl("nano_graphrag:llm_response_cache:answer-1") == -1
    assert redis_client.exists("nano_graphrag:full_docs:doc-1") == 0


def test_a_directory_without_files_ends_with_2(ours: Command, tmp_path: Path) -> None:
    for command in ("migrate", "verify"):
        ended = ours(command, "--from", str(tmp_path))
        assert ended.returncode == 2
        assert "kv_store_" in ended.stderr


def test_a_damaged_file_ends_with_4(ours: Command, files: Path) -> None:
    (files / "kv_store_full_docs.json").write_text('{"doc-1": {')
    ended = ours("migrate", "--from", str(files), "--namespace", "full_docs")
    assert ended.returncode == 4
    assert "kv_store_full_docs.json" in ended.stderr


def test_files_that_a_killed_process_left_behind_are_brought_up_to_date(
    ours: Command, files: Path
) -> None:
    log = files / "kv_store_full_docs.changes"
    log.write_text('["set","doc-2",{"content":"Scrooge"}]\n["delete","doc-1"]\n')
    folded = ours("fold", "--in", str(files))
    assert (folded.returncode, "full_docs" in folded.stdout) == (0, True), folded
    text = (files / "kv_store_full_docs.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"doc-2": {"content": "Scrooge"}}
    assert not log.exists()
    again = ours("fold", "--in", str(files), "--json")
    assert json.loads(again.stdout)["files"] == []


def test_an_export_of_nothing_over_a_file_of_values_is_refused(ours: Command, files: Path) -> None:
    before = (files / "kv_store_full_docs.json").read_bytes()
    exported = ours("export", "--to", str(files), "--namespace", "full_docs")
    assert exported.returncode == 1
    assert "kv_store_full_docs.json is left as it is" in exported.stdout
    assert (files / "kv_store_full_docs.json").read_bytes() == before


def test_a_fold_says_what_it_could_not_ask_of_the_server(command: Command, files: Path) -> None:
    log = files / "kv_store_full_docs.changes"
    log.write_text('["delete?","doc-1"]\n["set","doc-2",2]\n')
    nowhere = ("--url", "redis://127.0.0.1:1")
    folded = command("fold", "--in", str(files), *nowhere, REDIS_MAX_RETRIES="0")
    assert folded.returncode == 0, folded.stderr
    assert "kv_store_full_docs.changes keeps what only the server can say" in folded.stderr
    assert log.read_text() == '["delete?","doc-1"]\n'


def test_lines_of_a_log_that_are_no_change_are_said_to_be_skipped(
    ours: Command, files: Path
) -> None:
    log = files / "kv_store_full_docs.changes"
    for command, option in (("fold", "--in"), ("export", "--to")):
        assert ours("migrate", "--from", str(files)).returncode == 0
        log.write_text('<<<<\n["set","doc-2",{"content":"Scrooge"}]\n')
        said = ours(command, option, str(files), columns="1000")
        assert said.returncode == 0, said
        assert f"full_docs: 1 line (1) of {log}" in said.stderr
        log.write_text('["set","doc-2",2]\n["set","doc-3"\n')
        done = json.loads(ours(command, option, str(files), "--json").stdout)
        assert done["skipped"] == [{"log": str(log), "count": 1, "lines": [2]}]


def test_a_server_that_forgets_is_warned_of_once_by_what_brings_data_to_it(
    command: Command, files: Path
) -> None:
    with RedisServer(appendonly="no") as server:
        for times, arguments in (
            (1, ("migrate", "--from", str(files), "--dry-run")),
            (1, ("migrate", "--from", str(files))),
            (0, ("verify", "--from", str(files))),
            (0, ("stats",)),
        ):
            said = command(*arguments, "--url", server.url).stderr
            assert said.count("the append-only file is off") == times, said


def test_a_fold_of_no_directory_is_refused_and_one_of_nothing_says_so(
    ours: Command, tmp_path: Path
) -> None:
    refused = ours("fold", "--in", str(tmp_path / "mistyped"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "mistyped is no directory" in refused.stderr
    nothing = ours("fold", "--in", str(tmp_path))
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "there is no log of changes" in nothing.stderr
    assert nothing.stderr.endswith("nothing to fold\n")


def test_the_names_of_namespaces_are_never_folded(ours: Command, files: Path) -> None:
    source = ("--from", str(files))
    for arguments in (("verify", *source), ("migrate", *source), ("stats",)):
        for columns in ("80", "30"):
            rows = ours(*arguments, columns=columns).stdout.splitlines()
            assert [row for row in rows if row.startswith("llm_response_cache ")], rows
            if columns == "80":
                assert max(len(row) for row in rows if row.startswith("namespace")) <= 80


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("odd.json", ["migrate --from", "verify --from"]),
        ("full_docs.lock", ["export --to"]),
        ("full_docs.json.new", ["export --to"]),
        ("full_docs.changes", ["export --to", "fold --in"]),
        ("full_docs.changes.folding", ["export --to", "fold --in"]),
    ],
)
def test_a_pipe_among_the_files_is_named_and_not_waited_for(
    ours: Command, files: Path, name: str, commands: list[str]
) -> None:
    assert ours("migrate", "--from", str(files)).returncode == 0
    pipe = files / f"kv_store_{name}"
    os.mkfifo(pipe)
    for words in commands:
        refused = ours(*words.split(), str(files))
        assert refused.returncode == 4, refused
        assert pipe.name in refused.stderr
