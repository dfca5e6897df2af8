"""The session: one open store of one process, shared by everything that `Store` delegates to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import Catalogue, settings
from mrlstore.catalogue.connection import Connection, Overtaken
from mrlstore.errors import MrlStoreError, StorePoisoned
from mrlstore.storage.snapshot import Snapshot, SnapshotMoved, Snapshots, retry_when_moved
from mrlstore.system.files import Files, storage_error
from mrlstore.types import AuditStats, Settings, ShippingStats

CATALOGUE, PARTS = "catalogue.db", "parts"
_KEY_RANGE: Final = 4_096  # row keys reserved at a time: one small transaction for so many single-row writes

T = TypeVar("T")


class Answered(NamedTuple):
    """A live question with its answer, and how to get the exact one."""

    k: int
    namespace: str | None  # None: several were searched
    vector: NDArray[np.float32]  # [dim], unit length
    scores: NDArray[np.float32]  # of the answer that the caller got, best first
    exact: Callable[[], NDArray[np.float32]]  # computes the scores of the exact answer


class AnswerAudit(Protocol):
    """What compares a share of the live answers with exact ones; see `recall.audit`."""

    def takes(self) -> bool:
        """Whether it wants the next answer."""

    def offer(self, answered: Answered) -> None:
        """Take an answer; its `exact` is called later, in another thread."""

    def figures(self) -> tuple[AuditStats, ...]:
        """What it has found, for each k."""

    def stop(self) -> None:
        """End its thread, and wait for it."""


class CopyKeeper(Protocol):
    """What keeps a copy of the store in object storage; see `shipping.shipper`."""

    def figures(self) -> ShippingStats:
        """How far the copy has come."""

    def stop(self) -> None:
        """End its thread, and wait for it."""


class View:
    """What one run of a reader sees: a snapshot, and the catalogue with it.

    Inside a read transaction both are of one generation. Without one, the catalogue may be newer: rows are
    then read by key and never change, and a reader that misses one raises SnapshotMoved.
    """

    def __init__(
        self, session: Session, snapshot: Snapshot | None = None, transaction: Connection | None = None
    ) -> None:
        self.transaction = transaction  # None: there is no read transaction
        self._session, self._snapshot = session, snapshot

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot; opened at its first use, since many reads need only the catalogue."""
        if self._snapshot is None:
            assert self.transaction is not None
            self._snapshot = self._session.snapshots.at(self.transaction)
        return self._snapshot

    def connection(self) -> AbstractContextManager[Connection]:
        """The transaction's connection, or one that is free."""
        if self.transaction is not None:
            return nullcontext(self.transaction)
        return self._session.catalogue.connection()


@dataclass
class Session:
    """One open store of one process."""

    path: Path
    files: Files
    catalogue: Catalogue
    snapshots: Snapshots
    threads: int
    audit: AnswerAudit | None = None
    shipping: tuple[CopyKeeper, ...] = ()
    _free_keys: list[range] = field(default_factory=list)  # reserved for this process and not used yet

    @property
    def parts(self) -> Path:
        """The folder of all parts."""
        return self.path / PARTS

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        return self.catalogue.settings

    def reload_settings(self) -> None:
        """Read the settings again, after a commit that may have changed them."""
        with self.catalogue.read() as connection:
            self.catalogue.settings = settings.load(connection, self.catalogue.path)

    def consistently(self, run: Callable[[View], T], first: Snapshot | None = None) -> T:
        """What `run` gives when everything that it reads is of one generation.

        It runs in a read transaction, again if the catalogue has moved on meanwhile. Given a snapshot, it is
        tried with that one and with the newest before, both without a transaction, which costs less.
        """
        if first is not None:
            with suppress(SnapshotMoved, Overtaken):
                return run(View(self, first))
            with suppress(SnapshotMoved, Overtaken):
                return run(View(self, self.snapshots.latest()))

        def in_transaction() -> T:
            with self.catalogue.read() as connection:
                return run(View(self, transaction=connection))

        return retry_when_moved(in_transaction)

    def take_keys(self, count: int) -> int:
        """The first of `count` consecutive row keys that nobody else has or will have.

        A range of keys is taken out of the list before it is divided, so no two calls, and no signal handler
        within one, can divide the same. What an exception interrupts is lost: gaps between keys are normal.
        """
        try:
            free = self._free_keys.pop()
        except IndexError:
            free = range(0)
        if len(free) < count:
            reserved = max(count, _KEY_RANGE)
            first = self.catalogue.reserve_keys(reserved)
            free = range(first, first + reserved)
        if len(free) > count:
            self._free_keys.append(free[count:])
        return free.start

    def close(self) -> None:
        """Stop the audit and the shipping, and let go of all files and of what was kept in memory."""
        for keeper in self.shipping:
            keeper.stop()
        if self.audit is not None:
            self.audit.stop()
        self.snapshots.close()
        self.catalogue.connections.close()

    @contextmanager
    def storing(self, doing: str) -> Iterator[None]:
        """Give errors of the file system their type; one that leaves the disk's state unknown poisons."""
        try:
            yield
        except StorePoisoned as error:
            self.catalogue.poison(str(error))
            raise
        except MrlStoreError:
            raise
        except OSError as error:
            raise storage_error(error, doing) from error
        except RuntimeError as error:
            if "new thread" in str(error):
                raise MemoryError(f"{doing}: no memory for another thread") from error
            raise


def open_session(path: Path, files: Files, *, read_only: bool, threads: int) -> Session:
    """Open the catalogue of an existing store; an error of the file system gets its type."""
    try:
        files.guard(path)
        catalogue = Catalogue(files, path / CATALOGUE, read_only=read_only)
    except MrlStoreError:
        raise
    except OSError as error:
        raise storage_error(error, f"opening {path}") from error
    return Session(path, files, catalogue, Snapshots(files, path / PARTS, catalogue), threads)
