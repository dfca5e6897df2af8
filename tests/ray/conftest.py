"""Three simulated nodes of a Ray cluster for the tests of this folder."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import pytest

# Nodes that are gone are noticed within seconds, and a loaded machine may take long to start one.
for name, value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_raylet_start_wait_time_s", "180"),
    ("RAY_worker_niceness", "0"),  # else its processes starve where others keep the cores busy
    ("RAY_health_check_initial_delay_ms", "1000"),
    ("RAY_health_check_period_ms", "1000"),
    ("RAY_health_check_timeout_ms", "1000"),
    ("RAY_health_check_failure_threshold", "3"),
):
    os.environ.setdefault(name, value)
ray = pytest.importorskip("ray")

from mrlstore import cluster  # noqa: E402

_OBJECTS: Final = 80 * 1024 * 1024  # bytes of the object store of a node, the least that Ray takes
DIM, SHARDS = 8, 4


class Nodes:
    """Simulated nodes on this machine, by their names."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.ray = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": _OBJECTS,
                "labels": {"mrlstore-node": "head"},
            },
        )
        self._there: dict[str, Any] = {}
        for name in ("a", "b", "c"):
            self.add(name)
        self.ray.wait_for_nodes()
        ray.init(address=self.ray.address, log_to_driver=False, logging_level="ERROR")

    def add(self, name: str) -> None:
        """Start a node, unless it is there."""
        if name not in self._there:
            labels = {"mrlstore-node": name, "disk": "spinning" if name == "c" else "nvme"}
            self._there[name] = self.ray.add_node(num_cpus=2, object_store_memory=_OBJECTS, labels=labels)

    def lose(self, name: str, disks: Path) -> None:
        """Kill all processes of a node, and remove its disk."""
        quiet = io.StringIO()  # Ray tells at length of nodes that end
        with redirect_stderr(quiet), redirect_stdout(quiet):
            self.ray.remove_node(self._there.pop(name), allow_graceful=False)
        shutil.rmtree(disks / name, ignore_errors=True)

    def stop(self) -> None:
        """End everything."""
        quiet = io.StringIO()
        with redirect_stderr(quiet), redirect_stdout(quiet):
            ray.shutdown()
            self.ray.shutdown()


@pytest.fixture(scope="session")
def all_nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.stop()


@pytest.fixture
def nodes(all_nodes: Nodes) -> Nodes:
    """All three nodes, whatever tests before have taken away."""
    for name in ("a", "b", "c"):
        all_nodes.add(name)
    all_nodes.ray.wait_for_nodes()
    return all_nodes


@pytest.fixture
def home(quick_path: Path, nodes: Nodes) -> Iterator[Path]:
    """The home of a cluster, whose hosts end with the test."""
    path = quick_path / "home"
    cluster.create(path, dim=DIM, m=4, ef_construction=20, shards=SHARDS)
    yield path
    cluster.stop_hosts(path)


@pytest.fixture
def disks(home: Path) -> Path:
    """Where each node has a folder by its name."""
    return home.parent / "disks"
