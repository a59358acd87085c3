"""Makes the pictures of the command in the docs, from real runs: ``make screens``.

A service's JSON files are migrated to a server that this starts, a program reads its cache, and the
commands' output at 80 columns, as a terminal gets it, becomes an SVG by rich. The server is on a
port of its own; the pictures say the usual one.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from nano_graphrag_redis.workers.merged_counters import merged

ROOT = Path(__file__).parents[1]
SCREENS = ROOT / "docs" / "images" / "screens"
COLUMNS = 80
ANSWERS, READ = 900, 720

COMMANDS = {
    "migrate": "migrate --from ./cache",
    "stats": "stats --price-per-call 0.01",
    "doctor": "doctor",
    "keys": "keys full_docs",
}

_THEME = TerminalTheme(
    (30, 33, 41),
    (222, 225, 232),
    [
        (98, 104, 118),
        (255, 128, 120),
        (126, 211, 140),
        (240, 198, 116),
        (130, 170, 255),
        (214, 154, 235),
        (114, 209, 220),
        (222, 225, 232),
    ],
)


def files_of_a_service(directory: Path) -> None:
    """What nano-graphrag would have left there; one document was never cut into chunks."""
    documents = {
        f"doc-{number:02}": {"content": "Marley was dead: to begin with. " * 200}
        for number in range(1, 13)
    }
    chunks = {
        f"chunk-{number:03}": {
            "content": "There is no doubt whatever about that. " * 30,
            "tokens": 240,
            "chunk_order_index": number // 11,
            "full_doc_id": f"doc-{number % 11 + 1:02}",
        }
        for number in range(132)
    }
    answers = {
        f"hash-{number:03}": {"return": "Bah! Humbug! " * 40, "model": "gpt-4o"}
        for number in range(ANSWERS)
    }
    directory.mkdir()
    for namespace, values in (
        ("full_docs", documents),
        ("text_chunks", chunks),
        ("llm_response_cache", answers),
    ):
        (directory / f"kv_store_{namespace}.json").write_text(json.dumps(values), encoding="utf-8")


SERVICE = """
import sys
from nano_graphrag_redis import SyncRedisKVStorage
read, answers = map(int, sys.argv[1:])
with SyncRedisKVStorage("llm_response_cache") as cache:
    for number in range(answers):  # a fifth of the questions is new
        cache.get_by_id(f"hash-{number:03}" if number < read else f"new-{number}")
    sys.stdin.read()
"""
"""A worker that reads answers, and ends with its standard input."""


def screens() -> dict[str, Text]:
    """What each of the commands shows, its own line first."""
    from support.conditions import eventually
    from support.servers import RedisServer

    # As deployed: doctor tells of this limit, and not of how much memory the machine has.
    with tempfile.TemporaryDirectory() as home, RedisServer(maxmemory="256mb") as server:
        files_of_a_service(Path(home, "cache"))
        url = f"redis://localhost:{server.port}"
        metrics = str(Path(home, "metrics"))
        environ = {name: value for name, value in os.environ.items() if "REDIS" not in name} | {
            "COLUMNS": str(COLUMNS),
            "FORCE_COLOR": "1",
            "TTY_INTERACTIVE": "0",
            "PYTHONUTF8": "1",
            "REDIS_URL": url,
            "REDIS_METRICS_DIR": metrics,
        }
        shown = {"migrate": _run("migrate", environ, home)}
        # In a process that has counted nothing before.
        worker = [sys.executable, "-c", SERVICE, str(READ), str(ANSWERS)]
        with subprocess.Popen(worker, env=environ, cwd=home, stdin=subprocess.PIPE) as running:
            # They are written now and then.
            eventually(lambda: _reads(Path(metrics)) == ANSWERS)
            for name in COMMANDS.keys() - shown:
                shown[name] = _run(name, environ, home)
            running.communicate()
        return shown


def _reads(metrics: Path) -> int:
    """How many reads the service's processes have written down."""
    if not metrics.is_dir():
        return 0
    return sum(sum(reads.values()) for reads in merged(metrics)["days"].values())


def _run(name: str, environ: dict[str, str], home: str) -> Text:
    command = COMMANDS[name]
    done = subprocess.run(
        [sys.executable, "-m", "nano_graphrag_redis", *command.split()],
        env=environ,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    told = re.sub(r"\x1b\[\?25[lh]", "", done.stdout)  # the cursor's
    told = re.sub(r"\blocalhost:\d+", "localhost:6379", told)
    typed = (f"nano-graphrag-redis {command}\n", "bold")
    return Text.assemble(("$ ", "dim"), typed, Text.from_ansi(told.strip("\n")), "\n")


def picture(name: str, shown: Text) -> str:
    """The screen as an SVG."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    console.print(shown, soft_wrap=False, overflow="fold")
    svg = console.export_svg(title=f"nano-graphrag-redis {name}", theme=_THEME, unique_id=name)
    # A reader's own monospace font: rich would have one fetched.
    return re.sub(r"@font-face \{.*?\}\s*|<!-- .*? -->\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests_py"))
    SCREENS.mkdir(exist_ok=True)
    for screen, text in screens().items():
        (SCREENS / f"{screen}.svg").write_text(picture(screen, text), encoding="utf-8")
