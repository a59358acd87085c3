"""``run`` and what it starts: every Python below it has the storage, and one hash seed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.conditions import eventually

Command = Callable[..., "subprocess.CompletedProcess[str]"]

WORKERS = 2
BIN = Path(sys.executable).parent

SERVICE = """
import json, os
from pathlib import Path
from nano_graphrag import GraphRAG, GraphRAGConfig

rag = GraphRAG(GraphRAGConfig.from_env())
stores = rag.full_docs, rag.text_chunks, rag.community_reports, rag.llm_response_cache
kinds = [type(store).__module__ for store in stores]
Path(f"worker-{os.getpid()}.json").write_text(json.dumps([kinds, hash("a tie")]))

async def app(scope, receive, send):
    raise AssertionError("nobody asks")
"""
"""A service that knows nothing of this package. Each worker leaves what it has."""

MAIN = f"""
import uvicorn

if __name__ == "__main__":
    uvicorn.run("service:app", workers={WORKERS}, port=0, lifespan="off")
"""

LINE = ["service:app", "--workers", str(WORKERS), "--port", "0", "--lifespan", "off"]

WAYS = {
    "a script that calls uvicorn.run": ["main.py"],
    "a module": ["-m", "uvicorn", *LINE],
    "a command's name": ["uvicorn", *LINE],
    "a command's path": [str(BIN / "uvicorn"), *LINE],
}


def workers(home: Path) -> list[tuple[list[str], int]]:
    """What each worker that has started left: the modules of its stores, and a string's hash."""
    return [tuple(json.loads(file.read_text() or "[]")) for file in home.glob("worker-*.json")]


