"""Four processes of the real host embed each text once in all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.host import BOOK, Llm
from support.preloaded import Preloaded
from support.servers import RedisServer

SCRIPT = Path(__file__).with_name("host_script.py")
PROCESSES = 4
LETTERS = 3_000


def index(
    host: Preloaded, llm: Llm, server: RedisServer, working_dir: Path, text: Path
) -> list[str]:
    """The texts that one process had embedded; it has a graph and JSON files of its own."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    done = host.run(
        [str(SCRIPT), str(working_dir), str(text)],
        env={**outside, **llm.environment, "REDIS_URL": server.url},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told: list[str] = json.loads(done.stdout)
    return told


@pytest.mark.timeout(600)  # a process after the other indexes a text
def test_processes_one_after_another_embed_each_text_once_in_all(
    host: Preloaded, llm: Llm, server: RedisServer, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(BOOK.read_text(encoding="utf-8")[:LETTERS], encoding="utf-8")
    directories = [tmp_path / f"work-{number}" for number in range(PROCESSES)]
    asked = [index(host, llm, server, directory, text) for directory in directories]
    assert len(asked[0]) > 10
    assert len({*asked[0]}) == len(asked[0])
    assert asked[1:] == [[]] * (PROCESSES - 1)
    for name in ("vdb_entities.json", "vdb_chunks.json"):
        matrices = {
            json.loads((directory / name).read_text())["matrix"] for directory in directories
        }
        assert len(matrices) == 1, f"the vectors of {name} differ"
