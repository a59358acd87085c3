"""A machine without nano-graphrag, or with one that cannot be used: the error says which."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from support.servers import RedisServer

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


WITHOUT_A_HOST = """
import asyncio
from nano_graphrag_redis import *

class Mine(RedisKVStorage):
    pass

async def awaited(cls):
    async with cls("full_docs", {"redis_url": URL}) as docs:
        await docs.index_start_callback()
        await docs.upsert({"doc-1": {"content": "Marley was dead"}})
        assert await docs.filter_keys(["doc-1", "doc-2"]) == {"doc-2"}
        assert docs.sync.get_by_ids(["doc-1"]) == [{"content": "Marley was dead"}]
        await docs.index_done_callback()
        await docs.drop()

for cls in (RedisKVStorage, Mine):
    asyncio.run(awaited(cls))
    assert cls(namespace="a", global_config={}).namespace == "a"
with SyncRedisKVStorage("full_docs", {"redis_url": URL}) as docs:
    docs.upsert({"doc-1": 1})
    assert docs.all_keys() == ["doc-1"]
print("both work")
"""


def test_both_storages_work_without_a_host(
    run_python: RunPython, bare_machine: Path, server: RedisServer
) -> None:
    source = f"URL = {server.url!r}\n{WITHOUT_A_HOST}"
    finished = run_python(source, bare_machine, "-S", PYTHONPATH=str(bare_machine))
    assert (finished.stdout, finished.stderr) == ("both work\n", "")


@pytest.mark.parametrize("running", [(3, 13), (3, 14)])
def test_on_a_python_that_the_host_does_not_install_on_the_error_names_those_that_it_does(
    run_python: RunPython, bare_machine: Path, running: tuple[int, int]
) -> None:
    source = f"import sys; sys.version_info = ({running[0]}, {running[1]}, 0, 'final', 0)"
    finished = run_python(
        f"import nano_graphrag_redis.hosts as hosts; {source}; hosts.register()",
        bare_machine,
        "-S",
        PYTHONPATH=str(bare_machine),
    )
    error = last_line(finished)
    assert f"does not install on Python 3.{running[1]}: it takes CPython 3.10 to 3.12" in error
    assert "pip install nano-graphrag" not in error


def test_a_storage_under_a_host_that_lacks_a_part_of_its_own_says_so_itself(
    run_python: RunPython, tmp_path: Path
) -> None:
    (tmp_path / "nano_graphrag").mkdir()
    (tmp_path / "nano_graphrag" / "__init__.py").write_text("import missing_dependency")
    error = last_line(run_python("from nano_graphrag_redis import RedisKVStorage", tmp_path))
    assert error == "ModuleNotFoundError: No module named 'missing_dependency'"


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
