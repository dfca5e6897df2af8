"""The engine "local": all shards in this process, each with its writer or a copy that follows the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from mrlstore.cluster import shard_reads
from mrlstore.cluster.engine import Engine, ShardAnswer, ShardQuestion, ShardWrite
from mrlstore.cluster.home import Home
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.cluster.shard_writer import ShardWriter
from mrlstore.cluster.write_requests import ShardWritten
from mrlstore.errors import MrlStoreError, StaleRead, StoreClosed, WriterReplaced
from mrlstore.object_storage import ObjectStorage

_THREADS: Final = 32
_WAIT_S: Final = 10.0  # for a copy to reach the place that a reader needs
_PAUSE_S: Final = 0.02

T = TypeVar("T")
A = TypeVar("A")


class _Shard:
    """One shard in this process."""

    def __init__(self, copy: ShardCopy, group_ms: float) -> None:
        self.copy, self.group_ms = copy, group_ms
        self.writer: ShardWriter | None = None
        self.guard = threading.Lock()
        self.replaced: WriterReplaced | None = None

    def serving(self) -> ShardWriter:
        """The writer; a successor where it has stopped. Not after another process has taken over."""
        with self.guard:
            if self.replaced is not None:
                raise self.replaced
            if self.writer is None or self.writer.stopped is not None:
                self.copy.close()
                writer = ShardWriter(self.copy, self.group_ms)
                try:
                    writer.start()
                except WriterReplaced as error:
                    self.replaced = error
                    raise
                self.writer = writer
            return self.writer

    def write(self, one: ShardWrite) -> ShardWritten:
        """Do a write."""
        try:
            return self.serving().write(one.operation, one.request)
        except WriterReplaced as error:
            self.replaced = error
            raise


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
        auto_maintain: bool,
        threads: int,
    ) -> None:
        """Open the copy of each shard below `folder`; with `writes` begin to write each."""
        self._closed = False
        self._pool = ThreadPoolExecutor(min(_THREADS, home.shards), thread_name_prefix="mrlstore-shard")
        self._writes = writes
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
        except BaseException:
            self.close()
            raise

    def write(self, writes: Sequence[ShardWrite]) -> list[ShardWritten | MrlStoreError]:  # noqa: D102
        return self._outcomes(writes, lambda one: self._shards[one.shard].write(one))

    def ask(  # noqa: D102
        self, shards: Sequence[int], question: ShardQuestion, floors: Mapping[int, int]
    ) -> list[ShardAnswer | MrlStoreError]:
        return self._outcomes(shards, lambda shard: self._answer(shard, question, floors.get(shard, 0)))

    def close(self) -> None:  # noqa: D102
        self._closed = True
        for shard in self._shards:
            if shard.writer is not None:
                shard.writer.stop("was closed")
            shard.copy.close()
        self._pool.shutdown(wait=False)

    def _begin(self, shard: _Shard) -> None:
        if self._writes:
            shard.serving()
        else:
            shard.copy.start()
            shard.copy.follow()

    def _answer(self, number: int, question: ShardQuestion, floor: int) -> ShardAnswer:
        shard = self._shards[number]
        if not self._writes:
            with shard.guard:
                shard.copy.follow()
        deadline = time.monotonic() + _WAIT_S
        while shard.copy.mark.place < floor:
            if self._writes or time.monotonic() > deadline:
                raise StaleRead(
                    f"shard {number}: place {floor} of its log is needed, it has {shard.copy.mark.place}"
                )
            time.sleep(_PAUSE_S)
            with shard.guard:
                shard.copy.follow()
        with shard.copy.reading() as store:
            mark = store.mark
            return ShardAnswer(shard_reads.answered(store, question.name, question.arguments), *mark)

    def _outcomes(self, of: Sequence[T], work: Callable[[T], A]) -> list[A | MrlStoreError]:
        def outcome(one: T) -> A | MrlStoreError:
            try:
                return work(one)
            except MrlStoreError as error:
                return error

        return self._each(of, outcome)

    def _each(self, of: Sequence[T], work: Callable[[T], A]) -> list[A]:
        """Do the work for each, at the same time where there are several."""
        if self._closed:
            raise StoreClosed("this cluster was closed; connect again")
        if len(of) == 1:
            return [work(of[0])]
        return list(self._pool.map(work, of))
