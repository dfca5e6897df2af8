"""`Shipping`: a thread that keeps a store's copy in object storage up to date."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from contextlib import suppress
from typing import Final

from mrlstore.errors import InvalidInput, MrlStoreError, ObjectStorageError, StoreLocked, StorePoisoned
from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping.store_copy import StoreCopy, TakenOver
from mrlstore.storage.session import Session
from mrlstore.system import forks
from mrlstore.system.job import Interrupted, Job
from mrlstore.system.log import log_event
from mrlstore.types import ShippingStats

_POLL_S: Final = 0.25  # between two looks whether somebody has committed; a look takes 20 us
_RETRY_S: Final = (1.0, 60.0)  # the first wait after a failure, and the longest; each is twice the last
_JOIN_S: Final = 10.0  # a request that is under way may take minutes; its thread then ends by itself
_SHARE: Final = 0.5  # of the time at most that shipping may take where a snapshot takes long


class Shipping:
    """A store that is being shipped; made by `Store.ship`. Safe to use from many threads.

    It ends with `stop`, with the `with` block, or when the store is closed. Nothing more is shipped then:
    call `now` before.
    """

    def __init__(self, session: Session, storage: ObjectStorage, every_s: float, keep: int) -> None:
        self._session, self._path, self._every_s = session, session.path, every_s
        self._lock = threading.RLock()  # taken in C code, which no exception cuts in two
        self._changed = threading.Condition(self._lock)
        self._survived = forks.survived()
        self._stopped = False
        self._wanted = 0  # how many calls of `now` have begun
        self._tried = 0  # how many of them had begun before the last try
        self._error: MrlStoreError | None = None  # of the last try
        self._ended: TakenOver | None = None  # nothing is shipped any more
        self._ahead_since: float | None = None  # when a commit was seen that is not in the copy
        self._copy = StoreCopy(session, storage, keep)
        self._thread = threading.Thread(target=self._run, name="mrlstore-shipping", daemon=True)
        try:
            session.shipping = (*session.shipping, self)
            _running.add(self)
            self._thread.start()
        except BaseException:  # Ctrl-C, or no memory for a thread: nobody has this object, to stop it
            self.stop()
            raise

    def now(self, timeout_s: float | None = None) -> ShippingStats:
        """Ship what has been committed before this call, and return once it is in object storage.

        Args:
            timeout_s: seconds to wait; None: without end.

        Raises:
            ObjectStorageError: this try failed; it goes on by itself.
            CorruptStore: a damaged part is not shipped; run `verify`.
            StoreLocked: another process has begun to ship to the same place, or the time is over.
            InvalidInput: it was stopped.
        """
        self._check_process()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            self._wanted += 1
            mine = self._wanted
            self._changed.notify_all()
            while self._tried < mine:
                self._check_running()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise StoreLocked(f"{self._copy.storage.url}: not shipped within {timeout_s} s")
                self._changed.wait(left)
            if self._error is not None:
                raise self._error
        return self.figures()

    def wait(self, timeout_s: float) -> None:
        """Wait up to so many seconds for its end; StoreLocked once another process ships to this place."""
        self._check_process()
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while not self._stopped and (left := deadline - time.monotonic()) > 0:
                if self._ended is not None:
                    raise self._ended
                self._changed.wait(left)

    def figures(self) -> ShippingStats:
        """How far the copy has come, as `Store.stats().shipping` tells it."""
        self._check_process()
        with self._lock:
            if self._ahead_since is None and not self._stopped and self._copy.is_behind():
                self._ahead_since = time.monotonic()
            newest, ahead = self._copy.newest, self._ahead_since
            error = self._ended or self._error
            return ShippingStats(
                url=self._copy.storage.url,
                epoch=self._copy.epoch,
                generation=0 if newest is None else newest.generation,
                behind_s=0.0 if ahead is None else time.monotonic() - ahead,
                snapshots=self._copy.snapshots,
                bytes_sent=self._copy.bytes_sent,
                error=None if error is None else str(error),
            )

    def stop(self) -> None:
        """End it within seconds; a snapshot that is under way is given up. Again is harmless."""
        if self._survived != forks.survived():
            return  # the thread is the parent's
        with self._lock:
            self._stopped = True
            self._changed.notify_all()
        session = self._session
        session.shipping = tuple(one for one in session.shipping if one is not self)
        _running.discard(self)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def __enter__(self) -> Shipping:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _check_process(self) -> None:
        if self._survived != forks.survived():
            raise StorePoisoned(f"{self._copy.storage.url}: a shipping {forks.BEGUN_BEFORE}")

    def _check_running(self) -> None:
        if self._ended is not None:
            raise self._ended
        if self._stopped:
            raise InvalidInput(f"{self._copy.storage.url}: this shipping was stopped; call ship() again")

    def _run(self) -> None:
        wait_s, next_at = 0.0, time.monotonic()
        while self._wait_until(next_at):
            started, wanted = time.monotonic(), self._wanted
            try:
                error = self._update(started)
            except Interrupted:
                break
            took_s = time.monotonic() - started
            if error is None:
                wait_s, pause_s = 0.0, max(self._every_s, took_s * (1 / _SHARE - 1))
            else:
                wait_s = pause_s = min(_RETRY_S[1], 2 * wait_s or _RETRY_S[0])
                self._log(error)
            next_at = time.monotonic() + pause_s
            with self._lock:
                self._error, self._tried = error, wanted
                self._ended = error if isinstance(error, TakenOver) else None
                self._changed.notify_all()

    def _update(self, started: float) -> MrlStoreError | None:
        """Ship what has been committed; the error if that fails. Interrupted where it was stopped."""

        def shipped() -> None:
            with self._lock:
                self._ahead_since = started if self._copy.is_behind() else None

        try:
            self._copy.update(Job(should_stop=lambda: self._stopped), shipped)
        except Interrupted:
            raise
        except MrlStoreError as error:
            return error
        except Exception as error:
            log_event("shipping failed", self._path, level=logging.ERROR, trace=True)
            return ObjectStorageError(f"{self._copy.storage.url}: {error!r}")
        return None

    def _wait_until(self, next_at: float) -> bool:
        """Wait until a snapshot is due; False when there will be none."""
        while True:
            ahead = True
            with suppress(MrlStoreError):  # the store cannot be read: the next try tells it
                ahead = self._copy.is_behind()
            with self._lock:
                if ahead and self._ahead_since is None:
                    self._ahead_since = time.monotonic()
                if self._stopped or self._ended is not None:
                    self._changed.notify_all()
                    return False
                if self._wanted > self._tried or (ahead and time.monotonic() >= next_at):
                    return True
                self._changed.wait(_POLL_S)

    def _log(self, error: MrlStoreError) -> None:
        ended = isinstance(error, TakenOver)
        words = str(error) if ended else f"it will be tried again: {error}"
        url = self._copy.storage.url
        log_event("shipping failed", self._path, words, level=logging.WARNING, url=url)


_running: weakref.WeakSet[Shipping] = weakref.WeakSet()


def _stop_all() -> None:
    """At exit: a moment of the store that is being sent is removed from the disk."""
    for shipping in list(_running):
        with suppress(Exception):
            shipping.stop()


atexit.register(_stop_all)
