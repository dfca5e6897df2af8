"""The background thread of a writing store: tends the segments whenever somebody has written.

It holds LOCK only while it works, gives way to `optimize()` in the same process, and stops within a second:
graphs are built in chunks, and every step asks whether it should go on.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from contextlib import suppress

from mrlstore.errors import MrlStoreError, StoreLocked
from mrlstore.maintenance import garbage
from mrlstore.maintenance import steps as maintain
from mrlstore.maintenance.garbage import Waiting
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import SnapshotMoved
from mrlstore.system.job import Interrupted, Job
from mrlstore.system.log import tell

_IDLE_S = 10.0  # how often to look for work that other processes left
_JOIN_S = 5.0
_RETRY_S = 1.0


class Background:
    """One thread; started at the first `wake`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._paused = threading.Event()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting = Waiting()

    def wake(self) -> None:
        """There may be something to do."""
        if self._thread is None:
            with self._start_lock:
                if not self._alive() and not self._stop.is_set():
                    self._thread = threading.Thread(
                        target=self._run, name="mrlstore-maintenance", daemon=True
                    )
                    self._thread.start()
                    _running.add(self)
        self._wake.set()

    def _alive(self) -> bool:
        return self._thread is not None

    def pause(self) -> None:
        """Let go of LOCK as soon as possible: somebody in this process wants to optimize."""
        self._paused.set()

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused.clear()
        self._wake.set()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)
        _running.discard(self)

    def _interrupted(self) -> bool:
        return self._stop.is_set() or self._paused.is_set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(_IDLE_S)
            self._wake.clear()
            if self._interrupted():
                continue
            try:
                self._tend()
            except (Interrupted, SnapshotMoved):
                continue
            except MrlStoreError as error:
                self._failed(str(error), logging.WARNING)
                self._stop.wait(_RETRY_S)
            except Exception as error:
                if isinstance(error, RuntimeError) and self._stop.wait(_RETRY_S):
                    return  # the interpreter ends: it closes thread pools just before it lets us stop
                self._failed(str(error), logging.ERROR, trace=True)
                self._stop.wait(_RETRY_S)

    def _failed(self, words: str, level: int, trace: bool = False) -> None:
        words = f"it will be tried again: {words}"
        tell("maintenance failed", self._session.path, words, level=level, trace=trace)

    def _tend(self) -> None:
        with self._session.storing("maintenance"):
            try:
                lock = maintain.take_lock(self._session, 0)
            except StoreLocked:
                return  # another process is at it
            with lock:
                while not self._interrupted() and maintain.tend(
                    self._session, Job(should_stop=self._interrupted)
                ):
                    pass
                if not self._interrupted():
                    garbage.collect(self._session, self._waiting.ready)


_running: weakref.WeakSet[Background] = weakref.WeakSet()


def _stop_all() -> None:
    """Before the interpreter goes: native code of a build must not run into its teardown."""
    for background in list(_running):
        with suppress(Exception):
            background.stop()


atexit.register(_stop_all)
