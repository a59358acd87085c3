"""The commands that look at values and delete them, on real servers, as a program sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from nano_graphrag_redis import SyncRedisKVStorage
from nano_graphrag_redis.config.namespaces import KNOWN_NAMESPACES, LLM_CACHE
from support.servers import RedisServer, server_binaries

Command = Callable[..., "subprocess.CompletedProcess[str]"]

ODD = "[bold]odd\n\x1b[31m\u00e9 "


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """What the command says is the same of every server, and each run of it takes a second."""
    return server_binaries()["valkey"]


@pytest.fixture
def ours(command: Command, server: RedisServer) -> Command:
    """The command with the server's address."""
    return lambda *arguments, **more: command(*arguments, "--url", server.url, **more)


@pytest.fixture
def fill(server: RedisServer) -> Callable[..., None]:
    """Writes values into a namespace."""

    def write(namespace: str, values: dict[str, object], **settings: object) -> None:
        with SyncRedisKVStorage(namespace, {"redis_url": server.url, **settings}) as storage:
            storage.upsert(values)

    return write


def test_get_shows_a_value_for_people_and_for_programs(
    ours: Command, fill: Callable[..., None]
) -> None:
    value = {"content": "Marley was dead: [to begin with].", "\u00e9": [1.5, None]}
    fill("full_docs", {ODD: value})
    for json_option in ((), ("--json",)):
        shown = ours("get", "full_docs", ODD, *json_option)
        assert (json.loads(shown.stdout), shown.stderr, shown.returncode) == (value, "", 0)


# Each of its parts was coloured, which took minutes and gigabytes.
def test_get_writes_a_large_value_to_a_file_as_it_is(
    ours: Command, fill: Callable[..., None]
) -> None:
    value = {f"k{number}": number for number in range(600_000)}
    fill("full_docs", {"large": value})
    assert json.loads(ours("get", "full_docs", "large").stdout) == value


def test_get_tells_null_from_an_id_that_is_not_there(
    ours: Command, fill: Callable[..., None]
) -> None:
    fill("full_docs", {"null": None})
    shown = ours("get", "full_docs", "null", "--json")
    assert (shown.stdout, shown.returncode) == ("null\n", 0)
    absent = ours("get", "full_docs", "[absent]")
    assert (absent.stdout, absent.returncode) == ("", 1)
    assert "full_docs has no id [absent]" in absent.stderr
    told = json.loads(ours("get", "full_docs", "absent", "--json").stderr)
    assert told == {"error": "LookupError", "message": "full_docs has no id absent"}


def test_get_from_a_namespace_that_there_is_not_names_those_that_there_are(
    ours: Command, fill: Callable[..., None], server: RedisServer
) -> None:
    empty = ours("get", "docs", "doc-1")
    assert (empty.stdout, empty.returncode) == ("", 1)
    assert "there is no namespace docs at" in empty.stderr
    assert "nor any other" in empty.stderr
    fill("full_docs", {"doc-1": 1})
    fill("text_chunks", {"chunk-1": 1})
    mistyped = ours("get", "docs", "doc-1", "--json")
    assert (mistyped.stdout, mistyped.returncode) == ("", 1)
    assert json.loads(mistyped.stderr)["message"] == (
        f"there is no namespace docs at {server.url}/0; there are full_docs, text_chunks"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("drop", "full_doc", "--yes"),
        ("drop", "full_doc"),
        ("keys", "full_doc"),
        ("get", "full_doc", "doc-1"),
        ("prune", "--namespace", "full_doc"),
        ("prune", "--namespace", "full_docs", "--namespace", "full_doc"),
        ("export", "--to", "there", "--namespace", "full_doc"),
    ],
)
def test_a_mistyped_namespace_is_refused_with_those_that_there_are(
    ours: Command,
    fill: Callable[..., None],
    server: RedisServer,
    tmp_path: Path,
    arguments: tuple[str, ...],
) -> None:
    nothing = ours(*arguments)
    assert nothing.returncode == 1
    assert "there is no namespace full_doc at" in nothing.stderr
    assert "nor any other" in nothing.stderr
    fill("full_docs", {"doc-1": 1})
    fill("own", {"a": 1})
    for as_json in ((), ("--json",)):
        mistyped = ours(*arguments, *as_json)
        assert mistyped.returncode == 1
        assert mistyped.stdout.strip() in ("", "[]")
        message = json.loads(mistyped.stderr)["message"] if as_json else mistyped.stderr
        sentence = f"there is no namespace full_doc at {server.url}/0; there are full_docs, own"
        assert sentence in " ".join(message.split())
    assert server.client().dbsize() == 2
    assert list(tmp_path.glob("**/kv_store_*")) == []


