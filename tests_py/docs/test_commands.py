"""Every command in an indented block: a target of the Makefile, or run by a test that is named."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from support.host import ROOT
from support.pages import PAGES, commands, read


class RunBy(NamedTuple):
    """Who runs a command.

    Attributes:
        file: The test, or the program of the Makefile.
        needle: What that file says where it does; empty where it takes the page's own line.
    """

    file: str
    needle: str


RUN_BY = {
    "pip install target/wheels/": RunBy("tools/wheel-check", '"pip", "install"'),
    'pip install "$(echo target/wheels/': RunBy("tools/wheel-check", 'f"{wheel}[all]"'),
    "ACL SETUSER nano_graphrag ": RunBy("tests_py/security/test_acl.py", '"security.md"'),
    "deploy/make-secrets": RunBy("tests_py/deploy/conftest.py", '"make-secrets"'),
    "export STORAGE_KV_BACKEND=": RunBy("tests_py/deploy/test_readme.py", "commands("),
    "export REDIS_USERNAME=": RunBy("tests_py/deploy/test_readme.py", "commands("),
    "nano-graphrag-redis run app.py": RunBy("tests_py/deploy/test_readme.py", "commands("),
    "python -m examples.service.index": RunBy("tests_py/support/service.py", "commands("),
    "export REDIS_METRICS_DIR=": RunBy(
        "tests_py/metrics/test_several_processes.py", "REDIS_METRICS_DIR="
    ),
    "nano-graphrag-redis metrics --port": RunBy(
        "tests_py/metrics/test_several_processes.py", '"metrics"'
    ),
    "uvicorn examples.service.app:app": RunBy("tests_py/support/service.py", "commands("),
    "curl -G localhost:8000/ask": RunBy("tests_py/support/service.py", "commands("),
    # A container engine or a cluster is not to be had here: what they are given is held against
    # its schema, and what the containers run is started as real servers.
    "docker compose --file deploy/compose.": RunBy("Makefile", "vendor.compose-spec"),
    "kubectl create secret generic nano-graphrag-redis": RunBy("Makefile", "kubernetes-validate"),
    "kubectl create secret generic redis-password": RunBy("tools/chart", "check("),
    "kubectl create secret generic openai": RunBy("tools/chart", "check("),
    "kubectl rollout ": RunBy("tools/chart", "check("),
    "kubectl exec deployment/": RunBy("tools/chart", "check("),
    "kubectl logs --follow job/": RunBy("tools/chart", "check("),
    "kubectl wait ": RunBy("tools/chart", "check("),
    "kubectl delete job ": RunBy("tools/chart", "check("),
    "kubectl create --filename": RunBy("tools/chart", "check("),
    "kubectl create job before-upgrade": RunBy("tests_py/deploy/test_backup_job.py", '"CronJob"'),
    "helm install graphrag": RunBy("tools/chart", "chart.render("),
    "helm template graphrag": RunBy("tools/chart", "chart.render("),
    "Error: redis.url has a login": RunBy("tools/chart", "redis.url has a login"),
    "kubectl apply --kustomize deploy/kubernetes": RunBy("Makefile", "kubernetes-validate"),
}
"""Beginnings of commands."""

SHOWN = [(page, line) for page in PAGES if "/design/" not in page for line in commands(page)]
TARGETS = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


def test_the_commands_of_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "deploy/README.md"} <= {page for page, _ in SHOWN}


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_command_is_a_target_or_is_run_by_a_test(page: str, line: str) -> None:
    if line.startswith("make "):
        assert set(line.split()[1:]) <= TARGETS
    else:
        assert [start for start in RUN_BY if line.startswith(start)], f"{page}: {line}"


@pytest.mark.parametrize("start", RUN_BY)
def test_who_is_said_to_run_a_command_does(start: str) -> None:
    assert any(line.startswith(start) for _, line in SHOWN)
    assert RUN_BY[start].needle in (ROOT / RUN_BY[start].file).read_text(encoding="utf-8")
