"""The writer of a shard: check, resolve, append to the log, look at the epochs, apply, acknowledge."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from mrlstore.catalogue.marks import ClientOperation, Mark
from mrlstore.cluster.outbox import Outbox, Uploader
from mrlstore.cluster.shard_copy import ShardCopy
from mrlstore.cluster.upload_figures import UploadFigures
from mrlstore.cluster.write_requests import OperationId, ShardWritten, Upsert, WriteRequest
from mrlstore.errors import (
    CorruptStore,
    InvalidInput,
    MrlStoreError,
    ObjectNotFound,
    ObjectStorageDenied,
    ObjectStorageError,
    OperationForgotten,
    ShardUnavailable,
    WriterReplaced,
)
from mrlstore.shared_log import LogEntry
from mrlstore.shipping import epochs
from mrlstore.shipping.snapshot_writer import SnapshotWriter
from mrlstore.system.log import log_event
from mrlstore.writing.resolved_writes import ResolvedWrite

_LOG_S: Final = 60.0  # for the log to have what a snapshot is to hold
_TRIES: Final = 3  # of a request to object storage, beside those of its client
_PAUSE_S: Final = 0.05
_GROUP_ROWS: Final = 4_096  # rows that are put together into one log entry


class _Waiting(NamedTuple):
    """A write of a caller that is not begun yet."""

    operation: OperationId
    request: WriteRequest
    answer: Future[ShardWritten]


class _Resolved(NamedTuple):
    """A write that is ready for the log."""

    waiting: _Waiting
    write: ResolvedWrite
    rows: int


class _Appended(NamedTuple):
    """Where a group stands in the log, and the generation of the copy that has it."""

    mark: Mark
    generation: int


class ShardWriter:
    """Writes one shard, from the beginning of its epoch until anything unexpected happens.

    Safe to use from many threads: of the callers that come at the same time one does the work of all.
    """

    def __init__(self, copy: ShardCopy, group_ms: float = 0.0) -> None:
        """`group_ms`: how long the first of several callers waits for others, so that one entry has all."""
        self.copy, self.epoch = copy, 0
        self._name, self._group_s = uuid.uuid4().hex, group_ms / 1000
        self._turn = threading.Lock()  # held by who appends to the log
        self._changed, self._waiting = threading.Condition(), list[_Waiting]()
        self._leading = False  # whether one of the callers does the work of all
        self._stopped: MrlStoreError | None = self._unavailable("has not been started")
        self._shipping = threading.Lock()
        self._snapshots: SnapshotWriter | None = None
        self._shipped = 0  # the place of the last snapshot that was tried
        self._shipped_at, self._shipped_bytes = time.monotonic(), 0
        self.snapshots_shipped = 0
        self._uploader: Uploader | None = None  # with durability="local"

    @property
    def stopped(self) -> MrlStoreError | None:
        """Why it writes no more: WriterReplaced or ShardUnavailable; None while it does."""
        return self._stopped

    @property
    def bytes_sent(self) -> int:
        """Bytes of the entries of the log, and of the objects of snapshots."""
        snapshots = 0 if self._snapshots is None else self._snapshots.bytes_sent
        return self.copy.log.bytes_created + snapshots

    def start(self) -> None:
        """Begin an epoch, catch up with the log, and claim it.

        Raises:
            WriterReplaced: a later epoch has begun meanwhile.
            ObjectStorageError, CorruptStore: the log cannot be read.
        """
        with self._turn:
            try:
                self._start()
            except WriterReplaced as error:
                self._stopped = error
                raise

    def _start(self) -> None:
        self.epoch = epochs.claim_epoch(self.copy.storage, self.copy.prefix)
        outbox = self.copy.outbox
        uploader = None
        if outbox is not None:
            uploader = Uploader(outbox, self.copy.log, self._look, self._taken, self._end)
        while True:
            self.copy.catch_up(self.epoch)
            if outbox is not None and uploader is not None:
                self._upload_kept(outbox, uploader)
            claim = LogEntry(self.copy.mark.place + 1, self.epoch, self._name)
            if self.copy.log.create(claim):
                break
        self.copy.check_epoch(self.epoch)
        self.copy.apply(claim)
        if uploader is not None:
            uploader.begin(claim.place)
            self._uploader = uploader
            self.copy.store.tell_shipping(UploadFigures(self, uploader))
        self._stopped = None

    def _upload_kept(self, outbox: Outbox, uploader: Uploader) -> None:
        """Bring into the log what a process that was killed had acknowledged, and forget what it had not."""
        for kept in outbox.kept():
            if kept.place > self.copy.mark.place:
                outbox.remove(kept.place)
            else:
                uploader.upload(kept)

    def drain(self, timeout_s: float) -> None:
        """Wait until the log has all that was acknowledged; ShardUnavailable if it has not in time."""
        if self._uploader is not None:
            self._uploader.wait_for(self.copy.mark.place, timeout_s)

    def _wait_for_log(self, place: int) -> None:
        if self._uploader is not None:
            self._uploader.wait_for(place, _LOG_S)

    def write(self, operation: OperationId, request: WriteRequest) -> ShardWritten:
        """Do a write; it is in the log, and applied, when this returns.

        An operation that was done before is not done again: its result is given.

        Raises:
            InvalidInput and others: as the method of `Store` does; nothing has changed.
            OperationForgotten: the result of a repeated operation is no longer kept.
            WriterReplaced: another process writes this shard now; this write may be in or not.
            ShardUnavailable: the writer has stopped; this write may be in or not.
        """
        waiting = _Waiting(operation, request, Future())
        with self._changed:
            self._waiting.append(waiting)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: waiting.answer.done() or not self._leading)
                if waiting.answer.done():
                    break
                self._leading = True
            try:
                if self._group_s:
                    time.sleep(self._group_s)
                with self._turn:
                    self._work()
            finally:
                with self._changed:
                    self._leading = False
                    self._changed.notify_all()
        return waiting.answer.result()

    def look(self) -> None:
        """Look whether a later epoch has begun: then this writer ends."""
        with self._turn:
            try:
                self._check_running()
                self._look()
            except WriterReplaced as error:
                self._end(error)

    def is_due(self, every_s: float, every_bytes: int) -> bool:
        """Whether so much was written, or so long ago, that a snapshot is due."""
        if self._stopped is not None or self.copy.mark.place <= self._shipped:
            return False
        return (
            time.monotonic() - self._shipped_at >= every_s
            or self.copy.log.bytes_created - self._shipped_bytes >= every_bytes
        )

    def snapshot(self) -> int:
        """Ship a snapshot of the present content and remove what it makes needless; gives its place.

        Writes go on meanwhile.

        Raises:
            WriterReplaced, ShardUnavailable: this writer has stopped, or stops now.
            ObjectStorageError: the snapshot is not there; the next try goes on from what is.
        """
        with self._shipping:
            self._check_running()
            if self.copy.mark.place <= self._shipped:
                self._write_nothing()  # no snapshot is put under a name that was used before
            try:
                return self._shipped_now()
            except ObjectNotFound:  # what it counted on was collected: that of a writer that was replaced
                self.look()
                self._check_running()
                raise

    def _shipped_now(self) -> int:
        if self._snapshots is None:
            self._snapshots = self.copy.snapshots.writer(self.epoch)
        self.copy.store.flush()
        self._shipped = self.copy.mark.place
        self._shipped_at, self._shipped_bytes = time.monotonic(), self.copy.log.bytes_created
        shipped = self.copy.store.shipped_by(self._snapshots, self._wait_for_log)
        self._shipped = max(self._shipped, shipped.place)
        self.snapshots_shipped += 1
        self.copy.snapshots.collect(self.copy.log, shipped, lambda: self.copy.is_newest(self.epoch))
        return shipped.place

    def _write_nothing(self) -> None:
        """Append an entry without writes, which moves the mark."""
        with self._turn:
            self._check_running()
            try:
                self._append(())
            except MrlStoreError as error:
                self._end(error)
                raise

    def stop(self, reason: str) -> None:
        """Write no more."""
        self._end(self._unavailable(reason))

    def _end(self, error: MrlStoreError) -> None:
        if self._stopped is None:
            replaced = isinstance(error, WriterReplaced)
            self._stopped = error if replaced else self._unavailable(f"has stopped: {error}")
            url, shard = self.copy.storage.url, self.copy.shard
            log_event("writer of a shard stopped", url, str(error), shard=shard, epoch=self.epoch)
            if self._uploader is not None:
                self._uploader.stop()

    def _check_running(self) -> None:
        stopped = self._stopped
        if isinstance(stopped, WriterReplaced):
            raise WriterReplaced(*stopped.args)
        if stopped is not None:
            raise ShardUnavailable(*stopped.args)

    def _work(self) -> None:
        """Do all writes that wait, in their order."""
        group: list[_Resolved] = []
        try:
            while self._waiting:
                waiting = self._waiting.pop(0)
                plain = isinstance(waiting.request, Upsert) and waiting.request.on_conflict == "replace"
                if group and (not plain or sum(one.rows for one in group) >= _GROUP_ROWS):
                    self._commit(group)
                    group = []
                resolved = self._resolve(waiting)
                if resolved is not None:
                    group.append(resolved)
                if group and not plain:
                    self._commit(group)
                    group = []
            if group:
                self._commit(group)
        except BaseException:
            self.stop("was interrupted while it wrote")
            for waiting in (*(one.waiting for one in group), *self._waiting):
                if not waiting.answer.done():
                    waiting.answer.set_exception(self._unavailable("was interrupted while it wrote"))
            self._waiting.clear()
            raise

    def _resolve(self, waiting: _Waiting) -> _Resolved | None:
        """A write for the log; None where it has its answer already."""
        try:
            self._check_running()
            done = self._known(waiting.operation)
            if done is not None:
                waiting.answer.set_result(done)
                return None
            if self._uploader is not None:
                self._uploader.wait_for_room()
            write = self.copy.store.resolved(waiting.request)
            return _Resolved(waiting, write, self.copy.store.rows_of(write))
        except (InvalidInput, OperationForgotten, ShardUnavailable, WriterReplaced) as error:
            waiting.answer.set_exception(error)
        except MrlStoreError as error:  # the copy cannot be used any more; a successor makes another
            self._end(error)
            waiting.answer.set_exception(self._unavailable(f"has stopped: {error}"))
        return None

    def _known(self, operation: OperationId) -> ShardWritten | None:
        """The result of an operation that was done before; OperationForgotten where that is unknown."""
        store = self.copy.store
        last = store.last_operation(operation.client)
        if last is not None and last.number == operation.number:
            return ShardWritten(int(last.result), *store.mark)
        forgotten = last is not None and last.number > operation.number
        if last is None and operation.repeated:
            forgotten = operation.since < store.forgotten()
        if forgotten:
            raise OperationForgotten(
                f"write {operation.number} of client {operation.client} was repeated too late: whether it is "
                "in is no longer known, and it was not done again"
            )
        return None

    def _commit(self, group: Sequence[_Resolved]) -> None:
        """Append a group to the log, look at the epochs, apply, acknowledge; or stop for good."""
        try:
            done = self._append(group)
        except MrlStoreError as error:
            self._end(error)
            for one in group:
                one.waiting.answer.set_exception(error)
            return
        for one in group:
            one.waiting.answer.set_result(ShardWritten(one.rows, *done.mark, done.generation))

    def _append(self, group: Sequence[_Resolved]) -> _Appended:
        operations = tuple(
            ClientOperation(one.waiting.operation.client, one.waiting.operation.number, str(one.rows))
            for one in group
        )
        writes = tuple(one.write for one in group)
        if self._uploader is not None:
            return self._appended_behind(self._uploader, writes, operations)
        while True:
            place = self.copy.mark.place + 1
            entry = LogEntry(place, self.epoch, self._name, writes, operations)
            if self._created(entry):
                break
            self._step_over(place)
        self._look()
        try:
            applied = self.copy.store.apply(entry.writes, entry.mark, entry.operations)
        except MrlStoreError as error:
            raise ShardUnavailable(
                f"shard {self.copy.shard}: a write is in the log, but this copy could not take it ({error}); "
                "the next writer will"
            ) from error
        return _Appended(entry.mark, applied.generation)

    def _appended_behind(
        self,
        uploader: Uploader,
        writes: Sequence[ResolvedWrite],
        operations: Sequence[ClientOperation],
    ) -> _Appended:
        """Keep an entry on this disk and apply it; the log gets it behind that."""
        outbox, place = self.copy.outbox, self.copy.mark.place + 1
        assert outbox is not None
        entry = LogEntry(place, self.epoch, self._name, tuple(writes), tuple(operations))
        try:
            kept = outbox.keep(entry)
            applied = self.copy.store.apply(entry.writes, entry.mark, entry.operations)
        except (MrlStoreError, OSError) as error:
            raise ShardUnavailable(
                f"shard {self.copy.shard}: this copy could not take a write ({error})"
            ) from error
        uploader.add(kept)
        return _Appended(entry.mark, applied.generation)

    def _taken(self, entry: LogEntry) -> MrlStoreError:
        """Why the place of an acknowledged entry is another's."""
        there = self.copy.log.read(entry.place)
        if there is not None and there.epoch > entry.epoch:
            return self.copy.replaced_by(there.epoch)
        return CorruptStore(
            f"{self.copy.storage.url}/{self.copy.prefix}/log",
            f"place {entry.place} is taken, and not by an entry that this epoch or a later one has written",
        )

    def _created(self, entry: LogEntry) -> bool:
        """Whether the entry has its place; repeated where that is unknown."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                return self.copy.log.create(entry)
            except ObjectStorageDenied:
                raise
            except ObjectStorageError as error:
                if not left:
                    raise ShardUnavailable(
                        f"shard {self.copy.shard}: whether object storage took a write is unknown: {error}"
                    ) from error
                time.sleep(_PAUSE_S)
        raise AssertionError

    def _step_over(self, place: int) -> None:
        """Learn who has a place: an entry of an earlier epoch is void, one of a later ends this writer."""
        there = self.copy.log.read(place)
        if there is None or there.epoch == self.epoch:
            self._look()  # it was collected, or left below a snapshot, after a later epoch had begun
            raise CorruptStore(
                f"{self.copy.storage.url}/{self.copy.prefix}/log",
                f"place {place} is taken, and not by an entry that this epoch or a later one has written",
            )
        if there.epoch > self.epoch:
            raise self.copy.replaced_by(there.epoch)
        self.copy.apply(there)

    def _look(self) -> None:
        """WriterReplaced if a later epoch has begun: then what was appended may be read by nobody."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                return self.copy.check_epoch(self.epoch)
            except ObjectStorageError:
                if not left:
                    raise
                time.sleep(_PAUSE_S)

    def _unavailable(self, why: str) -> ShardUnavailable:
        return ShardUnavailable(f"shard {self.copy.shard} of {self.copy.storage.url}: its writer {why}")
