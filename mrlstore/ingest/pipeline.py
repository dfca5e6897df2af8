"""The pipeline: compare with what is stored, embed several windows at once, store them in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mrlstore.checks import check_progress
from mrlstore.embedders.content import Content
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import EmbedError, InvalidInput, LimitExceeded
from mrlstore.ingest.rows import Metadata, Row, Split, Window, windows
from mrlstore.storage.vector_rows import as_matrix
from mrlstore.types import Progress, Record
from mrlstore.writing.batch import make_batch

_HALVINGS = 16

Vector = NDArray[np.float32]


class Store(Protocol):
    """The verbs of a store that are used here."""

    def get(self, ids: Iterable[str], *, namespace: str = "", include: Any = ...) -> list[Record]:
        """Give rows by id."""
        ...

    def upsert(
        self, ids: Any, vectors: Any, metadatas: Any = None, documents: Any = None, *, namespace: str = ""
    ) -> int:
        """Store rows."""
        ...

    def update(self, ids: Any = None, metadatas: Any = None, *, namespace: str = "") -> int:
        """Change metadata."""
        ...

    def delete(self, ids: Any = None, *, namespace: str = "") -> int:
        """Remove rows."""
        ...

    def namespaces(self) -> dict[str, int]:
        """Tell which there are."""
        ...

    def scan(self, *, namespace: str | None = "", prefix: str | None = None, include: Any = ...) -> Any:
        """Go through rows."""
        ...


@dataclass
class Ingested:
    """What was done: `ids` of all rows in the order of the documents, and how many took which way."""

    ids: list[str] = field(default_factory=list)
    embedded: int = 0
    skipped: int = 0  # stored already, with the same content
    updated: int = 0  # of those: how many got new metadata
    failed: dict[str, Exception] = field(default_factory=dict)  # id -> why


class IngestError(EmbedError):
    """Documents could not be embedded; `done` says what was stored, and which failed and why."""

    def __init__(self, message: str, done: Ingested) -> None:
        super().__init__(message)
        self.done = done

    def __reduce__(self) -> tuple[type[IngestError], tuple[str, Ingested]]:
        return type(self), (str(self), self.done)


def ingest(
    store: Store,
    embedder: Embedder,
    documents: Iterable[Content],
    ids: Iterable[str] | None = None,
    metadatas: Iterable[Metadata | None] | None = None,
    *,
    namespace: str = "",
    split: Split | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[Progress], None] | None = None,
) -> Ingested:
    """Embed documents and store them; those that are stored already with the same content are skipped.

    Args:
        store: where to.
        embedder: its fingerprint must be the store's: that is for the caller to check.
        documents: texts, media, or lists of both that are one content each; any iterable, read as needed.
        ids: one for each document; without, ids are made from the contents, so that a second run finds them
            again, and equal contents are one row.
        metadatas: one dict or None for each; None leaves that of a stored row. New metadata of an unchanged
            content is stored without embedding it again.
        namespace: where the ids live.
        split: cut texts into chunks: rows "ID#0", "ID#1" ..., whose metadata tell under `chunk` where they
            stood. Rows of an earlier, longer text of the same id are removed.
        on_error: "raise" stops at the first document that fails; "skip" passes over single documents and
            tells them in `.failed`, but still stops when all of a window of 100 fail.
        progress: called after every window with the documents done, and their number where it is known.

    Raises:
        InvalidInput, LimitExceeded: a document was refused, by the embedder or here.
        IngestError: a document could not be embedded. In every case what was embedded before it, and what
            was under way, is stored: a second run goes on from there.
    """
    _check_columns({"documents": documents, "ids": ids, "metadatas": metadatas})
    if split is not None and not isinstance(split, Split):
        raise InvalidInput(f"split: expected a mrlstore.ingest.Split, got {type(split).__name__}")
    check_progress(progress)
    work = Work(store, embedder, namespace, on_error, progress, documents)
    work.run(windows(documents, ids, metadatas, split))
    return work.done


def _check_columns(given: Mapping[str, Any]) -> None:
    """Refuse what is no list, or what differs in length as far as that is known before it is read."""
    sizes = {}
    for name, column in given.items():
        if column is None and name != "documents":
            continue
        apart = isinstance(column, str | bytes | Mapping) or getattr(column, "ndim", 1) == 0
        if apart or not isinstance(column, Iterable):
            raise InvalidInput(f"{name}: expected a list, one for each document, got {type(column).__name__}")
        if isinstance(column, Sized):
            sizes[name] = len(column)
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"as many ids and metadatas as documents are needed, not {sizes}")


@dataclass(frozen=True)
class _Embedded:
    """What came of the fresh rows of a window."""

    vectors: dict[str, Vector]
    failed: dict[str, Exception]


class Work:
    """One call of `ingest`."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        namespace: str,
        on_error: str,
        progress: Callable[[Progress], None] | None,
        documents: Iterable[Content],
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise InvalidInput(f'on_error={on_error!r}: "raise" or "skip"')
        self.done = Ingested()
        self._store, self._embedder, self._namespace = store, embedder, namespace
        self._skip, self._progress = on_error == "skip", progress
        self._total = len(documents) if isinstance(documents, Sized) else 0
        self._documents = 0
        self._error: Exception | None = None

    def run(self, planned: Iterator[Window]) -> None:
        """Embed several windows at once, if the embedder says that it can; store them in their order."""
        ahead = max(int(getattr(self._embedder, "concurrency", 1)), 1)
        under_way: deque[tuple[Window, Future[_Embedded]]] = deque()
        pool = ThreadPoolExecutor(ahead, "mrlstore-ingest")
        try:
            try:
                for window in planned:
                    while len(under_way) >= ahead or any(
                        w.rows.keys() & window.rows.keys() for w, _ in under_way
                    ):
                        self._finish(*under_way.popleft())
                    if self._error is not None:
                        break
                    self._compare(window)
                    under_way.append((window, pool.submit(self._embed, window.fresh)))
            except Exception as error:  # a refused document, a failing source: what is under way is kept
                self._error = self._error or error
            while under_way:
                self._finish(*under_way.popleft())
        except BaseException:
            getattr(self._embedder, "cancel", lambda: None)()  # nobody waits for what is under way
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if self._error is not None:
            raise self._error

    def _compare(self, window: Window) -> None:
        """Sort the rows of a window: to be embedded, to get new metadata, to be left."""
        after = [f"{name}#{count}" for name, count in window.chunks.items()]
        wanted = [*window.rows, *after, *window.chunks]
        found = self._store.get(wanted, namespace=self._namespace, include=("metadata", "document", "vector"))
        records = {record.id: record for record in found}
        for row in window.rows.values():
            record = records.get(row.id)
            if record is None:
                window.fresh.append(row)
            elif not row.is_stored_as(record):
                window.fresh.append(row.with_metadata_of(record))
            elif changes := row.changes(record):
                window.changes[row.id] = changes
        window.rows.update((row.id, row) for row in window.fresh)
        make_batch(  # what the store would refuse is refused before it is paid for
            [row.id for row in window.fresh],
            None,
            [row.stored_metadata for row in window.fresh],
            [row.document for row in window.fresh],
            self._namespace,
            None,
        )
        for name, count in window.chunks.items():
            window.stale += [name] if name in records and name not in window.rows else []
            if f"{name}#{count}" in records:
                window.stale += self._chunks_from(name, count)

    def _chunks_from(self, name: str, count: int) -> list[str]:
        """Ids of the rows "NAME#i" with i >= count."""
        found = self._store.scan(namespace=self._namespace, prefix=f"{name}#", include=())
        numbers = ((record.id, record.id.removeprefix(f"{name}#")) for record in found)
        return [id for id, number in numbers if number.isdecimal() and int(number) >= count]

    def _embed(self, rows: list[Row]) -> _Embedded:
        """Embed rows; one that is refused does not keep the others back.

        An error that does not tell which row is to blame is looked for by halving, a bounded number of times.
        """
        done = _Embedded({}, {})
        todo, failures = [list(rows)] if rows else [], 0
        while todo:
            part = todo.pop()
            try:
                vectors = _one_each(self._embedder.embed_documents([row.content for row in part]), len(part))
            except Exception as error:
                failures += 1
                number, good = getattr(error, "item", None), getattr(error, "succeeded", None)
                if number is not None:
                    done.failed[part.pop(number).id] = error
                    todo += [part] if part else []
                elif good is not None:
                    bad: Mapping[int, Exception] = getattr(error, "failed", {})
                    done.vectors.update((part[i].id, vector) for i, vector in good.items())
                    done.failed.update(
                        (row.id, bad.get(i, error)) for i, row in enumerate(part) if i not in good
                    )
                elif isinstance(error, EmbedError) and len(part) > 1 and failures <= _HALVINGS:
                    middle = len(part) // 2
                    todo += [part[middle:], part[:middle]]
                else:
                    done.failed.update((row.id, error) for row in part)
            else:
                done.vectors.update((row.id, vectors[i]) for i, row in enumerate(part))
        return done

    def _finish(self, window: Window, future: Future[_Embedded]) -> None:
        """Store what succeeded, and book what did not."""
        embedded = future.result()
        rows = [window.rows[id] for id in embedded.vectors]
        if rows:
            self._store.upsert(
                [row.id for row in rows],
                np.stack(list(embedded.vectors.values())),
                [row.stored_metadata for row in rows],
                [row.document for row in rows],
                namespace=self._namespace,
            )
        if window.changes:
            changed = list(window.changes)
            self._store.update(changed, list(window.changes.values()), namespace=self._namespace)
        if window.stale and not embedded.failed:
            self._store.delete(window.stale, namespace=self._namespace)
        self._book(window, embedded)

    def _book(self, window: Window, embedded: _Embedded) -> None:
        done = self.done
        done.ids += [id for id in window.ids if id not in embedded.failed]
        done.embedded += len(embedded.vectors)
        done.skipped += len(window.rows) - len(window.fresh)
        done.updated += len(window.changes)
        done.failed |= embedded.failed
        self._documents += window.documents
        hopeless = not embedded.vectors and len(window.fresh) > 1
        if embedded.failed and self._error is None and (hopeless or not self._skip):
            self._error = self._failure(*next(iter(embedded.failed.items())))
        if self._progress is not None:
            self._progress(Progress("embed", self._documents, self._total))

    def _failure(self, id: str, error: Exception) -> Exception:
        text = f"document {id!r}: {getattr(error, 'reason', error)}"
        if isinstance(error, LimitExceeded):
            failure: Exception = LimitExceeded(text)
        elif isinstance(error, InvalidInput):
            failure = InvalidInput(text)
        else:
            failure = IngestError(f"{text} (what was embedded is stored; run again to go on)", self.done)
        failure.__cause__ = error
        return failure


def _one_each(vectors: Any, count: int) -> NDArray[Any]:
    """What an embedder gave, if it is one vector for each content; else whose is whose is unknown."""
    matrix = as_matrix(vectors, "embed_documents")
    if len(matrix) != count:
        raise InvalidInput(f"embed_documents: {len(matrix)} vectors came back for {count} contents")
    return matrix
