"""The engine "local": all shards in this process, each with its writer or a copy that follows the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final, TypeVar

from mrlstore.cluster import running_shard
from mrlstore.cluster.engine import Engine, ShardAnswer, ShardQuestion, ShardWrite
from mrlstore.cluster.home import Home
from mrlstore.cluster.running_shard import RunningShard, ShardCare
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.cluster.shard_rounds import ShardRounds
from mrlstore.cluster.write_requests import ShardWritten
from mrlstore.errors import InvalidInput, MrlStoreError, StoreClosed
from mrlstore.object_storage import ObjectStorage
from mrlstore.system import forks

_THREADS: Final = 32
_FOLLOWERS: Final = "followers"
_LONG_S: Final = 0.001  # of an answer; shorter ones cost more in threads than one after the other

T = TypeVar("T")
A = TypeVar("A")


class LocalEngine(Engine):
    """Runs all shards in this process, on one disk."""

    def __init__(
        self,
        home: Home,
        storage: ObjectStorage,
        folder: Path,
        *,
        writes: bool,
        care: ShardCare,
        auto_maintain: bool,
        threads: int,
    ) -> None:
        """Open the copy of each shard below `folder`; with `writes` begin to write each."""
        self._closed, self._survived = False, forks.survived()
        self._rounds: ShardRounds | None = None
        self._pool = ThreadPoolExecutor(min(_THREADS, home.shards), thread_name_prefix="mrlstore-shard")
        self._writes, indexes = writes, auto_maintain and writes
        if home.durability == "local" and not writes:
            folder = folder / _FOLLOWERS  # the writer's copies may be ahead of the log
        self._shards = [
            RunningShard(
                ShardCopy(
                    home,
                    shard,
                    storage,
                    folder,
                    auto_maintain=indexes,
                    threads=threads,
                    shares=not writes,
                ),
                care,
            )
            for shard in range(home.shards)
        ]
        try:
            self._each(self._shards, lambda shard: shard.begin(write=writes))
            every_s = care.poll_s if care.poll_s and not writes else running_shard.LOOK_S
            self._rounds = ShardRounds(lambda: self._shards, every_s)
        except BaseException:
            self.close()
            raise

    def write(self, writes: Sequence[ShardWrite]) -> list[ShardWritten | MrlStoreError]:  # noqa: D102
        return self._outcomes(writes, lambda one: self._shards[one.shard].write(one.operation, one.request))

    def ask(  # noqa: D102
        self, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> list[ShardAnswer | MrlStoreError]:
        def answer(shard: int) -> ShardAnswer:
            return self._shards[shard].answer(question, floors.get(shard, 0))

        return self._outcomes(shards, answer, at_once=False)

    def snapshot(self) -> None:  # noqa: D102
        if not self._writes:
            raise InvalidInput('this cluster was connected to with mode="r"; its writer ships snapshots')
        self._each(self._shards, lambda shard: shard.serving().snapshot())

    def close(self) -> None:  # noqa: D102
        if self._survived != forks.survived():
            return  # the parent has all of it
        self._closed = True
        if self._rounds is not None:
            self._rounds.stop()
        for shard in self._shards:
            shard.close()
        self._pool.shutdown(wait=False)

    def _outcomes(
        self, of: Sequence[T], work: Callable[[T], A], *, at_once: bool = True
    ) -> list[A | MrlStoreError]:
        def outcome(one: T) -> A | MrlStoreError:
            try:
                return work(one)
            except MrlStoreError as error:
                return error

        return self._each(of, outcome, at_once=at_once)

    def _each(self, of: Sequence[T], work: Callable[[T], A], *, at_once: bool = True) -> list[A]:
        """Do the work for each; at the same time, or if not `at_once` from the first on that takes long."""
        if self._closed:
            raise StoreClosed("this cluster was closed; connect again")
        if self._survived != forks.survived():
            raise StoreClosed(
                "this cluster was connected to before this process was forked, and its threads are not in "
                "the child: connect again here"
            )
        done: list[A] = []
        long = at_once
        while len(done) < len(of) and (not long or len(of) - len(done) == 1):
            started = time.perf_counter()
            done.append(work(of[len(done)]))
            long = long or time.perf_counter() - started > _LONG_S
        others = [self._pool.submit(work, one) for one in of[len(done) :]]
        wait(others)  # also where one fails: nothing goes on behind the caller's back
        return done + [other.result() for other in others]
