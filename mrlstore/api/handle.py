"""What holds a store open: through threads, until it is closed, and over forks.

The files are opened at the first use and again in a forked child, which leaves what its parent opened alone;
`system.forks` takes SQLite's connections through the fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

from mrlstore.errors import InvalidInput, StoreClosed
from mrlstore.maintenance.background import Background
from mrlstore.storage.create import Mode
from mrlstore.storage.session import Session, open_session
from mrlstore.system.files import Files
from mrlstore.system.scope import Scope


class Handle:
    """One store at one path, open as long as this object is."""

    def __init__(self, path: Path, files: Files, *, mode: Mode, auto_maintain: bool, threads: int) -> None:
        self._path, self._files, self._mode, self._threads = path, files, mode, threads
        self._auto_maintain = auto_maintain and mode != "r"
        self._open_lock = threading.RLock()  # a signal handler may read
        self._opened: Session | None = None
        self._background: Background | None = None
        self._closed = False
        self._release: weakref.finalize[Any, Handle] | None = None
        key = id(self)
        _handles[key] = weakref.ref(self, lambda _: _handles.pop(key, None))  # before anything is opened
        _ = self._session

    @property
    def path(self) -> Path:
        """Where the store is."""
        return self._path

    def close(self) -> None:
        """Stop background work and let go of everything; calling it again is harmless.

        If an exception interrupts it, another call does what was left.
        """
        self._closed = True
        session, release = self._opened, self._release
        if session is not None:
            _shut(session, self._background)
        if release is not None:
            release.detach()

    def __reduce__(self) -> NoReturn:
        """Refuse what would share locks and connections with another object, or another process."""
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: give its path, and open that again"
        )

    @property
    def _session(self) -> Session:
        session = self._opened
        if session is not None and not self._closed:
            session.catalogue.check_usable()
            return session
        with self._open_lock:
            if self._closed:
                raise StoreClosed(f"{self._path}: this store object is closed; open the path again")
            session = self._opened
            if session is None:
                session = open_session(
                    self._path, self._files, read_only=self._mode == "r", threads=self._threads
                )
                background = Background(session) if self._auto_maintain else None
                self._prepare(session)
                earlier = self._opened
                if earlier is not None:  # opened by a signal handler, meanwhile
                    session.close()
                    return earlier
                self._background = background
                self._release = weakref.finalize(self, _shut, session, background)
                self._opened = session
            return session

    def _current(self, session: Session) -> Session:
        """The same session, or in a child that was forked meanwhile a session of its own."""
        return self._session if session.catalogue.connections.abandoned else session

    def _prepare(self, session: Session) -> None:
        """Called with what was just opened, here or in a forked child, before anything uses it."""

    def _writable(self) -> Session:
        session = self._session
        if self._mode == "r":
            raise InvalidInput(f'{self._path} was opened with mode="r"; open it with mode="a" to write')
        return session

    def _background_paused(self) -> Scope[None]:
        """The store's background thread lets go of LOCK, and starts again afterwards."""
        return Scope(self._pausing)

    def _pausing(self, pause: Scope[None]) -> Generator[None, None, None]:
        background = self._background
        try:
            if background is not None:
                background.pause(pause)
            yield
        finally:
            if background is not None:
                background.resume(pause)

    def _wake(self) -> None:
        if self._background is not None:
            self._background.wake()

    def _after_fork(self) -> None:
        """In a forked child: leave what the parent opened alone, and open afresh at the next call."""
        self._open_lock = threading.RLock()
        if self._release is not None:
            self._release.detach()
        self._opened, self._background, self._release = None, None, None
        self._files = self._files.renewed()


_handles: dict[int, weakref.ref[Handle]] = {}


def _renew_all() -> None:
    for ref in list(_handles.values()):
        if (handle := ref()) is not None:
            handle._after_fork()


os.register_at_fork(after_in_child=_renew_all)


def _shut(session: Session, background: Background | None) -> None:
    if background is not None:
        background.stop()
    session.close()
