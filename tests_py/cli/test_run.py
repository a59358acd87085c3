"""``run app.py``: the script cannot tell, except that Redis is there, and one line before it."""

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


SAID = (
    "nano-graphrag-redis: STORAGE_KV_BACKEND=redis: storages on redis://localhost:6379/0, "
    "one LLM cache for all workers (PYTHONHASHSEED=0, REDIS_SINGLE_FLIGHT=on)"
)
"""What the command says before the script's first word."""

SCRIPTS = {
    "arguments": "import sys; print(sys.argv)",
    "main": """
        import __main__, pickle
        class Mine: pass
        print(__name__, __file__, __spec__, __package__, __doc__, type(__loader__).__name__)
        print(__main__.Mine is Mine, type(pickle.loads(pickle.dumps(Mine()))))
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
        import __main__, atexit
        atexit.register(lambda: print(__main__.left))
        left = "behind"
    """,
    "own hook": """
        import sys
        sys.excepthook = lambda kind, error, traceback: print("caught", error)
        raise ValueError("mine")
    """,
    "input": "import sys; print(sys.stdin.read(), sys.stdin.isatty())",
    "path": "import sys; print(sys.path[0], sys.warnoptions)",
    "encoding": "# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_as_python_runs_it(name: str, write: Write, command: Command) -> None:
    write(SCRIPTS[name])
    arguments = ("app/app.py", "-v", "--help", "two words", "--", "run")
    plain = command(*arguments, python=True)
    ours = command("run", *arguments)
    said, _, error = ours.stderr.partition("\n")
    assert said == SAID
    assert (ours.returncode, ours.stdout, error) == (plain.returncode, plain.stdout, plain.stderr)


def test_a_script_that_is_interrupted_ends_by_the_signal(
    write: Write, environ: dict[str, str], tmp_path: Path
) -> None:
    write("import os, signal; print(os.getpid(), flush=True); signal.pause()")
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
        # The same process: who started the command may signal it and wait for it.
        assert running.stdout.readline() == f"{running.pid}\n"
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
    assert (ours.stdout, ours.stderr) == ("nano_graphrag_redis.storage\n", f"{SAID}\n")


SINGLE_FLIGHT = """
    import os, sys
    from pathlib import Path
    {before}
    from nano_graphrag import GraphRAG, GraphRAGConfig
    from nano_graphrag_redis import RedisConfig
    GraphRAG(GraphRAGConfig.from_env())
    print(RedisConfig.from_env().redis_single_flight)
"""

LATER = "os.environ.setdefault('REDIS_SINGLE_FLIGHT', 'observe')"
"""As a reader of .env files does: a variable that is set already stays."""


@pytest.mark.parametrize(
    ("before", "variable", "mode"),
    [("", "", "on"), ("", "off", "off"), ("", "observe", "observe"), (LATER, None, "observe")],
)
def test_single_flight_is_on_below_run_unless_the_user_set_it(
    before: str, variable: str | None, mode: str, write: Write, command: Command
) -> None:
    write(SINGLE_FLIGHT.format(before=before))
    more = {} if variable is None else {"REDIS_SINGLE_FLIGHT": variable}
    ours = command("run", "app/app.py", **more)
    assert (ours.returncode, ours.stdout) == (0, f"{mode}\n"), ours.stderr
    assert f"REDIS_SINGLE_FLIGHT={variable or 'on'})" in ours.stderr
    plain = command("app/app.py", python=True, PYTHONHASHSEED="0", **more)
    assert plain.stdout == f"{mode if variable or before else 'off'}\n"


def test_a_script_that_stays_on_json_is_told_so(write: Write, command: Command) -> None:
    write("")
    ours = command("run", "app/app.py", STORAGE_KV_BACKEND="")
    assert ours.returncode == 0
    assert "STORAGE_KV_BACKEND is not set" in ours.stderr
    json = command("run", "app/app.py", STORAGE_KV_BACKEND="json")
    assert json.stderr.count("\n") == 1
    assert "each worker has JSON files and an LLM cache of its own" in json.stderr


def test_an_unknown_backend_is_refused_before_the_script_runs(
    write: Write, command: Command
) -> None:
    write("print('ran')")
    ours = command("run", "app/app.py", STORAGE_KV_BACKEND="mongo")
    assert (ours.returncode, ours.stdout) == (2, "")
    assert ours.stderr.startswith("nano-graphrag-redis: STORAGE_KV_BACKEND='mongo'")


@pytest.mark.parametrize(
    ("variable", "value"), [("REDIS_URL", "redis://u:geheim@h:port"), ("REDIS_MAX_RETRIES", "many")]
)
def test_a_wrong_setting_is_refused_before_the_script_runs(
    variable: str, value: str, write: Write, command: Command
) -> None:
    write("print('ran')")
    ours = command("run", "app/app.py", **{variable: value})
    assert (ours.returncode, ours.stdout) == (2, "")
    assert variable in ours.stderr
    assert "geheim" not in ours.stderr


def test_the_line_shows_the_server_and_the_workspace_without_a_credential(
    write: Write, command: Command
) -> None:
    write("")
    ours = command("run", "app/app.py", REDIS_URL="redis://u:geheim@h:7/2", REDIS_WORKSPACE="acme")
    assert "redis://***@h:7/2, workspace acme, one LLM cache" in ours.stderr
    assert "geheim" not in ours.stderr


ARGUMENTS = {
    "an option's end": (["--", "app/app.py", "x"], ["app/app.py", "x"]),
    "code": (["-c", "import sys; print(sys.argv, sys.path[0])", "x"],) * 2,
    "input": (["-", "x"],) * 2,
}
"""What `run` is given, and the same for python."""


@pytest.mark.parametrize("way", ARGUMENTS)
def test_what_python_takes_is_taken(way: str, write: Write, command: Command) -> None:
    write("import sys; print(sys.argv)")
    given, of_python = ARGUMENTS[way]
    source = "import sys; print('read', sys.argv)" if way == "input" else ""
    plain = command(*of_python, python=True, input=source)
    ours = command("run", *given, input=source)
    assert ours.returncode == plain.returncode == 0
    assert ours.stdout == plain.stdout != ""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "2>/dev/full"])
