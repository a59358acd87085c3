"""Worker processes that ask the LLM cache the way the host does, all at the same moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

from support.scripts import start_script

WORKER = """
import json

settings = json.loads(sys.argv[2])
cache = RedisKVStorage("llm_response_cache", {"redis_url": URL, **settings})
calls = 0

async def complete(id, seconds=None, answer=None):
    # As nano_graphrag's openai_complete_if_cache goes about it.
    global calls
    found = await cache.get_by_id(id)
    if found is not None:
        return found["return"]
    calls += 1
    await asyncio.sleep(SECONDS if seconds is None else seconds)
    answer = answer or f"{os.getpid()}-{calls}"
    await cache.upsert({id: {"return": answer, "model": "stub"}})
    await cache.index_done_callback()
    return answer

async def timed(asked):
    began = time.monotonic()
    answer = await asked
    return answer, time.monotonic() - began

def report(answers):
    stats = cache.sync.get_stats(light=True)["single_flight"]
    print(json.dumps({"calls": calls, "answers": answers, "stats": stats}), flush=True)

SECONDS = float(sys.argv[3])
assert cache.sync.check_health()
print("ready", flush=True)
sys.stdin.readline()
"""

ASK = """
async def main():
    return await asyncio.gather(*(timed(complete("question")) for _ in range(int(sys.argv[4]))))

report(asyncio.run(main()))
"""


@dataclass(frozen=True)
class Report:
    """What a worker did.

    Attributes:
        calls: How often it called the LLM.
        answers: Each task's answer, and the seconds it took.
        stats: Of single flight, as ``get_stats`` tells it; None where that is off.
    """

    calls: int
    answers: list[tuple[Any, float]]
    stats: Mapping[str, Any] | None


class Worker:
    """One process that waits for ``go``."""

    def __init__(self, process: Popen[str]) -> None:
        self.process = process

    def say(self, line: str = "") -> None:
        """A line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return line.strip()

    def report(self) -> Report:
        """What it did; it has ended, and said nothing on stderr."""
        out, err = self.process.communicate(timeout=120)
        assert (self.process.returncode, err) == (0, "")
        return Report(**json.loads(out.splitlines()[-1]))


@contextmanager
def workers(
    count: int, url: str, source: str, *arguments: object, seconds: float = 2.0, **settings: Any
) -> Iterator[list[Worker]]:
    """So many processes of ``WORKER`` and ``source``, each ready; ended at the latest here."""
    given = (url, json.dumps(settings), seconds, *arguments)
    started = [Worker(start_script(WORKER + source, *given)) for _ in range(count)]
    try:
        for each in started:
            assert each.line() == "ready"
        yield started
    finally:
        for each in started:
            each.process.kill()
            each.process.communicate()


def asked_at_once(
    count: int, tasks: int, url: str, *, seconds: float = 2.0, **settings: Any
) -> list[Report]:
    """What so many workers did of which so many tasks each asked one question at once."""
    with workers(count, url, ASK, tasks, seconds=seconds, **settings) as all_of_them:
        for each in all_of_them:
            each.say()
        return [each.report() for each in all_of_them]
