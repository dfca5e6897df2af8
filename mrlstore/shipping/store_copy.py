"""`StoreCopy`: the copy of one store in object storage, kept by one process, step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from mrlstore.catalogue import settings
from mrlstore.errors import InvalidInput, ObjectStorageError, StoreLocked
from mrlstore.object_storage import ObjectStorage
from mrlstore.shared_log import HOME
from mrlstore.shipping import epochs
from mrlstore.shipping.collection import collect
from mrlstore.shipping.manifest import SnapshotManifest, is_complete, newest_complete, stored_sizes
from mrlstore.shipping.snapshot_writer import SnapshotWriter, remove_old_drafts
from mrlstore.storage.session import Session
from mrlstore.system.job import UNWATCHED, Job
from mrlstore.system.log import log_event

COLLECT_EVERY: Final = 8  # snapshots between two collections, which list all objects
_IDENTITY: Final = "store.json"


class TakenOver(StoreLocked):
    """Another process has begun to ship to the same place: this one has stopped for good."""


class StoreCopy:
    """Claims the place when it is made. `update` is called by one thread; the rest by any."""

    def __init__(self, session: Session, storage: ObjectStorage, keep: int) -> None:
        """Look at the place and claim it.

        Raises:
            InvalidInput: another store is shipped there, or a newer copy of this one.
            ObjectStorageError: the place cannot be used.
        """
        self.storage, self.snapshots = storage, 0
        self.newest: SnapshotManifest | None = None  # what this process has shipped last
        self._session, self._keep = session, keep
        if storage.size(HOME) is not None:
            raise InvalidInput(
                f"{storage.url}: a cluster, or the log of a store, is here; take another place"
            )
        storage.probe()
        identity = {"format": 1, "store_uuid": session.settings.store_uuid}
        if not storage.create(_IDENTITY, json.dumps(identity).encode()):
            raise InvalidInput(
                f"{storage.url}: another store is shipped to this place; take another folder or prefix"
            )
        self._check_not_older(newest_complete(storage))
        self.epoch = epochs.claim_epoch(storage)
        newest = newest_complete(storage)
        self._check_not_older(newest)  # again: who shipped before has gone on until now
        self._writer = SnapshotWriter(storage, self.epoch, newest)
        remove_old_drafts(session)

    @property
    def bytes_sent(self) -> int:
        """Bytes of the objects that were put."""
        return self._writer.bytes_sent

    def generation(self) -> int:
        """That of the store now."""
        with self._session.catalogue.read() as connection:
            return settings.generation(connection)

    def is_behind(self) -> bool:
        """Whether something has been committed that is not in the copy."""
        return self.newest is None or self.newest.generation != self.generation()

    def update(self, job: Job = UNWATCHED, shipped: Callable[[], None] = lambda: None) -> None:
        """Ship what has been committed; `shipped` is called once it counts, before anything is collected.

        Raises:
            TakenOver: another process has claimed the place later. Nothing more is shipped by this one.
            ObjectStorageError, CorruptStore: it failed; another call tries again.
            Interrupted: by the job.
        """
        self._check_newest_epoch()
        if not self.is_behind():
            return
        started = time.monotonic()
        with self._session.storing(f"shipping to {self.storage.url}"):
            manifest = self._writer.ship(self._session, lambda moment: moment.generation, job)
        self._check_newest_epoch()
        self.newest, self.snapshots = manifest, self.snapshots + 1
        seconds = time.monotonic() - started
        log_event("shipped", self._session.path, url=self.storage.url, seconds=seconds)
        shipped()
        if (self.snapshots - 1) % COLLECT_EVERY == 0:
            self._collect(manifest)

    def _collect(self, manifest: SnapshotManifest) -> None:
        """Remove what no snapshot needs any more, and see whether all that this one needs is there."""
        if not is_complete(manifest, stored_sizes(self.storage, "")):
            self._writer.forget()
            self.newest, self.snapshots = None, 0  # the next snapshot collects
            raise ObjectStorageError(
                f"{self.storage.url}: somebody has removed objects of the newest snapshot; it is sent anew"
            )
        collect(self.storage, self.epoch, self._is_newest, newest=manifest.ref, keep=self._keep)

    def _check_not_older(self, newest: SnapshotManifest | None) -> None:
        generation = self.generation()
        if newest is not None and newest.generation > generation:
            raise InvalidInput(
                f"{self.storage.url} holds generation {newest.generation} of this store, and here it is at "
                f"{generation}: an older copy would replace a newer one. Restore the newest snapshot and go "
                "on with that, or ship this one to another place"
            )

    def _is_newest(self) -> bool:
        return epochs.is_newest(self.storage, self.epoch)

    def _check_newest_epoch(self) -> None:
        if not self._is_newest():
            later = epochs.whose(self.storage, epochs.newest_epoch(self.storage))
            raise TakenOver(
                f"{self.storage.url}: {later} has begun to ship to this place later; this process has stopped"
            )
