"""Records are read, counted, searched, and removed by what chooses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.api.store import Store
from mrlstore.server.bodies import check_hits, check_numbers, dump, float_row, parse_object, shown
from mrlstore.server.chosen_rows import nearest_of
from mrlstore.server.chroma.record_filters import Clause, DocumentTest, document_filter_of, where_of
from mrlstore.server.chroma.record_writes import URI, checked_ids
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import Metric, ServedIndex
from mrlstore.server.metric_scores import scores_of
from mrlstore.server.operations import Answer
from mrlstore.server.refusals import invalid
from mrlstore.system.bounded_cache import BoundedCache
from mrlstore.types import LIMITS, Hit, Include, Record

_PARTS: Final = ("documents", "embeddings", "metadatas", "distances", "uris")
_QUICK_K: Final = 100
_MAX_QUESTIONS: Final = 1_000
_DEEPER: Final = 8  # times as many candidates, where too few of their documents pass

Vector = NDArray[np.float32]
_Scanned = tuple[tuple[int, ...], int, bytes]  # which store, at which generation, by which filter

_ends: Final[BoundedCache[tuple[_Scanned, int], str]] = BoundedCache(1_000)  # the cursors of pages


@dataclass(frozen=True)
class Chosen:
    """Which records a request is about: of these ids, whose metadata and whose documents pass."""

    ids: list[str] | None
    where: Clause | None
    documents: DocumentTest | None

    @classmethod
    def of(cls, given: dict[str, Any]) -> Chosen:
        """What `ids`, `where` and `where_document` of a request say."""
        ids = None if given.get("ids") is None else checked_ids(given["ids"])
        return cls(ids, where_of(given.get("where")), document_filter_of(given.get("where_document")))

    def rows(self, store: Store, include: tuple[Include, ...]) -> Iterator[Record]:
        """The records, of given ids in their order, else in the order of their ids."""
        wanted = include if self.documents is None else tuple(dict.fromkeys((*include, "document")))
        if self.ids is None:
            found: Iterable[Record] = store.scan(self.where, include=wanted)
        else:
            found = store.get(self.ids, where=self.where, include=wanted)
        for row in found:
            if self.documents is None or self.documents.matches(row.document):
                yield row


@dataclass(frozen=True)
class RecordQuery:
    """A query: its questions, how many records each wants, which of them, and what is told of them."""

    questions: list[Vector]
    k: int
    chosen: Chosen
    include: list[str]

    @property
    def is_quick(self) -> bool:
        """Whether it is of the usual kind: one question, for few records of the whole collection."""
        return len(self.questions) == 1 and self.k <= _QUICK_K and self.chosen == Chosen(None, None, None)


def get(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /get: records by id, by filter, or page by page."""
    call.require_namespace("")
    given = parse_object(body)
    chosen, include = Chosen.of(given), _include(given, ["metadatas", "documents"])
    limit, offset = _number(given, "limit"), _number(given, "offset") or 0
    if "embeddings" in include:
        most = index.store.count() if chosen.ids is None else len(chosen.ids)
        check_numbers(most if limit is None else min(most, limit), index.store.dim)
    page = _page(index, chosen, _parts_of(include), limit, offset)
    return Answer(dump({"ids": [row.id for row in page], **_columns(page, include), "include": include}))


def _page(
    index: ServedIndex, chosen: Chosen, include: tuple[Include, ...], limit: int | None, offset: int
) -> list[Record]:
    """The records from a place on; where the last page ended there, nothing is read before it."""
    store = index.store
    if chosen.ids is not None or chosen.documents is not None:
        return list(islice(chosen.rows(store, include), offset, None if limit is None else offset + limit))
    scanned = (index.stamp, store.generation, dump(chosen.where))
    after = _ends.get((scanned, offset)) if offset else None
    if offset and after is None:
        passed = deque(store.scan(chosen.where, include=(), limit=offset), maxlen=1)
        if not passed:
            return []
        after = passed[0].cursor
    rows = list(store.scan(chosen.where, include=include, after=after, limit=limit))
    if limit is not None and len(rows) == limit and rows:
        _ends.put((scanned, offset + limit), rows[-1].cursor)
    return rows


