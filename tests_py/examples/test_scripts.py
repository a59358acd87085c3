"""The examples that are one program each."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from support.host import ROOT, Llm
from support.servers import RedisServer

Example = Callable[..., str]

EXAMPLES = ROOT / "examples"
STANDIN = ROOT / "tests_py" / "hosts" / "standin_factory_host"


@pytest.mark.timeout(300)  # the host is imported twice, and indexes a text
def test_the_minimal_program_pays_for_its_first_run_only(
    example: Example, llm: Llm, book: Path, server: RedisServer
) -> None:
    settings = {**llm.environment, "REDIS_URL": server.url}
    arguments = ("minimal.py", book, "Who is Scrooge?")
    first = example(*arguments, **settings)
    paid = llm.calls()
    assert "community reports and their passages" in first
    assert first.endswith(example(*arguments, **settings).splitlines()[-1] + "\n")
    assert set(llm.calls() - paid) == {"embedding"}  # the host caches none


def test_what_is_cached_is_told_by_model(
    example: Example, server: RedisServer, redis_client: Redis
) -> None:
    for number in range(3):
        value = '{"return": "Marley was dead", "model": "gpt-4o"}'
        redis_client.set(f"nano_graphrag:llm_response_cache:{number}", value)
    told = example("what_is_cached.py", REDIS_URL=server.url)
    assert told == "gpt-4o: 3 answers, 45 letters\n"


def test_the_factory_host_is_configured_by_its_environment_file(
    server: RedisServer, tmp_path: Path
) -> None:
    file = (EXAMPLES / "factory_host" / "service.env").read_text(encoding="utf-8")
    (tmp_path / "service.env").write_text(file.replace("redis://localhost:6379", server.url))
    program = EXAMPLES / "factory_host" / "service.py"
    script = f"set -a; source service.env; exec {sys.executable} -W error {program}"
    done = subprocess.run(
        ["bash", "-euc", script],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(STANDIN)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("SyncRedisKVStorage('full_docs', ")
    assert done.stdout.endswith("answers: True\n")


def test_every_example_is_in_the_list_and_none_else() -> None:
    listed = re.findall(r"^\| \[([\w./]+)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in EXAMPLES.iterdir()
        if path.name not in {"README.md", "__pycache__"}
    }
    assert sorted(listed) == sorted(there)
