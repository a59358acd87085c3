"""The negative controls fit the code that they are for; ``make controls`` runs them."""

import importlib.util
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def controls() -> Any:
    """tools/controls as a module, which has no suffix."""
    loader = SourceFileLoader("controls", str(ROOT / "tools" / "controls"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_every_control_applies_to_this_tree_and_names_tests_that_there_are() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "controls", "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_python_without_pytest_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-E", "-S", ROOT / "tools" / "controls", "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "has no pytest: use .venv/bin/python" in done.stderr
    assert not done.stdout


RUNS = {
    "fails": ("def test_it(): assert 1 == 2", True),
    "one of its parameters fails": (
        "import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_it(n): assert n == 1",
        True,
    ),
    "kills its process": ("import os\ndef test_it(): os.kill(os.getpid(), 9)", True),
    "passes": ("def test_it(): pass", False),
    "cannot be imported": ("import no_such_module\ndef test_it(): assert 1 == 2", False),
    "is not there": ("def test_another(): assert 1 == 2", False),
    "has a broken fixture": (
        "import pytest\n@pytest.fixture\ndef broken(): 1 / 0\ndef test_it(broken): pass",
        False,
    ),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_control_bites_only_where_its_test_ran_and_failed(
    case: str, controls: Any, tmp_path: Path
) -> None:
    source, expected = RUNS[case]
    (tmp_path / "test_guard.py").write_text(source)
    test = "test_guard.py::test_it"
    assert controls.bites(controls.run(tmp_path, test), test) is expected


def test_the_failure_of_another_test_is_none_of_this_one(controls: Any, tmp_path: Path) -> None:
    source = "def test_it(): pass\ndef test_it_too(): assert 1 == 2"
    (tmp_path / "test_guard.py").write_text(source)
    assert not controls.bites(controls.run(tmp_path, "test_guard.py"), "test_guard.py::test_it")
