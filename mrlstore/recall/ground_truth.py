"""Exact neighbours of many queries at once: what recall is measured against.

A blocked scan: each block of rows is widened to float32 once and multiplied with all queries, on all cores.
The prefixes of several lengths come from the same products, added up piece by piece. Not for answering
queries: scores differ from the store's own in the last digit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mrlstore.storage.snapshot import Snapshot
from mrlstore.system.products import product
from mrlstore.system.threads import Threads

BLOCK: Final = 2_048
TIE: Final = 2e-6  # scores that differ by less count as equal
_NOBODY: Final = -1
_WHOLE: Final = 1.0


@dataclass(frozen=True)
class Rows:
    """A run of rows of one segment or the tail."""

    vectors: NDArray[np.float16]  # [m, dim], unit rows
    keys: NDArray[np.int64]  # [m]
    live: NDArray[np.bool_] | None  # [m], which rows are live; None: all of them
    nodes: NDArray[np.int64] | None = None  # [m], the key of each row's node; None: as the keys


class Filter(Protocol):
    """Which rows each question may find."""

    @property
    def topics(self) -> NDArray[np.int64]:
        """int64 [q], a number for each question: those of one number have one filter."""

    def mask(self, keys: NDArray[np.int64], topic: int) -> NDArray[np.bool_] | None:
        """Which of the rows with these keys pass for questions of this number; None: all of them."""


@dataclass(frozen=True)
class Nearest:
    """The best rows of each query, best first; where there are fewer, key -1 and score -inf."""

    keys: NDArray[np.int64]  # [q, depth]
    scores: NDArray[np.float32]  # [q, depth]
    nodes: NDArray[np.int64]  # [q, depth], the keys of their nodes: others than their own for near copies

    def accepted(self, query: int, k: int) -> NDArray[np.int64]:
        """The keys that count as found among the best k: k of them, or more where scores are equal."""
        return self.keys[query, : self._count(query, k)]

    def accepted_nodes(self, query: int, k: int) -> NDArray[np.int64]:
        """The same as keys of nodes; one that stands for several of the rows comes several times."""
        return self.nodes[query, : self._count(query, k)]

    def _count(self, query: int, k: int) -> int:
        scores = self.scores[query]
        count = int(np.count_nonzero(scores > -np.inf))
        return count if count <= k else int(np.count_nonzero(scores >= scores[k - 1] - TIE))


def rows_of(snapshot: Snapshot, namespace: str) -> Iterator[Rows]:
    """All rows of a namespace, in blocks."""
    for part in snapshot.segments:
        span = part.segment.run(namespace)
        if span is None or part.segment.row.base.damaged:
            continue
        vectors, group = part.segment.base.arrays["vectors"], span.group
        copies = group.index is not None and len(group.index.copies.rows)
        nodes = group.keys[group.index.node_of] if group.index is not None and copies else group.keys
        for start in range(span.start, span.stop, BLOCK):
            stop = min(start + BLOCK, span.stop)
            live = None if part.live is None else part.live[start:stop]
            here = slice(start - span.start, stop - span.start)
            yield Rows(vectors[start:stop], group.keys[here], live, nodes[here])
    tail = snapshot.tail
    if tail is not None and tail.length:
        mask = tail.mask(namespace, None)
        if mask.any():
            yield Rows(tail.buffer.vectors[: tail.length], tail.keys, mask)


def draw(keys: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """A random filter that lets this share of the rows pass; the same keys give the same filter."""
    if share >= _WHOLE:
        return np.ones(len(keys), dtype=np.bool_)
    mixed = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)  # splitmix64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))) < np.uint64(share * 2**63) * np.uint64(2)


def nearest(
    blocks: Iterator[Rows],
    queries: NDArray[np.float32],
    depth: int,
    *,
    dims: Sequence[int] | None = None,
    own: NDArray[np.int64] | None = None,
    own_nodes: NDArray[np.int64] | None = None,
    filters: Mapping[str, Filter] | None = None,
    threads: int = 1,
    step: Callable[[int], None] = lambda rows: None,
) -> dict[tuple[int, str], Nearest]:
    """The best `depth` rows by the cosine of the first d dims, for each d of `dims` and each filter.

    Args:
        blocks: the rows.
        queries: float32 [q, dim], unit length.
        depth: how many for each query.
        dims: lengths of prefixes; by default the full one.
        own: int64 [q], the key that each query leaves out, -1 for none.
        own_nodes: int64 [q], the key of a node: each query leaves it and its near copies out, -1 for none.
        filters: by name; by default one, "all", that passes all rows.
        threads: blocks worked on at once.
        step: called with the rows of each block when it is done; may raise to stop.
    """
    lengths = sorted(set(dims or (queries.shape[1],)))
    under: dict[str, Filter | None] = {"all": None} if filters is None else dict(filters)
    best = {(d, name): _nothing(len(queries), depth) for d in lengths for name in under}
    scaled = {d: _scaled(queries, d) for d in lengths}

    def work(rows: Rows) -> dict[tuple[int, str], Nearest]:
        return _of_block(rows, queries, scaled, own, own_nodes, under, depth)

    with Threads(threads) as pool:
        while batch := list(itertools.islice(blocks, 2 * threads)):
            for rows, found in zip(batch, pool.map(work, batch), strict=True):
                for which, some in found.items():
                    best[which] = _merged(best[which], some, depth)
                step(len(rows.keys))
    return best


def _scaled(queries: NDArray[np.float32], d: int) -> NDArray[np.float32]:
    """1 / length of each query's prefix, float32 [q, 1]."""
    lengths = np.linalg.norm(queries[:, :d], axis=1, keepdims=True)
    return np.asarray(1 / np.maximum(lengths, 1e-30), dtype=np.float32)


