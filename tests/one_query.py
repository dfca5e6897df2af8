"""The three searches of a group, for a single query."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import Group
from mrlstore.search import group_search as searched
from mrlstore.search.group_search import Advise, Found, Queries, Search


class One(NamedTuple):
    """What a search gives for one query."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    visited: int
    reranked: int


def answers(found: Found) -> list[One]:
    """One for each query."""
    return [
        One(found.rows[i, :count], found.scores[i, :count], visited, reranked)
        for i, (count, reranked, visited, *_) in enumerate(found.counts)
    ]


def _alone(way: Callable[..., Search]) -> Callable[..., One]:
    @functools.wraps(way)
    def one(group: Group, query: Queries, *rest: Any, advise: Advise | None = None, **options: Any) -> One:
        (found,) = answers(way(group, *rest, **options)(query, advise))
        return found

    return one


search_exact = _alone(searched.Exact)
search_graph = _alone(searched.Walk)
search_scan = _alone(searched.Scan)
