"""An on-disk cache of embeddings: what was paid for once is not paid for again.

One SQLite file. Each batch is durable before its vectors are used, so a crash costs at most the batches that
were being sent. A row whose checksum is wrong counts as missing. Many processes and threads may share a file.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore
from mrlstore.system import forks

if TYPE_CHECKING:
    import apsw

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors(
    key BLOB PRIMARY KEY, vector BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
"""
_PAGE = 500  # keys in one query; SQLite allows 32,766 variables


class EmbeddingCache:
    """Vectors by key, float32, in the SQLite file `path`, which is created if it does not exist."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.RLock()
        self._connection: apsw.Connection | None = None
        forks.register(self)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the vectors of those keys that are in the cache, float32 [dim] each."""
        found: dict[bytes, NDArray[np.float32]] = {}
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            marks = ",".join("?" * len(page))
            for key, vector, crc in self.execute(f"SELECT * FROM vectors WHERE key IN ({marks})", page):
                if zlib.crc32(key + vector) == crc and len(vector) % 4 == 0:
                    found[key] = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        return found

    def put(self, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Store vectors; durable when this returns."""
        rows = []
        for key, vector in vectors.items():
            data = vector.astype("<f4").tobytes()
            rows.append((key, data, zlib.crc32(key + data)))
        self.execute_many("INSERT OR REPLACE INTO vectors VALUES(?, ?, ?)", rows)

    def execute(self, sql: str, bindings: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with forks.using(self._lock):
            return self._open().execute(sql, tuple(bindings)).fetchall()

    def execute_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run one statement for each row, in one transaction; durable when this returns."""
        with forks.using(self._lock), self._open() as connection:
            connection.executemany(sql, rows)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with forks.using(self._lock):
            self._close()

    def __len__(self) -> int:
        return int(self.execute("SELECT count(*) FROM vectors")[0][0])

    def _open(self) -> apsw.Connection:
        import apsw

        if self._connection is not None:
            return self._connection
        try:
            connection = forks.opening(self.path)
            connection.set_busy_timeout(30_000)
            connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
            connection.execute(_SCHEMA)
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise CorruptStore(self.path, f"not an embedding cache ({error}); delete it") from error
        self._connection = connection
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            forks.closing(connection)

    def hold(self, timeout_s: float) -> bool:
        """Before a fork: every use passes the gate, so nobody else is to be kept out; see `forks.Owner`."""
        return True

    def let_go(self) -> None:
        """End what `hold` began."""

    def is_mine(self) -> bool:
        """Whether the calling thread is in a use that does not pass the gate: there is none."""
        return False

    def close_idle(self, *, free: bool, held: bool, mine: bool) -> None:
        """Before a fork: close the file if no thread is using it."""
        if free:
            self._close()
        elif not forks.is_owned(self._lock) and self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def abandon(self) -> None:
        """In a forked child: open the file anew at the next use."""
        self._lock, self._connection = threading.RLock(), None
        forks.register(self)