def test_the_application_runs_where_the_line_cannot_be_said(
    closed: str, write: Write, environ: dict[str, str], tmp_path: Path
) -> None:
    write("from pathlib import Path; Path('ran').touch(); raise SystemExit(7)")
    line = f"exec '{sys.executable}' -m nano_graphrag_redis run app/app.py {closed}"
    ended = subprocess.run(
        ["sh", "-c", line], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (7, "")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["", "nowhere.py", "./nowhere", "no-such-command"])
def test_a_script_that_is_not_there_is_an_error_of_the_command(name: str, command: Command) -> None:
    ours = command("run", name)
    assert ours.returncode == 2
    assert ours.stderr.startswith(f"nano-graphrag-redis: {name or repr('')}: no such script")


@pytest.mark.parametrize(("option", "what"), [("-m", "a module"), ("-c", "code")])
def test_an_option_with_nothing_after_it_says_what_it_needs(
    option: str, what: str, command: Command
) -> None:
    ours = command("run", option)
    assert ours.returncode == 2
    assert ours.stderr == f"nano-graphrag-redis: {option} needs {what} after it\n"


def test_a_command_is_asked_for_when_none_is_given(command: Command) -> None:
    ours = command()
    assert ours.returncode == 2
    assert "Usage: nano-graphrag-redis" in ours.stdout + ours.stderr
    without = command("run")
    assert (without.returncode, without.stdout) == (2, "")
    assert "usage: nano-graphrag-redis run SCRIPT" in without.stderr


def test_the_help_says_which_processes_are_covered(command: Command) -> None:
    ours = command("run", "--help")
    assert ours.returncode == 0
    assert "Every Python below it is covered" in ours.stdout


def test_the_line_before_the_script_holds_no_control_character(
    command: Command, write: Write
) -> None:
    write("")
    ended = command("run", "app/app.py", REDIS_WORKSPACE="a\x1b[2J\nb")
    assert ended.returncode == 0
    assert ", workspace a\\x1b[2J\\nb, " in ended.stderr
    assert ended.stderr.count("\n") == 1
