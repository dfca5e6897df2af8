"""`Shipping`: a thread that keeps a store's copy in object storage up to date."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Final

from mrlstore.catalogue import settings
from mrlstore.errors import (
    CorruptStore,
    InvalidInput,
    MrlStoreError,
    ObjectStorageError,
    StoreLocked,
    StorePoisoned,
)
from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping import epochs
from mrlstore.shipping.collection import collect
from mrlstore.shipping.manifest import SnapshotManifest, is_complete, newest_complete, stored_sizes
from mrlstore.shipping.snapshot_writer import SnapshotWriter, remove_old_drafts
from mrlstore.storage.session import Session
from mrlstore.system import forks
from mrlstore.system.job import Interrupted, Job
from mrlstore.system.log import log_event
from mrlstore.types import ShippingStats

_POLL_S: Final = 0.25  # between two looks whether somebody has committed; a look takes 20 us
_RETRY_S: Final = (1.0, 60.0)  # the first wait after a failure, and the longest; each is twice the last
COLLECT_EVERY: Final = 8  # snapshots between two collections, which list all objects
_SHARE: Final = 0.5  # of the time at most that shipping may take where a snapshot takes long
_IDENTITY: Final = "store.json"


class Shipping:
    """A store that is being shipped; made by `Store.ship`. Safe to use from many threads.

    It ends with `stop`, with the `with` block, or when the store is closed. Nothing more is shipped then:
    call `now` before.
    """

    def __init__(self, session: Session, storage: ObjectStorage, every_s: float, keep: int) -> None:
        self._session, self._storage, self._every_s, self._keep = session, storage, every_s, keep
        self._changed = threading.Condition()
        self._stopped = False
        self._wanted = 0  # how many calls of `now` have begun
        self._tried = 0  # the calls of `now` that had begun before the last try
        self._error: MrlStoreError | None = None
        self._ended: MrlStoreError | None = None  # nothing is shipped any more
        self._shipped: SnapshotManifest | None = None
        self._ahead_since: float | None = None
        self._count = 0
        self._survived = forks.survived()
        self._begin()
        self._thread = threading.Thread(target=self._run, name="mrlstore-shipping", daemon=True)
        self._thread.start()

    def now(self, timeout_s: float | None = None) -> ShippingStats:
        """Ship what has been committed before this call, and return once it is in object storage.

        Args:
            timeout_s: seconds to wait; None: without end.

        Raises:
            ObjectStorageError: this try failed; it goes on by itself.
            StoreLocked: another process has begun to ship to the same place, or the time is over.
            InvalidInput: it was stopped.
        """
        self._check_process()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._wanted += 1
            mine = self._wanted
            self._changed.notify_all()
            while self._tried < mine:
                self._check_running()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise StoreLocked(f"{self._storage.url}: not shipped within {timeout_s} s")
                self._changed.wait(left)
            if self._error is not None:
                raise self._error
        return self.figures()

    def wait(self, timeout_s: float) -> None:
        """Wait up to so many seconds for its end; StoreLocked once another process ships to this place."""
        self._check_process()
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._stopped and (left := deadline - time.monotonic()) > 0:
                if self._ended is not None:
                    raise self._ended
                self._changed.wait(left)

    def figures(self) -> ShippingStats:
        """How far the copy has come, as `Store.stats().shipping` tells it."""
        self._check_process()
        with self._changed:
            shipped, ahead = self._shipped, self._ahead_since
            error = self._ended or self._error
            return ShippingStats(
                url=self._storage.url,
                epoch=self._epoch,
                generation=0 if shipped is None else shipped.generation,
                behind_s=0.0 if ahead is None else time.monotonic() - ahead,
                snapshots=self._count,
                bytes_sent=self._writer.bytes_sent,
                error=None if error is None else str(error),
            )

    def stop(self) -> None:
        """End it within seconds; a snapshot that is under way is given up. Again is harmless."""
        if self._survived != forks.survived():
            return  # the thread is the parent's
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Shipping:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _check_process(self) -> None:
        if self._survived != forks.survived():
            raise StorePoisoned(f"{self._storage.url}: a shipping {forks.BEGUN_BEFORE}")

    def _check_running(self) -> None:
        if self._ended is not None:
            raise self._ended
        if self._stopped:
            raise InvalidInput(f"{self._storage.url}: this shipping was stopped; call ship() again")

    def _begin(self) -> None:
        """Look at the place, and claim it."""
        self._storage.probe()
        identity = {"format": 1, "store_uuid": self._session.settings.store_uuid}
        if not self._storage.create(_IDENTITY, json.dumps(identity).encode()):
            raise InvalidInput(
                f"{self._storage.url}: another store is shipped to this place; take another folder or prefix"
            )
        self._check_not_older(newest_complete(self._storage))
        self._epoch = epochs.claim_epoch(self._storage)
        newest = newest_complete(self._storage)
        self._check_not_older(newest)  # again: who shipped before has gone on until now
        self._writer = SnapshotWriter(self._storage, self._epoch, newest)
        remove_old_drafts(self._session)

    def _check_not_older(self, newest: SnapshotManifest | None) -> None:
        generation = self._generation()
        if newest is not None and newest.generation > generation:
            raise InvalidInput(
                f"{self._storage.url} holds generation {newest.generation} of this store, and here it is at "
                f"{generation}: an older copy would replace a newer one. Restore the newest snapshot and go "
                "on with that, or ship this one to another place"
            )

    def _generation(self) -> int:
        with self._session.catalogue.read() as connection:
            return settings.generation(connection)

    def _run(self) -> None:
        wait_s, next_at = 0.0, time.monotonic()
        while self._wait_until(next_at):
            started, wanted = time.monotonic(), self._wanted
            try:
                self._ship()
                error, wait_s = None, 0.0
            except Interrupted:
                continue
            except MrlStoreError as failure:
                error = failure
            except Exception as failure:
                log_event("shipping failed", self._session.path, level=logging.ERROR, trace=True)
                error = ObjectStorageError(f"{self._storage.url}: {failure!r}")
            if error is not None:
                wait_s = min(_RETRY_S[1], 2 * wait_s or _RETRY_S[0])
                self._failed(error)
            took_s = time.monotonic() - started
            next_at = time.monotonic() + (wait_s or max(self._every_s, took_s * (1 / _SHARE - 1)))
            with self._changed:
                self._error, self._tried = error, wanted
                self._changed.notify_all()

    def _wait_until(self, next_at: float) -> bool:
        """Wait until a snapshot is due; False when there will be none."""
        while True:
            generation = None
            try:
                generation = self._generation()
            except MrlStoreError as error:
                self._failed(error)
            with self._changed:
                ahead = self._shipped is None or generation != self._shipped.generation
                if ahead and self._ahead_since is None:
                    self._ahead_since = time.monotonic()
                if self._stopped or self._ended is not None:
                    self._changed.notify_all()
                    return False
                if self._wanted > self._tried or (ahead and time.monotonic() >= next_at):
                    return True
                self._changed.wait(_POLL_S)

    def _ship(self) -> None:
        started = time.monotonic()
        self._check_newest_epoch()
        if self._shipped is None or self._shipped.generation != self._generation():
            manifest = self._writer.ship(
                self._session, lambda moment: moment.generation, Job(should_stop=lambda: self._stopped)
            )
            self._check_newest_epoch()
            with self._changed:
                self._shipped, self._count = manifest, self._count + 1
                self._ahead_since = None if manifest.generation == self._generation() else started
            seconds = time.monotonic() - started
            log_event("shipped", self._session.path, url=self._storage.url, seconds=seconds)
            if (self._count - 1) % COLLECT_EVERY == 0:
                self._collect(manifest)

    def _collect(self, manifest: SnapshotManifest) -> None:
        """Remove what no snapshot needs any more, and see whether all that this one needs is there."""
        if not is_complete(manifest, stored_sizes(self._storage, "")):
            self._writer.forget()
            self._shipped = None
            raise ObjectStorageError(
                f"{self._storage.url}: somebody has removed objects of the newest snapshot; it is sent anew"
            )
        collect(self._storage, self._epoch, self._is_newest, keep=self._keep)

    def _is_newest(self) -> bool:
        return epochs.is_newest(self._storage, self._epoch)

    def _check_newest_epoch(self) -> None:
        if not self._is_newest():
            newest = epochs.newest_epoch(self._storage)
            self._ended = StoreLocked(
                f"{self._storage.url}: {epochs.whose(self._storage, newest)} has begun to ship to this place "
                "later; this process has stopped"
            )
            raise self._ended

    def _failed(self, error: MrlStoreError) -> None:
        damaged = isinstance(error, CorruptStore)
        words = str(error) if self._ended else f"it will be tried again: {error}"
        level = logging.ERROR if damaged else logging.WARNING
        log_event("shipping failed", self._session.path, words, level=level, url=self._storage.url)
