"""Moves a large file to Redis and back in processes of their own, and says what memory they took.

A program, started by ``make migrate-large`` and, for a smaller file, by a test. Its argument is the
size of the file in megabytes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from support.servers import RedisServer

NAMESPACE = "llm_response_cache"
WORDS = ["Marley", "was", "dead:", "to", "begin", "with.", "\u201cThere\u201d", "is", "no", "doubt"]

STEP = """
import json, os, resource, signal, sys, time
from nano_graphrag_redis import migration
step, directory, url, kill = sys.argv[1:]
settings = {"redis_url": url}
def progress(told):
    if kill == "kill" and told.step == "copy" and told.done > told.total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
began = time.monotonic()
if step == "migrate":
    done = migration.migrate(migration.plan(directory, settings, ttl=0), progress=progress)
    said = [[each.written, each.unchanged] for each in done.namespaces][0]
elif step == "verify":
    said = migration.verify(directory, settings, progress=progress).ok
else:
    said = migration.export(directory, settings, progress=progress).files[0].ids
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"said": said, "mib": peak / 1024, "seconds": time.monotonic() - began}))
"""


class Ran(NamedTuple):
    """What a step did.

    Attributes:
        said: What came of it.
        mib: The most memory it took, in mebibytes.
        seconds: How long.
    """

    said: Any
    mib: float
    seconds: float


def write_file(directory: Path, megabytes: int) -> int:
    """A cache of that size, of answers of 2 kB or so; how many ids it holds."""
    chance = random.Random(7)
    text = " ".join(chance.choices(WORDS, k=40_000))
    ids = 0
    with (directory / f"kv_store_{NAMESPACE}.json").open("w", encoding="utf-8") as file:
        file.write("{")
        while file.tell() < megabytes * 1_000_000:
            start = chance.randrange(len(text) // 2)
            value = {"return": text[start : start + chance.randrange(500, 4000)], "model": "gpt-4o"}
            entry = json.dumps({f"hash-{ids:032x}": value}, indent=2, ensure_ascii=False)
            file.write(("," if ids else "") + entry[1:-2])
            ids += 1
        file.write("\n}")
    return ids


def run(step: str, directory: Path, url: str, *, kill: bool = False) -> Ran | None:
    """Runs a step; None when it was killed half-way, as asked."""
    done = subprocess.run(
        [sys.executable, "-c", STEP, step, directory, url, "kill" if kill else ""],
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    if kill:
        assert done.returncode == -signal.SIGKILL, done
        return None
    assert done.returncode == 0, done
    return Ran(**json.loads(done.stdout))


def move(megabytes: int) -> dict[str, Ran]:
    """There, killed half-way, once more, compared, and back; each step by its name."""
    with (
        RedisServer() as server,
        tempfile.TemporaryDirectory(prefix="migrate-", dir=os.environ.get("TMPDIR")) as home,
    ):
        directory, back = Path(home, "cache"), Path(home, "back")
        directory.mkdir()
        ids = write_file(directory, megabytes)
        run("migrate", directory, server.url, kill=True)
        there = server.client().dbsize()
        assert 0 < there < ids
        steps = {
            name: run(name.split()[0], back if "export" in name else directory, server.url)
            for name in ("migrate", "migrate again", "verify", "export")
        }
        ran = {name: step for name, step in steps.items() if step is not None}
        # One key beside the namespace says whose the keyspace is.
        assert ran["migrate"].said == [ids - there + 1, there - 1]
        assert ran["migrate again"].said == [0, ids]
        assert ran["verify"].said is True
        assert ran["export"].said == ids
        name = f"kv_store_{NAMESPACE}.json"
        # The ids of the file are sorted, so that it is the same again.
        assert subprocess.run(["cmp", directory / name, back / name], check=False).returncode == 0
        return ran


def main(megabytes: int) -> None:
    """Says what each step took."""
    sys.stdout.write(f"a file of {megabytes:,} MB, its first migration killed half-way\n")
    for name, ran in move(megabytes).items():
        rate = megabytes / ran.seconds
        took = f"{ran.seconds:6.1f} s {rate:6.0f} MB/s {ran.mib:6.0f} MiB at most"
        sys.stdout.write(f"{name:14} {took}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
