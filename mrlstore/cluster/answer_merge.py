"""One answer of many: the best of all shards, equal scores in the order of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from typing import Any

from mrlstore.search.field_order import FieldOrder
from mrlstore.search.records import decode_cursor
from mrlstore.types import Facet, Hit, HitGroup, Plan, Record, Result
from mrlstore.where import order_key

Rank = tuple[float, str, str]


def rank(hit: Hit) -> Rank:
    """What hits are sorted by: score, the highest first, then id by its code points, then namespace."""
    return -hit.score, hit.id, hit.namespace


def best(results: Iterable[Result], k: int) -> list[Hit]:
    """The best k hits of several results."""
    return sorted((hit for result in results for hit in result.hits), key=rank)[:k]


def plan_of_all(plans: Mapping[int, Plan]) -> Plan:
    """One plan of those of the shards: segments of all, named by their shards; the greatest generation.

    The plan of one shard alone is given as it is.
    """
    shards = list(plans.items())
    first = shards[0][1]
    if len(shards) == 1:
        return first
    segments = tuple(
        replace(segment, segment=f"shard {shard}: {segment.segment}")
        for shard, plan in shards
        for segment in plan.segments
    )
    matching = [plan.matching for _, plan in shards]
    seconds: dict[str, float] = {}
    for _, plan in shards:
        for stage, taken in plan.seconds.items():
            seconds[stage] = max(taken, seconds.get(stage, 0.0))
    known = [plan.expected for _, plan in shards if plan.expected is not None]
    return replace(
        first,
        generation=max(plan.generation for _, plan in shards),
        segments=segments,
        matching=None if None in matching else sum(rows for rows in matching if rows is not None),
        seconds=seconds,
        expected=min(known, key=lambda one: one.recall) if len(known) == len(shards) else None,
        explanation=None,
    )


def chosen_groups(answers: Iterable[Result], k: int) -> list[HitGroup]:
    """The k groups with the best hits that any shard has; equal ones in the order of id and value."""
    found: dict[Any, HitGroup] = {}
    for answer in answers:
        for group in answer.groups:
            key = order_key(group.value)
            if key not in found or rank(group.hits[0]) < rank(found[key].hits[0]):
                found[key] = group
    order = sorted(found.items(), key=lambda item: (rank(item[1].hits[0]), item[0]))
    return [group for _, group in order[:k]]


def filled(groups: Sequence[HitGroup], answers: Iterable[Sequence[HitGroup]], size: int) -> list[HitGroup]:
    """The groups with their best hits of all shards."""
    columns = zip(*answers, strict=True)
    return [
        HitGroup(group.value, sorted((hit for one in column for hit in one.hits), key=rank)[:size])
        for group, column in zip(groups, columns, strict=True)
    ]


def hits_of_groups(groups: Iterable[HitGroup]) -> list[Hit]:
    """The hits of all groups, each once, best first."""
    each = {(hit.namespace, hit.id): hit for group in groups for hit in group.hits}
    return sorted(each.values(), key=rank)


def facets_of_all(answers: Iterable[Sequence[Facet]], limit: int | None) -> list[Facet]:
    """Values with their counts of all shards, the most frequent first."""
    values: dict[Any, Facet] = {}
    for facet in (one for answer in answers for one in answer):
        key = order_key(facet.value)
        before = values.get(key)
        values[key] = facet if before is None else Facet(before.value, before.count + facet.count)
    return sorted(values.values(), key=lambda one: (-one.count, order_key(one.value)))[:limit]


def in_scan_order(pages: Iterable[Iterable[Record]], order: FieldOrder | None) -> Iterable[Record]:
    """Records of several scans in the one order that all are in; read as they are needed."""
    if order is None:
        return merge(*pages, key=lambda record: decode_cursor(record.cursor))

    def key(record: Record) -> tuple[Any, ...]:
        place = order.decoded(record.cursor).after
        assert place is not None
        return (
            _Valued(None if place.value is None else order_key(place.value), order.descending),
            record.namespace,
            record.id,
        )

    return merge(*pages, key=key)


class _Valued:
    """The value of a field as it sorts: none last, in both directions."""

    __slots__ = ("descending", "key")

    def __init__(self, key: Any, descending: bool) -> None:
        self.key, self.descending = key, descending

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Valued) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __lt__(self, other: _Valued) -> bool:
        if self.key is None or other.key is None:
            return other.key is None and self.key is not None
        return bool(other.key < self.key if self.descending else self.key < other.key)
