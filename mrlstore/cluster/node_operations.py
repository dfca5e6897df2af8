"""Hosts and nodes that Ray runs for a cluster: which there are, and moving shards between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mrlstore import checks
from mrlstore.cluster.home import Home, read_home
from mrlstore.cluster.placement import ClusterView, Placement, change_placement
from mrlstore.errors import InvalidInput
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.system.late import importing
from mrlstore.types import Progress

Report = Callable[[Progress], None]


def hosts(home: str | os.PathLike[str], *, options: Mapping[str, Any] | None = None) -> ClusterView:
    """The hosts that Ray runs for a cluster, with the shards that each has and how far these have come.

    Args:
        home: where the cluster is, as in `create`.
        options: for buckets, as in `create`.

    Returns:
        What the controller has seen within the last second or two.

    Raises:
        StoreNotFound: there is no cluster.
        ShardUnavailable: no Ray runs here, or no hosts for this cluster.
        ImportError: Ray is not installed.
    """
    with importing:
        from mrlstore.cluster.ray_engine import waiting
    with _opened(home, options) as (_, found):
        return waiting.view_of(waiting.controller_of(found))


def wait_until_whole(
    home: str | os.PathLike[str],
    *,
    timeout_s: float = 600.0,
    progress: Report | None = None,
    options: Mapping[str, Any] | None = None,
) -> ClusterView:
    """Wait until each shard has as many copies on hosts that answer as `connect` was given.

    Args:
        home: where the cluster is, as in `create`.
        timeout_s: how long to wait at most, in seconds.
        progress: is told how many copies there are.
        options: for buckets, as in `create`.

    Returns:
        The hosts at that moment.

    Raises:
        ShardUnavailable: it is not whole in time, or no hosts run.
    """
    with importing:
        from mrlstore.cluster.ray_engine import waiting
    limit = _checked_seconds(timeout_s)
    checks.check_progress(progress)
    with _opened(home, options) as (_, found):
        controller = waiting.controller_of(found)
        total = found.shards * _copies(waiting.view_of(controller))

        def left(view: ClusterView) -> int:
            copies = _copies(view)
            return sum(max(0, copies - view.ready(shard)) for shard in range(found.shards))

        return waiting.wait_until(controller, left, "copies", limit, _told(progress, "opening", total))


def move(
    home: str | os.PathLike[str],
    shard: int,
    node: str,
    *,
    timeout_s: float = 600.0,
    progress: Report | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Let a host on a node write a shard from now on.

    The host restores a copy first, and takes over when it has it: reads and writes go on meanwhile. The wish
    is kept in object storage. While the node is away, other hosts have the shard.

    Args:
        home: where the cluster is, as in `create`.
        shard: its number.
        node: the name of the node, or the beginning of the name that only this node has, see `hosts`.
        timeout_s: how long to wait until it is done; the wish stays beyond that.
        progress: is told when it is done.
        options: for buckets, as in `create`.

    Raises:
        InvalidInput: there is no such shard, no such node, or no host on it.
        ShardUnavailable: it is not done in time, or no hosts run.
    """
    with importing:
        from mrlstore.cluster.ray_engine import waiting
    limit = _checked_seconds(timeout_s)
    checks.check_progress(progress)
    with _opened(home, options) as (storage, found):
        number = checks.check_count(shard, "shard", 0, found.shards - 1)
        controller = waiting.controller_of(found)
        name = _node(node, {host.node for host in waiting.view_of(controller).hosts})

        def wish(known: Placement) -> Placement:
            return replace(known, moved={**known.moved, number: name})

        def left(view: ClusterView) -> int:
            there = {host.number: host.node for host in view.hosts}
            first, writer = view.orders[number][0], view.writer(number)
            return int(there[first] != name or (writer is not None and there[writer] != name))

        change_placement(storage, wish)
        waiting.refresh(controller)
        waiting.wait_until(controller, left, f"moving shard {number}", limit, _told(progress, "moving", 1))


def drain(
    home: str | os.PathLike[str],
    node: str,
    *,
    undo: bool = False,
    timeout_s: float = 600.0,
    progress: Report | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Take all shards away from a node, and end its hosts: then the node can be stopped.

    Others have copies of everything before a host ends: reads and writes go on meanwhile. The wish is kept in
    object storage until it is undone.

    Args:
        home: where the cluster is, as in `create`.
        node: the name of the node, or the beginning of the name that only this node has, see `hosts`.
        undo: let the node have hosts again, and do not wait for them.
        timeout_s: how long to wait until it is done; the wish stays beyond that.
        progress: is told how many of the node's copies have gone.
        options: for buckets, as in `create`.

    Raises:
        InvalidInput: there is no such node, or no other one.
        ShardUnavailable: it is not done in time, or no hosts run.
    """
    with importing:
        from mrlstore.cluster.ray_engine import waiting
    limit = _checked_seconds(timeout_s)
    checks.check_flag(undo, "undo")
    checks.check_progress(progress)
    with _opened(home, options) as (storage, found):
        if undo:
            change_placement(storage, lambda known: replace(known, drained=_without(known.drained, node)))
            waiting.refresh(waiting.controller_of(found))
            return
        controller = waiting.controller_of(found)
        view = waiting.view_of(controller)
        name = _node(node, {*view.nodes, *(host.node for host in view.hosts)})
        if set(view.nodes) <= {name}:
            raise InvalidInput(f"node: {name} is the only one that can have hosts; add another one first")

        def left(now: ClusterView) -> int:
            return sum(max(1, len(host.shards)) for host in now.hosts if host.node == name)

        change_placement(
            storage, lambda known: replace(known, drained=(*_without(known.drained, name), name))
        )
        waiting.refresh(controller)
        report = _told(progress, "draining", left(view))
        waiting.wait_until(controller, left, f"draining {name}", limit, report)


def _copies(view: ClusterView) -> int:
    """How many copies of a shard there can be."""
    return min(view.copies, max(1, len(view.hosts)))


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The names that do not begin with one."""
    return tuple(one for one in names if not one.startswith(name))


def _node(given: object, names: set[str]) -> str:
    """The name that is meant; InvalidInput that lists all."""
    if isinstance(given, str) and given in names:
        return given
    found = [name for name in names if isinstance(given, str) and given and name.startswith(given)]
    if len(found) != 1:
        raise InvalidInput(f"node: {given!r:.80} is none of the nodes with hosts, {sorted(names - {''})}")
    return found[0]


def _checked_seconds(value: object) -> float:
    seconds = checks.check_number(value, "timeout_s")
    if seconds <= 0:
        raise InvalidInput(f"timeout_s: expected seconds above 0, got {value}")
    return seconds


def _told(progress: Report | None, phase: str, total: int) -> Callable[[int], None]:
    """What tells a callback how much is done, given what is left."""

    def report(left: int) -> None:
        if progress is not None:
            progress(Progress(phase, max(0, total - left), total))

    return report


@contextmanager
def _opened(
    home: str | os.PathLike[str], options: Mapping[str, Any] | None
) -> Iterator[tuple[ObjectStorage, Home]]:
    storage = open_storage(home, options)
    try:
        yield storage, read_home(storage)
    finally:
        storage.close()
