"""What `make mutants` makes of what rustc, the Rust tests and pytest print."""

import importlib.util
import json
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAME = "src/b.rs:1:2: delete ! in f"


@pytest.fixture
def mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """tools/mutants as a module, which has no suffix, over a directory of its own."""
    monkeypatch.setenv("MUTANTS_TARGET", str(tmp_path))
    loader = SourceFileLoader("mutants", str(ROOT / "tools" / "mutants"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


TESTS = """
import os, signal
def test_passes() -> None: pass
def test_fails() -> None: raise AssertionError
def test_dies() -> None: os.kill(os.getpid(), signal.SIGKILL)
def test_ends() -> None: os._exit(3)
"""


def test_the_python_test_that_notices_is_named_and_the_next_one_is_not_touched_by_it(
    mutants: Any,
) -> None:
    file = mutants.TREE / "tests_py/test_x.py"
    file.parent.mkdir(parents=True)
    file.write_text(TESTS)
    server = mutants.TestServer()
    try:
        passes, fails, dies, ends = (
            f"tests_py/test_x.py::test_{name}" for name in ("passes", "fails", "dies", "ends")
        )
        for asked, told in [
            ([passes], (0, passes)),
            ([passes, fails, dies], (1, fails)),
            ([passes, dies, fails], (None, dies)),
            ([ends, passes], (3, ends)),
            ([passes, passes], (0, passes)),
        ]:
            assert server.run(asked, None, 0) == told
    finally:
        server.close()


RUST = {
    "one fails": ("test a::b ... ok\ntest a::c ... FAILED\ntest a::d ... ok\n", "a::c"),
    "the process ends": ("test a::b ... ok\n", ""),
}


@pytest.mark.parametrize(("output", "failed"), RUST.values(), ids=RUST)
def test_the_rust_test_that_notices_is_named(mutants: Any, output: str, failed: str) -> None:
    assert mutants.RustTests.failed(output) == failed


def suite(mutants: Any, *seen: tuple[str, float, list[int], bool]) -> Any:
    """The Python tests, as if these were all."""
    kept = "".join(f"{json.dumps(each)}\n" for each in seen)
    (mutants.TARGET / "reach-python.jsonl").write_text(kept)
    return mutants.PythonTests("python")


def test_those_of_the_same_name_come_first_then_the_quick_ones(mutants: Any) -> None:
    tests = suite(
        mutants,
        ("tests_py/near/test_slow.py::test_a", 50.0, [7], True),
        ("tests_py/values/test_quick.py::test_b", 1.0, [7, 8], True),
        ("tests_py/faults/test_near_cache.py::test_c", 2.5, [7], True),
        ("tests_py/values/test_elsewhere.py::test_d", 0.1, [8], True),
        ("tests_py/values/test_broken.py::test_e", 0.1, [7], False),
    )
    groups = [*tests.groups("src/client/near_cache.rs:1:2: delete ! in f", 7, 60)]
    assert [[test.rpartition("::")[2] for test in group] for group in groups] == [
        ["test_c"],
        ["test_b"],
        ["test_a"],
    ]


def test_the_one_that_noticed_it_before_comes_first_wherever_its_line_is_now(mutants: Any) -> None:
    slow, quick = "tests_py/a/test_x.py::test_slow", "tests_py/a/test_x.py::test_quick"
    before = {"name": "src/b.rs:9:9: delete ! in f", "file": "src/b.rs", "by": slow}
    (mutants.TARGET / "results-before.jsonl").write_text(json.dumps(before))
    tests = suite(mutants, (quick, 0.1, [7], True), (slow, 9.0, [7], True))
    assert [*tests.groups(NAME, 7, 60)] == [[slow], [quick]]


def test_what_does_not_fit_the_budget_is_left_out(mutants: Any) -> None:
    seen = [(f"tests_py/a/test_x.py::test_{n}", 1.0, [7], True) for n in range(20)]
    slow = ("tests_py/a/test_x.py::test_slow", 90.0, [7], True)
    ran = [test for group in suite(mutants, *seen, slow).groups(NAME, 7, 60) for test in group]
    assert sorted(ran) == sorted(test for test, *_ in seen)


def test_a_mutant_no_test_comes_by_is_not_reached(mutants: Any) -> None:
    assert suite(mutants).notice(NAME, 7, 60) == (mutants.UNREACHED, "")


def test_an_error_is_that_of_the_last_switch_before_it(mutants: Any) -> None:
    source = mutants.TREE / "src/a.rs"
    source.parent.mkdir(parents=True)
    source.write_text("if crate::mutant::is(3) {\nx\n}\nif crate::mutant::is(4) {\ny\n}\n")
    own = {"is_primary": True, "file_name": "src/a.rs", "line_start": 5, "expansion": None}
    macro = {"is_primary": True, "file_name": "std.rs", "line_start": 1, "expansion": {"span": own}}
    assert mutants.blamed({"spans": [own]}) == ({4}, set())
    assert mutants.blamed({"spans": [macro]}) == ({4}, set())
    assert mutants.blamed({"spans": [own | {"line_start": 2}]}) == ({3}, set())
    assert mutants.blamed({"spans": [own | {"line_start": 7}]}) == (set(), {4})
    inside = own | {"is_primary": False, "line_start": 2}
    assert mutants.blamed({"spans": [inside, own | {"line_start": 7}]}) == ({3}, set())
    assert mutants.blamed({"spans": []}) == (set(), set())


def test_mutants_are_counted_by_who_caught_them(
    mutants: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (outcome, by) in enumerate(
        [
            (mutants.CAUGHT, "a::b"),
            (mutants.ENDLESS, "a::b"),
            (mutants.CAUGHT, "tests_py/a/test_x.py::test_one"),
            (mutants.MISSED, "2 of 2 tests"),
            (mutants.UNREACHED, ""),
            (mutants.UNVIABLE, ""),
        ]
    ):
        mutants.keep({"name": f"mutant {number}", "file": "src/json/x.rs"}, outcome, by)
    assert mutants.rates() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| all | 2 | 1 | 1 | 1 | 1 | 60.0% (23% to 88%) |"
    assert lines[-2:] == ["mutant 3  (missed 2 of 2 tests)", "mutant 4  (not reached)"]
