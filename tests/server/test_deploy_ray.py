"""The manifest for KubeRay, read as YAML and compared with what it has to agree with; nothing is started."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFEST = (ROOT / "deploy/kuberay.yaml").read_text(encoding="utf-8")
CLUSTER: dict[str, Any] = yaml.safe_load(MANIFEST)
HEAD = CLUSTER["spec"]["headGroupSpec"]
WORKERS = CLUSTER["spec"]["workerGroupSpecs"]
NAMES = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[KMGTPE]i?)?")


def pods() -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (HEAD, *WORKERS)]


def variables(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]}


def test_it_is_a_ray_cluster_of_kuberay() -> None:
    assert (CLUSTER["apiVersion"], CLUSTER["kind"]) == ("ray.io/v1", "RayCluster")
    for group in WORKERS:
        assert NAMES.fullmatch(group["groupName"])
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (HEAD, *WORKERS):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize("number", range(1 + len(WORKERS)))
def test_each_pod_is_whole(number: int) -> None:
    pod = pods()[number]
    (container,) = pod["containers"]
    assert NAMES.fullmatch(container["name"]) and container["image"]
    mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in pod.get("volumes", [])}
    for amounts in container["resources"].values():
        assert all(QUANTITY.fullmatch(amount) for amount in amounts.values())
    settings = variables(pod)
    assert settings["RAY_USAGE_STATS_ENABLED"] == "0" and settings["RAY_AUTH_MODE"] == "token"
    for one in container["env"]:
        assert ("value" in one) != ("valueFrom" in one)
        assert isinstance(one.get("value", ""), str)


def test_no_host_is_lost_with_the_head_and_copies_lie_on_a_disk_of_the_pod() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    folder = re.search(r"--folder (\S+)", MANIFEST)
    for group in WORKERS:
        pod = group["template"]["spec"]
        paths = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        assert folder is not None and any(folder[1].startswith(path + "/") for path in paths)
        assert "ephemeral" in pod["volumes"][0]


def test_versions_agree() -> None:
    image = re.search(r"rayproject/ray:([0-9.]+)-py311", (ROOT / "deploy/Dockerfile.ray").read_text())
    assert image is not None and image[1] == CLUSTER["spec"]["rayVersion"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    least = next(re.search(r"ray>=([0-9]+)\.([0-9]+)", one) for one in extras["ray"] if one.startswith("ray"))
    major, minor = (int(part) for part in image[1].split(".")[:2])
    assert least is not None and (major, minor) >= (int(least[1]), int(least[2]))
