"""The cluster of deploy/: six real servers with its configuration, made one by its script."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from nano_graphrag_redis import SyncRedisKVStorage
from support.conditions import eventually
from support.deployment import DEPLOY, Deployed


def test_six_members_become_a_cluster_and_stay_one(tmp_path: Path) -> None:
    binary = shutil.which("redis-server")
    assert binary is not None, "apt-get install redis-server"
    secrets = tmp_path / "secrets"
    subprocess.run([DEPLOY / "make-secrets", secrets], check=True, capture_output=True)
    form = [DEPLOY / "redis" / "form-cluster", secrets / "redis_operator_password"]
    with ExitStack() as stack:
        members = [
            stack.enter_context(
                Deployed(
                    Path(binary),
                    "cluster.conf",
                    secrets,
                    f"cluster-announce-hostname redis-{n}",
                    "cluster-preferred-endpoint-type ip",  # here nobody knows the names
                )
            )
            for n in range(1, 7)
        ]
        addresses = [f"127.0.0.1:{member.port}" for member in members]

        def formed() -> str:
            return subprocess.run(
                [*form, *addresses], check=True, capture_output=True, text=True
            ).stdout

        formed()
        # Members tell each other, and one after another knows that all is covered.
        eventually(lambda: all(whole(member) for member in members))
        assert formed() == "the cluster is whole\n"
        roles = [member.as_user("operator").info("replication") for member in members]
        assert sorted(role["role"] for role in roles) == ["master"] * 3 + ["slave"] * 3
        # Logged in as the user of replication, with the password of its file.
        eventually(lambda: all(linked(member) for member in members))
        use(members)
        nodes = str(members[0].as_user("operator").execute_command("CLUSTER", "SLOTS"))
        assert "redis-1" in nodes


def use(members: list[Deployed]) -> None:
    """The storage over the cluster, as the user that was made for it."""
    settings = {
        "redis_url": ",".join(member.url for member in members[:2]),
        "redis_cluster": True,
        "redis_username": "nano_graphrag",
        "redis_password": members[0].secret_of("nano_graphrag"),
    }
    written = {f"doc-{number}": {"number": number} for number in range(100)}
    with SyncRedisKVStorage("full_docs", settings) as docs:
        docs.upsert(written)
        assert docs.get_by_ids(list(written)) == list(written.values())
        assert set(docs.all_keys()) == set(written)
        docs.drop()
        assert docs.all_keys() == []


def whole(member: Deployed) -> bool:
    state = member.as_user("operator").execute_command("CLUSTER", "INFO")
    return "cluster_state:ok" in str(state)


def linked(member: Deployed) -> bool:
    told = member.as_user("operator").info("replication")
    return bool(told["role"] == "master" or told["master_link_status"] == "up")
