"""What a process knows of the hosts of a cluster: the controller's view, asked for again and again."""

from __future__ import annotations

import threading
from typing import Any, Final

import ray
import ray.exceptions

from mrlstore.cluster.home import Home
from mrlstore.cluster.placement import ClusterView, HostView
from mrlstore.cluster.ray_engine.actors import NAMESPACE, host_name
from mrlstore.errors import ShardUnavailable

_EVERY_S: Final = 2.0
_FIRST_S: Final = 300.0  # for the controller and the first host to start
_WAIT_S: Final = 10.0
_NOW_S: Final = 3.0  # for a view that a caller waits for


class Views:
    """Keeps the newest view of a controller. Safe to use from many threads.

    While the controller does not answer the last view stays: hosts go on without it.
    """

    def __init__(self, home: Home, controller: Any) -> None:
        """Wait for the first view; ShardUnavailable if none comes."""
        self._home, self._controller = home, controller
        self._guard = threading.Lock()
        self._actors: dict[str, Any] = {}
        self._wake, self._ended = threading.Event(), threading.Event()
        try:
            first = ray.get(controller.view.remote(_FIRST_S), timeout=_FIRST_S + _WAIT_S)
        except ray.exceptions.RayError as error:
            raise ShardUnavailable(f"the controller of the cluster does not start: {error}") from error
        if first is None:
            raise ShardUnavailable("the controller of the cluster finds no node that can have a host")
        self._set(first)
        self._thread = threading.Thread(target=self._run, name="mrlstore-view", daemon=True)
        self._thread.start()

    @property
    def view(self) -> ClusterView:
        """The newest view."""
        return self._view

    def id_of(self, host: int) -> str:
        """Ray's id of the actor of a host; "" where there is none."""
        known = self._hosts.get(host)
        return "" if known is None else known.actor

    def is_silent(self, host: int) -> bool:
        """Whether the controller has heard of a host before, and not for some seconds."""
        known = self._hosts.get(host)
        return known is None or (known.silent and known.process != 0)

    def actor(self, host: int) -> Any:
        """What calls a host; None where it has ended."""
        known = self.id_of(host)
        with self._guard:
            if known in self._actors:
                return self._actors[known]
        try:
            found = ray.get_actor(host_name(self._home, host), namespace=NAMESPACE)
        except ValueError:
            return None
        with self._guard:
            self._actors[found._actor_id.hex()] = found
        return found

    def newest(self) -> None:
        """Ask for the view of this moment; the last one stays if the controller does not answer soon."""
        try:
            found = ray.get(self._controller.view.remote(), timeout=_NOW_S)
        except ray.exceptions.RayError:
            return
        if found is not None:
            self._set(found)

    def look(self) -> None:
        """Ask for a newer view soon."""
        self._wake.set()

    def close(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._ended.is_set() and ray.is_initialized():
            self._wake.wait(_EVERY_S)
            self._wake.clear()
            try:
                found = ray.get(self._controller.view.remote(), timeout=_WAIT_S)
            except ray.exceptions.RayError:
                continue
            if found is not None:
                self._set(found)

    def _set(self, view: ClusterView) -> None:
        self._hosts: dict[int, HostView] = {host.number: host for host in view.hosts}
        with self._guard:
            there = {host.actor for host in view.hosts}
            self._actors = {known: actor for known, actor in self._actors.items() if known in there}
        self._view = view
