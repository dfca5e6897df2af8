"""`open_shared`: one store on this disk whose writes are in a log in object storage when they return.

The log is that of a cluster with one shard, and this process is its writer. The store at the path is the copy
of that shard, as `log.json` in it says; one that is behind object storage is restored when it is opened.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mrlstore.api.arguments import ProgressCallback
from mrlstore.catalogue.keywords import DEFAULT_TOKENIZER
from mrlstore.cluster.home import Home, create_home, new_home, read_home
from mrlstore.cluster.logged_folder import LoggedFolder
from mrlstore.cluster.operation_lanes import OperationLanes
from mrlstore.cluster.running_shard import LOOK_S, RunningShard, ShardCare
from mrlstore.cluster.shard_rounds import ShardRounds
from mrlstore.cluster.shard_store import ShardStore
from mrlstore.cluster.write_requests import Clear, Delete, Update, Upsert, WriteRequest
from mrlstore.embedders.fingerprint import Fingerprint, Fingerprinted, check_same, fingerprint_of
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import (
    InvalidInput,
    ObjectNotFound,
    ShardUnavailable,
    StoreClosed,
    StoreExists,
    StoreLocked,
    StoreNotFound,
)
from mrlstore.object_storage import ObjectStorage, open_storage
from mrlstore.search.params import Selection
from mrlstore.shipping import epochs
from mrlstore.storage.create import Mode
from mrlstore.storage.session import Session
from mrlstore.system import forks
from mrlstore.system.files import Files, Lock, make_parents, write_file
from mrlstore.system.names import beside
from mrlstore.types import Conflict, GraphBuilder, RepairReport, Settings, ShippingStats, Written
from mrlstore.writing import writer
from mrlstore.writing.batch import Batch, RowChange
from mrlstore.writing.writer import DEFAULT_PREFIX_DIM

_TRIES: Final = 5  # of a write whose fate is unknown
_PAUSE_S: Final = 0.1  # before the second, twice as long before each further one
_EMBEDDER: Final = "embedder.json"
_SHIPPED: Final = "store.json"  # what `Store.ship` puts at its place


class StoreLog:
    """The log of one store, and the writer of it, which runs in this process."""

    def __init__(self, storage: ObjectStorage, folder: LoggedFolder, lock: Lock) -> None:
        self.storage, self.folder = storage, folder
        self._lock, self._survived, self._pid = lock, forks.survived(), os.getpid()
        self._lanes = OperationLanes()
        self.running = RunningShard(folder, ShardCare())
        self._rounds: ShardRounds | None = None

    def begin(self) -> None:
        """Become the writer; object storage has a snapshot when this returns."""
        self.running.begin(write=True)
        if self.folder.snapshots.newest() is None:
            self.snapshot()
        self._rounds = ShardRounds(lambda: [self.running], LOOK_S)

    def write(self, request: WriteRequest) -> Written:
        """Do a write, which is in the log and in the store when this returns.

        Where its fate is unknown it is tried again under the same operation, which counts once.
        """
        self.check_process()
        operation = self._lanes.take(0)
        for number in range(_TRIES):
            try:
                done = self.running.write(operation, request)
            except InvalidInput:
                self._lanes.give_back(0, operation)
                raise
            except ShardUnavailable:
                if number == _TRIES - 1:
                    raise
                operation = operation._replace(repeated=True)
                time.sleep(_PAUSE_S * 2**number)
            else:
                self._lanes.give_back(0, operation)
                return Written(done.rows, done.generation or self.folder.store.generation)
        raise AssertionError

    def snapshot(self) -> None:
        """Ship a snapshot."""
        self.check_process()
        self.running.serving().snapshot()

    def settle_embedder(self, embedder: Fingerprinted) -> None:
        """Record the embedder of the first document; InvalidInput if the log has vectors of another."""
        self.check_process()
        self.storage.create(_EMBEDDER, fingerprint_of(embedder).encode())
        check_same(self.storage.get(_EMBEDDER).decode(), embedder)

    def recorded_embedder(self) -> str | Mapping[str, Any] | None:
        """The fingerprint of the embedder that was recorded."""
        try:
            recorded: str | Mapping[str, Any] = json.loads(self.storage.get(_EMBEDDER))
        except ObjectNotFound:
            return None
        return recorded

    def check_process(self) -> None:
        """StoreLocked in a forked child: its parent writes."""
        if self._survived != forks.survived():
            raise StoreLocked(
                f"{self.storage.url}: process {self._pid}, from which this one was forked, writes this store"
            )

    def figures(self) -> ShippingStats:
        """How far object storage has come: it has every write that was acknowledged."""
        sent = self.running.figures()
        return ShippingStats(
            url=self.storage.url,
            epoch=sent.epoch,
            generation=self.folder.store.generation,
            behind_s=0.0,
            snapshots=sent.snapshots,
            bytes_sent=sent.bytes_sent,
            error=sent.stopped,
        )

    def stop(self) -> None:
        """Write no more, and let others write."""
        if self._survived != forks.survived():
            return
        if self._rounds is not None:
            self._rounds.stop()
        self.running.close()
        self._lock.release()
        self.storage.close()


class SharedStore(ShardStore):
    """A store whose writes are in a log before they are acknowledged; made by `mrlstore.open`."""

    log: StoreLog | None = None  # None until the writer has begun

    def snapshot(self) -> None:
        """Ship a snapshot of the store now; see docs/object-storage.md for when it is by itself."""
        self._log().snapshot()

    def set_prefix_dim(
        self, prefix_dim: int, progress: ProgressCallback | None = None, timeout_s: float | None = None
    ) -> None:
        """As `Store.set_prefix_dim`; a snapshot has the new codes and graphs when this returns."""
        super().set_prefix_dim(prefix_dim, progress, timeout_s)
        self.snapshot()

    def set_graph(
        self, graph: GraphBuilder, progress: ProgressCallback | None = None, timeout_s: float | None = None
    ) -> None:
        """As `Store.set_graph`; a snapshot has the new graphs when this returns."""
        super().set_graph(graph, progress, timeout_s)
        self.snapshot()

    def repair(
        self, progress: ProgressCallback | None = None, timeout_s: float | None = None
    ) -> RepairReport:
        """Refused: repair may lose vectors, and object storage has all of them."""
        raise InvalidInput(
            f"repair: object storage has all rows of {self.path}. Close the store, remove the folder and "
            "open it again: it is restored"
        )

    def keep(self, log: StoreLog) -> None:
        """Write through this log from now on; it ends with the store."""
        recorded = log.recorded_embedder()
        if recorded is not None:
            writer.settle_embedder(self._writable(), Fingerprint(recorded))
        self.log = log
        self._session.shipping = (*self._session.shipping, log)

    def _log(self) -> StoreLog:
        if self.log is None:
            raise StoreClosed(f"{self.path}: its writer has not begun, or was closed")
        return self.log

    def _store_batch(self, session: Session, batch: Batch, on_conflict: Conflict) -> Written:
        return self._log().write(Upsert(batch, on_conflict))

    def _change_rows(
        self,
        session: Session,
        namespace: str,
        selection: Selection,
        changes: Mapping[str, RowChange] | RowChange,
    ) -> Written:
        return self._log().write(Update(namespace, selection, changes))

    def _remove_rows(self, session: Session, namespace: str, selection: Selection) -> Written:
        return self._log().write(Delete(namespace, selection))

    def _remove_all(self, session: Session, namespace: str) -> Written:
        return self._log().write(Clear(namespace))

    def _settle_embedder(self, session: Session, embedder: Fingerprinted) -> None:
        self._log().settle_embedder(embedder)
        writer.settle_embedder(session, embedder)


def open_shared(
    path: Path,
    url: str | os.PathLike[str],
    options: Mapping[str, Any] | None,
    wanted: Settings,
    files: Files,
    *,
    mode: Mode,
    embedder: Embedder | None,
    auto_maintain: bool,
    threads: int,
    storage: ObjectStorage | None = None,
) -> SharedStore:
    """Open the store at a path as the writer of its log; both are made where they are missing.

    Raises:
        StoreLocked: another process on this machine has the store open; the message says which.
        InvalidInput: an argument is wrong, or a store with another content is at the path.
        StoreExists: mode "x", and the path or the log is there.
    """
    if mode == "x" and path.exists():
        raise StoreExists(f"{path} exists already")
    log: StoreLog | None = None
    lock: Lock | None = None
    storage = storage or open_storage(url, options)
    try:
        home = _home(storage, wanted, mode)
        lock = _writer_lock(path, files, storage, home.prefix(0))

        def opened(folder: Path) -> SharedStore:
            return SharedStore(
                folder, files, mode="a", embedder=embedder, auto_maintain=auto_maintain, threads=threads
            )

        copy = LoggedFolder(home, storage, path, opened, files)
        log = StoreLog(storage, copy, lock)
        log.begin()
        store = copy.handed_out()
        assert isinstance(store, SharedStore)
        store.keep(log)
    except BaseException:
        if log is None:
            if lock is not None:
                lock.release()
            storage.close()
        else:
            log.folder.shut()
            log.stop()
        raise
    return store


def _home(storage: ObjectStorage, wanted: Settings, mode: Mode) -> Home:
    """The home of the log, which is made where there is none."""
    try:
        home = read_home(storage)
        if mode == "x":
            raise StoreExists(f"{storage.url}: there is a store already")
    except StoreNotFound:
        home = _made_home(storage, wanted)
    if home.shards != 1 or home.durability != "shared":
        raise InvalidInput(
            f"{storage.url}: a cluster of {home.shards} shards, durability {home.durability}: connect to it "
            "with mrlstore.cluster.connect"
        )
    return home


def _made_home(storage: ObjectStorage, wanted: Settings) -> Home:
    if storage.size(_SHIPPED) is not None:
        raise InvalidInput(f"{storage.url}: a store is shipped to this place; take another")
    if wanted.dim is None:
        raise InvalidInput(f'dim: needed where durability="shared" begins: there is no log at {storage.url}')
    prefix_dim = wanted.prefix_dim or min(DEFAULT_PREFIX_DIM, wanted.dim)
    made = new_home(
        wanted.dim,
        prefix_dim,
        wanted.m,
        wanted.ef_construction,
        wanted.tokenizer or DEFAULT_TOKENIZER,
        wanted.graph,
        1,
        "shared",
    )
    with suppress(StoreExists):  # another process was faster
        create_home(storage, made)
    return read_home(storage)


def _writer_lock(path: Path, files: Files, storage: ObjectStorage, prefix: str) -> Lock:
    """The lock of the process that writes; it lies beside the folder, which may be replaced."""
    place = beside(path, ".writer")
    make_parents(files, place)
    with suppress(FileExistsError):
        write_file(files, place, [])
    lock = files.lock(place)
    if lock is None:
        who = epochs.whose(storage, epochs.newest_epoch(storage, prefix), prefix)
        raise StoreLocked(f"{path}: {who} writes this store, with its log at {storage.url}")
    return lock
