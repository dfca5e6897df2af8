"""Embed the documents of a store again, with another embedder, into another store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Literal, NamedTuple

from mrlstore.embedders.content import Content
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput
from mrlstore.ingest.document_rows import DIGEST
from mrlstore.ingest.pipeline import Ingested, StoreVerbs, ingest
from mrlstore.types import Progress, Record


def re_embed(
    source: StoreVerbs,
    target: StoreVerbs,
    embedder: Embedder,
    *,
    content_of: Callable[[Record], Content | None] | None = None,
    on_error: Literal["raise", "skip", "keep"] = "raise",
    progress: Callable[[Progress], None] | None = None,
) -> Ingested:
    """Embed the stored documents of one store again, with another embedder, into another store.

    Ids, namespaces and metadata are kept; rows without a vector are copied. A second run goes on where the
    first one stopped, as `ingest` does.

    Args:
        source: the store whose documents are embedded.
        target: the store that gets the rows.
        embedder: its fingerprint must be the target's: that is for the caller to check.
        content_of: gives the content of a row that a store does not keep: images, sound, film, PDFs, and
            vectors without a document. Rows for which it gives None, and without it all of these rows, are
            not
            embedded: `.failed` names them.
        on_error: as for `ingest`.
        progress: as for `ingest`.
    """
    done = Ingested()
    for namespace in source.namespaces():
        stored = _StoredDocuments(source, target, namespace, content_of, done)
        contents, ids, metadatas = tee(stored.with_content(), 3)
        part = ingest(
            target,
            embedder,
            (row.content for row in contents),
            (row.record.id for row in ids),
            (row.record.metadata for row in metadatas),
            namespace=namespace,
            on_error=on_error,
            progress=progress,
        )
        done.ids += part.ids
        done.embedded += part.embedded
        done.skipped += part.skipped
        done.updated += part.updated
        done.without_vector |= part.without_vector
        done.failed |= part.failed
    return done


class _RowContent(NamedTuple):
    record: Record
    content: Content


@dataclass(frozen=True)
class _StoredDocuments:
    """The rows of one namespace that is embedded again."""

    source: StoreVerbs
    target: StoreVerbs
    namespace: str
    content_of: Callable[[Record], Content | None] | None
    done: Ingested

    def with_content(self) -> Iterator[_RowContent]:
        """Give the rows whose content is known; copy those without a vector, note the others as failed."""
        for record in self.source.scan(namespace=self.namespace, include=("metadata", "document", "vector")):
            if record.vector is None:
                row = ([record.id], None, [record.metadata], [record.document])
                self.target.upsert(*row, namespace=self.namespace)
                continue
            content = self._content(record)
            if content is None:
                why = InvalidInput("its content is not stored: add it again from its source")
                self.done.failed[record.id] = why
            else:
                yield _RowContent(record, content)

    def _content(self, record: Record) -> Content | None:
        if record.document is not None and DIGEST not in (record.metadata or {}):
            return record.document
        return self.content_of(record) if self.content_of is not None else None
