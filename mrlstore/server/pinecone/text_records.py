"""Records: rows that are given as texts with fields, embedded here, and searched by a text."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from mrlstore.errors import EmbedError
from mrlstore.integrations.pinecone.filters import where_of
from mrlstore.server.bodies import dump, float_row, parse_object, shown
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import IndexFacts, ServedIndex
from mrlstore.server.metric_scores import scores_of
from mrlstore.server.operations import Answer
from mrlstore.server.pinecone.row_fields import MAX_ROWS, checked_id, metadata_of, space_of
from mrlstore.server.refusals import invalid
from mrlstore.server.text_models import Kind, TextModels
from mrlstore.types import LIMITS, Result

DETAILS: Final = "pinecone"  # where the facts of an index keep what its creation said
_TEXT: Final = "text"  # the field of the text where the index does not name another


class TextRecord(NamedTuple):
    """A record to be stored."""

    id: str
    text: str
    metadata: dict[str, Any]


class _ScoredRecords(NamedTuple):
    """Hits and their scores by the index's metric, or fused scores, best first."""

    result: Result
    scores: NDArray[np.float32]


class Records:
    """What the routes below `/records` do."""

    def __init__(self, models: TextModels) -> None:
        self._models = models

    def upsert(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """POST /records/namespaces/NS/upsert: all records of the request or none; one JSON object a line.

        The text of a row that is stored with the same text is not embedded again.
        """
        space = _space(call)
        records = _records(body, _text_field(index.facts))
        last = list({record.id: record for record in records}.values())
        ids, texts = [record.id for record in last], [record.text for record in last]
        stored = index.store.get(ids, namespace=space, include=("document", "vector"))
        known = {
            row.id: row.vector
            for row in stored
            if (row.id, row.document) in set(zip(ids, texts, strict=True))
        }
        fresh = [record for record in last if known.get(record.id) is None]
        vectors = self._models.vectors(index, _kind(index.facts), [record.text for record in fresh])
        made = {record.id: vector for record, vector in zip(fresh, vectors, strict=True)}
        rows = [made[id] if id in made else known[id] for id in ids]
        index.store.upsert(
            ids,
            rows if any(row is not None for row in rows) else None,
            [record.metadata for record in last],
            texts,
            namespace=space,
        )
        lsn = str(index.store.generation)
        return Answer(b"", 201, (("x-pinecone-request-lsn", lsn), ("x-pinecone-lsn-committed", lsn)))

    def search(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """POST /records/namespaces/NS/search: by a text, a vector, or a stored record."""
        given, space = parse_object(body), _space(call)
        if given.get("rerank") is not None:
            raise invalid("rerank is not offered here: hits are ranked by their whole vectors already")
        query, fields = given.get("query"), given.get("fields")
        if not isinstance(query, dict):
            raise invalid(f"query: expected an object, got {shown(query)}")
        if fields is not None and (
            not isinstance(fields, list) or not all(isinstance(name, str) for name in fields)
        ):
            raise invalid(f"fields: expected a list of strings, got {shown(fields)}")
        found = self._found(index, query, space)
        text_field, hits = _text_field(index.facts), []
        for hit, score in zip(found.result, found.scores.tolist(), strict=True):
            known = dict(hit.metadata or {})
            if hit.document is not None:
                known[text_field] = hit.document
            if fields is not None and "*" not in fields:
                known = {name: known[name] for name in fields if name in known}
            hits.append({"_id": hit.id, "_score": score, "fields": known})
        return Answer(dump({"result": {"hits": hits}, "usage": {"read_units": 1, "embed_total_tokens": 0}}))

    def _found(self, index: ServedIndex, query: dict[str, Any], space: str) -> _ScoredRecords:
        top_k, inputs, vector, id = (query.get(name) for name in ("top_k", "inputs", "vector", "id"))
        if type(top_k) is not int or not 1 <= top_k <= LIMITS.k:
            raise invalid(f"top_k: expected 1 to {LIMITS.k:,}, got {shown(top_k)}")
        if (inputs is not None) + (vector is not None) + (id is not None) != 1:
            raise invalid("query: give exactly one of inputs, vector and id")
        store, where = index.store, where_of(query.get("filter"))
        words, numbers = None, None
        if inputs is not None:
            text = inputs.get("text") if isinstance(inputs, dict) else None
            if not isinstance(text, str) or not text:
                raise invalid(f"inputs: expected an object with a text, got {shown(inputs)}")
            words, numbers = self._question(index, text)
        elif id is not None:
            rows = store.get([checked_id(id, "id")], namespace=space, include=("vector",))
            numbers = rows[0].vector if rows else None
        else:
            values = vector.get("values") if isinstance(vector, dict) else None
            numbers = float_row(values, "vector.values", store.dim)
        if store.dim is None:
            numbers = None
        if numbers is None and words is None:
            nothing = store.query(keywords="", where=where, namespace=space)
            return _ScoredRecords(nothing, nothing.scores)
        result = store.query(
            numbers, top_k, keywords=words, where=where, namespace=space, include=("metadata", "document")
        )
        if words is not None or numbers is None:
            return _ScoredRecords(result, result.scores)
        return _ScoredRecords(result, scores_of(index.facts.metric, result.scores, numbers))

    def _question(self, index: ServedIndex, text: str) -> tuple[str | None, Any]:
        """The words and the vector of a text; of a local model both count, which knows few words."""
        embedder = self._models.embedder(index, _kind(index.facts))
        if embedder is None:
            return text, None
        try:
            vector = embedder.embed_query(text)
        except EmbedError as error:
            if getattr(error, "of_service", True):
                raise
            return text, None  # no word that the model knows
        return (text if _is_local(embedder) else None), vector


def _is_local(embedder: object) -> bool:
    from mrlstore.embedders.local import LocalEmbedder

    return isinstance(embedder, LocalEmbedder)


def _space(call: HttpCall) -> str:
    space = space_of(str(call.scope["path_params"]["namespace"]))
    call.require_namespace(space)
    return space


def _text_field(facts: IndexFacts) -> str:
    """The name of the field that is embedded."""
    embed = facts.details.get(DETAILS, {}).get("embed") or {}
    return str(embed.get("field_map", {}).get("text", _TEXT))


def _kind(facts: IndexFacts) -> Kind | None:
    """What the index was created to be embedded by."""
    kind: Kind | None = facts.details.get(DETAILS, {}).get("embedder")
    return kind


def _records(body: bytes, text_field: str) -> list[TextRecord]:
    """The records of a body, all checked."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not lines or len(lines) > MAX_ROWS:
        raise invalid(f"records: expected 1 to {MAX_ROWS:,} lines, got {len(lines):,}")
    return [_record(line, at, text_field) for at, line in enumerate(lines)]


def _record(line: bytes, at: int, text_field: str) -> TextRecord:
    place = f"records[{at}]"
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise invalid(f"{place}: the line is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise invalid(f"{place}: expected an object, got {shown(fields)}")
    given = [fields.pop(name) for name in ("_id", "id") if name in fields]
    if len(given) != 1:
        raise invalid(f"{place}: give _id, or id")
    text = fields.pop(text_field, None)
    if not isinstance(text, str) or not text:
        raise invalid(f"{place}: the field {text_field!r} has to be a text, got {shown(text)}")
    metadata = metadata_of(fields, place) or {}
    return TextRecord(checked_id(given[0], f"{place}._id"), text, metadata)
