"""A Haystack document as a row, and a row as a document."""

from __future__ import annotations

import base64
from typing import Any, Final

from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

from mrlstore.errors import InvalidInput
from mrlstore.types import Hit, Record

REST: Final = "_haystack"  # the reserved key


def metadata_of(document: Document) -> dict[str, Any]:
    """The row's metadata: the document's, and blob and sparse embedding under the reserved key."""
    rest: dict[str, Any] = {}
    if document.blob is not None:
        data = base64.b64encode(document.blob.data).decode()
        rest["blob"] = {"data": data, "meta": document.blob.meta, "mime_type": document.blob.mime_type}
    if document.sparse_embedding is not None:
        rest["sparse_embedding"] = document.sparse_embedding.to_dict()
    if REST in document.meta:
        raise InvalidInput(f"{document.id!r}: the metadata key {REST!r} is reserved")
    return {**document.meta, REST: rest} if rest else document.meta


def document_of(row: Hit | Record, score: float | None = None, with_embedding: bool = True) -> Document:
    """The document that was stored as this row."""
    meta = dict(row.metadata or {})
    rest = meta.pop(REST, {})
    blob, sparse = rest.get("blob"), rest.get("sparse_embedding")
    return Document(
        id=row.id,
        content=row.document,
        blob=ByteStream(**{**blob, "data": base64.b64decode(blob["data"])}) if blob else None,
        meta=meta,
        score=score,
        embedding=row.vector.tolist() if with_embedding and row.vector is not None else None,
        sparse_embedding=SparseEmbedding.from_dict(sparse) if sparse else None,
    )
