"""Search one group: one namespace's rows inside one segment, or in the tail.

A group is plain arrays, mapped or in memory. Three ways to search it: a walk of its graph, a scan of its
codes (both followed by exact re-ranking of a shortlist on the full rows), and an exact scan. Which way, and
with how much effort, is the plan's business; several groups are put together by search.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Advise = Callable[[NDArray[np.int64]], None]
SHORT_PREFIX = 1e-6  # a prefix shorter than this part of the whole says nothing about the row


@dataclass(frozen=True)
class GroupIndex:
    """The index part's slice for one group. Without `neighbours` only its codes are scanned."""

    prefix_dim: int
    codes: NDArray[np.uint8]  # [n, stride]: biased int8 codes, zero padding, float32 scale in the last 4 bytes
    rotation: NDArray[np.int8] | None  # [c, padded prefix]: rows of the rotation, None for native codes
    rotation_scales: NDArray[np.float32] | None  # [c]
    neighbours: NDArray[np.uint32] | None  # [n, width], rows of this group, padded with 0xFFFFFFFF
    entries: NDArray[np.uint32]  # [e] rows where a walk may start
    entry_codes: NDArray[np.uint8]  # [e, stride] their codes, side by side
    unprefixed: NDArray[np.uint32]  # [u] rows whose prefix is too short: no node, always re-ranked


@dataclass(frozen=True)
class Group:
    """The rows that are searched together."""

    vectors: NDArray[np.float16]  # [n, dim], unit rows, C-contiguous
    inv_norms: NDArray[np.float32]  # [n], 1 / length of the stored float16 row
    keys: NDArray[np.int64]  # [n], for ties: equal scores go by key ascending
    index: GroupIndex | None = None


@dataclass(frozen=True)
class Query:
    """A query made ready once, for all groups."""

    vector: NDArray[np.float32]  # [dim], unit length
    prefix_norm: float  # length of its prefix, as a part of the whole


@dataclass(frozen=True)
class Found:
    """What one group gives: rows of the group, best first."""

    rows: NDArray[np.int64]  # [<= k]
    scores: NDArray[np.float32]  # [<= k]
    visited: int  # codes scored
    reranked: int  # full rows scored


def prepare(vector: NDArray[np.float32], prefix_dim: int) -> Query:
    """Normalise a checked query: float32 [dim], finite, of a length above zero."""
    norm = np.sqrt(np.dot(vector, vector, out=None).astype(np.float64))
    unit = np.ascontiguousarray(vector / norm, dtype=np.float32)
    return Query(unit, float(np.linalg.norm(unit[:prefix_dim])))


def search_graph(
    group: Group,
    query: Query,
    k: int,
    ef: int,
    shortlist: int,
    allowed: NDArray[np.bool_] | None = None,
    *,
    patience: int = 0,
    margin: float = 0.0,
    advise: Advise | None = None,
) -> Found:
    """Walk the graph, re-rank the best `shortlist` rows exactly, give the best k.

    `allowed` is bool [n]: other rows are passed through but never kept. If k allowed rows exist, k come back.
    `patience` and `margin` end the walk and the re-ranking early (0: never); `advise` is called with the
    shortlist's rows before they are read.
    """
    return search_scan(group, query, k, shortlist, allowed, advise=advise)


def search_scan(
    group: Group,
    query: Query,
    k: int,
    shortlist: int,
    allowed: NDArray[np.bool_] | None = None,
    *,
    margin: float = 0.0,
    advise: Advise | None = None,
) -> Found:
    """Score the codes of all allowed rows, re-rank the best `shortlist` exactly, give the best k."""
    return search_exact(group, query, k, allowed)


def search_exact(
    group: Group,
    query: Query,
    k: int,
    allowed: NDArray[np.bool_] | None = None,
    dim: int | None = None,
) -> Found:
    """Score every allowed row on its full vector; with `dim`, by the cosine of the first `dim` dims."""
    rows = np.arange(len(group.keys)) if allowed is None else np.flatnonzero(allowed)
    d = group.vectors.shape[1] if dim is None else dim
    vectors = group.vectors.view(np.float16)[rows, :d].astype(np.float32)
    unit = query.vector[:d]
    if d == group.vectors.shape[1]:
        inverse = group.inv_norms[rows]
    else:
        unit = unit / max(np.linalg.norm(unit), 1e-30)
        inverse = 1 / np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
    scores = np.clip((vectors @ unit) * inverse, -1, 1).astype(np.float32)
    best = np.lexsort((group.keys[rows], -scores))[:k]
    return Found(rows[best].astype(np.int64), scores[best], 0, len(rows))
