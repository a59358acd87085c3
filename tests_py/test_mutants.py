"""What `make mutants-missed` makes of the output of pytest, of llvm-cov and of cargo-mutants."""

import importlib.util
import json
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def mutants() -> Any:
    """tools/mutants as a module, which has no suffix."""
    loader = SourceFileLoader("mutants", str(ROOT / "tools" / "mutants"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


RUNS = {
    "one fails": (
        "tests_py/a/test_x.py::test_one PASSED\ntests_py/a/test_x.py::test_two[a b] FAILED [66%]\n",
        ["tests_py/a/test_x.py::test_two[a b]"],
    ),
    "a fixture breaks": (
        "tests_py/a/test_x.py::test_one ERROR [ 50%]\n",
        ["tests_py/a/test_x.py::test_one"],
    ),
    "the process ends in one": (
        "tests_py/a/test_x.py::test_one PASSED [ 50%]\ntests_py/a/test_x.py::test_two ",
        ["tests_py/a/test_x.py::test_two"],
    ),
    "a file cannot be imported": (
        "ERROR tests_py/a/test_x.py - ImportError: no core\n",
        ["tests_py/a/test_x.py"],
    ),
    "all pass": ("tests_py/a/test_x.py::test_one PASSED [100%]\n", []),
}


@pytest.mark.parametrize(("output", "failed"), RUNS.values(), ids=RUNS)
def test_the_test_that_notices_is_named(mutants: Any, output: str, failed: list[str]) -> None:
    assert mutants.Run(1, output).failed_tests() == failed


def test_a_run_that_did_not_end_has_not_passed_and_one_without_tests_has(mutants: Any) -> None:
    assert not mutants.Run(None, "").passed
    assert mutants.Run(5, "").passed


def test_only_lines_of_the_core_that_ran_count(mutants: Any) -> None:
    report = "SF:/t/src/a.rs\nDA:1,0\nDA:2,7\nSF:/t/src/b.rs\nDA:3,0\nSF:/else/src/c.rs\nDA:4,1\n"
    assert mutants.lines_run(report, Path("/t")) == {"src/a.rs": [2]}


def test_the_cheap_and_narrow_files_that_reach_a_line_come_first(mutants: Any) -> None:
    reach = mutants.Reach(
        seconds={"wide": 2.0, "narrow": 2.0, "dear": 90.0, "elsewhere": 1.0},
        lines={
            "wide": {"src/a.rs": [*range(100)]},
            "narrow": {"src/a.rs": [7, 8]},
            "dear": {"src/a.rs": [8]},
            "elsewhere": {"src/b.rs": [7]},
        },
        failing={},
    )
    assert reach.of("src/a.rs", 6, 8) == ["narrow", "dear", "wide"]
    assert reach.of("src/a.rs", 200, 200) == []


def test_the_files_that_are_named_like_the_source_come_before_all_others(mutants: Any) -> None:
    cheap, named = "tests_py/values/test_exact.py", "tests_py/faults/test_near_cache.py"
    lines = {"src/client/near_cache.rs": [1]}
    reach = mutants.Reach({cheap: 1.0, named: 60.0}, {cheap: lines, named: lines}, {})
    assert reach.of("src/client/near_cache.rs", 1, 1) == [named, cheap]


def test_what_does_not_fit_the_budget_is_left_out_but_never_the_first(mutants: Any) -> None:
    seconds = {"a": 9.0, "b": 9.0, "c": 200.0, "d": 90.0}
    assert mutants.groups(["a", "b", "c", "d"], seconds, 120) == [["a", "b"], ["d"]]
    assert mutants.groups(["c", "a"], seconds, 120) == [["c"]]


def test_mutants_are_counted_by_who_caught_them(
    mutants: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = ["CaughtMutant", "Timeout", "MissedMutant", "MissedMutant", "Unviable"]
    told = [
        {"scenario": {"Mutant": {"name": str(n), "file": "src/json/x.rs"}}, "summary": summary}
        for n, summary in enumerate(summaries)
    ]
    outcomes = {"outcomes": [{"scenario": "Baseline", "summary": "Success"}, *told, told[0]]}
    (tmp_path / "outcomes.json").write_text(json.dumps(outcomes))
    (tmp_path / "python.jsonl").write_text('{"name": "2", "outcome": "caught"}\n')
    mutants.rates(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| all | 2 | 1 | 0 | 1 | 1 | 100% (44% to 100%) |")
