"""A store that is created with its first row: a command that stores nothing leaves none behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import mrlstore
from mrlstore.embedders.fingerprint import canonical, check_same
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import StoreNotFound
from mrlstore.types import Record, Tokenizer


class LateStore:
    """The methods of a store that `ingest` uses, for a store that may not exist yet.

    An existing store is opened at once and compared with the embedder; a missing one is created by the first
    `upsert`. Before the first `upsert` `prepare` is called, and the embedder is recorded in the store.
    """

    def __init__(
        self,
        path: Path,
        embedder: Embedder | None,
        prepare: Callable[[], None],
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """`embedder`: whose vectors are stored; None where rows have none."""
        self._path, self._embedder, self._prepare, self._tokenizer = path, embedder, prepare, tokenizer
        self._store: mrlstore.Store | None = None
        self._is_prepared = False

    def __enter__(self) -> LateStore:
        try:
            with mrlstore.open(self._path, mode="r") as opened:
                recorded = opened.embedder_fingerprint
        except StoreNotFound:
            return self
        if recorded is not None and self._embedder is not None:
            check_same(canonical(recorded), self._embedder)
        self._store = self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._store.close()

    def upsert(
        self, ids: Any, vectors: Any, metadatas: Any = None, documents: Any = None, *, namespace: str = ""
    ) -> int:
        """Store rows, in a new store if there is none."""
        if not self._is_prepared:
            self._prepare()
            if self._store is None:
                self._store = self._open()
            if self._embedder is not None:
                self._store.add([])  # records the embedder, or refuses another one than the store's
            self._is_prepared = True
        assert self._store is not None
        return self._store.upsert(ids, vectors, metadatas, documents, namespace=namespace)

    def get(self, ids: Iterable[str], *, namespace: str = "", include: Any = ("metadata",)) -> list[Record]:
        """Return stored rows by id."""
        return [] if self._store is None else self._store.get(ids, namespace=namespace, include=include)

    def update(self, ids: Any = None, metadatas: Any = None, *, namespace: str = "") -> int:
        """Change metadata."""
        return 0 if self._store is None else self._store.update(ids, metadatas, namespace=namespace)

    def delete(self, ids: Any = None, *, namespace: str = "") -> int:
        """Remove rows."""
        return 0 if self._store is None else self._store.delete(ids, namespace=namespace)

    def namespaces(self) -> dict[str, int]:
        """Return the number of rows by namespace."""
        return {} if self._store is None else self._store.namespaces()

    def scan(
        self, *, namespace: str | None = "", prefix: str | None = None, include: Any = ("metadata",)
    ) -> Iterator[Record]:
        """Iterate over stored rows."""
        if self._store is None:
            return iter(())
        return self._store.scan(namespace=namespace, prefix=prefix, include=include)

    def count(self) -> int:
        """The rows of all namespaces."""
        return 0 if self._store is None else self._store.count(namespace=None)

    def _open(self) -> mrlstore.Store:
        return mrlstore.open(self._path, embedder=self._embedder, tokenizer=self._tokenizer)