def count(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """GET /count."""
    call.require_namespace("")
    return Answer(dump(index.store.count()))


def delete(index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
    """POST /delete: records by id, by filter, by their documents; all that is given has to hold."""
    call.require_namespace("")
    given = parse_object(body)
    chosen, limit = Chosen.of(given), _number(given, "limit")
    if chosen == Chosen(None, None, None):
        raise invalid("delete: give ids, where or where_document")
    if chosen.documents is not None or limit is not None:
        ids = [row.id for row in islice(chosen.rows(index.store, ()), limit)]
        deleted = index.store.delete(ids, where=chosen.where) if ids else 0
    elif chosen.ids is not None and not chosen.ids:
        deleted = 0
    else:
        deleted = index.store.delete(chosen.ids, where=chosen.where)
    return Answer(dump({"deleted": deleted}))


def parse_query(call: HttpCall, body: bytes) -> RecordQuery:
    """POST /query: what it asks for."""
    call.require_namespace("")
    given = parse_object(body)
    embeddings, k = given.get("query_embeddings"), given.get("n_results", 10)
    if not isinstance(embeddings, list) or not 1 <= len(embeddings) <= _MAX_QUESTIONS:
        raise invalid(f"query_embeddings: expected 1 to {_MAX_QUESTIONS:,} vectors, got {shown(embeddings)}")
    if type(k) is not int or not 1 <= k <= LIMITS.k:
        raise invalid(f"n_results: expected 1 to {LIMITS.k:,}, got {shown(k)}")
    check_hits(k * len(embeddings))
    questions = [float_row(each, f"query_embeddings[{at}]") for at, each in enumerate(embeddings)]
    include = _include(given, ["metadatas", "documents", "distances"])
    return RecordQuery(questions, k, Chosen.of(given), include)


def is_quick(asked: RecordQuery) -> bool:
    """Whether a query is answered without a thread."""
    return asked.is_quick


def query(index: ServedIndex, call: HttpCall, asked: RecordQuery) -> Answer:
    """The nearest records to each question."""
    store = index.store
    if "embeddings" in asked.include:
        check_numbers(asked.k * len(asked.questions), store.dim)
    wrong = next((each for each in asked.questions if store.dim is not None and len(each) != store.dim), None)
    if wrong is not None:
        raise invalid(f"Collection expecting embedding with dimension of {store.dim}, got {len(wrong)}")
    found = [[] for _ in asked.questions] if store.dim is None else _answers(store, asked)
    columns = [_columns(hits, asked.include) for hits in found]
    answer: dict[str, Any] = {"ids": [[hit.id for hit in hits] for hits in found]}
    for part in _PARTS:
        if part != "distances":
            answer[part] = [each[part] for each in columns] if part in asked.include else None
    answer["distances"] = None
    if "distances" in asked.include:
        answer["distances"] = [
            _distances(index.facts.metric, hits, question)
            for hits, question in zip(found, asked.questions, strict=True)
        ]
    return Answer(dump({**answer, "include": asked.include}))


def _answers(store: Store, asked: RecordQuery) -> list[list[Hit]]:
    chosen, include = asked.chosen, _parts_of(asked.include)
    if chosen.ids is not None:
        ids = [row.id for row in chosen.rows(store, ())]
        return [nearest_of(store, ids, one, asked.k, include=include) for one in asked.questions]
    if chosen.documents is not None:
        return [_passing(store, one, asked.k, chosen, include) for one in asked.questions]
    if len(asked.questions) == 1:
        return [list(store.query(asked.questions[0], asked.k, where=chosen.where, include=include))]
    batch = store.query_batch(np.stack(asked.questions), asked.k, where=chosen.where, include=include)
    return [list(result) for result in batch]


def _passing(
    store: Store, question: Vector, k: int, chosen: Chosen, include: tuple[Include, ...]
) -> list[Hit]:
    """The nearest records whose documents pass: among more and more of the best, in the end among all."""
    documents = chosen.documents
    assert documents is not None
    wanted: tuple[Include, ...] = tuple(dict.fromkeys((*include, "document")))
    depth = min(_DEEPER * k, LIMITS.k)
    while True:
        hits = list(store.query(question, depth, where=chosen.where, include=wanted))
        passing = [hit for hit in hits if documents.matches(hit.document)]
        if len(passing) >= k or len(hits) < depth:
            return passing[:k]
        if depth == LIMITS.k:
            ids = [row.id for row in chosen.rows(store, ())]
            return nearest_of(store, ids, question, k, include=include)
        depth = min(_DEEPER * depth, LIMITS.k)


def _distances(metric: Metric, hits: Sequence[Hit], question: Vector) -> list[float]:
    """Chroma's distances: 1 - cosine, the squared Euclidean one, 1 - inner product."""
    cosines = np.array([hit.score for hit in hits], dtype=np.float32)
    scores = scores_of(metric, cosines, question)
    distances: list[float] = (scores if metric == "euclidean" else 1 - scores).tolist()
    return distances


def _columns(rows: Sequence[Record | Hit], include: list[str]) -> dict[str, Any]:
    """What an answer tells of records, one list for each part; null for parts that are not included."""
    parts: dict[str, list[Any]] = {
        "metadatas": [_shown_metadata(row.metadata) for row in rows],
        "documents": [row.document for row in rows],
        "uris": [(row.metadata or {}).get(URI) for row in rows],
        "embeddings": [row.vector for row in rows],
    }
    return {name: values if name in include else None for name, values in parts.items()}


def _shown_metadata(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    if metadata and URI in metadata:
        return {key: value for key, value in metadata.items() if key != URI}
    return metadata


def _include(given: dict[str, Any], default: list[str]) -> list[str]:
    include = given.get("include")
    if include is None:
        return default
    if not isinstance(include, list) or not all(name in _PARTS for name in include):
        raise invalid(f"include: expected some of {', '.join(_PARTS)}, got {shown(include)}")
    return include


def _parts_of(include: list[str]) -> tuple[Include, ...]:
    """What has to be read of the rows."""
    parts: list[Include] = ["metadata"] if {"metadatas", "uris"} & set(include) else []
    parts += ["document"] if "documents" in include else []
    return (*parts, "vector") if "embeddings" in include else tuple(parts)


def _number(given: dict[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise invalid(f"{name}: expected a whole number, got {shown(value)}")
    return value
