"""Compose files and manifests: pinned images, no secret, nothing open to the network."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nano_graphrag_redis import RedisConfig
from nano_graphrag_redis.config.sources import variables_of
from support.deployment import DEPLOY, containers, documents
from support.host import ROOT

PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(?:\.\d+)?(?:-[a-z]+)?")
Compose = Mapping[str, Any]
Manifests = dict[tuple[str, str], Mapping[str, Any]]


def test_every_image_is_pinned_to_a_version(compose: Compose, manifests: Manifests) -> None:
    images = [service["image"] for service in compose["services"].values()]
    for (kind, _), manifest in manifests.items():
        if kind in {"Deployment", "StatefulSet"}:
            images += [container["image"] for container in containers(manifest)]
    assert [image for image in images if not PINNED.fullmatch(image)] == []


def test_redis_is_of_one_version_everywhere() -> None:
    files = [DEPLOY / "compose.yaml", DEPLOY / "compose.cluster.yaml", *DEPLOY.rglob("redis.yaml")]
    versions = {v for file in files for v in re.findall(r"image: (redis:\S+)", file.read_text())}
    assert len(versions) == 1


def test_every_port_is_the_machine_s_own(compose: Compose) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_file_and_volume_that_is_named_is_there(compose: Compose) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), source
        assert set(service.get("secrets", [])) <= set(compose["secrets"])


def test_every_secret_is_one_that_the_script_makes(compose: Compose, secrets: Path) -> None:
    for secret in compose["secrets"].values():
        directory, name = secret["file"].rsplit("/", 1)
        assert directory == "./secrets"
        assert (secrets / name).is_file()


def test_a_server_has_a_volume_a_health_check_and_time_to_end(compose: Compose) -> None:
    servers = {
        n: s for n, s in compose["services"].items() if "redis-server" in s.get("command", [])
    }
    assert servers
    for service in servers.values():
        assert any(volume.endswith(":/data") for volume in service["volumes"])
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["stop_grace_period"] == "60s"
        assert service["restart"] == "unless-stopped"


def test_the_cluster_has_six_members_and_forms_from_all() -> None:
    (compose,) = documents("compose.cluster.yaml")
    members = {n: s for n, s in compose["services"].items() if n.startswith("redis-")}
    assert len(members) == 6
    for name, member in members.items():
        assert member["command"][-2:] == ["--cluster-announce-hostname", name]
    addresses = {m["networks"]["cluster"]["ipv4_address"] for m in members.values()}
    form = compose["services"]["form"]
    assert set(form["command"][2:]) == {f"{address}:6379" for address in addresses}
    assert set(form["depends_on"]) == set(members)


def test_nothing_secret_is_in_the_tree() -> None:
    tracked = subprocess.run(
        ["git", "check-ignore", "deploy/secrets/redis_password"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tracked.stdout.strip() == "deploy/secrets/redis_password"
    text = "\n".join(
        p.read_text() for p in DEPLOY.rglob("*") if p.is_file() and "secrets" not in p.parts
    )
    assert not re.search(
        r"(?im)^\s*(?:requirepass|masterauth|\w*password)\s*[:=]?\s+[^\s${#]", text
    )
    assert "@" not in "".join(re.findall(r"redis://\S*", text))


def clients(manifests: Manifests) -> list[Mapping[str, Any]]:
    """The pods that use Redis."""
    backup = manifests["CronJob", "nano-graphrag-backup"]["spec"]["jobTemplate"]
    restore = manifests["Job", "nano-graphrag-restore"]
    workers = manifests["Deployment", "nano-graphrag"]
    return [each["spec"]["template"] for each in (workers, backup, restore)]


def test_kubernetes_has_the_same_configuration(manifests: Manifests) -> None:
    said = manifests["ConfigMap", "nano-graphrag-redis"]["data"]["redis.conf"]
    assert said == (DEPLOY / "redis" / "redis.conf").read_text(encoding="utf-8")


def test_the_manifests_are_listed_and_refer_to_what_is_there(manifests: Manifests) -> None:
    (kustomization,) = documents("kubernetes/kustomization.yaml")
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    # A restore is started by hand.
    assert {*kustomization["resources"], "kustomization.yaml", "restore.yaml"} == files
    redis = manifests["StatefulSet", "nano-graphrag-redis"]["spec"]
    labels = redis["template"]["metadata"]["labels"]
    service = manifests["Service", redis["serviceName"]]["spec"]
    policy = manifests["NetworkPolicy", "nano-graphrag-redis"]["spec"]
    for selector in (
        redis["selector"]["matchLabels"],
        service["selector"],
        policy["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    (rule,) = policy["ingress"]
    allowed = rule["from"][0]["podSelector"]["matchLabels"]
    for template in clients(manifests):
        assert allowed.items() <= template["metadata"]["labels"].items()


def test_no_container_may_more_than_it_needs(manifests: Manifests) -> None:
    server = manifests["StatefulSet", "nano-graphrag-redis"]["spec"]["template"]
    for template in (server, *clients(manifests)):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_the_environment_of_every_pod_is_one_that_the_storage_takes(
    manifests: Manifests, secrets: Path
) -> None:
    for template in clients(manifests):
        pod = template["spec"]
        (container,) = pod["containers"]
        environ = {each["name"]: each["value"] for each in container["env"]}
        config = RedisConfig.from_env(environ)
        assert config.redis_username == "nano_graphrag"
        assert environ["PYTHONHASHSEED"] == "0"
        file = Path(config.redis_password_file or "")
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        (volume,) = [v for v in pod["volumes"] if v["name"] == mounts[str(file.parent)]]
        assert volume["secret"]["secretName"] == "nano-graphrag-redis"
        assert file.name in {item["path"] for item in volume["secret"]["items"]}
        assert (secrets / file.name).is_file()


def test_no_probe_of_life_asks_redis(manifests: Manifests) -> None:
    (container,) = containers(manifests["Deployment", "nano-graphrag"])
    assert container["command"][:2] == ["uvicorn", "examples.service.app:app"]
    probes = {
        name: container[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    app = (ROOT / "examples" / "service" / "app.py").read_text(encoding="utf-8")
    assert all(f'@app.get("{path}")' in app for path in probes.values())


def test_the_health_check_s_environment_is_one_that_the_storage_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = (DEPLOY / "health-check.env").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert settings.pop("STORAGE_KV_BACKEND") == "redis"
    assert not any("#" in value or value != value.strip() for value in settings.values())
    config = RedisConfig.from_env(settings)
    assert config.redis_password_file == "deploy/secrets/redis_password"
    assert config.redis_workspace == "health-check"
    assert [config.ttl_for(n) for n in ("community_reports", "text_chunks", "full_docs")] == [0] * 3
    assert caplog.records == []  # no unknown name, no document that expires


# Helm reads no file from outside a chart, and not every system has symbolic links.
def test_the_chart_has_the_alerts_of_prometheus() -> None:
    ours = DEPLOY / "prometheus" / "alerts.yml"
    charts = DEPLOY / "helm" / "nano-graphrag" / "files" / "alerts.yml"
    assert charts.read_bytes() == ours.read_bytes(), f"cp {ours} {charts}"


def test_the_chart_takes_the_settings_that_there_are_and_has_values_for_the_rest() -> None:
    """A misspelt one would mix two services' data, or keep nothing of what was asked for."""
    schema = json.loads((DEPLOY / "helm/nano-graphrag/values.schema.json").read_text())
    taken = schema["properties"]["settings"]["propertyNames"]["enum"]
    variables = {
        name
        for names in variables_of(RedisConfig.model_fields).values()
        for name in names
        if name.startswith("REDIS_")
    }
    helpers = DEPLOY / "helm" / "nano-graphrag" / "templates" / "_helpers.tpl"
    of_values = set(re.findall(r"name: (REDIS_\w+)", helpers.read_text()))
    of_secrets = {"REDIS_PASSWORD"}
    assert taken == sorted(variables - of_values - of_secrets)
