"""The three searches of a group, for a single query."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import Group
from mrlstore.search.group_search import BeforeRerank, Exact, GroupSearch, Scan, Walk, search_group
from mrlstore.search.queries import Queries
from mrlstore.search.workspace import GroupHits


class One(NamedTuple):
    """What a search gives for one query."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    visited: int
    reranked: int


def answers(hits: GroupHits) -> list[One]:
    """One for each query."""
    return [
        One(hits.rows[i, :count], hits.scores[i, :count], visited, reranked)
        for i, (count, reranked, visited, *_) in enumerate(hits.counts.tolist())
    ]


def _alone(prepared: Callable[..., GroupSearch]) -> Callable[..., One]:
    @functools.wraps(prepared)
    def one(
        group: Group, query: Queries, *rest: Any, before_rerank: BeforeRerank | None = None, **options: Any
    ) -> One:
        (found,) = answers(search_group(prepared(group, *rest, **options), query, before_rerank))
        return found

    return one


search_exact = _alone(Exact)
search_graph = _alone(Walk)
search_scan = _alone(Scan)
