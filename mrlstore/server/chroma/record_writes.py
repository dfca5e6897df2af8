"""Records are added, changed and removed. Each call is one transaction, or changes nothing."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.server.bodies import float_row, parse_object, shown
from mrlstore.server.chroma.chroma_collections import MAX_BATCH
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.metric_scores import check_lengths
from mrlstore.server.operations import Answer
from mrlstore.server.refusals import invalid

URI: Final = "chroma:uri"  # the key of the metadata that holds a record's URI

Metadata = dict[str, Any]


@dataclass(frozen=True)
class RecordBatch:
    """The records of a write, by position; None for what is not given."""

    ids: list[str]
    vectors: list[NDArray[np.float32] | None]
    metadatas: list[Metadata | None]
    documents: list[str | None]

    @property
    def rows(self) -> list[NDArray[np.float32] | None] | None:
        """The vectors as the store takes them; None where there are none."""
        return self.vectors if any(vector is not None for vector in self.vectors) else None


def add(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /add: new records; one whose id is there stays as it is."""
    records = _records(index, call, body, needs_vectors=True)
    metadatas = [_without_nulls(each) for each in records.metadatas]
    index.store.upsert(records.ids, records.rows, metadatas, records.documents, on_conflict="skip")
    return Answer()


def upsert(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /upsert: new records; metadata of one that is there is merged, and what is not given stays."""
    records = _records(index, call, body, needs_vectors=True)
    known = {row.id: row for row in index.store.get(records.ids)}
    metadatas, documents = [], []
    for id, metadata, document in zip(records.ids, records.metadatas, records.documents, strict=True):
        row = known.get(id)
        merged = {**((row.metadata if row else None) or {}), **(metadata or {})}
        metadatas.append(_without_nulls(merged) or None)
        documents.append(row.document if document is None and row else document)
    index.store.upsert(records.ids, records.rows, metadatas, documents)
    return Answer()


def update(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /update: parts of records that are there; a null in the metadata removes its key."""
    records = _records(index, call, body, needs_vectors=False)
    if (
        records.rows is None
        and not any(records.metadatas)
        and not any(document is not None for document in records.documents)
    ):
        return Answer()
    index.store.update(records.ids, records.metadatas, records.documents, vectors=records.rows)
    return Answer()


def embedding_of(given: object, place: str, dim: int | None) -> NDArray[np.float32]:
    """A vector, float32 [dim], of a list of numbers or of base64 of float32 in little-endian order."""
    if not isinstance(given, str):
        return float_row(given, place, dim)
    try:
        row = np.frombuffer(base64.b64decode(given, validate=True), dtype="<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        raise invalid(f"{place}: expected base64 of float32 numbers, got {shown(given)}") from None
    if dim is not None and len(row) != dim:
        raise invalid(f"{place}: Collection expecting embedding with dimension of {dim}, got {len(row)}")
    if not np.isfinite(row).all() or not row.any():
        raise invalid(f"{place}: all numbers are zero, or one is not finite")
    return row


def checked_ids(given: object) -> list[str]:
    """The ids of a request."""
    if not isinstance(given, list) or not all(isinstance(id, str) and id for id in given):
        raise invalid(f"ids: expected a list of strings, got {shown(given)}")
    return given


def _records(index: ServedIndex, call: HttpCall, body: bytes, *, needs_vectors: bool) -> RecordBatch:
    call.require_namespace("")
    given = parse_object(body)
    ids = checked_ids(given.get("ids"))
    if not 1 <= len(ids) <= MAX_BATCH:
        raise invalid(f"ids: expected 1 to {MAX_BATCH:,}, got {len(ids):,}")
    if len(set(ids)) < len(ids):
        raise invalid("ids: each may be there once")
    embeddings, metadatas, documents, uris = (
        _list_of(given.get(name), name, len(ids)) for name in ("embeddings", "metadatas", "documents", "uris")
    )
    if needs_vectors and any(embedding is None for embedding in embeddings):
        raise invalid("embeddings: one for each id has to be given")
    dim, vectors = index.store.dim, []
    for at, embedding in enumerate(embeddings):
        row = None if embedding is None else embedding_of(embedding, f"embeddings[{at}]", dim)
        vectors.append(row)
        dim = len(row) if row is not None else dim
    there = [row for row in vectors if row is not None]
    if there:
        check_lengths(index.facts.metric, np.stack(there))
    wrong = next((each for each in documents if each is not None and not isinstance(each, str)), None)
    if wrong is not None:
        raise invalid(f"documents: expected strings, got {shown(wrong)}")
    return RecordBatch(
        ids,
        vectors,
        [
            _metadata(metadata, uri, at)
            for at, (metadata, uri) in enumerate(zip(metadatas, uris, strict=True))
        ],
        documents,
    )


def _list_of(given: object, name: str, length: int) -> list[Any]:
    if given is None:
        return [None] * length
    if not isinstance(given, list) or len(given) != length:
        raise invalid(f"{name}: expected a list of {length:,}, got {shown(given)}")
    return given


def _metadata(given: object, uri: object, at: int) -> Metadata | None:
    if given is not None and not isinstance(given, dict):
        raise invalid(f"metadatas[{at}]: expected an object, got {shown(given)}")
    if uri is not None and not isinstance(uri, str):
        raise invalid(f"uris[{at}]: expected a string, got {shown(uri)}")
    for key, value in (given or {}).items():
        if isinstance(value, dict):
            raise invalid(f"metadatas[{at}].{key:.60}: sparse vectors and objects are not offered here")
    return given if uri is None else {**(given or {}), URI: uri}


def _without_nulls(metadata: Metadata | None) -> Metadata | None:
    return metadata and {key: value for key, value in metadata.items() if value is not None}
