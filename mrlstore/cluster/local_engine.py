"""The engine "local": all shards in this process, each with its writer or a copy that follows the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final, TypeVar

from mrlstore.cluster import shard_reads
from mrlstore.cluster.engine import Engine, ShardAnswer, ShardQuestion, ShardWrite
from mrlstore.cluster.home import Home
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.cluster.shard_rounds import ShardRounds
from mrlstore.cluster.shard_writer import ShardWriter
from mrlstore.cluster.write_requests import ShardWritten
from mrlstore.errors import InvalidInput, MrlStoreError, StaleRead, StoreClosed, WriterReplaced
from mrlstore.object_storage import ObjectStorage
from mrlstore.system import forks

_THREADS: Final = 32
_WAIT_S: Final = 10.0  # for a copy to reach the place that a reader needs
_PAUSE_S: Final = 0.02
_ADOPT_S: Final = 30.0  # between two looks of a reader for snapshots with graphs
_IN_NO_GRAPH: Final = 2_000  # rows of a copy, from which on it takes a newer snapshot
_LONG_S: Final = 0.001  # of an answer; shorter ones cost more in threads than one after the other
_LOOK_S: Final = 5.0  # between two looks of a writer whether it was replaced, one HEAD for each shard

T = TypeVar("T")
A = TypeVar("A")


class _Shard:
    """One shard in this process."""

    def __init__(self, copy: ShardCopy, group_ms: float) -> None:
        self.copy, self.group_ms = copy, group_ms
        self.writer: ShardWriter | None = None
        self.guard = threading.Lock()

    @property
    def is_replaced(self) -> bool:
        """Whether another process is known to write it now: then this copy follows."""
        return self.writer is not None and isinstance(self.writer.stopped, WriterReplaced)

    def follow(self) -> None:
        """Apply what the log has behind the mark."""
        with self.guard:
            self.copy.follow()

    def serving(self) -> ShardWriter:
        """The writer; a successor where it has stopped. Not after another process has taken over."""
        with self.guard:
            stopped = None if self.writer is None else self.writer.stopped
            if isinstance(stopped, WriterReplaced):
                raise WriterReplaced(*stopped.args)
            if self.writer is None or stopped is not None:
                self.copy.close()
                self.writer = ShardWriter(self.copy, self.group_ms)
                self.writer.start()
            return self.writer


class LocalEngine(Engine):
    """Runs all shards in this process, on one disk."""

    def __init__(
        self,
        home: Home,
        storage: ObjectStorage,
        folder: Path,
        *,
        writes: bool,
        group_ms: float,
        snapshot_s: float,
        snapshot_bytes: int,
        poll_s: float,
        auto_maintain: bool,
        threads: int,
    ) -> None:
        """Open the copy of each shard below `folder`; with `writes` begin to write each."""
        self._closed, self._survived = False, forks.survived()
        self._rounds: ShardRounds | None = None
        self._snapshot_s, self._snapshot_bytes = snapshot_s, snapshot_bytes
        self._adopted_at = time.monotonic()
        self._pool = ThreadPoolExecutor(min(_THREADS, home.shards), thread_name_prefix="mrlstore-shard")
        self._writes, self._poll_s = writes, poll_s
        self._shards = [
            _Shard(
                ShardCopy(
                    home, shard, storage, folder, auto_maintain=auto_maintain and writes, threads=threads
                ),
                group_ms,
            )
            for shard in range(home.shards)
        ]
        try:
            self._each(self._shards, self._begin)
            if writes:
                self._rounds = ShardRounds("snapshots", storage.url, self._look_after, _LOOK_S)
            else:
                self._rounds = ShardRounds("following", storage.url, self._follow, poll_s or _LOOK_S)
        except BaseException:
            self.close()
            raise

    def write(self, writes: Sequence[ShardWrite]) -> list[ShardWritten | MrlStoreError]:  # noqa: D102
        return self._outcomes(writes, self._write)

    def ask(  # noqa: D102
        self, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> list[ShardAnswer | MrlStoreError]:
        def answer(shard: int) -> ShardAnswer:
            return self._answer(shard, question, floors.get(shard, 0))

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
            if shard.writer is not None:
                shard.writer.stop("was closed")
            shard.copy.close()
        self._pool.shutdown(wait=False)

    def _look_after(self) -> None:
        """Ship the snapshots that are due, and notice where another process writes now."""
        for shard in self._shards:
            writer = shard.writer
            if self._closed or writer is None:
                continue
            if writer.is_due(self._snapshot_s, self._snapshot_bytes):
                writer.snapshot()
            elif writer.stopped is None:
                writer.look()
            elif isinstance(writer.stopped, WriterReplaced):
                shard.follow()

    def _follow(self) -> None:
        for shard in self._shards:
            if not self._closed:
                shard.follow()
        if time.monotonic() - self._adopted_at > _ADOPT_S:
            self._adopted_at = time.monotonic()
            self._adopt()

    def _adopt(self) -> None:
        """Take newer snapshots where many rows of a copy are in no graph."""
        for shard in self._shards:
            if not self._closed:
                with shard.guard:
                    stats = shard.copy.store.stats()
                    if stats.rows - stats.rows_without_vector - stats.indexed_rows >= _IN_NO_GRAPH:
                        shard.copy.adopt()

    def _write(self, one: ShardWrite) -> ShardWritten:
        return self._shards[one.shard].serving().write(one.operation, one.request)

    def _begin(self, shard: _Shard) -> None:
        if self._writes:
            shard.serving()
        else:
            shard.copy.start()
            shard.copy.follow()

    def _answer(self, number: int, question: ShardQuestion, floor: int) -> ShardAnswer:
        shard = self._shards[number]
        follows = not self._writes or shard.is_replaced
        if follows and not self._poll_s:
            shard.follow()
        deadline = time.monotonic() + _WAIT_S
        while shard.copy.mark.place < floor:
            if not follows or time.monotonic() > deadline:
                raise StaleRead(
                    f"shard {number}: place {floor} of its log is needed, it has {shard.copy.mark.place}"
                )
            shard.follow()
            time.sleep(_PAUSE_S)
        with shard.copy.reading() as store:
            mark = store.mark
            return ShardAnswer(shard_reads.answered(store, question.name, question.arguments), *mark)

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
