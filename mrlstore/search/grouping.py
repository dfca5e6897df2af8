"""Queries whose hits are grouped by a metadata field: the k groups with the best hits, some hits of each.

A row belongs to the group of each value that an equality filter on the field would match it by. The first
search takes a few times as many rows as are needed. If a few groups fill these, the next search leaves out
the rows of the groups that are known, so each search finds another group or has looked at every row; then
groups that lack hits are searched by themselves, and each search fills one of them or has seen all of their
rows. So the answer is the same however unequal the groups are, by at most two searches for each group.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from mrlstore.catalogue.rows import Row, metadata_of
from mrlstore.search.hydrate import hits_by_row, rows_of
from mrlstore.search.params import NOTHING, QueryParams
from mrlstore.search.queries import Queries, take_query
from mrlstore.search.query import search, search_once
from mrlstore.storage.session import Session, View
from mrlstore.storage.snapshot import Snapshot
from mrlstore.types import LIMITS, GroupingPlan, HitGroup, Plan, Result
from mrlstore.where import And, In, Node, OtherThan, Scalar, order_key, scalars_of

_OVERSAMPLE: Final = 4  # rows of the first search for each hit that is needed
_GROWTH: Final = 4  # times as many rows in each further search

ValueKey = tuple[int, Any]  # of a value: equal for values that filters take for equal


class Grouping(NamedTuple):
    """By which field hits are grouped, and how many of a group are given."""

    field: str
    size: int
    excluded: frozenset[str] = frozenset()  # ids that are left out


class _Found(NamedTuple):
    """A row that a search has found."""

    row: Row
    score: float


class _List(NamedTuple):
    """What one search gave: rows best first, and whether no further row matches."""

    found: list[_Found]
    is_whole: bool


class _FieldGroup:
    """A group, and its best rows that are known."""

    def __init__(self, value: Scalar) -> None:
        self.value = value
        self.rows: dict[int, _Found] = {}  # by row key
        self.is_whole = False  # whether it has no other rows

    def best(self, size: int) -> list[_Found]:
        """Its best rows; equal scores go by row key."""
        return sorted(self.rows.values(), key=lambda one: (-one.score, one.row.key))[:size]


def query(session: Session, latest: Snapshot, params: QueryParams, grouping: Grouping, vector: Any) -> Result:
    """The params.k groups with the most similar rows, each with its best rows, of one generation."""
    queries = take_query(vector, latest.dim, latest.prefix_dim)
    return session.consistently(lambda view: _GroupedQuery(view, params, grouping, queries).result(), latest)


class _GroupedQuery:
    """The searches of one grouped query in one snapshot."""

    def __init__(self, view: View, params: QueryParams, grouping: Grouping, queries: Queries) -> None:
        self.view, self.params, self.grouping, self.queries = view, params, grouping, queries
        self.groups: dict[ValueKey, _FieldGroup] = {}
        self.searches, self.rows = 0, 0
        self.plan: Plan | None = None
        self.started = time.perf_counter()

    def result(self) -> Result:
        """Find the groups, fill them, and read what hits carry."""
        self._find_groups()
        best = sorted(self.groups.items(), key=lambda item: _place(item[1]))[: self.params.k]
        self.groups = dict(best)
        self._fill_groups()
        return self._result()

    def _find_groups(self) -> None:
        """Search until k groups are known or there are no others."""
        field, k, size = self.grouping.field, self.params.k, self.grouping.size
        fetch = _OVERSAMPLE * k * size
        while True:
            known = set(self.groups)
            found = self._search(OtherThan(field, tuple(one.value for one in self.groups.values())), fetch)
            self._sort_in(found, lambda key, known=known: key not in known)
            if len(self.groups) >= k or found.is_whole:
                return
            fetch *= _GROWTH

    def _fill_groups(self) -> None:
        """Search the groups that lack hits until each has them or has no other rows."""
        field, size = self.grouping.field, self.grouping.size
        while True:
            lacking = [key for key, one in self.groups.items() if not one.is_whole and len(one.rows) < size]
            if not lacking:
                return
            values = tuple(self.groups[key].value for key in lacking)
            found = self._search(In(field, values), len(lacking) * size)
            self._sort_in(found, set(lacking).__contains__)

    def _sort_in(self, found: _List, concerns: Any) -> None:
        """Add rows to those of their groups that a search was for."""
        for one in found.found:
            for value in scalars_of(metadata_of(one.row.metadata), self.grouping.field):
                key = order_key(value)
                if concerns(key):
                    self.groups.setdefault(key, _FieldGroup(value)).rows[one.row.key] = one
        for key, group in self.groups.items():
            if concerns(key):
                group.is_whole = found.is_whole

    def _search(self, node: Node, fetch: int) -> _List:
        """The best rows that pass the query's filter and this one."""
        params, excluded = self.params, self.grouping.excluded
        fetch = min(fetch + len(excluded), LIMITS.k)
        both = node if params.where is None else And((params.where, node))
        wanted = params._replace(k=fetch, projection=NOTHING, explain=False).filtered(both)
        run = search if self.searches == 0 else search_once
        hits, _ = run(self.view, wanted, self.queries)
        if params.min_score is not None:
            hits.cut(params.min_score)
        keys, scores = hits.keys_of(0).tolist(), hits.scores_of(0).tolist()
        self.searches += 1
        self.rows += len(keys)
        if self.plan is None:
            self.plan = hits.result().plan
        with self.view.connection() as connection:
            stored = rows_of(connection, keys, self.view.snapshot.generation)
        found = [_Found(row, score) for row, score in zip(stored, scores, strict=True)]
        return _List([one for one in found if one.row.id not in excluded], len(found) < fetch)

    def _result(self) -> Result:
        size, groups = self.grouping.size, list(self.groups.values())
        chosen = {one.row.key: one for group in groups for one in group.best(size)}
        in_order = sorted(chosen.values(), key=lambda one: (-one.score, one.row.key))
        rows, scores = [one.row for one in in_order], [one.score for one in in_order]
        hits = hits_by_row(self.view.snapshot, rows, scores, self.params.projection)
        by_key = {row.key: hit for row, hit in zip(rows, hits, strict=True)}
        assert self.plan is not None
        grouping = GroupingPlan(self.grouping.field, size, self.searches, self.rows)
        seconds = {"groups": time.perf_counter() - self.started}
        return Result(
            [row.id for row in rows],
            np.array(scores, dtype=np.float32),
            replace(self.plan, grouping=grouping, seconds=seconds),
            hits,
            [HitGroup(group.value, [by_key[one.row.key] for one in group.best(size)]) for group in groups],
        )


def _place(group: _FieldGroup) -> tuple[float, int, ValueKey]:
    """What sorts groups by their best rows; those of one row, by a list, go by their values."""
    (first,) = group.best(1)
    return -first.score, first.row.key, order_key(group.value)
