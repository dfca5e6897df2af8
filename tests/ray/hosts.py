"""Clusters on the simulated nodes, and what their hosts say."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from mrlstore import cluster
from mrlstore.cluster.placement import HostState
from mrlstore.cluster.ray_engine.actors import NAMESPACE, host_name

LONGEST_S = 120.0  # on a loaded machine


def connected(home: Path, **more: Any) -> cluster.ShardedStore:
    """The cluster, by hosts that ask for so few processors that Ray starts them at once."""
    folder = str(home.parent / "disks" / "{node}")
    return cluster.connect(home, engine="ray", **{"folder": folder, "num_cpus": 0.1, **more})


def host_of(store: cluster.ShardedStore, number: int) -> Any:
    return ray.get_actor(host_name(store.home, number), namespace=NAMESPACE)


def state_of(host: Any) -> HostState:
    found: HostState = ray.get(host.state.remote(), timeout=LONGEST_S)
    return found


def seen(
    home: Path, right: Callable[[cluster.ClusterView], bool], seconds: float = LONGEST_S
) -> cluster.ClusterView:
    """The first view of the hosts that is right."""
    deadline = time.monotonic() + seconds
    while not right(view := cluster.hosts(home)):
        assert time.monotonic() < deadline, f"not in {seconds} s: {view}"
        time.sleep(0.2)
    return view


def nodes_of(view: cluster.ClusterView) -> list[str]:
    """The nodes of the hosts that answer."""
    return sorted(host.node for host in view.hosts if not host.silent)
