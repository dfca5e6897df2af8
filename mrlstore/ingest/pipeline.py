"""The pipeline: compare with what is stored, embed several windows at once, store them in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from mrlstore.checks import check_ordered, check_progress
from mrlstore.embedders.content import Content
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import EmbedError, InvalidInput, LimitExceeded
from mrlstore.ingest.document_rows import DocumentRow, Metadata, Split, Window, WindowMaker
from mrlstore.ingest.embed_rows import EmbeddedRows, embed_rows, is_down
from mrlstore.system.job import Job, callback_errors
from mrlstore.types import Progress, Record
from mrlstore.writing.batch import make_batch


class StoreVerbs(Protocol):
    """The methods of a store that are used here."""

    def get(self, ids: Iterable[str], *, namespace: str = "", include: Any = ...) -> list[Record]:
        """Return stored rows by id."""
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
        """Return the number of rows by namespace."""
        ...

    def scan(self, *, namespace: str | None = "", prefix: str | None = None, include: Any = ...) -> Any:
        """Iterate over stored rows."""
        ...


@dataclass
class Ingested:
    """What was done: the ids of all rows in the order of the documents, and how many rows went which way."""

    ids: list[str] = field(default_factory=list)
    embedded: int = 0
    skipped: int = 0  # were stored already, with the same content
    updated: int = 0  # of the skipped ones: got new metadata
    without_vector: dict[str, Exception] = field(
        default_factory=dict
    )  # id -> why; texts that are stored without a vector, with on_error="keep"
    failed: dict[str, Exception] = field(
        default_factory=dict
    )  # id, or place of a document without one -> why; not stored


class IngestError(EmbedError):
    """Documents could not be embedded; `done` says what was stored, and which failed and why."""

    def __init__(self, message: str, done: Ingested) -> None:
        super().__init__(message)
        self.done = done

    def __reduce__(self) -> tuple[type[IngestError], tuple[str, Ingested]]:
        return type(self), (str(self), self.done)


def ingest(
    store: StoreVerbs,
    embedder: Embedder,
    documents: Iterable[Content],
    ids: Iterable[str] | None = None,
    metadatas: Iterable[Metadata | None] | None = None,
    *,
    namespace: str = "",
    split: Split | None = None,
    on_error: Literal["raise", "skip", "keep"] = "raise",
    progress: Callable[[Progress], None] | None = None,
) -> Ingested:
    """Embed documents and store them; those that are stored already with the same content are skipped.

    Args:
        store: gets the rows.
        embedder: its fingerprint must be the store's: that is for the caller to check.
        documents: texts, media, or lists of both that are one content each; any iterable, read as needed.
        ids: one for each document; without, ids are made from the contents, so that a second run finds them
            again, and equal contents are one row.
        metadatas: one dict or None for each; None leaves that of a stored row. New metadata of an unchanged
            content is stored without embedding it again.
        namespace: of all the ids.
        split: cut texts into chunks: rows "ID#0", "ID#1" ..., whose metadata say under `chunk` where they
            stood. Rows of an earlier, longer text of the same id are removed.
        on_error: "raise" stops at the first document that fails. "skip" notes it in `.failed` and goes on.
            "keep" stores a text that cannot be embedded without a vector, so that keywords find it, and notes
            it in `.without_vector`; the next run tries to embed it again. All three stop when the embedder
            itself fails: when it says so (a refused key, a spent quota), or when it embeds neither a document
            of a window of 100 nor one that it had embedded before.
        progress: called after every window with the number of documents done, and of all where it is known.

    Raises:
        InvalidInput: a document was refused, by the embedder or here.
        IngestError: a document could not be embedded. In every case what was embedded before it, and what
            was under way, is stored: a second run goes on from there.
    """
    _check_columns({"documents": documents, "ids": ids, "metadatas": metadatas})
    if split is not None and not isinstance(split, Split):
        raise InvalidInput(f"split: expected a mrlstore.ingest.Split, got {type(split).__name__}")
    check_progress(progress)
    if on_error not in ("raise", "skip", "keep"):
        raise InvalidInput(f'on_error={on_error!r}: "raise", "skip" or "keep"')
    total = len(documents) if isinstance(documents, Sized) else 0
    run = IngestRun(store, embedder, namespace, on_error, Job(progress), total)
    maker = WindowMaker(namespace, split, keep_going=on_error != "raise")
    run.run(maker.windows(documents, ids, metadatas))
    return run.done


def _check_columns(given: Mapping[str, Any]) -> None:
    """Refuse values that are not lists, and columns whose lengths are known and differ.

    A set is refused where columns are paired by position. Documents alone may be a set.
    """
    sizes = {}
    paired = any(given[name] is not None for name in ("ids", "metadatas"))
    for name, column in given.items():
        if column is None and name != "documents":
            continue
        apart = isinstance(column, str | bytes | Mapping) or len(getattr(column, "shape", (0,))) != 1
        if apart or not isinstance(column, Iterable):
            raise InvalidInput(f"{name}: expected a list, one for each document, got {type(column).__name__}")
        if paired:
            check_ordered(column, name)
        if isinstance(column, Sized):
            sizes[name] = len(column)
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"as many ids and metadatas as documents are needed, not {sizes}")


class _UnderWay(NamedTuple):
    """A window whose fresh rows are being embedded."""

    window: Window
    embedding: Future[EmbeddedRows]


class IngestRun:
    """One call of `ingest`."""

    def __init__(
        self, store: StoreVerbs, embedder: Embedder, namespace: str, on_error: str, job: Job, total: int
    ) -> None:
        """`on_error` is that of `ingest`. `total`: documents, 0 if that is not known."""
        self.done = Ingested()
        self._store, self._embedder, self._namespace = store, embedder, namespace
        self._on_error, self._job, self._total = on_error, job, total
        self._documents = 0
        self._known_good: DocumentRow | None = None  # a row that this embedder has embedded
        self._error: Exception | None = None

    def run(self, windows: Iterator[Window]) -> None:
        """Embed as many windows at once as the embedder says it can; store them in their order."""
        concurrency = max(int(getattr(self._embedder, "concurrency", 1)), 1)
        under_way: deque[_UnderWay] = deque()
        pool = ThreadPoolExecutor(concurrency, "mrlstore-ingest")
        try:
            try:
                for window in windows:
                    while len(under_way) >= concurrency or _share_a_row(under_way, window):
                        self._finish(*under_way.popleft())
                    if self._error is not None:
                        break
                    self._compare(window)
                    embedding = pool.submit(embed_rows, self._embedder, window.fresh)
                    under_way.append(_UnderWay(window, embedding))
            except Exception as error:  # a refused document or a failing source: what is under way is stored
                self._error = self._error or error
            while under_way:
                self._finish(*under_way.popleft())
        except BaseException:
            getattr(self._embedder, "cancel", lambda: None)()  # what is under way is not waited for
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if self._error is not None:
            raise self._error

    def _compare(self, window: Window) -> None:
        """Sort the rows of a window: to be embedded, to get new metadata, to be left as they are."""
        first_beyond = [f"{name}#{count}" for name, count in window.chunks.items()]
        ids = [*window.rows, *first_beyond, *window.chunks]
        found = self._store.get(ids, namespace=self._namespace, include=("metadata", "document", "vector"))
        records = {record.id: record for record in found}
        for row in window.rows.values():
            record = records.get(row.id)
            if record is None:
                window.fresh.append(row)
            elif not row.is_stored_as(record):
                window.fresh.append(row.with_metadata_of(record))
            elif record.vector is None:
                window.fresh.append(row.with_metadata_of(record))
                window.bare[row.id] = row.changes(record)
            else:
                self._known_good = row
                if changes := row.changes(record):
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
        """Ids of the stored rows "NAME#i" with i >= count."""
        found = self._store.scan(namespace=self._namespace, prefix=f"{name}#", include=())
        numbers = ((record.id, record.id.removeprefix(f"{name}#")) for record in found)
        return [id for id, number in numbers if number.isdecimal() and int(number) >= count]

    def _finish(self, window: Window, embedding: Future[EmbeddedRows]) -> None:
        """Store what was embedded, and count it."""
        embedded = embedding.result()
        rows = [window.rows[id] for id in embedded.vectors]
        if rows:
            self._known_good = rows[-1]
            self._store.upsert(
                [row.id for row in rows],
                np.stack(list(embedded.vectors.values())),
                [row.stored_metadata for row in rows],
                [row.document for row in rows],
                namespace=self._namespace,
            )
        if embedded.failed and self._error is None and self._must_stop(embedded):
            self._error = self._failure(*next(iter(embedded.failed.items())))
        kept = self._keep(window, embedded)
        if window.changes:
            changed = list(window.changes)
            self._store.update(changed, list(window.changes.values()), namespace=self._namespace)
        if window.stale and not embedded.failed:
            self._store.delete(window.stale, namespace=self._namespace)
        self._count(window, embedded, kept)

    def _keep(self, window: Window, embedded: EmbeddedRows) -> dict[str, Exception]:
        """With `on_error="keep"`, store the texts that failed without vectors, and take them off `failed`."""
        if self._on_error != "keep" or self._error is not None:
            return {}
        kept = {id: error for id, error in embedded.failed.items() if window.rows[id].document}
        rows = [window.rows[id] for id in kept if id not in window.bare]
        if rows:
            metadatas = [row.stored_metadata for row in rows]
            documents = [row.document for row in rows]
            ids = [row.id for row in rows]
            self._store.upsert(ids, None, metadatas, documents, namespace=self._namespace)
        window.changes |= {id: changes for id, changes in window.bare.items() if id in kept and changes}
        for id in kept:
            del embedded.failed[id]
        return kept

    def _count(self, window: Window, embedded: EmbeddedRows, kept: Mapping[str, Exception]) -> None:
        done = self.done
        done.ids += [id for id in window.ids if id not in embedded.failed]
        done.embedded += len(embedded.vectors)
        done.skipped += len(window.rows) - len(window.fresh)
        done.updated += len(window.changes)
        done.failed |= window.refused | embedded.failed
        done.without_vector |= kept
        self._documents += window.documents
        with callback_errors():
            self._job.step("embed", self._documents, self._total)

    def _must_stop(self, embedded: EmbeddedRows) -> bool:
        if self._on_error == "raise":
            return True
        return not embedded.vectors and is_down(self._embedder, embedded.failed, self._known_good)

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


def _share_a_row(under_way: Iterable[_UnderWay], window: Window) -> bool:
    """Whether a window has a row of another one that is not stored yet: the later of the two must win."""
    return any(other.window.rows.keys() & window.rows.keys() for other in under_way)
