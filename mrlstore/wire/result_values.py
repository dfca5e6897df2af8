"""Hits, results and records as JSON, and back. What a row does not carry is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.types import BatchResult, DuplicateGroup, Hit, HitGroup, Plan, Record, Result
from mrlstore.wire.arrays import array_json
from mrlstore.wire.plain_values import from_plain, to_plain


def hit_json(hit: Hit, *, as_base64: bool) -> dict[str, Any]:
    """A hit: its id, score and namespace, and what the projection asked for."""
    return {"id": hit.id, "score": hit.score, "namespace": hit.namespace, **_carried(hit, as_base64)}


def record_json(record: Record, *, as_base64: bool) -> dict[str, Any]:
    """A record: its id, namespace and cursor, and what the projection asked for."""
    named = {"id": record.id, "namespace": record.namespace, "cursor": record.cursor}
    return {**named, **_carried(record, as_base64)}


def duplicates_json(group: DuplicateGroup, *, as_base64: bool) -> dict[str, Any]:
    """A group of near duplicates: the row that represents it, and the others."""
    return {
        "representative": record_json(group.representative, as_base64=as_base64),
        "duplicates": [hit_json(hit, as_base64=as_base64) for hit in group.duplicates],
    }


def result_json(result: Result, *, plan: bool, as_base64: bool) -> dict[str, Any]:
    """The answer to a query; `plan` says whether its plan is part of it."""
    answer: dict[str, Any] = {"hits": [hit_json(hit, as_base64=as_base64) for hit in result]}
    if result.groups:
        answer["groups"] = [
            {"value": group.value, "hits": [hit_json(hit, as_base64=as_base64) for hit in group.hits]}
            for group in result.groups
        ]
    if plan:
        answer["plan"] = to_plain(result.plan)
    return answer


def result_from(answer: dict[str, Any]) -> Result:
    """The result that `result_json` wrote with its plan."""
    hits = [from_plain(Hit, hit) for hit in answer["hits"]]
    groups = [from_plain(HitGroup, group) for group in answer.get("groups", ())]
    scores = np.asarray([hit.score for hit in hits], dtype=np.float32)
    return Result([hit.id for hit in hits], scores, from_plain(Plan, answer["plan"]), hits, groups or None)


def batch_from(answers: list[dict[str, Any]], k: int) -> BatchResult:
    """The result of a batch from those of its queries."""
    return BatchResult([_ReadResults([result_from(answer) for answer in answers])], k)


class _ReadResults:
    """Answers that came whole; see `mrlstore.types.LazyHits`."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = list(results)

    def ids(self) -> list[list[str]]:
        """For each query the hits' ids."""
        return [result.ids for result in self._results]

    def scores(self) -> list[NDArray[np.float32]]:
        """For each query the hits' scores."""
        return [result.scores for result in self._results]

    def results(self) -> list[Result]:
        """For each query its result."""
        return self._results


def _carried(row: Hit | Record, as_base64: bool) -> dict[str, Any]:
    carried: dict[str, Any] = {}
    if row.metadata is not None:
        carried["metadata"] = row.metadata
    if row.document is not None:
        carried["document"] = row.document
    if row.vector is not None:
        carried["vector"] = array_json(row.vector) if as_base64 else row.vector
    return carried