@pytest.mark.parametrize("way", WAYS)
def test_every_worker_of_a_service_is_on_redis(
    way: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "main.py").write_text(MAIN)
    outside = {name: value for name, value in environ.items() if name != "PYTHONHASHSEED"}
    log = tmp_path / "log"
    with log.open("wb") as said:
        service = subprocess.Popen(
            [sys.executable, "-m", "nano_graphrag_redis", "run", *WAYS[way]],
            env=outside, cwd=tmp_path, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            eventually(lambda: sum(map(bool, workers(tmp_path))) == WORKERS, 60)
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(timeout=60)
    assert all(kinds == ["nano_graphrag_redis.storage"] * 4 for kinds, _ in workers(tmp_path)), (
        log.read_text()
    )
    assert len({seed for _, seed in workers(tmp_path)}) == 1
    first = log.read_text().splitlines()[0]
    assert "one LLM cache for all workers (PYTHONHASHSEED=0, REDIS_SINGLE_FLIGHT=on)" in first


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_every_process_of_a_pool_is_on_redis(method: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "pool.py").write_text(
        f"""
import multiprocessing

def kind(_):
    from nano_graphrag import GraphRAG, GraphRAGConfig
    return type(GraphRAG(GraphRAGConfig.from_env()).full_docs).__module__, hash("a tie")

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool({WORKERS}) as pool:
        kinds = set(pool.map(kind, range(8), chunksize=1))
    print(kinds == {{("nano_graphrag_redis.storage", hash("a tie"))}})
"""
    )
    ended = command("run", "pool.py", PYTHONHASHSEED="")
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


KIND = """
from nano_graphrag import GraphRAG, GraphRAGConfig
print(type(GraphRAG(GraphRAGConfig.from_env()).full_docs).__module__)
"""


def test_a_seed_that_was_set_is_kept(tmp_path: Path, command: Command) -> None:
    (tmp_path / "app.py").write_text("import os; print(os.environ['PYTHONHASHSEED'])")
    assert command("run", "app.py", PYTHONHASHSEED="7").stdout == "7\n"
    assert command("run", "app.py", PYTHONHASHSEED="").stdout == "0\n"


def test_run_inside_run_is_run_once(tmp_path: Path, command: Command) -> None:
    (tmp_path / "app.py").write_text(
        f"import os; print(os.environ['PYTHONPATH'].count('autoregister'))\n{KIND}"
    )
    twice = command("run", "-m", "nano_graphrag_redis", "run", "app.py")
    assert (twice.returncode, twice.stdout) == (0, "1\nnano_graphrag_redis.storage\n"), twice.stderr


def test_the_users_own_sitecustomize_and_python_path_stay(
    tmp_path: Path, command: Command, environ: dict[str, str]
) -> None:
    site = tmp_path / "a site with spaces"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys; sys.own = __file__")
    (tmp_path / "app.py").write_text(
        f"import sys, sitecustomize; print(sys.own == sitecustomize.__file__)\n{KIND}"
    )
    path = os.pathsep.join([environ["PYTHONPATH"], str(site)])
    ended = command("run", "app.py", PYTHONPATH=path)
    assert (ended.returncode, ended.stdout) == (0, "True\nnano_graphrag_redis.storage\n"), (
        ended.stderr
    )


@pytest.mark.parametrize("source", ["raise ValueError('mine')", "import no_such_module", "x = = 1"])
def test_a_sitecustomize_that_fails_fails_as_it_does_without_run(
    source: str, tmp_path: Path, command: Command, environ: dict[str, str]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(source)
    (tmp_path / "app.py").write_text("")
    path = os.pathsep.join([environ["PYTHONPATH"], str(tmp_path / "site")])
    plain = command("app.py", python=True, PYTHONPATH=path)
    ours = command("run", "app.py", PYTHONPATH=path)
    # It is imported by the command's own Python as well, before that says its line.
    failure, _, after = ours.stderr.partition("nano-graphrag-redis: STORAGE_KV_BACKEND=redis")
    assert "Error in sitecustomize" in plain.stderr
    assert failure == plain.stderr
    assert after.partition("\n")[2] == plain.stderr


def test_another_python_without_the_package_is_left_alone(tmp_path: Path, command: Command) -> None:
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    (tmp_path / "app.py").write_text(
        "import os, subprocess, sys\n"
        "subprocess.run([sys.argv[1], '-c', sys.argv[2]], check=True,\n"
        "    env=os.environ | {'PYTHONPATH': os.environ['PYTHONPATH'].split(os.pathsep)[0]})\n"
    )
    python = str(other / "bin" / "python")
    silent = command("run", "app.py", python, "import json; print('ran')")
    assert (silent.returncode, silent.stdout) == (0, "ran\n")
    assert silent.stderr.count("\n") == 1  # the line of the command

    (tmp_path / "nano_graphrag.py").write_text("print('a host')")
    host = "import sys; sys.path.insert(0, '.'); import nano_graphrag"
    warned = command("run", "app.py", python, host)
    assert (warned.returncode, warned.stdout) == (0, "a host\n")
    assert f"{python} has nano_graphrag and lacks nano_graphrag_redis" in warned.stderr


def test_a_host_that_is_imported_anew_is_registered_again(tmp_path: Path, command: Command) -> None:
    (tmp_path / "app.py").write_text(
        f"import sys\n{KIND}\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] == 'nano_graphrag']:\n"
        f"    del sys.modules[name]\n{KIND}"
    )
    ended = command("run", "app.py")
    assert (ended.returncode, ended.stdout) == (0, "nano_graphrag_redis.storage\n" * 2)


def test_nothing_is_imported_before_the_host_is(tmp_path: Path, command: Command) -> None:
    (tmp_path / "app.py").write_text(
        "import sys; print([m for m in sys.modules if m.split('.')[0] in "
        "('nano_graphrag_redis', 'nano_graphrag', 'pydantic')])"
    )
    assert command("run", "app.py").stdout == "[]\n"


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_an_option_that_would_keep_the_workers_from_registering_is_refused(
    option: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "app.py").write_text("print('ran')")
    package = environ["PYTHONPATH"].split(os.pathsep)[-1]
    import_it = (
        f"import sys; sys.path[:0] = [{package!r}, *{sys.path!r}];"
        "from nano_graphrag_redis.cli import main; raise SystemExit(main())"
    )
    ended = subprocess.run(
        [sys.executable, option, "-c", import_it, "run", "app.py"],
        env=environ, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "with -I, -E or -S Python reads no PYTHONPATH" in ended.stderr


def test_a_script_without_a_first_line_and_a_shell_are_started(
    tmp_path: Path, command: Command
) -> None:
    script = tmp_path / "manage"
    script.write_text("import sys; print(sys.argv)")
    assert command("run", "./manage", "a").stdout == "['./manage', 'a']\n"
    script.chmod(0o755)
    assert command("run", "./manage", "a").stdout == "['./manage', 'a']\n"
    # A program that ends by SIGPIPE, as it does when a shell starts it.
    piped = command("run", "sh", "-c", "yes | head -n 1; exit 9")
    assert (piped.returncode, piped.stdout) == (9, "y\n")
    assert "roken pipe" not in piped.stderr


def test_registering_while_another_thread_imports_the_host_comes_to_an_end(
    tmp_path: Path, command: Command, environ: dict[str, str]
) -> None:
    host = tmp_path / "host" / "nano_graphrag"
    host.mkdir(parents=True)
    # It is imported until the other thread waits for that import.
    (host / "__init__.py").write_text(
        """
import __main__, sys, threading, time
from dataclasses import dataclass
__main__.importing.set()
other = __main__.other
while sys._current_frames()[other.ident].f_code.co_filename != "<frozen importlib._bootstrap>":
    time.sleep(0.01)
@dataclass
class GraphRAG:
    key_string_value_json_storage_cls: type = dict
    def __post_init__(self): pass
"""
    )
    (tmp_path / "app.py").write_text(
        """
import threading
import nano_graphrag_redis.hosts
importing = threading.Event()
def register():
    importing.wait()
    nano_graphrag_redis.register()
other = threading.Thread(target=register, daemon=True)
other.start()
import nano_graphrag
other.join()
print("both")
"""
    )
    path = os.pathsep.join([str(host.parent), environ["PYTHONPATH"]])
    ended = command("run", "app.py", PYTHONPATH=path)
    assert (ended.returncode, ended.stdout) == (0, "both\n"), ended.stderr
