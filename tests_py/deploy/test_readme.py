"""The commands of deploy/README.md for workers, as they stand, on the server they are about."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.deployment import DEPLOY, Deployed
from support.pages import commands
from support.servers import server_binaries

APPLICATION = """
from nano_graphrag_redis import RedisConfig, SyncRedisKVStorage
assert RedisConfig.from_env().redis_username == "nano_graphrag"
with SyncRedisKVStorage("full_docs") as docs:
    docs.upsert({"doc-1": {"content": "Marley was dead"}})
    print(docs.all_keys())
"""


def test_a_worker_with_the_environment_of_the_readme_reaches_the_server(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "app.py").write_text(APPLICATION)
    lines = commands("deploy/README.md")
    (make,) = {line for line in lines if line == "deploy/make-secrets"}
    subprocess.run(["bash", "-c", make], cwd=tmp_path, check=True, capture_output=True)
    worker = [line for line in lines if line.startswith(("export ", "nano-graphrag-redis "))]
    secrets = tmp_path / "deploy" / "secrets"
    with Deployed(server_binaries()["valkey"], "redis.conf", secrets) as server:
        script = "\n".join(worker).replace("redis://localhost:6379", server.url)
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "STORAGE_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), outside["PATH"]])
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=tmp_path, env=outside | {"PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "['doc-1']\n"), done.stderr
