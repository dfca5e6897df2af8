"""The background thread of a store that may write: does the steps of maintenance after writes.

It holds LOCK only while a step runs, and releases it for an `optimize()` in the same process. It stops within
a second: graphs are built in chunks, and the job is checked between them.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from contextlib import suppress

from mrlstore.errors import MrlStoreError, StoreLocked
from mrlstore.maintenance import garbage, steps
from mrlstore.maintenance.garbage import GracePeriod
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import SnapshotMoved
from mrlstore.system.event import Event
from mrlstore.system.job import Interrupted, Job
from mrlstore.system.log import log_event
from mrlstore.system.scope import Scope

_IDLE_S = 10.0  # between two looks for work after writes of other processes
_JOIN_S = 5.0
_RETRY_S = 1.0  # after a failure
_WORKER = "worker"


class Background:
    """One thread; started at the first `wake`.

    The thread itself notes that it is the one: an exception while it is started (Ctrl-C, no memory for a
    thread) leaves either none, so that the next `wake` starts one, or one that is known.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wake = Event()
        self._stop = Event()
        self._pauses: dict[Scope[None], None] = {}
        self._start_lock = threading.RLock()
        self._threads: dict[str, threading.Thread] = {}  # the one that does the work
        self._grace = GracePeriod()
        self._lacks_builder = False  # said once: it is looked for again and again

    def wake(self) -> None:
        """Look for work: something has been written. A thread that cannot be started is tried next time."""
        if _WORKER not in self._threads:
            with self._start_lock:
                if _WORKER not in self._threads and not self._stop.is_set():
                    self._start()
        self._wake.set()

    def _start(self) -> None:
        _running.add(self)
        try:
            threading.Thread(target=self._run, name="mrlstore-maintenance", daemon=True).start()
        except RuntimeError as error:  # no memory for another thread; what was written is committed
            self._failed(str(error), logging.WARNING)

    def pause(self, pause: Scope[None]) -> None:
        """Release LOCK as soon as possible, for an optimize() in this process, as long as its scope lasts."""
        self._pauses[pause] = None

    def resume(self, pause: Scope[None]) -> None:
        """Go on after a pause."""
        self._pauses.pop(pause, None)
        self._wake.set()

    def is_paused(self) -> bool:
        """Whether a pause lasts; one that an exception kept from being taken off the list has ended."""
        return any(pause.lasts() for pause in list(self._pauses))

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stop.set()
        self._wake.set()
        thread = self._threads.get(_WORKER)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_S)
        _running.discard(self)

    def _interrupted(self) -> bool:
        return self._stop.is_set() or self.is_paused()

    def _run(self) -> None:
        me = threading.current_thread()
        if self._threads.setdefault(_WORKER, me) is not me:
            return
        while not self._stop.is_set():
            self._wake.wait(_IDLE_S)
            self._wake.clear()
            if self._interrupted():
                continue
            try:
                self._maintain()
            except (Interrupted, SnapshotMoved):
                continue
            except ImportError as error:  # hnswlib is not installed here, and will hardly be within seconds
                if not self._lacks_builder:
                    self._failed(str(error), logging.WARNING)
                self._lacks_builder = True
                self._stop.wait(_RETRY_S)
            except MrlStoreError as error:
                self._failed(str(error), logging.WARNING)
                self._stop.wait(_RETRY_S)
            except Exception as error:
                self._failed(str(error), logging.ERROR, trace=True)
                self._stop.wait(_RETRY_S)

    def _failed(self, reason: str, level: int, trace: bool = False) -> None:
        words = f"it will be tried again: {reason}"
        log_event("maintenance failed", self._session.path, words, level=level, trace=trace)

    def _maintain(self) -> None:
        with self._session.storing("maintenance"):
            try:
                lock = steps.take_lock(self._session, 0)
            except StoreLocked:
                return  # another process does the maintenance
            with lock:
                while not self._interrupted() and steps.next_step(
                    self._session, Job(should_stop=self._interrupted)
                ):
                    pass
                if not self._interrupted():
                    garbage.collect(self._session, self._grace.is_over)


_running: weakref.WeakSet[Background] = weakref.WeakSet()


def _stop_all() -> None:
    """At exit: machine code of a build must not run while the interpreter is torn down."""
    for background in list(_running):
        with suppress(Exception):
            background.stop()


atexit.register(_stop_all)
