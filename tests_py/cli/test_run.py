"""``run app.py``: the script cannot tell, except that Redis is there."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes ``app/app.py`` below the directory that the command runs in."""

    def write_script(source: str) -> Path:
        path = tmp_path / "app" / "app.py"
        path.parent.mkdir()
        path.write_text(textwrap.dedent(source), encoding="latin-1")
        return path

    return write_script


SCRIPTS = {
    "arguments": "import sys; print(sys.argv)",
    "main": """
        import pickle, sys
        class Mine: pass
        print(__name__, __file__, __spec__, __package__, __doc__, type(__loader__).__name__)
        print(sys.modules["__main__"].Mine is Mine, type(pickle.loads(pickle.dumps(Mine()))))
    """,
    "neighbours": """
        import sys
        from pathlib import Path
        Path(__file__).with_name("neighbour.py").write_text("name = 'there'")
        import neighbour
        print(neighbour.name, sys.path[0])
    """,
    "exit code": "raise SystemExit(7)",
    "exit message": "import sys; print('out'); sys.exit('so long')",
    "traceback": """
        def inner():
            raise KeyError("missing")
        try:
            inner()
        except KeyError as error:
            raise RuntimeError("outer") from error
    """,
    "syntax error": "x = = 1",
    "exit handler": """
        import atexit, sys
        atexit.register(lambda: print(sys.modules["__main__"].left))
        left = "behind"
    """,
    "own hook": """
        import sys
        sys.excepthook = lambda kind, error, traceback: print("caught", error)
        raise ValueError("mine")
    """,
    "encoding": "# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_as_python_runs_it(name: str, write: Write, command: Command) -> None:
    write(SCRIPTS[name])
    arguments = ("app/app.py", "-v", "--help", "two words", "--", "run")
    plain = command(*arguments, python=True)
    ours = command("run", *arguments)
    seen = (ours.returncode, ours.stdout, ours.stderr)
    assert seen == (plain.returncode, plain.stdout, plain.stderr)


def test_a_script_that_is_interrupted_ends_by_the_signal(
    write: Write, environ: dict[str, str], tmp_path: Path
) -> None:
    write("import signal; print('ready', flush=True); signal.pause()")
    running = subprocess.Popen(
        [sys.executable, "-m", "nano_graphrag_redis", "run", "app/app.py"],
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == -signal.SIGINT
        assert running.stderr.read().splitlines()[-1] == "KeyboardInterrupt"


def test_a_script_finds_the_storage_registered(write: Write, command: Command) -> None:
    write(
        """
        from nano_graphrag import GraphRAG, GraphRAGConfig
        print(type(GraphRAG(GraphRAGConfig.from_env()).full_docs).__module__)
        """
    )
    ours = command("run", "app/app.py")
    assert (ours.stdout, ours.stderr) == ("nano_graphrag_redis.storage\n", "")


def test_a_script_that_stays_on_json_is_told_so(write: Write, command: Command) -> None:
    write("")
    ours = command("run", "app/app.py", STORAGE_KV_BACKEND="")
    assert ours.returncode == 0
    assert "STORAGE_KV_BACKEND is not set" in ours.stderr
    assert command("run", "app/app.py", STORAGE_KV_BACKEND="json").stderr == ""


def test_an_unknown_backend_is_refused_before_the_script_runs(
    write: Write, command: Command
) -> None:
    write("print('ran')")
    ours = command("run", "app/app.py", STORAGE_KV_BACKEND="mongo")
    assert (ours.returncode, ours.stdout) == (2, "")
    assert ours.stderr.startswith("nano-graphrag-redis: STORAGE_KV_BACKEND='mongo'")


def test_a_script_that_is_not_there_is_an_error_of_the_command(command: Command) -> None:
    ours = command("run", "nowhere.py")
    assert ours.returncode == 2
    assert ours.stderr.startswith("nano-graphrag-redis: ")
    assert "nowhere.py" in ours.stderr


def test_a_command_is_asked_for_when_none_is_given(command: Command) -> None:
    ours = command()
    assert ours.returncode == 2
    assert "Usage: nano-graphrag-redis" in ours.stdout + ours.stderr


def test_the_help_says_which_processes_are_covered(command: Command) -> None:
    ours = command("run", "--help")
    assert ours.returncode == 0
    assert "Processes that the script forks are covered" in ours.stdout
