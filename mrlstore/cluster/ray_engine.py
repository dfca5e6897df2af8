"""The engine "ray": shards in actors that Ray places and restarts. Ray is trusted with no state.

Which host has a shard is a rule: hosts in the order of a hash of shard and host. The first that is not known
to be away writes it, the first `copies` answer. Two processes that judge differently who is away may ask two
hosts to write: the epochs of the log let only one acknowledge, whatever Ray says.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from mrlstore.cluster.engine import Engine, ShardAnswer, ShardQuestion, ShardWrite
from mrlstore.cluster.home import Home
from mrlstore.cluster.running_shard import ShardCare
from mrlstore.cluster.shard_host import ShardHost
from mrlstore.cluster.shard_messages import packed_question, unpacked_answer
from mrlstore.cluster.write_requests import ShardWritten
from mrlstore.errors import InvalidInput, MrlStoreError, ShardUnavailable, WriterReplaced

os.environ.setdefault(
    "RAY_USAGE_STATS_ENABLED", "0"
)  # Ray would tell its maker, where this process starts it
try:
    import ray
    import ray.exceptions
except ImportError as error:
    raise ImportError("engine='ray' needs Ray: pip install 'mrlstore[ray]'") from error

NAMESPACE: Final = "mrlstore"
_OPENED_S: Final = 15.0  # for an answer of a shard that a host has open: longer means that it hangs
_FIRST_S: Final = 300.0  # for the first one, which may restore the shard
_AWAY_S: Final = 10.0  # so long a host that did not answer is asked last
_DELAY_S: Final = (0.01, 1.0)  # before another copy is asked: at least; and before anything was measured
_MEASURED: Final = 100  # answers of which the median is taken
_CALLS: Final = 16  # of one host at the same time
_RESTARTS: Final = 20  # of a host, by Ray


class RayEngine(Engine):
    """Asks hosts, which are detached actors that all processes of a Ray cluster share."""

    def __init__(
        self,
        home: Home,
        url: str,
        options: Mapping[str, Any] | None,
        *,
        hosts: int | None,
        copies: int,
        folder: Path | None,
        care: ShardCare,
        threads: int,
        num_cpus: float,
    ) -> None:
        """Find or start the hosts: by default one for each node that is alive."""
        _connect()
        self._copies = copies
        self._away: dict[int, float] = {}  # hosts, and until when they are asked last
        self._open: set[tuple[int, int]] = set()  # (host, shard)
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self._guard = threading.Lock()
        count = hosts or max(1, sum(bool(node["Alive"]) for node in ray.nodes()))
        base = folder or Path(tempfile.gettempdir()) / "mrlstore-cluster"
        actor = ray.remote(ShardHost)
        self._hosts = [
            actor.options(
                name=host_name(home, number),
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=_RESTARTS,
                max_concurrency=_CALLS,
                num_cpus=num_cpus,
                scheduling_strategy="SPREAD",
            ).remote(url, options, str(base / f"host-{number}"), care, threads)
            for number in range(count)
        ]

    def write(self, writes: Sequence[ShardWrite]) -> list[ShardWritten | MrlStoreError]:  # noqa: D102
        def call(host: Any, some: list[ShardWrite], take_over: bool) -> Any:
            return host.write.remote(some, take_over)

        return self._of_writers([(one.shard, one) for one in writes], call)

    def snapshot(self) -> None:  # noqa: D102
        shards = sorted({shard for _, shard in self._open})
        done = self._of_writers(
            [(shard, shard) for shard in shards], lambda host, some, _: host.snapshot.remote(some)
        )
        for one in done:
            if isinstance(one, MrlStoreError):
                raise one

    def ask(  # noqa: D102
        self, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> list[ShardAnswer | MrlStoreError]:
        asking = _AskedHosts(self, packed_question(question), floors, shards)
        return [asking.answers[shard] for shard in shards]

    def close(self) -> None:  # noqa: D102
        self._hosts = []

    def order(self, shard: int) -> list[int]:
        """The hosts of a shard, the preferred first; those that did not answer of late come last."""

        def key(host: int) -> tuple[bool, bytes]:
            return self._is_away(host), blake2b(f"{shard} {host}".encode(), digest_size=8).digest()

        return sorted(range(len(self._hosts)), key=key)

    def send(
        self, host: int, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> Any:
        """Ask a host for the answers of shards; a reference to them."""
        own = {shard: floors[shard] for shard in shards if shard in floors}
        return self._hosts[host].ask.remote(list(shards), question, own)

    def patience_s(self, host: int, shards: Iterable[int]) -> float:
        """How long a host may take before it counts as away."""
        return _OPENED_S if all((host, shard) in self._open for shard in shards) else _FIRST_S

    def delay_s(self) -> float:
        """How long to wait before another copy is asked: twice the median of the last answers."""
        with self._guard:
            if not self._seconds:
                return _DELAY_S[1]
            return max(_DELAY_S[0], 2 * statistics.median(self._seconds))

    def came(self, host: int, shards: Iterable[int], seconds: float) -> None:
        """Note an answer."""
        with self._guard:
            self._seconds.append(seconds)
            self._away.pop(host, None)
            self._open.update((host, shard) for shard in shards)

    def failed(self, host: int) -> None:
        """Note that a host did not answer."""
        with self._guard:
            self._away[host] = time.monotonic() + _AWAY_S
            self._open = {one for one in self._open if one[0] != host}

    @property
    def copies(self) -> int:
        """How many hosts answer for a shard."""
        return self._copies

    def _is_away(self, host: int) -> bool:
        with self._guard:
            return self._away.get(host, 0.0) > time.monotonic()

    def _of_writers(
        self, given: Sequence[tuple[int, Any]], call: Callable[[Any, list[Any], bool], Any]
    ) -> list[Any]:
        """Let the writer of each shard do something; where that is another host, go on to the next."""
        outcomes: dict[int, Any] = {}
        orders = {shard: self.order(shard) for shard, _ in given}
        for turn in range(len(self._hosts) + 1):
            left = [(shard, one) for shard, one in given if _goes_on(outcomes.get(shard))]
            if not left:
                break
            by_host: dict[int, list[tuple[int, Any]]] = {}
            for shard, one in left:
                order = orders[shard]
                by_host.setdefault(order[turn % len(order)], []).append((shard, one))
            last = turn == len(self._hosts)
            sent = {
                host: call(self._hosts[host], [one for _, one in some], last)
                for host, some in by_host.items()
            }
            for host, some in by_host.items():
                shards = [shard for shard, _ in some]
                outcomes.update(zip(shards, self._received(host, shards, sent[host]), strict=True))
        return [outcomes[shard] for shard, _ in given]

    def _received(self, host: int, shards: Sequence[int], reference: Any) -> Sequence[Any]:
        """What a host answered, or ShardUnavailable for each shard."""
        started = time.monotonic()
        try:
            found: Sequence[Any] = ray.get(reference, timeout=self.patience_s(host, shards))
        except ray.exceptions.RayError as error:
            self.failed(host)
            why = f"host {host} did not answer ({type(error).__name__}); a write may be in or not"
            return [ShardUnavailable(f"shard {shard}: {why}") for shard in shards]
        self.came(host, shards, time.monotonic() - started)
        return found


class _AskedHosts:
    """One question to several shards: to one host each, and to another where that takes long."""

    def __init__(
        self,
        engine: RayEngine,
        question: ShardQuestion,
        floors: Mapping[int, int],
        shards: Sequence[int],
    ) -> None:
        self.answers: dict[int, ShardAnswer | MrlStoreError] = {}
        self._engine, self._question, self._floors, self._shards = engine, question, floors, shards
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
            self._sent[reference] = (host, some, time.monotonic())

    def _wait(self) -> None:
        asked_again = False
        while self._left() and self._sent:
            timeout = _OPENED_S if asked_again else self._engine.delay_s()
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
            found = ray.get(reference, timeout=_OPENED_S)
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
            if now - started > self._engine.patience_s(host, shards):
                del self._sent[reference]
                self._engine.failed(host)
                self._send([shard for shard in shards if shard not in self.answers])


def host_name(home: Home, number: int) -> str:
    """The name of an actor in Ray's namespace "mrlstore"."""
    return f"{home.uuid}-host-{number}"


def stop_hosts(home: Home) -> int:
    """End all hosts of a cluster; how many there were. What was acknowledged is in object storage."""
    _connect()
    stopped = 0
    while True:
        try:
            host = ray.get_actor(host_name(home, stopped), namespace=NAMESPACE)
        except ValueError:
            return stopped
        ray.kill(host)
        stopped += 1


def _connect() -> None:
    """Join the Ray cluster that runs here; ShardUnavailable where none does."""
    if ray.is_initialized():
        return
    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise ShardUnavailable(
            "no Ray cluster runs here: start one (ray start --head), or call ray.init() before"
        ) from error


def _goes_on(outcome: object) -> bool:
    """Whether another host is to be asked: nothing was asked yet, or it does not write the shard."""
    return outcome is None or isinstance(outcome, WriterReplaced)
