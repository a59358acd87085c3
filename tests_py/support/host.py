"""The real host in fresh interpreters, and the OpenAI-compatible server it asks."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from support.preloaded import Preloaded

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "examples" / "demo" / "a-christmas-carol.txt"

_LOOSE_ENDS = ("Traceback", "was never awaited", "was destroyed but it is pending")


@dataclass(frozen=True)
class Llm:
    """The demo's language model, running.

    Attributes:
        environment: The variables under which the host finds it, and nothing else on a network.
    """

    environment: Mapping[str, str]

    def calls(self) -> Counter[str]:
        """How often it was asked for what, ``embedding`` or a kind of chat, since it started."""
        with urlopen(f"{self.environment['OPENAI_BASE_URL']}/calls") as answer:
            return Counter(json.load(answer))


@dataclass(frozen=True)
class Run:
    """What one process of the host did.

    Attributes:
        storage: The class of its key-value stores.
        answers: One round after the other, the answer to each mode's question.
        stores: Every value it left, by namespace and id.
        calls: What it asked the language model for, and how often.
        files: The names of the files in its working directory.
    """

    storage: str
    answers: list[dict[str, str]]
    stores: dict[str, dict[str, Any]]
    calls: Counter[str] = field(repr=False)
    files: set[str] = field(repr=False)


HostRun = Callable[..., Run]
"""``run(backend, step, workspace)``, as the end-to-end tests ask for it."""


@contextmanager
def running_llm(seconds: float = 0.0) -> Iterator[Llm]:
    """Start the server, which takes so long for an answer; it ends when its standard input does."""
    with subprocess.Popen(
        [sys.executable, "-m", "examples.demo.llm_server", str(seconds)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        yield Llm(json.loads(process.stdout.readline()))
        process.communicate()


def preloaded_host() -> Preloaded:
    """An interpreter that has imported the host, and what it clusters with."""
    # What a process finds in its environment comes too late for the order of its sets.
    return Preloaded("nano_graphrag", "graspologic", path=[ROOT], PYTHONHASHSEED="0")


def run_host(
    host: Preloaded,
    llm: Llm,
    script: Path,
    *arguments: str,
    working_dir: Path,
    book: Path,
    **settings: str,
) -> Run:
    """Run a script of the host to its end, in a process of its own.

    Args:
        host: What has imported it.
        llm: What it asks.
        script: Prints ``class``, ``answers`` and ``stores`` as one JSON object.
        arguments: Its positional arguments.
        working_dir: The host's; made when missing.
        book: What it reads.
        settings: Environment variables of this run.
    """
    outside = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    before = llm.calls()
    done = host.run(
        [str(script), *arguments, "--working-dir", str(working_dir), "--book", str(book)],
        env={**outside, **llm.environment, **settings},
    )
    loose = [end for end in _LOOSE_ENDS if end in done.stderr]
    assert done.returncode == 0, done.stderr
    assert not loose, done.stderr
    said = json.loads(done.stdout)
    return Run(
        said["class"],
        said["answers"],
        said["stores"],
        calls=llm.calls() - before,
        files={path.name for path in working_dir.iterdir()},
    )
