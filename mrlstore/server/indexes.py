"""`IndexRoot`: the stores under one folder, each an index with a name, and what is known about each.

The index `papers` is the store `papers.mrl`; what clients have said about it beside its rows is in
`papers.index.json`, which may be missing. Where `papers.cluster.json` lies instead it is a cluster. Several
processes work on one folder: whoever creates, configures or deletes an index holds a lock on the folder. A
store is deleted by one rename into `.deleted`, after which no process finds it, and then file by file.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import mrlstore
from mrlstore.api.store import Store
from mrlstore.catalogue.identity import LOCK
from mrlstore.errors import InvalidInput, MrlStoreError, StoreExists, StoreNotFound
from mrlstore.server.refusals import HttpRefusal, busy, not_found
from mrlstore.server.served_cluster import SUFFIX, opened_cluster
from mrlstore.system.whole_file import sync_path, whole_file

_LOG: Final = logging.getLogger("mrlstore.server")
_STORE: Final = ".mrl"
_FACTS: Final = ".index.json"
_MODEL: Final = ".lsa.npz"
_LOOK_S: Final = 1.0
AUDIT: Final = "audit"  # in the details of facts: the arguments of `Store.audit`
_ROOT_LOCK: Final = ".mrlstore-server.lock"
_BESIDE: Final = ".beside"
_DELETED: Final = ".deleted"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # one component of a path, never `.` or `..`

Metric = Literal["cosine", "dotproduct", "euclidean"]
T = TypeVar("T")


@dataclass(frozen=True)
class IndexFacts:
    """What clients have said of an index, kept beside its store. Those of a store without are the defaults.

    `details` holds what one API keeps for itself, by the name of the API, and the settings of the audit.
    """

    metric: Metric = "cosine"
    protected: bool = False  # from being deleted
    tags: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class ServedIndex:
    """A store that is open, and its facts, at most a second old. `metric` never changes."""

    name: str
    store: Store
    lock: str  # the path of its LOCK
    facts: IndexFacts
    stamp: tuple[int, ...]
    pins: int = 0
    retired: bool = False  # to be closed by whoever lets go of it last
    in_threads: int = 0  # the next so many queries run in threads: one was slow
    audit: dict[str, Any] = field(default_factory=lambda: {"rate": 0})  # what its audit was last set to
    facts_stamp: tuple[int, ...] = ()
    looked: float = 0.0  # time.monotonic() when its facts were last looked at

    @property
    def is_current(self) -> bool:
        """Whether the store at its path is still the one that is open here."""
        return _stamp(self.lock) == self.stamp


class IndexRoot:
    """The indexes under a folder. Methods block, and may be called from any thread."""

    def __init__(
        self, root: Path, *, open_stores: int = 64, read_only: bool = False, threads: int | None = None
    ) -> None:
        """Take a folder, which is made where it is missing, and remove what deletions have left.

        Raises InvalidInput if it is a store itself, or no folder.
        """
        self.path, self.read_only = root, read_only
        self._most, self._threads = open_stores, threads
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._open: OrderedDict[str, ServedIndex] = OrderedDict()
        if (root / "catalogue.db").exists():
            raise InvalidInput(f"root: {root} is a store; give the folder that it lies in")
        if read_only and not root.is_dir():
            raise InvalidInput(f"root: there is no folder {root}")
        if root.exists() and not root.is_dir():
            raise InvalidInput(f"root: {root} is not a folder")
        if not read_only:
            root.mkdir(parents=True, exist_ok=True)
            with self.changing():
                self._sweep()

    def names(self) -> list[str]:
        """The names of all indexes, sorted."""
        with os.scandir(self.path) as entries:
            found = {
                entry.name.removesuffix(suffix)
                for entry in entries
                for suffix in (_STORE, SUFFIX)
                if entry.name.endswith(suffix)
            }
        return sorted(name for name in found if self.exists(name))

    def exists(self, name: str) -> bool:
        """Whether there is an index of this name; False for what cannot be a name."""
        if _NAME.fullmatch(name) is None:
            return False
        return _is_store(self._place(name)) or self._cluster_file(name).is_file()

    def facts(self, name: str) -> IndexFacts:
        """What clients have said of an index; HttpRefusal (404) if it is not there."""
        if not self.exists(name):
            raise _absent(name)
        return self._read_facts(name)

    def create(self, name: str, dim: int | None, facts: IndexFacts) -> None:
        """Make an empty index; durable when this returns. Raises as `make` does, and for a wrong `dim`."""
        self.make(
            name, facts, lambda place: mrlstore.open(place, dim=dim, mode="x", auto_maintain=False).close()
        )

    def make(self, name: str, facts: IndexFacts, make_store: Callable[[Path], None]) -> None:
        """Make an index whose store `make_store` puts at a path, whole; durable when this returns.

        Raises:
            InvalidInput: the name cannot be one.
            HttpRefusal: 409, it is there already.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"name: {name!r:.80} cannot name an index: letters, digits, dashes, dots; up to 100"
            )
        self._check_writable()
        with self.changing():
            if self.exists(name) or self._place(name).is_symlink():
                raise HttpRefusal(409, "ALREADY_EXISTS", f"the index {name!r} exists already")
            self._remove_files_beside(name)  # of a store that was removed by hand
            self._write_facts(name, facts)
            try:
                make_store(self._place(name))
            except BaseException as error:
                self._facts_file(name).unlink(missing_ok=True)
                if isinstance(error, StoreExists):  # made by hand meanwhile
                    raise HttpRefusal(409, "ALREADY_EXISTS", f"the index {name!r} exists already") from None
                raise
        _LOG.info("%s: created", name, extra={"event": "index created", "index": name})

    def configure(self, name: str, change: Callable[[IndexFacts], IndexFacts]) -> IndexFacts:
        """Change the facts of an index; durable when this returns. The metric stays."""
        self._check_writable()
        with self.changing():
            known = self.facts(name)
            changed = replace(change(known), metric=known.metric)
            self._write_facts(name, changed)
        return changed

    def delete(self, name: str) -> None:
        """Remove an index and all that is in it. From when this returns no process finds it any more.

        Raises:
            HttpRefusal: 404, it is not there; 403, it is protected.
        """
        self._check_writable()
        with self.changing():
            if self.facts(name).protected:
                raise HttpRefusal(
                    403,
                    "FORBIDDEN",
                    f"the index {name!r} has deletion protection; configure it to be off first",
                )
            if not _is_store(self._place(name)):
                raise HttpRefusal(
                    403, "FORBIDDEN", f"{name!r} is a cluster; remove {name}{SUFFIX} to serve it no more"
                )
            with self._lock:
                held = self._open.pop(name, None)
            trash = self.path / _DELETED
            trash.mkdir(exist_ok=True)
            os.rename(self._place(name), trash / f"{name}-{secrets.token_hex(8)}{_STORE}")
            sync_path(self.path)
            self._remove_files_beside(name)
            if held is not None:
                self._retire(held)
            self._sweep()
        _LOG.info("%s: deleted", name, extra={"event": "index deleted", "index": name})

    def run(self, name: str, call: Callable[[ServedIndex], T]) -> T:
        """What `call` gives of an open index.

        If the store is deleted or made anew meanwhile, by whichever process, the call is made again with the
        store that is there now.

        Raises:
            HttpRefusal: 404, there is none.
        """
        for again in (True, False):
            with self.use(name) as index:
                try:
                    return call(index)
                except (MrlStoreError, OSError) as error:
                    if isinstance(error, InvalidInput):
                        raise
                    replaced = not index.is_current
                    if replaced or isinstance(error, mrlstore.StorePoisoned | mrlstore.StoreClosed):
                        self._drop(index)
                    if not (replaced and again):
                        raise
        raise AssertionError("unreachable")

    @contextmanager
    def use(self, name: str) -> Iterator[ServedIndex]:
        """An open index, which stays open until the block is left; opened where it is not open yet.

        Raises:
            HttpRefusal: 404, it is not there.
        """
        index = self.pin(name) or self._opened(name)
        try:
            yield index
        finally:
            self.unpin(index)

    def pin(self, name: str) -> ServedIndex | None:
        """An index that is open here and still the one at its path, or None. `unpin` lets go of it."""
        with self._lock:
            index = self._open.get(name)
            if index is None:
                return None
            if index.is_current:
                self._open.move_to_end(name)
                index.pins += 1
                self._settle(index)
                return index
            del self._open[name]
        self._retire(index)
        return None

    def _settle(self, index: ServedIndex) -> None:
        """Audit as the facts say, which any process may have changed; they are looked at once a second."""
        now = time.monotonic()
        if now < index.looked + _LOOK_S:
            return
        index.looked = now
        stamp = _stamp(os.fspath(self._facts_file(index.name)))
        if stamp == index.facts_stamp:
            return
        with suppress(HttpRefusal, MrlStoreError, TypeError):  # facts that are damaged are reported elsewhere
            facts = self._read_facts(index.name)
            index.facts_stamp = stamp
            index.facts = replace(facts, metric=index.facts.metric)
            audit = facts.details.get(AUDIT, {"rate": 0})
            if audit != index.audit:
                index.store.audit(**audit)
                index.audit = audit

    def unpin(self, index: ServedIndex) -> None:
        """Let go of what `pin` gave."""
        with self._lock:
            index.pins -= 1
            close = index.retired and not index.pins
        if close:
            index.store.close()

    def close(self) -> None:
        """Close all stores that nobody uses, the others as soon as nobody does."""
        with self._lock:
            held, self._open = list(self._open.values()), OrderedDict()
        for index in held:
            self._retire(index)

    def _opened(self, name: str) -> ServedIndex:
        with self._opening:
            if (index := self.pin(name)) is not None:
                return index
            if not self.exists(name):
                raise _absent(name)
            place, cluster = self._place(name), self._cluster_file(name)
            is_store = _is_store(place)
            lock, mode = os.fspath(place / LOCK if is_store else cluster), "r" if self.read_only else "r+"
            stamp = _stamp(lock)
            try:
                if is_store:
                    store = mrlstore.open(place, mode=mode, threads=self._threads)  # type: ignore[arg-type]
                else:
                    store = opened_cluster(cluster, place, read_only=self.read_only, threads=self._threads)
            except StoreNotFound:
                raise _absent(name) from None
            index = ServedIndex(name, store, lock, self._read_facts(name), stamp, pins=1)
            if not index.is_current:
                store.close()
                raise busy(f"the index {name!r} was replaced just now; try again")
            self._settle(index)
            with self._lock:
                self._open[name] = index
                idle = [each for each in self._open.values() if not each.pins]
                surplus = idle[: max(0, len(self._open) - self._most)]
                for each in surplus:
                    del self._open[each.name]
        for each in surplus:
            self._retire(each)
        return index

    def _drop(self, index: ServedIndex) -> None:
        with self._lock:
            if self._open.get(index.name) is index:
                del self._open[index.name]
        self._retire(index)

    def _retire(self, index: ServedIndex) -> None:
        with self._lock:
            index.retired = True
            close = not index.pins
        if close:
            index.store.close()

    def beside(self, name: str, what: str) -> Path:
        """A folder for what an API keeps of an index, which goes with it; not made yet."""
        return self.path / _BESIDE / name / what

    def _place(self, name: str) -> Path:
        return self.path / f"{name}{_STORE}"

    def _cluster_file(self, name: str) -> Path:
        return self.path / f"{name}{SUFFIX}"

    def _facts_file(self, name: str) -> Path:
        return self.path / f"{name}{_FACTS}"

    def _remove_files_beside(self, name: str) -> None:
        """The facts, the local model where texts were embedded by one, and what APIs keep."""
        for path in (self._facts_file(name), self.path / f"{name}{_MODEL}"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.path / _BESIDE / name, ignore_errors=True)

    def _read_facts(self, name: str) -> IndexFacts:
        try:
            return IndexFacts(**json.loads(self._facts_file(name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return IndexFacts()
        except (ValueError, TypeError, RecursionError) as error:
            _LOG.error("%s: what is known of the index cannot be read: %s", name, error)
            raise HttpRefusal(500, "DATA_LOSS", f"the facts of the index {name!r} cannot be read") from error

    def _write_facts(self, name: str, facts: IndexFacts) -> None:
        """Put the file in place whole and synced."""
        with whole_file(self._facts_file(name)) as file:
            file.write(json.dumps(asdict(facts)).encode())

    def _check_writable(self) -> None:
        if self.read_only:
            raise HttpRefusal(403, "FORBIDDEN", "this server only reads")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While one process creates, changes or deletes an index or what lies beside it, others wait."""
        descriptor = os.open(self.path / _ROOT_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove the files of deleted indexes; what another process still writes to is left for next time."""
        trash = self.path / _DELETED
        if trash.is_dir():
            for _ in range(3):
                shutil.rmtree(trash, ignore_errors=True)
                if not trash.exists():
                    return
                time.sleep(0.01)


def _stamp(lock: str) -> tuple[int, ...]:
    """What tells a store from another one at the same path: its LOCK, which nobody writes to."""
    try:
        status = os.lstat(lock)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_store(place: Path) -> bool:
    return not place.is_symlink() and (place / "catalogue.db").is_file()


def _absent(name: str) -> HttpRefusal:
    return not_found(f"there is no index {name!r:.120}")
