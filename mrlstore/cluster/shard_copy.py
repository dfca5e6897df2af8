"""A copy of a shard on the disk of this machine: a store that may be dropped and restored at any time."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mrlstore.catalogue.marks import Mark
from mrlstore.cluster import folder_lock
from mrlstore.cluster.folder_lock import FolderLock
from mrlstore.cluster.home import Home
from mrlstore.cluster.neighbour_copy import COPY, newer_than
from mrlstore.cluster.outbox import Outbox
from mrlstore.cluster.shard_store import ShardStore, open_shard_store
from mrlstore.cluster.snapshots import ShardSnapshots
from mrlstore.errors import CorruptStore, ShardUnavailable, WriterReplaced
from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log import LogEntry, LogObjects
from mrlstore.shipping import epochs
from mrlstore.shipping.log_tail import entries_behind, may_be_left_over
from mrlstore.shipping.manifest import SnapshotManifest
from mrlstore.system.files import Files, make_parents
from mrlstore.system.log import log_event

_OUTBOX: Final = "outbox"
_TRIES: Final = 5  # of starting from the newest snapshot, each time that it was overtaken meanwhile


class HeldStore:
    """A store that readers use; it is closed when it was replaced and the last of them is done.

    `elsewhere`: another process keeps it, and it stays where it is.
    """

    def __init__(self, store: ShardStore, *, elsewhere: bool = False) -> None:
        self.store, self.readers, self.replaced, self.elsewhere = store, 0, False, elsewhere


class ShardCopy:
    """The folder of one shard, with the objects in object storage that it is a view of.

    One process keeps the copy in a folder; with `shares` others of the machine read it. Threads may read
    while it moves on.
    """

    def __init__(
        self,
        home: Home,
        shard: int,
        storage: ObjectStorage,
        folder: Path,
        *,
        auto_maintain: bool,
        threads: int = 1,
        files: Files | None = None,
        shares: bool = False,
    ) -> None:
        """`shares`: it is only read, and where another process keeps the copy in the folder, that one is."""
        self.home, self.shard, self.storage = home, shard, storage
        self.prefix = home.prefix(shard)
        self.log = LogObjects(storage, self.prefix)
        self.snapshots = ShardSnapshots(storage, self.prefix)
        self._folder, self._files = folder / f"shard-{shard:04}", files or Files()
        self.auto_maintain, self._threads = auto_maintain, threads
        self._held: HeldStore | None = None
        self._guard = threading.Lock()
        self._lock: FolderLock | None = None
        self._shares = shares
        self.outbox = Outbox(self._files, self._folder / _OUTBOX) if home.durability == "local" else None

    @property
    def store(self) -> ShardStore:
        """The store as it is open now; ShardUnavailable before `start`."""
        held = self._held
        if held is None:
            raise ShardUnavailable(f"shard {self.shard} of {self.storage.url} is not open in this process")
        return held.store

    @property
    def is_kept_here(self) -> bool:
        """Whether this process keeps the copy, and not another one that uses the same folder."""
        return self._lock is not None

    @property
    def opened(self) -> ShardStore | None:
        """The store as it is open now; None where it is not."""
        held = self._held
        return None if held is None else held.store

    @property
    def mark(self) -> Mark:
        """How far the copy has come."""
        return self.store.mark

    @contextmanager
    def reading(self) -> Iterator[ShardStore]:
        """The store, which stays open until the block is left, even if a newer one takes its place."""
        with self._guard:
            held = self._held
            if held is None:
                raise ShardUnavailable(f"shard {self.shard} of {self.storage.url} is not open")
            held.readers += 1
        try:
            yield held.store
        finally:
            with self._guard:
                held.readers -= 1
                last = held.replaced and not held.readers
            if last:
                _discard(held)

    def start(self) -> None:
        """Open the folder; if the newest snapshot lies further on, the folder is dropped and restored."""
        if not self._take_lock():
            self._read_of_neighbour()
            return
        newest = self.snapshots.newest()
        if self._held is None:
            self._held = self._opened_last(make=newest is None)
            if self._held is not None and self.outbox is not None and self._is_abandoned(newest):
                self.drop()
                self._take_lock()
                self._held = self._opened_last(make=newest is None)
        if newest is not None and (self._held is None or newest.place > self.mark.place):
            if self.outbox is not None:
                self.outbox.clear()
            self._restore(newest.place)

    def drop(self) -> None:
        """Close the copy and remove it, with what it has and the log has not."""
        path = self.opened.path if self.opened is not None else None
        self.close()
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
        if self.outbox is not None:
            self.outbox.clear()

    def _is_abandoned(self, newest: SnapshotManifest | None) -> bool:
        """Whether a later epoch than that of the copy has claimed the log, or shipped.

        The copy may then hold what was acknowledged with durability="local" and never came into the log.
        """
        mark, start = self.mark, 0 if newest is None else newest.place
        if not mark.place:
            return False
        found = [0 if newest is None else newest.epoch]
        for place in self.log.places(start):
            entry = self.log.read(place.number)
            if entry is not None:  # else it was collected meanwhile, and a newer snapshot has it
                found.append(entry.epoch)
        return max(found) > mark.epoch

    def unread(self) -> list[LogEntry] | None:
        """The next entries behind the mark; None where the log no longer has the next one: start again."""
        return entries_behind(self.log, self.mark.place)

    def apply(self, entry: LogEntry) -> None:
        """Apply the entry behind the mark; one of an epoch before that of the mark is void, and skipped."""
        _apply(self.store, entry)

    def catch_up(self, epoch: int) -> None:
        """Apply all entries of the log, as the writer of an epoch; WriterReplaced if that is not the last."""
        for _ in range(_TRIES):
            self.start()
            while (entries := self.unread()) is not None:
                self.check_epoch(epoch)  # else what was read may be what a sleeper left below a snapshot
                for entry in entries:
                    self.apply(entry)
                if not entries:
                    return
        raise ShardUnavailable(f"shard {self.shard} of {self.storage.url}: its log has a gap")

    def follow(self) -> int:
        """Apply what the log has behind the mark, as a reader; gives how many entries those were.

        Where another process keeps the copy, that one applies them, and 0 is given.
        """
        if self._shares and not self._keeps():
            return 0
        for _ in range(_TRIES):
            entries = self.unread()
            if entries == []:
                return 0
            if entries is None or self._may_be_left_over(entries):
                self.start()
                continue
            for entry in entries:
                self.apply(entry)
            return len(entries)
        raise ShardUnavailable(f"shard {self.shard} of {self.storage.url}: its log has a gap")

    def adopt(self) -> bool:
        """Take the newest snapshot for its graphs, and what the log has behind it, instead of this copy.

        Parts that this copy has are linked. Readers go on meanwhile. False where there is no newer snapshot
        than this copy began with, or where it was overtaken.
        """
        newest = self.snapshots.newest()
        began = int(self.store.path.name.partition("-")[0])
        if newest is None or newest.place <= began:
            return False
        fresh = self._new_path(newest.place)
        self.snapshots.restore(fresh, like=self.store.path)
        store = self._opened(fresh)
        while store.mark.place < self.mark.place:
            entries = entries_behind(self.log, store.mark.place)
            if not entries or self._may_be_left_over(entries):
                _discard(HeldStore(store))
                return False
            for entry in entries:
                _apply(store, entry)
        self._replace(HeldStore(store))
        return True

    def _may_be_left_over(self, entries: list[LogEntry]) -> bool:
        return may_be_left_over(self.storage, self.prefix, entries)

    def is_newest(self, epoch: int) -> bool:
        """Whether no later epoch has begun: one HEAD."""
        return epochs.is_newest(self.storage, epoch, self.prefix)

    def check_epoch(self, epoch: int) -> None:
        """WriterReplaced if a later epoch has begun."""
        if not self.is_newest(epoch):
            raise self.replaced_by(epoch + 1)

    def newest_epoch(self) -> int:
        """The newest epoch that has begun."""
        return epochs.newest_epoch(self.storage, self.prefix)

    def replaced_by(self, epoch: int) -> WriterReplaced:
        """The error of a writer that finds a later epoch."""
        who = epochs.whose(self.storage, epoch, self.prefix)
        return WriterReplaced(f"shard {self.shard} of {self.storage.url}: {who} writes it now")

    def close(self) -> None:
        """Close the store and let go of the folder."""
        held, self._held = self._held, None
        if held is not None:
            held.store.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def remove(self) -> None:
        """Remove the folder of a copy that was closed; object storage has it all."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def log_end(self) -> int:
        """The last place of the log, where another process keeps the copy; 0 where this one does."""
        if self._lock is not None:
            return 0
        places = self.log.places(self.mark.place)
        return places[-1].number if places else 0

    def _take_lock(self) -> bool:
        """Whether this process keeps the copy now; StoreLocked where it has to, and another does."""
        if self._lock is None:
            make_parents(self._files, self._folder / "any")
            take = folder_lock.for_reading if self._shares else folder_lock.for_writing
            self._lock = take(self._files, self._folder)
            held = self._held
            if self._lock is not None and held is not None:  # what was read of another process
                with self._guard:
                    self._held = None
                held.store.close()
        return self._lock is not None

    def _keeps(self) -> bool:
        """Whether it keeps the copy: it takes it from one that has ended, and gives it to a writer."""
        if self._lock is not None and not self._lock.is_wanted():
            return True
        if self._lock is not None:
            self.close()
        self.start()
        return self._lock is not None

    def _read_of_neighbour(self) -> None:
        """Read the copy that another process keeps in the folder."""
        store = newer_than(self._files, self._folder, self.opened)
        if store is not None:
            self._replace(HeldStore(store, elsewhere=True))

    def _opened_last(self, *, make: bool) -> HeldStore | None:
        """The copy that was restored last; what cannot be used is dropped, for object storage has it all.

        Where there is none, an empty one is made, or with `make` false there is none.
        """
        copies = sorted(one for one in self._folder.iterdir() if COPY.fullmatch(one.name))
        if self.outbox is not None and not copies:
            self.outbox.clear()
        for old in self._folder.iterdir():
            if old not in copies[-1:] and old.name != _OUTBOX:
                shutil.rmtree(old, ignore_errors=True)
        if copies:
            try:
                return HeldStore(self._opened(copies[-1]))
            except CorruptStore as error:
                log_event("copy of a shard dropped", copies[-1], str(error))
                if self.outbox is not None:
                    self.outbox.clear()
                shutil.rmtree(copies[-1], ignore_errors=True)
        return HeldStore(self._opened(self._new_path(0))) if make else None

    def _opened(self, path: Path) -> ShardStore:
        return open_shard_store(
            self.home, path, self._files, auto_maintain=self.auto_maintain, threads=self._threads
        )

    def _new_path(self, place: int) -> Path:
        """Where a copy goes that begins at a place of the log; names sort by it."""
        return self._folder / f"{place:016}-{uuid.uuid4().hex[:8]}"

    def _restore(self, place: int) -> None:
        """Take the newest snapshot, which has at least this place, instead of the present copy.

        Readers may go on to use that one for a while.
        """
        fresh = self._new_path(place)
        self.snapshots.restore(fresh, like=None if self._held is None else self._held.store.path)
        self._replace(HeldStore(self._opened(fresh)))

    def _replace(self, fresh: HeldStore) -> None:
        """Let a store take the place of the present one, which is removed once nobody reads it."""
        with self._guard:
            held, self._held = self._held, fresh
            if held is None:
                return
            held.replaced = True
            unused = not held.readers
        if unused:
            _discard(held)


def _apply(store: ShardStore, entry: LogEntry) -> None:
    mark = store.mark
    if entry.epoch < mark.epoch:
        store.apply((), Mark(mark.epoch, entry.place))
    else:
        store.apply(entry.writes, entry.mark, entry.operations)


def _discard(held: HeldStore) -> None:
    """Close a copy that has been replaced, and remove it where this process keeps it."""
    held.store.close()
    if not held.elsewhere:
        shutil.rmtree(held.store.path, ignore_errors=True)
