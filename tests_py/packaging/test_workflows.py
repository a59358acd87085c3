"""The workflows: what they call is there, and what they use is pinned. Schemas: `make validate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.host import ROOT

WORKFLOWS = {path.name: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
FILES = {
    **{name: path.read_text(encoding="utf-8") for name, path in WORKFLOWS.items()},
    ".pre-commit-config.yaml": (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"),
    ".ci/run": (ROOT / ".ci" / "run").read_text(encoding="utf-8"),
}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def workflow(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load(FILES[name])
    assert isinstance(loaded, dict)
    return loaded


def commands(name: str) -> str:
    """What a file has run, without what only tells."""
    if name == ".ci/run":
        return FILES[name]
    if name in WORKFLOWS:
        steps = (step for job in workflow(name)["jobs"].values() for step in job["steps"])
        return "\n".join(step.get("run", "") for step in steps)
    hooks = (hook for repo in yaml.safe_load(FILES[name])["repos"] for hook in repo["hooks"])
    return "\n".join(hook["entry"] for hook in hooks)


def test_there_is_one_for_each_change_one_for_each_week_and_one_for_a_release() -> None:
    assert set(WORKFLOWS) == {"ci.yml", "weekly.yml", "release.yml"}


@pytest.mark.parametrize("name", FILES)
def test_every_make_target_that_is_called_is_in_the_makefile(name: str) -> None:
    calls = re.findall(r"\bmake ((?:--?[\w-]+ |[A-Z]+=\S+ ?)*[a-z][a-z -]*)", commands(name))
    called = {
        word for call in calls for word in call.split() if re.fullmatch(r"[a-z][a-z-]*", word)
    }
    assert called
    assert called <= TARGETS


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_is_called_is_there(name: str) -> None:
    called = set(re.findall(r"(?<![\w/.-])((?:tools|\.ci)/[\w.-]+)", commands(name)))
    assert [path for path in called if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_to_a_commit_and_says_its_version(name: str) -> None:
    uses = re.findall(r"uses: (.+)", FILES[name])
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_job_may_read_the_source_has_a_limit_and_keeps_no_credentials(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    for job in workflow(name)["jobs"].values():
        assert job["timeout-minutes"] <= (180 if name == "weekly.yml" else 90)
        for step in job["steps"]:
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_only_the_publishing_job_may_sign() -> None:
    jobs = workflow("release.yml")["jobs"]
    signing = {name for name, job in jobs.items() if "id-token" in job.get("permissions", {})}
    assert signing == {"publish"}
    assert jobs["publish"]["environment"] == "pypi"
    assert "secrets." not in FILES["release.yml"]  # trusted publishing needs none


def test_nothing_is_published_before_everything_is_built() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish", "version"}


def test_every_supported_python_is_tested_and_declared() -> None:
    tested = workflow("ci.yml")["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.findall(r"Programming Language :: Python :: (\d\.\d+)", pyproject)
    assert tested == declared == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert f'requires-python = ">={declared[0]}"' in pyproject


def test_every_supported_server_is_tested() -> None:
    """Valkey 9 comes with the tests' own packages."""
    matrix = workflow("ci.yml")["jobs"]["servers"]["strategy"]["matrix"]["include"]
    versions = {re.sub(r".*/", "", entry["image"]).rpartition(".")[0] for entry in matrix}
    assert versions == {"redis:6.2", "redis:7.2", "redis:7.4", "redis:8.2", "valkey:8.1"}


def versions_of_python() -> list[str]:
    """Those that the package says it supports."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)


def test_a_wheel_is_built_for_every_platform_and_on_each_for_every_python() -> None:
    jobs = workflow("release.yml")["jobs"]
    linux = jobs["linux"]
    platforms = {(e["libc"], e["target"]) for e in linux["strategy"]["matrix"]["include"]}
    assert platforms == {(c, t) for c in ("2_28", "musllinux_1_2") for t in ("x86_64", "aarch64")}
    builds = [step["with"]["args"] for step in linux["steps"] if "args" in step.get("with", {})]
    general, specific = builds
    features, _, versions = specific.partition(" --interpreter ")
    assert versions.split() == versions_of_python()
    assert general == f"{features} --features abi3"
    others = jobs["others"]["strategy"]["matrix"]
    runners = [re.sub(r"-.*", "", each["runner"]) for each in others["platform"]]
    assert runners == ["macos", "macos", "windows"]
    assert others["python"] == ["abi3", *versions_of_python()]


def test_only_the_general_wheel_is_built_over_the_stable_abi() -> None:
    """Who builds from source builds for one Python, which may be a PyPy without such an ABI."""
    features = (ROOT / "Cargo.toml").read_text(encoding="utf-8").partition("[features]")[2]
    (default,) = re.findall(r"^default = (.*)$", features, re.MULTILINE)
    assert default == '["python"]'
    asked = re.findall(r"maturin build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert ["--features abi3" in line for line in asked] == [
        "wheels-abi3" in line for line in asked
    ]
    assert sum("--features abi3" in line for line in asked) == 1


def test_the_release_builds_with_the_maturin_of_the_lock() -> None:
    (locked,) = re.findall(
        r"^maturin==(\S+)", Path(ROOT / "locks/test.txt").read_text(), re.MULTILINE
    )
    assert set(re.findall(r"maturin-version: v(\S+)", FILES["release.yml"])) == {locked}
