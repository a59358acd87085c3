"""A machine without nano-graphrag, or with one that cannot be used: the error says which."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

RunPython = Callable[..., "CompletedProcess[str]"]

REGISTER = "from nano_graphrag_redis.hosts import register; register()"

# What the settings need; nothing else is installed beside it.
NEEDED = (
    "annotated_types",
    "nano_graphrag_redis",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
)


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A directory of packages that holds this library and what it needs, but no host."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        (location, *_) = spec.submodule_search_locations or [spec.origin or ""]
        (packages / Path(location).name).symlink_to(location)
    return packages


def last_line(finished: CompletedProcess[str]) -> str:
    assert finished.returncode == 1
    return finished.stderr.splitlines()[-1]


def test_without_a_host_the_error_says_what_to_install(
    run_python: RunPython, bare_machine: Path
) -> None:
    # Without site-packages, where this library may be installed beside a host.
    finished = run_python(REGISTER, bare_machine, "-S", PYTHONPATH=str(bare_machine))
    assert last_line(finished) == (
        "nano_graphrag_redis.exceptions.StorageConfigError: "
        "nano-graphrag is not installed: pip install nano-graphrag"
    )


def test_a_host_of_an_unknown_shape_is_refused(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "nano_graphrag.py").write_text("__version__ = '9.9'")
    error = last_line(run_python(REGISTER, tmp_path))
    assert "The installed nano-graphrag 9.9 has neither" in error


def test_a_host_that_lacks_a_part_of_its_own_says_so_itself(
    run_python: RunPython, tmp_path: Path
) -> None:
    (tmp_path / "nano_graphrag.py").write_text("import missing_dependency")
    error = last_line(run_python(REGISTER, tmp_path))
    assert error == "ModuleNotFoundError: No module named 'missing_dependency'"


def test_importing_the_registration_does_not_import_the_host(
    run_python: RunPython, tmp_path: Path
) -> None:
    (tmp_path / "nano_graphrag.py").write_text("raise SystemExit('imported')")
    finished = run_python("import nano_graphrag_redis.hosts", tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
