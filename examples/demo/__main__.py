"""``python -m examples.demo``: index a book, ask, ask again in a second process for no LLM call.

Then twelve users ask a service of three workers the same at once, on JSON files and on Redis.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table

from .environment import same_words, without_network
from .inventory import inventory
from .llm_server import LlmServer
from .workers import LLM_SECONDS, QUESTIONS, USERS, WORKERS, Bill, serve_and_ask

ROOT = Path(__file__).parents[2]
BOOK = Path(__file__).with_name("a-christmas-carol.txt")
HOME = ROOT / "cache" / "demo"  # made anew by each run
OPENAI = "https://api.openai.com/v1"

STEPS = {
    "started": "imports nano-graphrag",
    "imported": "reads the book and builds the graph",
    "indexed": "asks",
    "answered": "asks",
}

console = Console()


@dataclass
class Process:
    """What one process of the service did.

    Attributes:
        name: What the reader knows it by.
        seconds: From its start to its end.
        paid: The calls it made of the language model and of the embeddings.
        answers: What it answered to each (mode, question).
    """

    name: str
    seconds: float = 0.0
    paid: Counter[str] = field(default_factory=Counter)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def embeddings(self) -> int:
        """How many calls were for embeddings, which the host does not cache."""
        return self.paid["embedding"]

    @property
    def chats(self) -> int:
        """How many calls were for the language model."""
        return self.paid.total() - self.embeddings


def run(name: str, llm: LlmServer, *arguments: str) -> Process:
    """Run one worker to its end, showing what it does.

    Raises:
        SystemExit: It failed; the log it wrote is shown.
    """
    process = Process(name)
    log = HOME / f"{name.replace(' ', '-')}.log"
    step = "started"
    started, paid_before = time.monotonic(), llm.calls.copy()

    def doing() -> Spinner:
        process.seconds = time.monotonic() - started
        process.paid = llm.calls - paid_before
        return Spinner(
            "dots",
            f"The {name} {STEPS[step]}: {process.seconds:.0f} s,"
            f" {process.chats} LLM calls, {process.embeddings} embedding calls",
        )

    command = [sys.executable, "-m", "examples.demo.worker", "--working-dir", str(HOME / "graph")]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [*command, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=stderr
        ) as worker,
        Live(console=console, get_renderable=doing, transient=True, refresh_per_second=8),
    ):
        assert worker.stdout is not None
        for line in worker.stdout:
            said = json.loads(line)
            step = said["event"]
            if step == "answered":
                process.answers[said["mode"], said["question"]] = said["answer"]
        worker.wait()
    doing()
    if worker.returncode:
        console.print(log.read_text()[-4000:], markup=False, highlight=False)
        raise SystemExit(f"The {name} failed; its whole log is {log}")
    console.print(
        f"The {name} took {process.seconds:.0f} s, {process.chats} LLM calls"
        f" and {process.embeddings} embedding calls."
    )
    return process


def show_answers(process: Process) -> None:
    """Print each question and its answer."""
    for (mode, question), answer in process.answers.items():
        console.print(Panel(Markdown(answer), title=f"{mode}: {question}", title_align="left"))


def show_bill(processes: list[Process]) -> None:
    """Print who paid how many calls for what."""
    table = Table(title="Who paid what", title_justify="left")
    table.add_column("calls")
    for process in processes:
        table.add_column(process.name, justify="right")
    for task in dict.fromkeys(task for process in processes for task in process.paid):
        table.add_row(task, *(str(process.paid[task]) for process in processes))
    table.add_row("seconds", *(f"{process.seconds:.0f}" for process in processes))
    console.print(table)


def show_service_bills(bills: list[Bill]) -> None:
    """Print what the users of the service cost, without and with this package."""
    table = Table(
        title=f"{USERS} users ask {WORKERS} workers the same {len(QUESTIONS)} questions at once",
        title_justify="left",
    )
    table.add_column("the workers' stores")
    for column in ("questions asked", "LLM calls paid", "seconds"):
        table.add_column(column, justify="right")
    for bill in bills:
        table.add_row(bill.stores, str(bill.asked), str(bill.paid), f"{bill.seconds:.1f}")
    console.print(table)


def serve(llm: LlmServer) -> list[Bill]:
    """Have the same service asked the same, on the JSON files of the host and on Redis."""
    graph, files = HOME / "graph", HOME / "graph-on-files"
    shutil.copytree(graph, files)
    subprocess.run(
        [sys.executable, "-m", "nano_graphrag_redis", "export", "--to", str(files), "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if llm.relay_to is None:
        llm.seconds = LLM_SECONDS
    return [
        serve_and_ask(
            "JSON files", HOME, llm, STORAGE_KV_BACKEND="json", WORKING_DIR=str(files)
        ),
        serve_and_ask(
            "Redis, under nano-graphrag-redis run", HOME, llm, WORKING_DIR=str(graph),
        ),
    ]  # fmt: skip


def enter_environment(llm: LlmServer, key: str | None, redis_url: str) -> None:
    """Leave only the demo's own settings to this process and to those it starts."""
    for name in [name for name in os.environ if name.startswith(("REDIS_", "STORAGE_KV_"))]:
        del os.environ[name]
    os.environ.update(without_network(llm.base_url, key) if key else without_network(llm.base_url))
    os.environ.update(same_words())
    os.environ.update(STORAGE_KV_BACKEND="redis", REDIS_URL=redis_url)


def main() -> None:
    """The command line of the demo."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--live", action="store_true", help="ask OpenAI, with OPENAI_API_KEY")
    live = parser.parse_args().live
    key = os.environ.get("OPENAI_API_KEY") if live else None
    if live and not key:
        parser.error("--live needs your OPENAI_API_KEY in the environment")

    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    redis_url = f"embedded://{HOME / 'redis'}"
    console.print(
        f"nano-graphrag reads A Christmas Carol; its key-value stores lie in {redis_url}.\n"
        + ("OpenAI answers." if live else "A model made for this book answers, on this machine.")
    )
    with LlmServer(os.environ.get("OPENAI_BASE_URL", OPENAI) if live else None) as llm:
        enter_environment(llm, key, redis_url)
        first = run("first process", llm, "--book", str(BOOK))
        show_answers(first)
        second = run("second process", llm)
        show_bill([first, second])
        console.print(inventory(redis_url))
        bills = serve(llm)
    show_service_bills(bills)

    if second.chats:
        raise SystemExit(f"Not proved: the second process paid {second.chats} LLM calls, not 0.")
    if second.answers != first.answers:
        raise SystemExit("Not proved: the second process answered otherwise than the first.")
    console.print(
        f"Proved: the first process paid {first.chats} LLM calls; the second asked the same"
        f" {len(second.answers)} questions, read the same answers from Redis and paid 0.",
        style="bold green",
    )
    _, shared = bills
    if shared.paid != len(QUESTIONS) or any(len(said) > 1 for said in shared.answers.values()):
        raise SystemExit(f"Not proved: {len(QUESTIONS)} questions cost {shared.paid} LLM calls.")
    console.print(
        f"Proved: {shared.asked} questions to {len(shared.workers)} workers on Redis cost"
        f" {shared.paid} LLM calls, one for each that differs.",
        style="bold green",
    )
    console.print(
        "Next: put STORAGE_KV_BACKEND=redis and REDIS_URL into your own service and start it with"
        " `nano-graphrag-redis run app.py`; README.md shows the other two ways."
    )


if __name__ == "__main__":
    main()
