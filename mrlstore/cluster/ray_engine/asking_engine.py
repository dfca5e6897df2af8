"""The engine that asks hosts which Ray runs."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import ray
import ray.exceptions

from mrlstore.cluster.engine import Engine, ShardAnswer, ShardQuestion, ShardWrite
from mrlstore.cluster.placement import ClusterView
from mrlstore.cluster.ray_engine.actors import HostPlan, connect_ray
from mrlstore.cluster.ray_engine.asked_hosts import AskedHosts
from mrlstore.cluster.ray_engine.controller import started_controller
from mrlstore.cluster.ray_engine.hosts_seen import Views
from mrlstore.cluster.shard_messages import packed_question
from mrlstore.cluster.write_requests import ShardWritten
from mrlstore.errors import MrlStoreError, ShardUnavailable, WriterReplaced

_OPENED_S: Final = 15.0  # for an answer of a shard that a host has open: longer means that it hangs
_FIRST_S: Final = 300.0  # for the first one, which may restore the shard
_LONG_S: Final = 24 * 3600.0  # to merge, check or read a whole shard, while its host answers others
_LOOK_S: Final = 0.5  # between two looks, while an answer is waited for, whether the host counts as silent
_AWAY_S: Final = 10.0  # so long a host that did not answer is asked last
_DELAY_S: Final = (0.01, 1.0)  # before another copy is asked: at least; and before anything was measured
_MEASURED: Final = 100  # answers of which the median is taken


class RayEngine(Engine):
    """Asks hosts, which are detached actors that all processes of a Ray cluster share."""

    def __init__(self, plan: HostPlan) -> None:
        """Find or start the controller, which starts the hosts."""
        connect_ray()
        self._away: dict[str, float] = {}  # actors, and until when they are asked last
        self._open: set[tuple[str, int]] = set()  # (actor, shard)
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self._guard = threading.Lock()
        self._views = Views(plan.home, started_controller(plan))

    @property
    def view(self) -> ClusterView:
        """All hosts, at most some seconds ago."""
        return self._views.view

    def write(self, writes: Sequence[ShardWrite]) -> list[ShardWritten | MrlStoreError]:  # noqa: D102
        def call(host: Any, some: list[ShardWrite], take_over: bool) -> Any:
            return host.write.remote(some, take_over)

        return self._of_writers([(one.shard, one) for one in writes], call)

    def snapshot(self) -> None:  # noqa: D102
        shards = [shard for shard in range(len(self.view.orders)) if self.view.writer(shard) is not None]
        done = self._of_writers(
            [(shard, shard) for shard in shards],
            lambda host, some, _: host.snapshot.remote(some),
            long=True,
        )
        for one in done:
            if isinstance(one, MrlStoreError):
                raise one

    def ask(  # noqa: D102
        self, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> list[ShardAnswer | MrlStoreError]:
        packed, answers = packed_question(question), dict[int, ShardAnswer | MrlStoreError]()
        for last in (False, True):
            left = [shard for shard in shards if isinstance(answers.get(shard), None | ShardUnavailable)]
            answers.update(AskedHosts(self, packed, floors, left).answers)
            failed = any(isinstance(answers[shard], ShardUnavailable) for shard in left)
            if last or not failed:
                break
            self._views.newest()  # a host may have come since, or started again
        return [answers[shard] for shard in shards]

    def close(self) -> None:  # noqa: D102
        self._views.close()

    def order(self, shard: int) -> list[int]:
        """The hosts of a shard, the preferred first; those that did not answer of late come last."""
        return sorted(self.view.orders[shard], key=self._is_away)

    def send(
        self, host: int, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> Any:
        """Ask a host for the answers of shards; a reference to them, or None where the host has ended."""
        own = {shard: floors[shard] for shard in shards if shard in floors}
        actor = self._views.actor(host)
        return None if actor is None else actor.ask.remote(list(shards), question, own)

    def patience_s(self, host: int, shards: Iterable[int], *, long: bool = False) -> float:
        """How long a host may take before it counts as away: no time if the controller finds it silent."""
        if self._views.is_silent(host):
            return 0.0
        if long:
            return _LONG_S
        known = self._views.id_of(host)
        with self._guard:
            return _OPENED_S if all((known, shard) in self._open for shard in shards) else _FIRST_S

    def delay_s(self) -> float:
        """How long to wait before another copy is asked: twice the median of the last answers."""
        with self._guard:
            if not self._seconds:
                return _DELAY_S[1]
            return max(_DELAY_S[0], 2 * statistics.median(self._seconds))

    def came(self, host: int, shards: Iterable[int], seconds: float) -> None:
        """Note an answer."""
        known = self._views.id_of(host)
        with self._guard:
            self._seconds.append(seconds)
            self._away.pop(known, None)
            self._open.update((known, shard) for shard in shards)

    def failed(self, host: int) -> None:
        """Note that a host did not answer."""
        known = self._views.id_of(host)
        with self._guard:
            self._away[known] = time.monotonic() + _AWAY_S
            self._open = {one for one in self._open if one[0] != known}
        self._views.look()

    @property
    def copies(self) -> int:
        """How many hosts answer for a shard."""
        return self.view.copies

    def _is_away(self, host: int) -> bool:
        known = self._views.id_of(host)
        with self._guard:
            return self._away.get(known, 0.0) > time.monotonic()

    def _of_writers(
        self,
        given: Sequence[tuple[int, Any]],
        call: Callable[[Any, list[Any], bool], Any],
        *,
        long: bool = False,
    ) -> list[Any]:
        """Let the writer of each shard do something; where that is another host, go on to the next."""
        outcomes: dict[int, Any] = {}
        orders = {shard: self.order(shard) for shard, _ in given}
        turns = max(len(order) for order in orders.values()) if orders else 0
        for turn in range(turns + 1):
            left = [(shard, one) for shard, one in given if _goes_on(outcomes.get(shard))]
            if not left:
                break
            by_host: dict[int, list[tuple[int, Any]]] = {}
            for shard, one in left:
                order = orders[shard]
                if not order:
                    outcomes[shard] = ShardUnavailable(f"shard {shard}: no host runs")
                    continue
                by_host.setdefault(order[turn % len(order)], []).append((shard, one))
            sent = {}
            for host, some in by_host.items():
                actor = self._views.actor(host)
                sent[host] = None if actor is None else call(actor, [one for _, one in some], turn == turns)
            for host, some in by_host.items():
                shards = [shard for shard, _ in some]
                outcomes.update(zip(shards, self._received(host, shards, sent[host], long), strict=True))
        return [outcomes[shard] for shard, _ in given]

    def _received(self, host: int, shards: Sequence[int], reference: Any, long: bool) -> Sequence[Any]:
        """What a host answered, or ShardUnavailable for each shard."""
        started, why = time.monotonic(), "has ended"
        while reference is not None:
            try:
                found: Sequence[Any] = ray.get(reference, timeout=_LOOK_S)
            except ray.exceptions.GetTimeoutError:
                if time.monotonic() - started <= self.patience_s(host, shards, long=long):
                    continue
                why = "did not answer in time"
            except ray.exceptions.RayError as error:
                why = f"did not answer ({type(error).__name__})"
            else:
                self.came(host, shards, time.monotonic() - started)
                return found
            break
        self.failed(host)
        why = f"host {host} {why}; a write may be in or not"
        return [ShardUnavailable(f"shard {shard}: {why}") for shard in shards]


def _goes_on(outcome: object) -> bool:
    """Whether another host is to be asked: nothing was asked yet, or it does not write the shard."""
    return outcome is None or isinstance(outcome, WriterReplaced)
