"""Embedding a store's documents anew, with another embedder, into another store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Literal

from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput
from mrlstore.ingest.pipeline import Ingested, Store, ingest
from mrlstore.ingest.rows import DIGEST
from mrlstore.types import Progress, Record


def re_embed(
    source: Store,
    target: Store,
    embedder: Embedder,
    *,
    on_error: Literal["raise", "skip"] = "raise",
    progress: Callable[[Progress], None] | None = None,
) -> Ingested:
    """Embed the stored documents of one store anew, with another embedder, into another store.

    Ids, namespaces and metadata are kept; rows without a vector are copied. Resumable as `ingest` is. Rows
    whose content is not stored (media, vectors without a document) cannot be embedded again: they are told
    in `.failed`, and for the caller to add from where they came.
    """
    done = Ingested()
    for namespace in source.namespaces():
        kept = _Kept(source, target, namespace, done)
        rows, names, metadatas = tee(kept.texts(), 3)
        part = ingest(
            target,
            embedder,
            (row.document or "" for row in rows),
            (row.id for row in names),
            (row.metadata for row in metadatas),
            namespace=namespace,
            on_error=on_error,
            progress=progress,
        )
        done.ids += part.ids
        done.embedded += part.embedded
        done.skipped += part.skipped
        done.updated += part.updated
        done.failed |= part.failed
    return done


@dataclass(frozen=True)
class _Kept:
    """The rows of one namespace that is embedded anew."""

    source: Store
    target: Store
    namespace: str
    done: Ingested

    def texts(self) -> Iterator[Record]:
        """Give the rows whose text is stored; copy those without a vector, note those without a text."""
        found = self.source.scan(namespace=self.namespace, include=("metadata", "document", "vector"))
        for record in found:
            if record.vector is None:
                row = ([record.id], None, [record.metadata], [record.document])
                self.target.upsert(*row, namespace=self.namespace)
            elif record.document is None or DIGEST in (record.metadata or {}):
                why = InvalidInput("its content is not stored: add it again from its source")
                self.done.failed[record.id] = why
            else:
                yield record
