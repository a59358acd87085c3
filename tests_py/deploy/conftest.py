"""What lies in deploy/, read as its readers read it, and the secrets made by its own script."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.deployment import DEPLOY, Deployed, documents


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that deploy/make-secrets has made."""
    directory = tmp_path_factory.mktemp("deploy") / "secrets"
    subprocess.run([DEPLOY / "make-secrets", directory], check=True, capture_output=True)
    return directory


@pytest.fixture(params=["redis.conf", "cluster.conf"])
def deployed(request: pytest.FixtureRequest, server_binary: Path, secrets: Path) -> Deployed:
    """A server that is configured by the file, on each kind of server."""
    return Deployed(server_binary, request.param, secrets)


@pytest.fixture(params=["compose.yaml", "compose.cluster.yaml"])
def compose(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A Compose file."""
    loaded: Mapping[str, Any]
    (loaded,) = documents(request.param)
    return loaded


@pytest.fixture
def manifests() -> dict[tuple[str, str], Mapping[str, Any]]:
    """The manifests of Kubernetes, by kind and name."""
    files = [f"kubernetes/{name}.yaml" for name in ("redis", "workers", "restore")]
    every = [each for file in files for each in documents(file)]
    return {(each["kind"], each["metadata"]["name"]): each for each in every}
