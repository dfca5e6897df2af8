"""The controller: an actor that keeps nothing, starts hosts and their successors, and says who has what."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import ray
import ray.exceptions

from mrlstore.cluster.placement import (
    ClusterView,
    HostState,
    HostView,
    Order,
    Placement,
    read_placement,
    shard_order,
)
from mrlstore.cluster.ray_engine.actors import (
    CARE_GROUP,
    NAMESPACE,
    HostPlan,
    RayNode,
    chosen_nodes,
    controller_name,
    host_name,
    running_hosts,
    started_host,
)
from mrlstore.errors import MrlStoreError
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.system.log import log_event

_ROUND_S: Final = 1.0
_SILENT_S: Final = 5.0  # without an answer, after which others take a host's shards over
_LOOK_S: Final = 5.0  # between two looks for wishes of placement, one LIST each
_PAUSE_S: Final = 60.0  # the longest between two starts of a host that ends by itself
_CALLS: Final = 16


@dataclass
class _HostRecord:
    """A host, and what is known of it."""

    number: int
    actor: Any
    node: str  # the name of the one it was to be on
    begun: float
    asked: Any = None  # the answer that is waited for
    heard: float = 0.0  # when it answered last, 0.0 for never
    unavailable: bool = False
    state: HostState | None = None
    process: int = 0  # the last one that was known
    restarts: int = 0

    def view(self, now: float) -> HostView:
        state = self.state
        silent = state is None or self.unavailable or now - self.heard > _SILENT_S
        return HostView(
            self.number,
            self.actor._actor_id.hex(),
            self.node if state is None else state.node,
            silent,
            self.restarts,
            self.process,
            {} if state is None else state.shards,
        )


class Controller:
    """Looks after the hosts of one cluster. If it ends, its successor finds all that it knew."""

    def __init__(self, plan: HostPlan) -> None:
        self._plan = plan
        self._hosts: dict[int, _HostRecord] = {}
        self._failed: dict[int, tuple[int, float]] = {}  # hosts that ended: how often, and when
        self._storage: ObjectStorage | None = None
        self._placement, self._looked = Placement(), float("-inf")
        self._view: ClusterView | None = None
        self._there = threading.Event()
        threading.Thread(target=self._run, name="mrlstore-controller", daemon=True).start()

    def view(self, wait_s: float = 0.0) -> ClusterView | None:
        """All hosts as they were last seen; None where the first round is not done after `wait_s`."""
        self._there.wait(wait_s)
        return self._view

    def refresh(self) -> None:
        """Look for wishes of placement in the next round."""
        self._looked = float("-inf")

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self._round()
            except (MrlStoreError, ray.exceptions.RayError) as error:
                log_event("round of the controller", self._plan.url, str(error), level=logging.WARNING)
            except Exception:
                log_event("round of the controller", self._plan.url, level=logging.ERROR, trace=True)
            time.sleep(max(0.05, _ROUND_S - (time.monotonic() - started)))

    def _round(self) -> None:
        if not self._hosts:
            self._find()
        self._look()
        nodes = chosen_nodes(
            ray.nodes(), self._plan.num_cpus, self._plan.labels, list(self._placement.drained)
        )
        self._start_hosts(nodes)
        self._ask_hosts()
        now = time.monotonic()
        hosts = {number: known.view(now) for number, known in sorted(self._hosts.items())}
        retiring = self._retiring(hosts, nodes)
        view = ClusterView(self._plan.copies, tuple(hosts.values()), tuple(node.name for node in nodes))
        orders = [
            shard_order(shard, view, self._placement.moved, retiring)
            for shard in range(self._plan.home.shards)
        ]
        self._view = view._replace(orders=tuple(order.serving for order in orders))
        self._there.set()
        self._care(self._view, orders, hosts)
        self._end(self._view, retiring)

    def _find(self) -> None:
        """Take over the hosts that run already, of which a predecessor has started some."""
        for number in running_hosts(self._plan.home):
            with suppress(ValueError):  # it has ended meanwhile
                actor = ray.get_actor(host_name(self._plan.home, number), namespace=NAMESPACE)
                self._hosts[number] = _HostRecord(number, actor, "", time.monotonic())

    def _look(self) -> None:
        """Read the wishes of placement; where they cannot be read the last known ones count."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        if self._storage is None:
            self._storage = open_storage(self._plan.url, self._plan.options)
        try:
            self._placement = read_placement(self._storage)
        except MrlStoreError as error:
            log_event("wishes of placement", self._plan.url, str(error), level=logging.WARNING)

    def _start_hosts(self, nodes: list[RayNode]) -> None:
        """Start hosts until there are as many as wished, and one on each node before a node has two.

        Hosts elsewhere than on `nodes` do not count: they end when those that replace them are ready.
        """
        names = {"", *(node.name for node in nodes)}  # "": not known yet
        while True:
            active = [one.node for one in self._hosts.values() if one.node in names]
            on = {node: active.count(node.name) for node in nodes}
            least = min(nodes, key=lambda node: on[node])
            crowded = on[least] == 0 and any(count > 1 for count in on.values())
            if len(active) >= (self._plan.hosts or len(nodes)) and not crowded:
                return
            number = next(number for number in range(len(self._hosts) + 1) if number not in self._hosts)
            tries, since = self._failed.get(number, (0, 0.0))
            if tries and time.monotonic() - since < min(_PAUSE_S, 2.0**tries):
                return
            actor = started_host(self._plan, number, least)
            self._hosts[number] = _HostRecord(number, actor, least.name, time.monotonic(), restarts=tries)

    def _ask_hosts(self) -> None:
        """Ask every host that owes no answer, wait for a moment, and note what came."""
        for known in self._hosts.values():
            if known.asked is None:
                known.asked = known.actor.state.options(concurrency_group=CARE_GROUP).remote()
        asked = [known.asked for known in self._hosts.values()]
        ray.wait(asked, num_returns=len(asked), timeout=_ROUND_S / 2)
        for known in list(self._hosts.values()):
            if ray.wait([known.asked], timeout=0)[0]:
                self._hear(known)

    def _hear(self, known: _HostRecord) -> None:
        answer, known.asked = known.asked, None
        try:
            state: HostState = ray.get(answer, timeout=_ROUND_S)
        except ray.exceptions.ActorDiedError:
            tries = self._failed.get(known.number, (0, 0.0))[0] + 1
            self._failed[known.number] = (tries, time.monotonic())
            del self._hosts[known.number]
            log_event("host ended", self._plan.url, host=known.number)
            return
        except ray.exceptions.RayError:
            known.unavailable = True
            return
        if known.process not in (0, state.process):
            known.restarts += 1
        known.state, known.process, known.node = state, state.process, state.node
        known.heard, known.unavailable = time.monotonic(), False
        if known.heard - known.begun > _PAUSE_S:
            self._failed.pop(known.number, None)

    def _retiring(self, hosts: dict[int, HostView], nodes: list[RayNode]) -> set[int]:
        """Hosts that are to end: those of drained nodes, and of those beyond the number the most crowded."""
        names = {node.name for node in nodes}
        retiring = {
            number
            for number, host in hosts.items()
            if host.node in self._placement.drained and host.node not in names
        }
        staying = [host for number, host in hosts.items() if number not in retiring]
        while len(staying) > (self._plan.hosts or len(nodes)):
            on = [host.node for host in staying]
            surplus = max(
                staying, key=lambda host: (host.node not in names, on.count(host.node), host.number)
            )
            staying.remove(surplus)
            retiring.add(surplus.number)
        return retiring

    def _care(self, view: ClusterView, orders: list[Order], hosts: dict[int, HostView]) -> None:
        """Have copies opened where they belong, writers succeeded, and copies closed that are too many."""
        hold, take, drop = (dict[int, list[int]]() for _ in range(3))
        for shard, order in enumerate(orders):
            wished = [number for number in order.wished[: view.copies] if not hosts[number].silent]
            missing = [number for number in wished if shard not in hosts[number].shards]
            for number in missing:
                hold.setdefault(number, []).append(shard)
            first, writer = order.serving[0], view.writer(shard)
            ready = shard in hosts[first].shards and not hosts[first].silent
            written = any(shard in host.shards and host.shards[shard].epoch for host in hosts.values())
            if first != writer and ready and written:  # one that nobody has written needs no writer yet
                take.setdefault(first, []).append(shard)
            if wished and not missing:
                for number, host in hosts.items():
                    if shard in host.shards and number not in (*wished, writer) and not host.silent:
                        drop.setdefault(number, []).append(shard)
        for what, todo in (("hold", hold), ("take", take), ("drop", drop)):
            for number, shards in todo.items():
                method = getattr(self._hosts[number].actor, what)
                method.options(concurrency_group=CARE_GROUP).remote(shards)

    def _end(self, view: ClusterView, retiring: set[int]) -> None:
        """End hosts that are to end and of which nothing is needed any more."""
        for number in retiring:
            needed = any(
                view.writer(shard) == number or view.orders[shard][0] == number
                for shard in range(len(view.orders))
            )
            whole = all(
                view.ready(shard) - (shard in self._hosts[number].view(time.monotonic()).shards)
                >= min(view.copies, len(view.hosts) - len(retiring))
                for shard in range(len(view.orders))
            )
            if whole and not needed:
                ray.kill(self._hosts.pop(number).actor)
                log_event("host ended that is not needed", self._plan.url, host=number)


def started_controller(plan: HostPlan) -> Any:
    """The controller of a cluster, started if there is none; an existing one keeps its own plan."""
    return (
        ray.remote(Controller)
        .options(
            name=controller_name(plan.home),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=_CALLS,
            num_cpus=0,
        )
        .remote(plan)
    )
