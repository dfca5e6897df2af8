"""The actors of a cluster: their names, how they are started and found, and on which nodes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mrlstore.cluster.home import Home
from mrlstore.cluster.running_shard import ShardCare
from mrlstore.cluster.shard_host import ShardHost
from mrlstore.errors import ShardUnavailable

NAMESPACE: Final = "mrlstore"
NODE_LABEL: Final = "mrlstore-node"  # of a Ray node: the name that it has for `move` and `drain`
CARE_GROUP: Final = "care"  # of a host's calls: those of the controller never wait for queries
_CALLS: Final = 16  # of one host at the same time
_RESTARTS: Final = 20  # of a host, by Ray; the controller starts another one afterwards, with growing pauses


class HostPlan(NamedTuple):
    """What the first that connects decides for all hosts of a cluster."""

    home: Home
    url: str
    options: dict[str, Any] | None
    hosts: int | None  # how many; None: one for each node
    copies: int
    folder: str  # on each node; "{node}" in it becomes the name of the node
    care: ShardCare
    threads: int
    num_cpus: float
    labels: dict[str, str]  # nodes that have these are preferred


class RayNode(NamedTuple):
    """A node that may have hosts."""

    id: str
    name: str


class RayHost(ShardHost):
    """A host in an actor. Nothing is opened when it is made: Ray takes an error there for its end."""

    def __init__(self, plan: HostPlan, number: int) -> None:
        """The host of a number, on whichever node Ray has put it."""
        here = ray.get_runtime_context().get_node_id()
        name = next((name_of(node) for node in ray.nodes() if node["NodeID"] == here), here)
        folder = f"{plan.folder.replace('{node}', name)}/host-{number}"
        super().__init__(plan.url, plan.options, folder, plan.care, plan.threads, name)


def name_of(node: Mapping[str, Any]) -> str:
    """The name of a node of `ray.nodes()`: its label, or Ray's id of it."""
    return str((node.get("Labels") or {}).get(NODE_LABEL) or node["NodeID"])


def chosen_nodes(
    nodes: Sequence[Mapping[str, Any]], num_cpus: float, labels: Mapping[str, str], drained: Sequence[str]
) -> list[RayNode]:
    """The nodes that may have hosts, in the order of their names.

    Each wish is dropped where no node would be left: that they are not drained, have the processors, have the
    labels.
    """
    left = [node for node in nodes if node["Alive"]]
    wishes = (
        lambda node: name_of(node) not in drained,
        lambda node: node["Resources"].get("CPU", 0) >= max(num_cpus, 1e-9),
        lambda node: labels.items() <= (node.get("Labels") or {}).items(),
    )
    for wish in wishes:
        left = [node for node in left if wish(node)] or left
    return sorted((RayNode(node["NodeID"], name_of(node)) for node in left), key=lambda node: node.name)


def host_name(home: Home, number: int) -> str:
    """The name of a host in Ray's namespace "mrlstore"."""
    return f"{home.uuid}-host-{number}"


def controller_name(home: Home) -> str:
    """The name of the controller in Ray's namespace "mrlstore"."""
    return f"{home.uuid}-controller"


def started_host(plan: HostPlan, number: int, node: RayNode) -> Any:
    """The host of a number, started where there is none: on a node, or on another if that is gone."""
    return (
        ray.remote(concurrency_groups={CARE_GROUP: 2})(RayHost)
        .options(
            name=host_name(plan.home, number),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=_RESTARTS,
            max_concurrency=_CALLS,
            num_cpus=plan.num_cpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=True),
        )
        .remote(plan, number)
    )


def running_hosts(home: Home) -> list[int]:
    """The numbers of the hosts that Ray has."""
    return sorted(int(name.rpartition("-")[2]) for name in _names(home) if "-host-" in name)


def stop_hosts(home: Home) -> int:
    """End the controller and all hosts of a cluster; how many hosts there were.

    What was acknowledged is in object storage.
    """
    connect_ray()
    stopped = 0
    for name in (controller_name(home), *(host_name(home, number) for number in running_hosts(home))):
        try:
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
            stopped += "-host-" in name
        except ValueError:
            pass  # it has ended by itself
    return stopped


def connect_ray() -> None:
    """Join the Ray cluster that runs here; ShardUnavailable where none does."""
    if ray.is_initialized():
        return
    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise ShardUnavailable(
            "no Ray cluster runs here: start one (ray start --head), or call ray.init() before"
        ) from error


def _names(home: Home) -> list[str]:
    listed: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    return [
        each["name"]
        for each in listed
        if each["namespace"] == NAMESPACE and each["name"].startswith(home.uuid)
    ]
