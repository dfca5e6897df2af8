"""SQLite across a fork: the connections closed before it, and what its child refuses. And at exit.

SQLite keeps two things in the memory of the process, not of a connection: mutexes, and for each file (inode)
the POSIX locks that the process holds. A fork copies both. In the child nobody ever releases a mutex that
another thread held, and the locks are believed but not held, since POSIX locks are not inherited: rows that
the child commits are lost, or it finds the store locked for ever.

Therefore no connection is open at the moment of a fork. Every use of SQLite passes the gate below, before its
first connection is opened. A fork closes the gate, waits up to WAIT_S for the threads inside, and closes
every connection; both sides open them again at their next use. Connections without an owner are closed too:
an exception that arrives while one is being opened or handed out leaves it to the frames of the traceback.

Where a thread stays inside for longer, or the forking thread is inside itself, the fork takes place all the
same. The child examines what it has inherited (`_inspect`), and refuses, with StorePoisoned, what it cannot
use safely.

When the interpreter ends, daemon threads go on until they are cut off in the midst of whatever they do. The
last hook of `atexit` therefore closes the gate and the connections as a fork does.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from mrlstore.errors import StorePoisoned
from mrlstore.system.scope import Scope, scope

if TYPE_CHECKING:
    import apsw

EXIT_S: Final = 1.0  # the gate stays closed so long at exit: a hook may wait for a thread that waits for it
WAIT_S: Final = 5.0  # a fork takes at most about this long; longer uses are rare: verify, large writes
# The gate is looked at again and again, without a lock: a lock might be held by the forking thread itself, or
# by one that the child does not have.
_POLL_S: Final = 0.001
_INHERITED: Final = (
    "this process was forked while its parent was using SQLite, whose locks it has inherited. It cannot use "
    "{what}: start it anew (spawn, exec), or fork while no write or verify of more than 5 s is running"
)
BEGUN_BEFORE: Final = "begun before this process was forked from the one that runs it; call it again"

Inode = tuple[int, int]  # device and number


@dataclass
class _Opened:
    """A connection that may be open."""

    connection: weakref.ref[apsw.Connection]
    path: Path
    inode: Inode | None = None  # until SQLite has opened the file

    def found_inode(self) -> Inode:
        """The file that it has open; an inode that no file has if it cannot be found any more."""
        with suppress(OSError):
            return self.inode or _inode(self.path)
        return (0, 0)


class Owner(Protocol):
    """Whatever keeps connections open between uses."""

    def hold(self, timeout_s: float) -> bool:
        """Keep out the uses that do not pass the gate; False if they do not end in time."""

    def let_go(self) -> None:
        """End what `hold` began."""

    def is_mine(self) -> bool:
        """Whether the calling thread is in such a use."""

    def close_idle(self, *, free: bool, held: bool, mine: bool) -> None:
        """Close all connections that no thread is using, given the answers of `hold` and `is_mine`.

        If `free` no thread is inside the gate: a lock that is taken inside it, and is held, was left so.
        """

    def abandon(self) -> None:
        """In a forked child: renew all locks and forget all connections; refuse further uses, or register."""


class _Fork:
    """A fork on its way, as its thread prepares it."""

    def __init__(self) -> None:
        self.held: list[Owner] = []
        self.ends = math.inf  # time.monotonic() at which the gate opens by itself
        self.alone = False  # no other thread forks
        self.locks: list[threading.RLock] = []
        self.clean = False  # no thread uses SQLite, and no connection is open
        self.mine = True  # the forking thread is using SQLite itself


_users: dict[Scope[None], int] = {}  # the uses inside the gate, and their threads
_closed_by: dict[_Fork, None] = {}  # the gate is closed while there is one
_one_fork = threading.RLock()
_long_locks: list[threading.RLock] = []
_forks: dict[int, list[_Fork]] = {}  # by thread; a signal handler may fork while its thread forks
_owners: dict[int, weakref.ref[Owner]] = {}
_open: dict[int, _Opened] = {}  # by id of the connection
_changing: dict[object, int] = {}  # connections being opened or closed, and the threads that do so
_forks_survived = 0  # how many forks led from the first process to this one
_refused: set[Inode] = set()
_refuses_all = False
_feeding: set[int] = set()  # ids of connections that a backup reads from
_leaked: list[object] = []  # never closed: that would touch what the parent is using


def using(lock: threading.RLock | None = None) -> Scope[None]:
    """One use of SQLite by one thread, as a context; waits at its beginning while a fork is going on.

    It can also hold a lock. While it waits for a fork it does not hold it, so that a thread inside, for which
    the fork waits, can take the lock.
    """
    return Scope(lambda use: _use(use, lock))


def _use(use: Scope[None], lock: threading.RLock | None) -> Generator[None, None, None]:
    while True:
        with lock or threading.RLock():  # taken and released by C code, which no exception cuts in two
            try:
                if _enter(use):
                    yield
                    return
            finally:
                _users.pop(use, None)
        _wait_until_open()


def _enter(use: Scope[None]) -> bool:
    """Begin a use; False if a fork is going on and the thread is not inside already.

    The use is noted first and the gate looked at then; a fork does it the other way round.
    """
    me = threading.get_ident()
    _users[use] = me
    if not _is_closed() or _inside().count(me) > 1:
        return True
    return any(fork in _closed_by for fork in _forks.get(me, ()))  # a finalizer, run by the fork itself


def _inside() -> list[int]:
    """The thread of each use. An exception may keep one from being taken off the list, but it has ended."""
    return [thread for use, thread in list(_users.items()) if use.lasts()]


def wanted() -> bool:
    """Whether a fork waits for the calling thread, and the thread can leave by ending its only use."""
    me = threading.get_ident()
    return bool(_closed_by) and _inside().count(me) == 1


def _is_closed() -> bool:
    return bool(_closed_by) and any(time.monotonic() < fork.ends for fork in list(_closed_by))


def _wait_until_open() -> None:
    while _is_closed():
        time.sleep(_POLL_S)


def is_owned(lock: threading.RLock) -> bool:
    """Whether the calling thread holds the lock."""
    owned: bool = lock._is_owned()  # type: ignore[attr-defined]
    return owned


def survived() -> int:
    """How many forks lie between the first process and this one: another number in a child."""
    return _forks_survived


def long_lock() -> threading.RLock:
    """A new lock that no other thread holds at the moment of a fork, for imports and compilations.

    The interpreter and numba have locks of their own, which a child would find held for ever.
    """
    lock = threading.RLock()
    _long_locks.append(lock)
    return lock


def register(owner: Owner) -> None:
    """Include an owner of connections in every fork from now on, before it opens the first."""
    key = id(owner)
    _owners[key] = weakref.ref(owner, lambda _: _owners.pop(key, None))


def opening(path: Path, name: str | None = None, **options: Any) -> apsw.Connection:
    """Open a connection to the file at a path; StorePoisoned in a child that cannot use the file safely.

    `name` is what SQLite calls the file, if not by its path; the options are those of apsw.Connection.
    """
    import apsw

    _check_not_inherited(path)
    token, survived = object(), _forks_survived
    connection = apsw.Connection.__new__(apsw.Connection)
    try:
        _changing[token] = threading.get_ident()
        _open[id(connection)] = opened = _Opened(weakref.ref(connection), path)  # before it is open
        connection.__init__(name or str(path), **options)  # type: ignore[misc]
        with suppress(OSError):  # removed meanwhile
            opened.inode = _inode(path)
        if survived != _forks_survived:  # this thread has forked meanwhile, in a signal handler
            _leaked.append(connection)
            raise StorePoisoned(f"{path.parent}: {BEGUN_BEFORE}")
        return connection
    except apsw.Error:
        _open.pop(id(connection), None)
        raise
    finally:
        _changing.pop(token, None)


def closing(connection: apsw.Connection, *, force: bool = False) -> None:
    """Close a connection."""
    token = object()
    try:
        _changing[token] = threading.get_ident()
        connection.close(force)
        _open.pop(id(connection), None)
    finally:
        _changing.pop(token, None)


@scope
def feeding(connection: apsw.Connection) -> Iterator[None]:
    """While a backup reads from a connection: to close it would also end the backup."""
    try:
        _feeding.add(id(connection))
        yield
    finally:
        _feeding.discard(id(connection))


def _inode(path: Path) -> Inode:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _check_not_inherited(path: Path) -> None:
    if _refuses_all:
        raise StorePoisoned(_INHERITED.format(what="any store"))
    if _refused:
        with suppress(OSError):  # nothing is there
            if _inode(path) in _refused:
                raise StorePoisoned(_INHERITED.format(what=path.parent))


def before() -> None:
    """Before a fork: keep all threads out of SQLite and close all connections, as far as that is possible."""
    me, fork = threading.get_ident(), _Fork()
    _forks.setdefault(me, []).append(fork)
    for lock in _long_locks:
        with lock:  # may last half a minute; until then nobody is kept out of SQLite
            pass
    fork.alone = _one_fork.acquire(timeout=2 * WAIT_S)
    if fork.alone:
        _close_all(fork, me)
        for lock in _long_locks:  # after those inside, who may need them
            lock.acquire()
            fork.locks.append(lock)


def _close_all(fork: _Fork, me: int) -> None:
    """Close the gate and all connections; note what could not be closed."""
    deadline = time.monotonic() + WAIT_S
    free = _close_gate(fork, me, deadline)
    owners = [owner for ref in list(_owners.values()) if (owner := ref()) is not None]
    inside = mine = me in _inside()
    for owner in owners:
        asking = owner.is_mine()
        held = owner.hold(max(0.0, deadline - time.monotonic()))
        if held:
            fork.held.append(owner)
        owner.close_idle(free=free and not inside, held=held, mine=asking)
        mine = mine or asking
    fork.mine = mine
    fork.clean = free and not mine and len(fork.held) == len(owners) and _close_leftovers()


def in_parent() -> None:
    """After a fork, in the parent: let threads in again."""
    fork = _finished()
    if fork is None:
        return
    try:
        while fork.locks:
            fork.locks.pop().release()
        while fork.held:
            fork.held.pop().let_go()
    finally:
        _closed_by.pop(fork, None)
        if fork.alone:
            _one_fork.release()


def in_child() -> None:
    """After a fork, in the child: renew all locks; refuse what was inherited and cannot be used safely."""
    global _one_fork, _forks_survived
    fork = _finished()
    for lock in fork.locks if fork is not None else ():
        lock.release()
    _forks_survived += 1
    changing = not set(_changing.values()).isdisjoint(_inside())
    _one_fork = threading.RLock()
    for noted in (_users, _forks, _closed_by):
        noted.clear()
    inherited = _alive()
    owners = [owner for owner_ref in _owners.values() if (owner := owner_ref()) is not None]
    _owners.clear()
    for owner in owners:
        owner.abandon()
    if fork is None or not fork.clean or inherited:  # a signal handler may have used SQLite in the end
        _inspect(inherited, mine=fork is None or fork.mine, changing=changing)
    for kept in (_open, _changing, _feeding):
        kept.clear()


def _finished() -> _Fork | None:
    """The fork of this thread that has just taken place; None if it could not even be noted."""
    me = threading.get_ident()
    mine = _forks.get(me, [])
    fork = mine.pop() if mine else None
    if not mine:
        _forks.pop(me, None)
    return fork


def _close_gate(fork: _Fork, me: int, deadline: float) -> bool:
    """Close the gate; True once no other thread is inside, False if that takes too long."""
    _closed_by[fork] = None
    while any(thread != me for thread in _inside()):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _close_leftovers() -> bool:
    """Close what is open though no thread is inside and its owners have closed theirs; False if that fails.

    Nobody can reach these connections any more but by the frames of an exception that is kept.
    """
    for connection, _ in _alive():
        with suppress(Exception):
            closing(connection, force=True)
    for noted in (_users, _changing, _feeding):
        noted.clear()
    return not _alive()


def _alive() -> list[tuple[apsw.Connection, _Opened]]:
    """The connections that may be open."""
    noted = list(_open.values())
    return [(found, opened) for opened in noted if (found := opened.connection()) is not None]


def _inspect(inherited: list[tuple[apsw.Connection, _Opened]], *, mine: bool, changing: bool) -> None:
    """In the child of a fork that could not wait: close the connections that may be closed, refuse the rest.

    A connection whose mutex is held was being used inside SQLite by a thread that the child does not have.
    The thread may have held any of SQLite's mutexes, so nothing can be used again; the same holds where a
    connection was being opened or closed. Otherwise a connection that only reads is closed, which writes
    nothing, and its file can be opened afresh. One that writes is never closed, because undoing its changes
    would change the memory that it shares with the parent, nor is one that the forking thread is using.
    """
    global _refuses_all
    import apsw

    _leaked.append(inherited)
    _refuses_all = _refuses_all or changing
    writing: set[int] = set()
    for connection, _ in inherited:
        try:
            if connection.txn_state() == apsw.SQLITE_TXN_WRITE:
                writing.add(id(connection))
        except apsw.ThreadingViolationError:
            _refuses_all = True
        except apsw.ConnectionClosedError:
            pass
    for connection, opened in inherited:
        inode = opened.found_inode()
        if mine or _refuses_all or id(connection) in writing | _feeding:
            _refused.add(inode)
            _forbid(connection)
            continue
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close(True)
        except apsw.ConnectionClosedError:
            pass
        except apsw.Error:
            _refused.add(inode)


def _forbid(connection: apsw.Connection) -> None:
    """Let every further statement of a connection fail: the code that was using it may go on in the child."""
    import apsw

    def refuse(*_: object) -> int:
        raise StorePoisoned(_INHERITED.format(what="this store"))

    with suppress(apsw.Error):  # in use by another thread, which the child does not have
        connection.authorizer = refuse
        connection.interrupt()


def at_exit() -> None:
    """When the interpreter ends: keep other threads out of SQLite from now on, and close all connections."""
    me, fork = threading.get_ident(), _Fork()
    _forks.setdefault(me, []).append(fork)  # the hooks that are still to be called may use SQLite
    _close_all(fork, me)
    fork.ends = time.monotonic() + EXIT_S
    for owner in fork.held:
        owner.let_go()


atexit.register(at_exit)  # at import: called after the hooks that were registered later
# Through lambdas, so that a test can switch the rule off.
os.register_at_fork(
    before=lambda: before(), after_in_parent=lambda: in_parent(), after_in_child=lambda: in_child()
)
