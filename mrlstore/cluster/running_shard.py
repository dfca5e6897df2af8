"""One shard in a process: its writer or a copy that follows the log, and what goes on in the background."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Final, NamedTuple

from mrlstore.cluster import shard_reads
from mrlstore.cluster.engine import ShardAnswer, ShardQuestion
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.cluster.shard_store import ShardStore
from mrlstore.cluster.shard_writer import ShardWriter
from mrlstore.cluster.write_requests import OperationId, ShardWritten, WriteRequest
from mrlstore.errors import (
    CorruptStore,
    MrlStoreError,
    ShardUnavailable,
    StaleRead,
    StoreClosed,
    StorePoisoned,
    WriterReplaced,
)

LOOK_S: Final = 5.0  # between two looks of a writer whether it was replaced, one HEAD for each shard
_ADOPT_S: Final = 30.0  # between two looks of a copy for snapshots with graphs
_IN_NO_GRAPH: Final = 2_000  # rows of a copy, from which on it takes a newer snapshot
_WAIT_S: Final = 10.0  # for a copy to reach the place that a reader needs
_PAUSE_S: Final = 0.02
_DRAIN_S: Final = 10.0  # for the log to have all that was acknowledged, when a cluster is closed


class ShardCare(NamedTuple):
    """How a shard is run, as `connect` explains."""

    group_ms: float = 0.0
    snapshot_s: float = 300.0
    snapshot_bytes: int = 64 * 1024 * 1024
    poll_s: float = 0.25


class WriterFigures(NamedTuple):
    """What the writer of a shard has done, and why it has stopped, if it has."""

    epoch: int
    snapshots: int
    bytes_sent: int
    stopped: str | None


class RunningShard:
    """A shard of which this process has a copy. Safe to use from many threads."""

    def __init__(self, copy: ShardCopy, care: ShardCare, *, maintains: bool = False) -> None:
        """`maintains`: as its writer it merges and builds graphs, whatever the copy was opened for."""
        self.copy, self._care, self._maintains = copy, care, maintains
        self._writer: ShardWriter | None = None
        self._guard, self._closed = threading.Lock(), False
        self._dropped = False  # of a writer that was replaced: its copy
        self._looked_at = self._adopted_at = time.monotonic()

    @property
    def writes(self) -> bool:
        """Whether this process writes it, as far as is known here."""
        return self._writer is not None and not isinstance(self._writer.stopped, WriterReplaced)

    def figures(self) -> WriterFigures:
        """Those of the writer, which must have been begun here."""
        writer = self._writer
        if writer is None:
            raise ShardUnavailable(f"shard {self.copy.shard} is not written in this process")
        stopped = None if writer.stopped is None else str(writer.stopped)
        return WriterFigures(writer.epoch, writer.snapshots_shipped, writer.bytes_sent, stopped)

    def begin(self, *, write: bool) -> None:
        """Open the copy and let it catch up; with `write` as the writer, whoever was it before."""
        if write:
            self.serving()
            return
        with self._guard:
            self.copy.start()
            self.copy.follow()

    def serving(self, *, take_over: bool = False) -> ShardWriter:
        """The writer; a successor where it has stopped.

        Where another process has taken over, WriterReplaced is raised, unless it is taken over again.
        """
        with self._guard:
            stopped = None if self._writer is None else self._writer.stopped
            if isinstance(stopped, WriterReplaced) and not take_over:
                raise WriterReplaced(*stopped.args)
            if self._writer is None or stopped is not None:
                self.copy.close()
                self.copy.auto_maintain |= self._maintains
                self._writer = ShardWriter(self.copy, self._care.group_ms)
                self._writer.start()
            return self._writer

    def write(
        self, operation: OperationId, request: WriteRequest, *, take_over: bool = False
    ) -> ShardWritten:
        """Do a write."""
        return self.serving(take_over=take_over).write(operation, request)

    def answer(self, question: ShardQuestion, floor: int) -> ShardAnswer:
        """Answer from the copy, once it has reached a place of the log; StaleRead if it does not in time.

        A copy that was damaged, removed or just replaced is opened again, and asked once more.
        """
        used = self.copy.opened
        try:
            return self._answer(question, floor)
        except (CorruptStore, ShardUnavailable, StoreClosed, StorePoisoned) as error:
            self._open_again(used, error)
            return self._answer(question, floor)

    def _answer(self, question: ShardQuestion, floor: int) -> ShardAnswer:
        if not self.writes and not self._care.poll_s:
            self.follow()
            floor = max(floor, self.copy.log_end())
        deadline = time.monotonic() + _WAIT_S
        while (place := self.copy.mark.place) < floor:
            if self.writes or time.monotonic() > deadline:
                raise StaleRead(
                    f"shard {self.copy.shard}: place {floor} of its log is needed, it has {place}"
                )
            self.follow()
            time.sleep(_PAUSE_S)
        with self.copy.reading() as store:
            mark = store.mark
            return ShardAnswer(shard_reads.answered(store, question.name, question.arguments), *mark)

    def _open_again(self, used: ShardStore | None, why: MrlStoreError) -> None:
        """Open the copy anew, unless another caller has. Its writer ends; the next write begins another."""
        with self._guard:
            if self._closed:
                raise StoreClosed("this cluster was closed; connect again")
            now = self.copy.opened
            if now is not None and now is not used:
                return
            if self._writer is not None:
                self._writer.stop(f"lost its copy: {why}")
            self.copy.close()
            self.copy.start()
            self.copy.follow()

    def follow(self) -> None:
        """Apply what the log has behind the mark."""
        with self._guard:
            self._drop_what_was_not_uploaded()
            self.copy.follow()

    def _drop_what_was_not_uploaded(self) -> None:
        """With durability="local", the copy of a writer that was replaced may hold what nobody else will."""
        writer = self._writer
        if self.copy.outbox is not None and writer is not None and not self._dropped and not self.writes:
            self._dropped = True
            self.copy.drop()
            self.copy.start()

    def look_after(self) -> None:
        """Writer: ship a snapshot that is due, notice a later writer. Copy: follow, take newer graphs."""
        writer, now = self._writer, time.monotonic()
        if writer is None or not self.writes:
            self.follow()
            if now - self._adopted_at > _ADOPT_S:
                self._adopted_at = now
                self._adopt()
        elif writer.is_due(self._care.snapshot_s, self._care.snapshot_bytes):
            writer.snapshot()
        elif writer.stopped is None and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            writer.look()

    def _adopt(self) -> None:
        """Take a newer snapshot where many rows of the copy are in no graph."""
        with self._guard:
            if not self.copy.is_kept_here:
                return
            stats = self.copy.store.stats()
            if stats.rows - stats.rows_without_vector - stats.indexed_rows >= _IN_NO_GRAPH:
                self.copy.adopt()

    def close(self) -> None:
        """Write no more, and close the copy."""
        self._closed = True
        if self._writer is not None:
            if self._writer.stopped is None:
                with suppress(MrlStoreError):  # what is not uploaded is kept, and the next writer does it
                    self._writer.drain(_DRAIN_S)
            self._writer.stop("was closed")
        self.copy.close()