def _of_block(
    rows: Rows,
    queries: NDArray[np.float32],
    scaled: Mapping[int, NDArray[np.float32]],
    own: NDArray[np.int64] | None,
    own_nodes: NDArray[np.int64] | None,
    filters: Mapping[str, Filter | None],
    depth: int,
) -> dict[tuple[int, str], Nearest]:
    wide = rows.vectors.astype(np.float32)
    products = np.zeros((len(queries), len(wide)), dtype=np.float32)
    squares = np.zeros(len(wide), dtype=np.float32)
    found, start = {}, 0
    for d, scale in scaled.items():
        piece = wide[:, start:d]
        products += product(queries[:, start:d], piece.T)
        squares += np.einsum("ij,ij->i", piece, piece)
        start = d
        scores = np.asarray(products * scale / np.sqrt(np.maximum(squares, 1e-30)), dtype=np.float32)
        if own is not None:
            scores[own[:, None] == rows.keys] = -np.inf
        nodes = rows.keys if rows.nodes is None else rows.nodes
        if own_nodes is not None:
            scores[own_nodes[:, None] == nodes] = -np.inf
        for name, under in filters.items():
            found[d, name] = _under(scores, rows, nodes, under, depth)
    return found


def _under(
    scores: NDArray[np.float32], rows: Rows, nodes: NDArray[np.int64], under: Filter | None, depth: int
) -> Nearest:
    """The best of one block under a filter."""
    if under is None:
        return _top(scores, rows.keys, nodes, rows.live, depth)
    found = _nothing(len(scores), depth)
    for topic in np.unique(under.topics).tolist():
        mask = both(under.mask(rows.keys, topic), rows.live)
        asked = np.flatnonzero(under.topics == topic)
        some = _top(scores[asked], rows.keys, nodes, mask, depth)
        width = some.scores.shape[1]
        found.keys[asked, :width], found.nodes[asked, :width] = some.keys, some.nodes
        found.scores[asked, :width] = some.scores
    return found


def both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Rows that two masks let pass; None passes all."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _top(
    scores: NDArray[np.float32],
    keys: NDArray[np.int64],
    nodes: NDArray[np.int64],
    mask: NDArray[np.bool_] | None,
    depth: int,
) -> Nearest:
    if mask is not None:
        scores, keys, nodes = scores[:, mask], keys[mask], nodes[mask]
    if scores.shape[1] <= depth:
        return Nearest(np.broadcast_to(keys, scores.shape), scores, np.broadcast_to(nodes, scores.shape))
    at = np.argpartition(-scores, depth, axis=1)[:, :depth]
    return Nearest(keys[at], np.take_along_axis(scores, at, axis=1), nodes[at])


def _nothing(count: int, depth: int) -> Nearest:
    nobody = np.full((count, depth), _NOBODY)
    return Nearest(nobody, np.full((count, depth), -np.inf, dtype=np.float32), nobody.copy())


def _merged(one: Nearest, other: Nearest, depth: int) -> Nearest:
    keys = np.concatenate([one.keys, other.keys], axis=1)
    nodes = np.concatenate([one.nodes, other.nodes], axis=1)
    scores = np.concatenate([one.scores, other.scores], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    scores = np.take_along_axis(scores, order, axis=1)
    keys = np.take_along_axis(keys, order, axis=1)
    nodes = np.take_along_axis(nodes, order, axis=1)
    return Nearest(np.where(scores > -np.inf, keys, _NOBODY), scores, nodes)
