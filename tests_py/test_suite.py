"""The suite holds however it is started, and a test that leaves something behind fails alone."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.proxy import Proxy
from support.servers import RedisServer

ROOT = Path(__file__).resolve().parents[1]

SMALL = "tests_py/test_servers.py"
INTERRUPTED = "tests_py/bridge/test_interrupted_code.py"
"""Its tests send SIGINT to their own process, and expect KeyboardInterrupt."""

CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
from support.leaks import Leaks

def pytest_configure(config):
    config.pluginmanager.register(Leaks(grace=0.1))
"""

LEFT = {
    "connection": """
        kept.append(socket.create_server(("127.0.0.1", 0)))
        kept.append(socket.create_connection(kept[0].getsockname()))
        """,
    "listening": 'kept.append(socket.create_server(("127.0.0.1", 0)))',
    "thread": "kept.append(threading.Thread(target=time.sleep, args=[1])); kept[-1].start()",
    "child": 'kept.append(subprocess.Popen(["sleep", "60"]))',
    "orphan": 'subprocess.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 &"], check=True)',
}
"""What a test may leave, by the word that names it in the report."""


def run_pytest(
    *arguments: str, cwd: Path = ROOT, before: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs pytest in a process of its own, as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )


def passed(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode == 0 and bool(re.search(r"\d+ passed", done.stdout))


# A job that a script starts with `&` ignores SIGINT.
@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.exhaustive)])
def test_tests_of_interrupts_pass_where_the_parent_ignores_sigint(workers: str) -> None:
    done = run_pytest(
        "-n", workers, INTERRUPTED, before=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )  # fmt: skip
    assert passed(done), done.stdout + done.stderr


def test_256_descriptors_are_enough() -> None:
    done = run_pytest(
        SMALL, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    )  # fmt: skip
    assert passed(done), done.stdout + done.stderr


@pytest.mark.parametrize("kind", LEFT)
def test_a_test_that_leaves_something_behind_fails_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(ROOT / "tests_py")))
    lines = "\n".join(f"    {line.strip()}" for line in LEFT[kind].strip().splitlines())
    (tmp_path / "test_it.py").write_text(
        "import socket, subprocess, threading, time\nkept = []\n\n"
        f"def test_that_leaves() -> None:\n{lines}\n\n"
        "def test_after_it() -> None:\n    pass\n"
    )
    done = run_pytest("-p", "no:randomly", "test_it.py", cwd=tmp_path)
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR at teardown of test_that_leaves" in done.stdout
    said = {"connection": "raddr=", "listening": "socket <socket.socket", "thread": "thread "}
    assert re.search(f"left behind: .*{said.get(kind, 'sleep 60')}", done.stdout)


def test_what_a_shared_fixture_opens_belongs_to_no_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(ROOT / "tests_py")))
    (tmp_path / "test_it.py").write_text(
        "import socket, subprocess\nimport pytest\n\n"
        '@pytest.fixture(scope="module")\n'
        "def shared():\n"
        '    with socket.create_server(("127.0.0.1", 0)), subprocess.Popen(["cat"], stdin=-1):\n'
        "        yield\n\n"
        "def test_one(shared): pass\n\n"
        "def test_two(shared): pass\n"
    )
    assert passed(run_pytest("test_it.py", cwd=tmp_path))


def test_connections_that_a_file_leaves_open_fail_its_last_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(ROOT / "tests_py")))
    (tmp_path / "test_it.py").write_text(
        "from nano_graphrag_redis import SyncRedisKVStorage\n"
        "from nano_graphrag_redis.exceptions import StorageUnavailableError\n"
        "kept = []\n\n"
        "def test_that_leaves() -> None:\n"
        '    kept.append(SyncRedisKVStorage("full_docs", {"redis_url": "redis://127.0.0.1:1/0"}))\n'
        "    try:\n"
        '        kept[0].get_by_id("a")\n'
        "    except StorageUnavailableError:\n"
        "        pass\n\n"
        "def test_the_last() -> None:\n"
        "    assert kept\n"
    )
    (tmp_path / "test_next.py").write_text("def test_after_it() -> None:\n    pass\n")
    done = run_pytest("-p", "no:randomly", "test_it.py", "test_next.py", cwd=tmp_path)
    assert "3 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR at teardown of test_the_last" in done.stdout
    assert "left behind: connections to redis://127.0.0.1:1/0" in done.stdout


# A server of asyncio that is closed in the turn after it accepted forgets the connection.
def test_a_connection_that_is_made_while_a_proxy_stops_ends_with_it(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, stopping = threading.Event(), threading.Event()

    def hold_the_loop() -> None:
        held.set()
        stopping.wait(5)

    with Proxy(server.port) as proxy:
        call_soon = proxy.loop.call_soon_threadsafe

        def stop_soon(stop: Callable[[], object]) -> None:
            call_soon(stop)
            stopping.set()

        call_soon(hold_the_loop)
        held.wait(5)
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        monkeypatch.setattr(proxy.loop, "call_soon_threadsafe", stop_soon)
    with client, suppress(ConnectionResetError):
        assert client.recv(1) == b""