def test_a_namespace_of_the_host_may_be_empty_and_one_of_an_application_is_found(
    ours: Command, fill: Callable[..., None]
) -> None:
    for empty in (("keys", "full_docs"), ("drop", "full_docs", "--yes")):
        assert ours(*empty).returncode == 0
    fill("own", {"a": 1})
    assert ours("keys", "own").stdout == "a\n"
    assert ours("export", "--to", "there", "--namespace", "own").returncode == 0
    assert ours("drop", "own", "--yes").stdout == "deleted 1 id of own\n"


@pytest.mark.parametrize("command_name", ["migrate", "verify"])
def test_a_mistyped_namespace_of_a_directory_is_refused_with_those_that_there_are(
    ours: Command, tmp_path: Path, command_name: str
) -> None:
    (tmp_path / "kv_store_full_docs.json").write_text("{}")
    mistyped = ours(command_name, "--from", ".", "--namespace", "full_doc")
    assert mistyped.returncode == 2
    said = " ".join(mistyped.stderr.split())
    assert "holds no kv_store_full_doc.json; there are full_docs" in said


def test_one_is_told_in_the_singular(ours: Command, fill: Callable[..., None]) -> None:
    fill("llm_response_cache", {"empty": None})
    assert ours("prune").stdout == "deleted 1 empty answer of llm_response_cache\n"
    fill("full_docs", {"doc-1": 1})
    assert ours("drop", "full_docs", "--yes").stdout == "deleted 1 id of full_docs\n"


def test_get_of_what_cannot_be_read_fails_and_says_why(
    ours: Command, redis_client: redis.Redis
) -> None:
    redis_client.set("nano_graphrag:full_docs:damaged", "{")
    shown = ours("get", "full_docs", "damaged", "--json")
    assert (shown.stdout, shown.returncode) == ("", 4)
    told = json.loads(shown.stderr)
    assert (told["error"], told["namespace"], told["id"]) == (
        "CorruptValueError",
        "full_docs",
        "damaged",
    )


def test_keys_lists_ids_one_a_line_whatever_is_in_them(
    ours: Command, fill: Callable[..., None]
) -> None:
    fill("text_chunks", {"b": 1, "a": 2, ODD: 3})
    shown = ours("keys", "text_chunks")
    assert shown.stdout.splitlines() == [r"[bold]odd\n\x1b[31m" + "\u00e9 ", "a", "b"]
    assert json.loads(ours("keys", "text_chunks", "--json").stdout) == sorted(["a", "b", ODD])
    assert json.loads(ours("keys", "nothing-here", "--json").stdout) == []


