"""Waiting until the hosts of a cluster are as somebody wished."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import ray
import ray.exceptions

from mrlstore.cluster.home import Home
from mrlstore.cluster.placement import ClusterView
from mrlstore.cluster.ray_engine.actors import NAMESPACE, connect_ray, controller_name
from mrlstore.errors import ShardUnavailable

_ANSWER_S: Final = 30.0  # for the controller; its first round may still be going on
_RESTART_S: Final = 90.0  # for Ray to start it on another node: a lost one is noticed after 20 s by default
_PAUSE_S: Final = 0.5


def controller_of(home: Home) -> Any:
    """The controller of a cluster; ShardUnavailable where none runs."""
    connect_ray()
    try:
        return ray.get_actor(controller_name(home), namespace=NAMESPACE)
    except ValueError as error:
        raise ShardUnavailable(
            "no hosts run for this cluster: cluster.connect(..., engine='ray') starts them"
        ) from error


def view_of(controller: Any) -> ClusterView:
    """What the controller sees; ShardUnavailable if it does not answer, though Ray had time to restart it."""
    found: ClusterView | None = _answered(lambda: controller.view.remote(_ANSWER_S))
    if found is None:
        raise ShardUnavailable("the controller of the cluster finds no node that can have a host")
    return found


def refresh(controller: Any) -> None:
    """Have the controller look for wishes of placement in its next round."""
    _answered(controller.refresh.remote)


def _answered(call: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _RESTART_S
    while True:
        try:
            return ray.get(call(), timeout=2 * _ANSWER_S)
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.ActorDiedError) or time.monotonic() > deadline:
                raise ShardUnavailable(f"the controller of the cluster does not answer: {error}") from error
            time.sleep(_PAUSE_S)


def wait_until(
    controller: Any,
    left: Callable[[ClusterView], int],
    what: str,
    timeout_s: float,
    report: Callable[[int], None],
) -> ClusterView:
    """Wait until nothing is left; `report` is given what is left at each look.

    Raises ShardUnavailable, which says `what` is not done, after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        view = view_of(controller)
        count = left(view)
        report(count)
        if not count:
            return view
        if time.monotonic() > deadline:
            raise ShardUnavailable(f"{what}: {count} of its shards are not there after {timeout_s:g} s")
        time.sleep(_PAUSE_S)
