"""The way back from a backup that deploy/README.md tells of, on each kind of server."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.conditions import eventually
from support.deployment import Deployed

KEY, VALUE = "nano_graphrag:full_docs:doc-1", b'{"content":"Marley was dead"}'


def test_a_snapshot_is_restored_through_a_start_without_the_append_only_file(
    server_binary: Path, secrets: Path, tmp_path: Path
) -> None:
    with Deployed(server_binary, "redis.conf", secrets) as first:
        operator = first.as_user("operator")
        operator.set(KEY, VALUE)
        operator.save()
        shutil.copy(first.directory / "dump.rdb", tmp_path)

    restored = Deployed(server_binary, "redis.conf", secrets, "appendonly no")
    shutil.copy(tmp_path / "dump.rdb", restored.directory)
    with restored:
        operator = restored.as_user("operator")
        assert operator.get(KEY) == VALUE
        operator.config_set("appendonly", "yes")
        eventually(lambda: operator.info("persistence")["aof_last_bgrewrite_status"] == "ok")
        eventually(lambda: operator.info("persistence")["aof_rewrite_in_progress"] == 0)
        eventually(lambda: any(restored.directory.glob("appendonlydir/*.manifest")))
        shutil.copytree(restored.directory / "appendonlydir", tmp_path / "appendonlydir")

    again = Deployed(server_binary, "redis.conf", secrets)
    shutil.copytree(tmp_path / "appendonlydir", again.directory / "appendonlydir")
    with again:
        assert again.as_user("operator").get(KEY) == VALUE


def test_a_snapshot_alone_is_not_read_where_the_append_only_file_is_on(
    server_binary: Path, secrets: Path
) -> None:
    """The reason for the way round; a start that read it would make the README's words needless."""
    with Deployed(server_binary, "redis.conf", secrets) as first:
        operator = first.as_user("operator")
        operator.set(KEY, VALUE)
        operator.save()
        taken = (first.directory / "dump.rdb").read_bytes()
    empty = Deployed(server_binary, "redis.conf", secrets)
    (empty.directory / "dump.rdb").write_bytes(taken)
    with empty:
        assert empty.as_user("operator").get(KEY) is None