@pytest.mark.parametrize(
    ("command", "begins"), [("keys", "chunk-000000\n"), ("get", "{\n")], ids=["keys", "get"]
)
def test_a_command_ends_quietly_when_its_reader_leaves(
    server: RedisServer,
    fill: Callable[..., None],
    environ: dict[str, str],
    command: str,
    begins: str,
) -> None:
    ids = {f"chunk-{i:06}": i for i in range(20_000)}
    fill("text_chunks", {**ids, "large": ids} if command == "get" else ids)
    words = [command, "text_chunks", *(["large"] if command == "get" else [])]
    pipe = (
        f"{sys.executable} -m nano_graphrag_redis {' '.join(words)} --url {server.url} | head -n 1"
    )
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {pipe}"],
        # Unbuffered, a write that is cut off half-way is whole for Python.
        env={name: value for name, value in environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == (begins, "", 141)


def test_drop_asks_and_nobody_there_is_no_answer(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    fill("text_chunks", {"a": 1, "b": 2})
    refused = ours("drop", "text_chunks")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert redis_client.dbsize() == 2


def test_drop_deletes_the_namespace_and_no_other(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    fill("t", {"a": 1})
    fill("text_chunks", {"a": 1, "b": 2})
    dropped = ours("drop", "text_chunks", "--yes", "--json")
    assert json.loads(dropped.stdout) == {"namespace": "text_chunks", "deleted": 2}
    assert redis_client.keys() == [b"nano_graphrag:t:a"]


def test_drop_says_that_the_files_of_dual_writing_keep_what_it_deletes(
    ours: Command, fill: Callable[..., None]
) -> None:
    fill("text_chunks", {"a": 1})
    assert "kv_store_text_chunks.json" not in ours("drop", "text_chunks", "--yes").stderr
    said = ours("drop", "text_chunks", "--yes", REDIS_DUAL_WRITE="true").stderr
    said = " ".join(said.split())
    assert "remove kv_store_text_chunks.json and kv_store_text_chunks.changes" in said


def test_prune_deletes_answers_that_are_none_and_nothing_else(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    answers: dict[str, object] = {
        "good": {"return": "Marley was dead", "model": "m"},
        "null": None,
        "no answer": {"return": None, "model": "m"},
        "empty": {"return": "", "model": "m"},
        "blank": {"return": " \n", "model": "m"},
        "other": [],
    }
    fill("llm_response_cache", answers)
    fill("full_docs", {"empty": {"return": ""}})
    redis_client.set("nano_graphrag:llm_response_cache:damaged", "{")
    redis_client.lpush("nano_graphrag:llm_response_cache:list", "x")
    before = set(redis_client.keys())
    counted = json.loads(ours("prune", "--dry-run", "--json").stdout)
    assert (counted["answers"], set(redis_client.keys())) == ({"llm_response_cache": 4}, before)
    assert counted["unreadable"] == 2
    pruned = ours("prune")
    assert pruned.stdout == "deleted 4 empty answers of llm_response_cache\n"
    assert "2 values cannot be read and were left out" in pruned.stderr
    assert pruned.returncode == 1
    gone = {f"nano_graphrag:llm_response_cache:{id}".encode() for id in ("null", "no answer")}
    gone |= {f"nano_graphrag:llm_response_cache:{id}".encode() for id in ("empty", "blank")}
    assert set(redis_client.keys()) == before - gone


def test_prune_says_that_the_files_of_dual_writing_hold_what_it_deleted(
    ours: Command, fill: Callable[..., None]
) -> None:
    said = "files of redis_dual_write still hold them"
    for dual, wanted in (("false", False), ("true", True), ("true", False)):
        if wanted or dual == "false":
            fill("llm_response_cache", {"empty": {"return": ""}})
        pruned = ours("prune", REDIS_DUAL_WRITE=dual)
        assert (pruned.returncode, said in pruned.stderr) == (0, wanted), pruned


def test_drop_says_that_it_deletes_what_all_workspaces_share(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    shared = {"REDIS_SHARED_NAMESPACES": "llm_response_cache", "REDIS_WORKSPACE": "acme"}
    fill("llm_response_cache", {"paid by another": {"return": "x"}})
    fill("full_docs", {"own": 1}, redis_workspace="acme")
    for namespace, whose in (
        ("llm_response_cache", "of all workspaces"),
        ("full_docs", "workspace acme"),
    ):
        asked = " ".join(ours("drop", namespace, **shared).stderr.split())
        assert f"Delete 1 id of {namespace} at " in asked
        assert f", {whose}? Nobody is here" in asked
    assert redis_client.dbsize() == 2
    title = ours("stats", **shared).stdout.splitlines()[0]
    assert title.endswith(", workspace acme (of all workspaces: llm_response_cache)")


# Their values are no answers, and must not pass for answers without text.
@pytest.mark.parametrize("namespace", [name for name in KNOWN_NAMESPACES if name != LLM_CACHE])
def test_prune_deletes_nothing_of_a_namespace_that_holds_no_answers(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis, namespace: str
) -> None:
    fill(namespace, {"a": {"content": "Marley was dead"}, "b": {}})
    pruned = ours("prune", "--namespace", namespace)
    assert pruned.stdout == f"deleted 0 empty answers of {namespace}\n"
    assert redis_client.dbsize() == 2


def test_prune_removes_registry_entries_whose_value_is_gone(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    fill("llm_response_cache", {"a": {"return": "x"}, "b": {"return": "y"}}, redis_registry=True)
    redis_client.delete("nano_graphrag:llm_response_cache:a")
    pruned = ours("prune", "--json", REDIS_REGISTRY="true")
    assert json.loads(pruned.stdout)["registry_entries"]["llm_response_cache"] == 1
    registered = redis_client.zrange("nano_graphrag:@registry:llm_response_cache", 0, -1)
    assert b"b" in registered
    assert b"a" not in registered


def test_the_workspace_and_the_prefix_are_those_of_the_options(
    ours: Command, fill: Callable[..., None]
) -> None:
    fill("full_docs", {"a": "mine"}, redis_workspace="acme", redis_key_prefix="graph")
    where = ("--workspace", "acme", "--prefix", "graph", "--json")
    assert json.loads(ours("get", "full_docs", "a", *where).stdout) == "mine"
    variables = {"REDIS_WORKSPACE": "acme", "REDIS_KEY_PREFIX": "graph"}
    assert json.loads(ours("keys", "full_docs", "--json", **variables).stdout) == ["a"]
    assert json.loads(ours("keys", "full_docs", "--json").stdout) == []


ANSWERS: dict[str, object] = {
    "old": {"return": "x", "model": "gpt-4o"},
    "new": {"return": "y", "model": "gpt-5"},
    "cut off": {"return": '{"title": "Marley', "model": "gpt-4o"},
    "cut off in a fence": {"return": '```json\n{"title": "Marl"', "model": "gpt-5"},
    "whole": {"return": '```json\n{"title": "Marley"}\n```', "model": "gpt-4o"},
    "prose": {"return": "a set {of words", "model": "gpt-4o"},
    "deep": {"return": '{"a":' * 5000 + "1" + "}" * 5000, "model": "gpt-4o"},
    "blank": {"return": " ", "model": "gpt-4o"},
    "no model": {"return": "z"},
}


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ((), ["blank"]),
        (("--model", "gpt-5"), ["new", "cut off in a fence"]),
        (("--model", "no such"), []),
        (("--model", ""), []),
        (("--unparseable",), ["cut off", "cut off in a fence", "deep"]),
        (("--unparseable", "--model", "gpt-4o"), ["cut off", "deep"]),
        (("--older-than", "1h"), ["old", "prose"]),
        (("--older-than", "60m", "--model", "gpt-4o"), ["old", "prose"]),
        (("--older-than", "13h"), []),
    ],
    ids=str,
)
def test_prune_deletes_what_matches_all_that_is_asked(
    ours: Command,
    fill: Callable[..., None],
    redis_client: redis.Redis,
    options: tuple[str, ...],
    gone: list[str],
) -> None:
    fill("llm_response_cache", ANSWERS)
    for id in ("old", "prose"):
        redis_client.pexpire(f"nano_graphrag:llm_response_cache:{id}", 10 * 3600 * 1000)
    redis_client.persist("nano_graphrag:llm_response_cache:new")
    counted = json.loads(ours("prune", *options, "--dry-run", "--json").stdout)
    assert counted["answers"] == {"llm_response_cache": len(gone)}
    pruned = ours("prune", *options)
    assert pruned.returncode == 0, pruned.stderr
    keys: Any = redis_client.keys("*cache:*")
    left = {key.decode().rpartition(":")[2] for key in keys}
    assert left == set(ANSWERS) - set(gone)


def test_answers_of_a_model_without_a_name_are_not_called_empty(ours: Command) -> None:
    assert ours("prune", "--model", "").stdout == "deleted 0 answers of llm_response_cache\n"


def test_prune_knows_the_age_of_answers_that_were_renewed(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    cache = "nano_graphrag:llm_response_cache:"
    born = "nano_graphrag:@born:llm_response_cache:"
    fill(
        "llm_response_cache",
        dict.fromkeys(("new", "old", "rewritten", "never renewed"), ANSWERS["new"]),
    )
    for id in ("old", "rewritten"):
        redis_client.expire(f"{cache}{id}", 11 * 3600)
    redis_client.expire(f"{cache}never renewed", 6 * 3600)
    redis_client.set(f"{born}old", "", ex=(48 - 20) * 3600 + 60)
    redis_client.set(f"{born}rewritten", "", ex=10 * 3600)
    sliding = {"REDIS_TTL_SLIDING": "on", "REDIS_TTL_MAX_AGE": f"{48 * 3600}"}

    def older_than(age: str) -> int:
        counted = ours("prune", "--older-than", age, "--dry-run", "--json", **sliding)
        count: int = json.loads(counted.stdout)["answers"]["llm_response_cache"]
        return count

    assert [older_than(age) for age in ("30m", "2h", "7h", "19h", "21h")] == [3, 2, 1, 1, 0]


@pytest.mark.parametrize("age", ["", "soon", "\u0663d", "-1h", "1.5h", "1w", "9999999999s"])
def test_an_age_that_is_none_is_refused(ours: Command, age: str) -> None:
    refused = ours("prune", "--older-than", age)
    assert refused.returncode == 2
    assert "90m, 36h, 7d" in refused.stderr


def test_the_age_of_answers_that_never_expire_is_not_known(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    fill("llm_response_cache", ANSWERS, redis_ttl={"llm_response_cache": 0})
    refused = ours("prune", "--older-than", "1h", REDIS_TTL_LLM_CACHE="0")
    assert refused.returncode == 2
    assert "never expire" in " ".join(refused.stderr.split())
    assert len(redis_client.keys()) == len(ANSWERS)


def test_doctor_counts_the_answers_that_prune_would_delete(
    ours: Command, fill: Callable[..., None]
) -> None:
    fill("llm_response_cache", ANSWERS)
    found = json.loads(ours("doctor", "--json").stdout)["findings"]
    counts = {each["check"]: each["count"] for each in found if each["check"].endswith("-answer")}
    assert counts == {"empty-answer": 1, "unparseable-answer": 3}


# The search for an object began anew at every brace: of a megabyte of them it took minutes.
def test_an_answer_of_nothing_but_braces_is_looked_at_once(
    ours: Command, fill: Callable[..., None]
) -> None:
    fill("llm_response_cache", {"model in a loop": {"return": "{" * 4_000_000}})
    found = json.loads(ours("doctor", "--json").stdout)["findings"]
    assert "unparseable-answer" in [each["check"] for each in found]
    counted = json.loads(ours("prune", "--unparseable", "--dry-run", "--json").stdout)
    assert counted["answers"] == {"llm_response_cache": 1}


def test_copy_gives_the_answers_of_a_workspace_to_another(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    fill("llm_response_cache", ANSWERS, redis_workspace="one")
    fill("llm_response_cache", {"old": {"return": "theirs"}}, redis_workspace="two")
    to_two = ("copy", "--from-workspace", "one", "--to-workspace", "two", "--json")
    of_a_model = (*to_two, "--model", "gpt-5")
    counted = json.loads(ours(*of_a_model, "--dry-run").stdout)
    assert counted == {"dry_run": True, "copied": 2, "already_there": 0, "unreadable": 0}
    assert redis_client.keys("nano_graphrag@two:*") == [b"nano_graphrag@two:llm_response_cache:old"]
    assert json.loads(ours(*of_a_model).stdout)["copied"] == 2
    assert json.loads(ours(*to_two).stdout) == {
        "dry_run": False, "copied": len(ANSWERS) - 3, "already_there": 3, "unreadable": 0,
    }  # fmt: skip
    theirs = ours("get", "llm_response_cache", "old", "--workspace", "two", "--json")
    assert json.loads(theirs.stdout) == {"return": "theirs"}
    copied = ours("get", "llm_response_cache", "deep", "--workspace", "two", "--json")
    assert json.loads(copied.stdout) == ANSWERS["deep"]
    outside = ours("copy", "--to-workspace", "", REDIS_WORKSPACE="one")
    assert outside.returncode == 0, outside.stderr
    assert outside.stdout == "copied 9 answers to outside every workspace; 0 were there already\n"


def test_copy_and_export_of_nothing_say_so(ours: Command, tmp_path: Path) -> None:
    copied = ours("copy", "--to-workspace", "two", "--from-workspace", "mistyped")
    assert copied.returncode == 0
    assert "there are no answers in the workspace mistyped" in copied.stderr
    exported = ours("export", "--to", str(tmp_path / "out"), "--workspace", "mistyped")
    assert exported.returncode == 0
    assert "workspace mistyped: nothing to export" in exported.stderr


def test_copy_says_what_it_could_not_read_and_copies_the_rest(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    fill("llm_response_cache", {"good": {"return": "x", "model": "m"}})
    redis_client.set("nano_graphrag:llm_response_cache:damaged", "{")
    copied = ours("copy", "--to-workspace", "two")
    assert copied.stdout == "copied 1 answer to two; 0 were there already\n"
    assert "1 value cannot be read and was left out" in copied.stderr
    assert copied.returncode == 1


# JSON can say what no value of a storage is: nothing of its batch was copied, nor what came after.
def test_copy_names_what_it_could_not_write_and_copies_the_rest(
    ours: Command, fill: Callable[..., None], redis_client: redis.Redis
) -> None:
    fill("llm_response_cache", {"good": {"return": "x"}, "other": {"return": "y"}})
    redis_client.set("nano_graphrag:llm_response_cache:odd", rb'{"return":"\ud800"}')
    copied = ours("copy", "--to-workspace", "two")
    assert copied.stdout == "copied 2 answers to two; 0 were there already\n"
    assert "lone surrogate" in copied.stderr
    assert "'odd'" in copied.stderr
    assert copied.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to-workspace", "one", "--from-workspace", "one"), "the same"),
        (("--to-workspace", "a:b"), "--to-workspace"),
        ((), "--to-workspace"),
    ],
)
def test_a_copy_that_makes_no_sense_is_refused(
    ours: Command, arguments: tuple[str, ...], said: str
) -> None:
    refused = ours("copy", *arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "\x1b[2J" not in refused.stderr


def test_answers_that_all_workspaces_share_are_not_copied(ours: Command) -> None:
    shared = {"REDIS_SHARED_NAMESPACES": "llm_response_cache"}
    refused = ours("copy", "--to-workspace", "one", **shared)
    assert refused.returncode == 2
    assert "every workspace" in " ".join(refused.stderr.split())
