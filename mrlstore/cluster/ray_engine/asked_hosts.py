"""One question to several shards, which hosts answer; another host is asked where one takes long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import ray
import ray.exceptions

from mrlstore.cluster.engine import ShardAnswer, ShardQuestion
from mrlstore.cluster.shard_messages import unpacked_answer
from mrlstore.errors import InvalidInput, MrlStoreError, ShardUnavailable

_LOOK_S: Final = 0.5  # between two looks whether a host has taken too long
_LONG: Final = frozenset(("optimize", "verify", "warm"))  # take as long as a shard is large
_RECEIVE_S: Final = 15.0  # for an answer that is ready to come over from its node


class Asker(Protocol):
    """What knows the hosts and how they have answered."""

    @property
    def copies(self) -> int:
        """How many hosts answer for a shard."""

    def order(self, shard: int) -> list[int]:
        """The hosts of a shard, the preferred first."""

    def send(
        self, host: int, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> Any:
        """Ask a host; None where it has ended."""

    def patience_s(self, host: int, shards: Iterable[int], *, long: bool = False) -> float:
        """How long a host may take before it counts as away."""

    def delay_s(self) -> float:
        """How long to wait before another copy is asked."""

    def came(self, host: int, shards: Iterable[int], seconds: float) -> None:
        """Note an answer."""

    def failed(self, host: int) -> None:
        """Note that a host did not answer."""


class AskedHosts:
    """One question to several shards: to one host each, and to another where that takes long."""

    def __init__(
        self,
        engine: Asker,
        question: ShardQuestion,
        floors: Mapping[int, int],
        shards: Sequence[int],
    ) -> None:
        self.answers: dict[int, ShardAnswer | MrlStoreError] = {}
        self._engine, self._question, self._floors, self._shards = engine, question, floors, shards
        self._long = question.name in _LONG
        self._tried: dict[int, set[int]] = {shard: set() for shard in shards}
        self._sent: dict[Any, tuple[int, list[int], float]] = {}
        self._failures: dict[int, MrlStoreError] = {}
        self._send(shards)
        self._wait()

    def _left(self) -> list[int]:
        return [shard for shard in self._shards if shard not in self.answers]

    def _send(self, shards: Sequence[int]) -> None:
        """Ask the next host of each shard that was not asked yet."""
        by_host: dict[int, list[int]] = {}
        for shard in shards:
            order = self._engine.order(shard)
            fresh = [host for host in order if host not in self._tried[shard]]
            known = [host for host in fresh if host in order[: self._engine.copies]]
            for host in (known or fresh)[:1]:
                self._tried[shard].add(host)
                by_host.setdefault(host, []).append(shard)
        for host, some in by_host.items():
            reference = self._engine.send(host, some, self._question, self._floors)
            if reference is not None:
                self._sent[reference] = (host, some, time.monotonic())
                continue
            self._engine.failed(host)
            self._send(some)

    def _wait(self) -> None:
        asked_again = self._long  # a second host would do all of it again
        while self._left() and self._sent:
            timeout = _LOOK_S if asked_again else self._engine.delay_s()
            ready, _ = ray.wait(list(self._sent), num_returns=1, timeout=timeout)
            for reference in ready:
                self._receive(reference)
            if not ready and not asked_again:
                asked_again = True
                self._send(self._left())
            self._give_up()
        for shard in self._left():
            lost = ShardUnavailable(f"shard {shard}: no host answered")
            self.answers[shard] = self._failures.get(shard, lost)

    def _receive(self, reference: Any) -> None:
        host, shards, started = self._sent.pop(reference)
        try:
            found = ray.get(reference, timeout=_RECEIVE_S)
        except ray.exceptions.RayError:
            self._engine.failed(host)
            self._send([shard for shard in shards if shard not in self.answers])
            return
        self._engine.came(host, shards, time.monotonic() - started)
        for shard, outcome in zip(shards, found, strict=True):
            if shard in self.answers:
                continue
            if isinstance(outcome, ShardAnswer):
                self.answers[shard] = unpacked_answer(outcome)
            elif isinstance(outcome, InvalidInput):
                self.answers[shard] = outcome
            else:  # of this copy: another one may answer
                self._failures[shard] = outcome
                self._send([shard])

    def _give_up(self) -> None:
        """Count hosts as away that have not answered in time, and ask others instead."""
        now = time.monotonic()
        for reference, (host, shards, started) in list(self._sent.items()):
            if now - started > self._engine.patience_s(host, shards, long=self._long):
                del self._sent[reference]
                self._engine.failed(host)
                self._send([shard for shard in shards if shard not in self.answers])
