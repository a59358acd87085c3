"""The command lines of the backup's CronJob and of the restore's Job, on real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nano_graphrag_redis import SyncRedisKVStorage
from support.deployment import DEPLOY, Deployed, containers, documents
from support.host import ROOT

NAMESPACES = ("full_docs", "text_chunks", "community_reports", "llm_response_cache", "a_plugin_s")
TOLD = {"content": "Marley was dead: to begin with.", "é": [1, 2.5, None, {"deep": "\U0001f600"}]}
GRAPH = "<graphml/>"
SMALL_FILES_ONLY = ("sh", "-c", 'ulimit -f 100; exec "$@"', "sh")
"""Runs a command that is refused room for a file of 100 KiB, as on a full volume."""


class Deployment(NamedTuple):
    """A server, and what the jobs' containers have mounted."""

    server: Deployed
    home: Path
    secrets: Path

    def settings(self) -> dict[str, Any]:
        return {
            "redis_url": self.server.url,
            "working_dir": str(self.home / "work"),
            "redis_username": "nano_graphrag",
            "redis_password_file": str(self.secrets / "redis_password"),
        }

    def run(
        self, container: Any, *, wrapper: tuple[str, ...] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a container's command line, its volumes being directories of the test."""
        environ = {each["name"]: each["value"] for each in container["env"]}
        environ["REDIS_URL"] = self.server.url
        environ["REDIS_PASSWORD_FILE"] = str(
            self.secrets / Path(environ["REDIS_PASSWORD_FILE"]).name
        )
        environ |= {"WORKING_DIR": f"{self.home}/work", "BACKUP_DIR": f"{self.home}/backup"}
        environ |= {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return subprocess.run(
            [*wrapper, *container["command"], *container["args"]],
            env=environ | more, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def backups(self) -> list[str]:
        return sorted(path.name for path in (self.home / "backup").iterdir())


def container_of(file: str, kind: str) -> Any:
    """The one container of a rendered job."""
    (manifest,) = [each for each in documents(f"kubernetes/{file}") if each["kind"] == kind]
    job = manifest["spec"]["jobTemplate"] if kind == "CronJob" else manifest
    (container,) = containers(job)
    return container


BACKUP = container_of("workers.yaml", "CronJob")
RESTORE = container_of("restore.yaml", "Job")


@pytest.fixture
def deployment(server_binary: Path, secrets: Path, tmp_path: Path) -> Iterator[Deployment]:
    """The server of deploy/, filled, and a working directory with a graph."""
    for name in ("work", "backup"):
        (tmp_path / name).mkdir()
    (tmp_path / "work" / "graph_chunk_entity_relation.graphml").write_text(GRAPH)
    with Deployed(server_binary, "redis.conf", secrets) as server:
        made = Deployment(server, tmp_path, secrets)
        for namespace in NAMESPACES:
            with SyncRedisKVStorage(namespace, made.settings()) as store:
                store.upsert({f"{namespace}-{i}": TOLD | {"i": i} for i in range(50)})
        yield made


def contents(deployment: Deployment) -> dict[bytes, Any]:
    """Every key with its bytes."""
    client = deployment.server.as_user("operator")
    return {key: client.get(key) for key in client.scan_iter()}


def test_a_backup_restores_every_namespace_to_equality(deployment: Deployment) -> None:
    before = contents(deployment)
    assert len(before) >= 50 * len(NAMESPACES)
    done = deployment.run(BACKUP)
    assert done.returncode == 0, done.stdout + done.stderr
    (name,) = deployment.backups()
    assert "next: " not in done.stderr  # what it was written as has another name by now

    deployment.server.as_user("operator").flushall()
    graph = deployment.home / "work" / "graph_chunk_entity_relation.graphml"
    graph.unlink()
    done = deployment.run(RESTORE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"restored {name}" in done.stdout
    after = contents(deployment)
    assert after.keys() ^ before.keys() == set()
    assert after == before
    assert graph.read_text() == GRAPH


def test_a_restore_brings_back_what_was_changed_since_and_keeps_what_is_newer(
    deployment: Deployment,
) -> None:
    before = contents(deployment)
    assert deployment.run(BACKUP).returncode == 0
    with SyncRedisKVStorage("full_docs", deployment.settings()) as store:
        store.upsert({"full_docs-1": {"content": "changed"}, "newer": {"content": "kept"}})
    done = deployment.run(RESTORE)
    after = contents(deployment)
    assert before.items() <= after.items()
    assert [key.rpartition(b":")[2] for key in after.keys() - before.keys()] == [b"newer"]
    assert done.returncode == 0, done.stderr


def test_the_oldest_backups_go_and_half_a_backup_is_none(deployment: Deployment) -> None:
    kept = deployment.home / "backup"
    for day in range(1, 8):
        (kept / f"2026010{day}T000000Z").mkdir()
    (kept / ".partial-20260109T000000Z").mkdir()
    (kept / "notes").mkdir()
    assert deployment.run(BACKUP, BACKUP_KEEP="3").returncode == 0
    left = deployment.backups()
    assert left[:2] == ["20260106T000000Z", "20260107T000000Z"]
    assert left[3:] == ["notes"]
    assert not (kept / ".partial-20260109T000000Z").exists()


def test_a_backup_without_a_server_fails_and_leaves_the_others(deployment: Deployment) -> None:
    assert deployment.run(BACKUP).returncode == 0
    before = deployment.backups()
    deployment.server.kill()
    done = deployment.run(BACKUP, BACKUP_KEEP="1")
    assert done.returncode != 0
    assert [name for name in deployment.backups() if not name.startswith(".")] == before


# A server without its volume, or another workspace: night by night the good ones would go.
def test_an_empty_server_makes_no_backup_where_there_are_others(deployment: Deployment) -> None:
    assert deployment.run(BACKUP).returncode == 0
    before = deployment.backups()
    deployment.server.as_user("operator").flushall()
    with SyncRedisKVStorage("llm_response_cache", deployment.settings()) as answers:
        answers.upsert({"asked since": TOLD})
    done = deployment.run(BACKUP, BACKUP_KEEP="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Redis holds no document" in done.stderr
    assert deployment.backups() == before


def test_a_backup_without_room_for_the_graph_fails_and_leaves_the_others(
    deployment: Deployment,
) -> None:
    assert deployment.run(BACKUP).returncode == 0
    before = deployment.backups()
    (deployment.home / "work" / "graph_chunk_entity_relation.graphml").write_text(GRAPH * 50_000)
    done = deployment.run(BACKUP, wrapper=SMALL_FILES_ONLY, BACKUP_KEEP="1")
    assert done.returncode != 0
    assert "is whole" not in done.stdout
    assert [name for name in deployment.backups() if not name.startswith(".")] == before


def test_a_restore_without_room_for_the_graph_fails_and_changes_nothing(
    deployment: Deployment,
) -> None:
    graph = deployment.home / "work" / "graph_chunk_entity_relation.graphml"
    graph.write_text(GRAPH * 50_000)
    assert deployment.run(BACKUP).returncode == 0
    graph.write_text("written since")
    with SyncRedisKVStorage("full_docs", deployment.settings()) as store:
        store.upsert({"full_docs-1": {"content": "changed"}})
    before = contents(deployment)
    done = deployment.run(RESTORE, wrapper=SMALL_FILES_ONLY)
    assert done.returncode != 0
    assert "restored" not in done.stdout
    assert graph.read_text() == "written since"
    assert contents(deployment) == before
    assert deployment.run(RESTORE).returncode == 0  # with room again
    assert graph.read_text() == GRAPH * 50_000
    assert [path.name for path in graph.parent.iterdir()] == [graph.name]


def test_an_empty_server_may_have_a_first_backup(deployment: Deployment) -> None:
    deployment.server.as_user("operator").flushall()
    assert deployment.run(BACKUP).returncode == 0
    (name,) = deployment.backups()
    assert [path.name for path in (deployment.home / "backup" / name).iterdir()] == [
        "graph_chunk_entity_relation.graphml"
    ]


def test_a_backup_that_is_not_there_is_named(deployment: Deployment) -> None:
    for asked in ("latest", "20200101T000000Z"):
        done = deployment.run(RESTORE, RESTORE_FROM=asked)
        assert done.returncode == 1
        assert "no backup" in done.stderr


def test_the_commands_are_those_of_the_chart() -> None:
    for container, file in ((BACKUP, "backup.sh"), (RESTORE, "restore.sh")):
        script = DEPLOY / "helm" / "nano-graphrag" / "files" / file
        assert container["args"][0].strip() == script.read_text().strip()
