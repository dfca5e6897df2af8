"""Finds near copies: rows that one node of the graph stands for, because their codes are nearly equal.

Boilerplate, reprints and versions come in groups of thousands. As nodes of their own they would link to each
other and fill the candidates of a walk, which would then see few distinct places. Each row here is either a
node or a copy of one; what walks and scans find is nodes.

Pivots are drawn, rows go to the nearest pivot, and the rows of a pivot are compared with each other; many
rows of one pivot are divided again. Copies whose nearest pivots differ are missed: they become nodes, as
other rows do. This costs about as much as comparing each row with sqrt(n) others, twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import NO_COPIES, SCALE_BYTES, CopySets
from mrlstore.system.late import numpy_random
from mrlstore.system.products import product

# Rows count as near copies up to this share of the mean squared distance between two rows. Of real embeddings
# 1 to 3% have a neighbour that near, and those are copies; others begin at twice to ten times the distance.
COPY_SHARE: Final = 0.02
ROUNDING: Final = 1e-6  # squared distance that int8 codes of equal rows may have
FEWEST_ROWS: Final = 64  # smaller groups are read nearly whole by any shortlist
_COMPARED: Final = 1_024  # rows of one pivot that are compared with each other
_BLOCK: Final = 4_096  # rows that are compared with the pivots at a time
_FEWEST_PIVOTS: Final = 128
_DEPTH: Final = 8  # how often rows are divided; what is left then are rows of their own

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


def copy_radius(codes: NDArray[np.uint8], rows: Rows) -> float:
    """The squared distance up to which rows count as near copies, by a sample of `rows`."""
    if len(rows) < FEWEST_ROWS:
        return ROUNDING
    count = min(len(rows), max(int(len(rows) ** 0.5), _FEWEST_PIVOTS))
    sample = numpy_random.default_rng(len(rows)).choice(rows, count, replace=False)
    return max(COPY_SHARE * _mean_squared_distance(decoded(codes[sample])), ROUNDING)


def find_copies(
    codes: NDArray[np.uint8], rows: Rows, radius: float, step: Callable[[int], None]
) -> NDArray[np.int64]:
    """The node that stands for each code row uint8 [n, stride], int64 [n]: itself but for near copies.

    rows: int64 [<= n], those that are compared; radius: see copy_radius. `step` is called with 0 between the
    parts of the work, and may raise to end it.
    """
    finder = _Finder(codes, radius, step, len(rows))
    if len(rows) >= FEWEST_ROWS:
        finder.divide(rows, 0)
    return finder.node


def copy_sets(nodes: NDArray[np.int64]) -> CopySets:
    """The near copies of a group, given the node that stands for each row, int64 [n]."""
    copies = np.flatnonzero(nodes != np.arange(len(nodes)))
    if not len(copies):
        return NO_COPIES
    order = np.lexsort((copies, nodes[copies]))
    found, counts = np.unique(nodes[copies], return_counts=True)
    stops = np.cumsum(counts)
    sets = np.stack([found, stops - counts, stops], axis=1)
    return CopySets(sets.astype(np.uint32), copies[order].astype(np.uint32))


def decoded(codes: NDArray[np.uint8]) -> Floats:
    """The vectors that code rows uint8 [n, stride] stand for, float32 [n, stride - 4]."""
    scales = np.ascontiguousarray(codes[:, :SCALE_BYTES]).view(np.float32)
    return (codes[:, SCALE_BYTES:].astype(np.float32) - 128) * scales


class _Finder:
    def __init__(
        self, codes: NDArray[np.uint8], radius: float, step: Callable[[int], None], count: int
    ) -> None:
        self.codes, self.radius, self.step = codes, radius, step
        self.node = np.arange(len(codes), dtype=np.int64)
        self.rng = numpy_random.default_rng(count)

    def divide(self, rows: Rows, depth: int) -> None:
        """Find the copies among `rows`; each keeps itself as representative if it has none."""
        self.step(0)
        if len(rows) <= _COMPARED:
            self.compare(rows)
            return
        if depth == _DEPTH:
            return
        pivots = np.sort(
            self.rng.choice(rows, min(len(rows), max(int(len(rows) ** 0.5), _FEWEST_PIVOTS)), replace=False)
        )
        self.compare(pivots)
        pivots = pivots[self.node[pivots] == pivots]
        rest = np.setdiff1d(rows, pivots)
        rest = rest[self.node[rest] == rest]
        nearest, far = self.nearest(rest, pivots)
        near = far <= self.radius
        self.node[rest[near]] = pivots[nearest[near]]
        rest, nearest = rest[~near], nearest[~near]
        order = np.argsort(nearest, kind="stable")
        for cell in np.split(rest[order], np.flatnonzero(np.diff(nearest[order])) + 1):
            if len(cell) > 1:
                self.divide(cell, depth + 1)

    def compare(self, rows: Rows) -> None:
        """Make each row the copy of the first row before it that is near and is not a copy itself."""
        numbers = decoded(self.codes[rows])
        for start in range(0, len(rows), _COMPARED):
            close = _squared_distances(numbers, numbers[start : start + _COMPARED]) <= self.radius
            for j in np.flatnonzero(close.sum(axis=0) > 1).tolist():
                row, later = rows[start + j], rows[start + j + 1 :]
                if self.node[row] == row:
                    found = later[close[start + j + 1 :, j]]
                    self.node[found[self.node[found] == found]] = row

    def nearest(self, rows: Rows, pivots: Rows) -> tuple[Rows, Floats]:
        """The number of the nearest pivot of each row, and its squared distance."""
        numbers = decoded(self.codes[pivots])
        found, far = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _BLOCK):
            self.step(0)
            distances = _squared_distances(decoded(self.codes[rows[start : start + _BLOCK]]), numbers)
            best = distances.argmin(axis=1)
            found[start : start + _BLOCK] = best
            far[start : start + _BLOCK] = distances[np.arange(len(best)), best]
        return found, far


def _squared_distances(a: Floats, b: Floats) -> Floats:
    """float32 [len(a), len(b)]."""
    distances = product(a, b.T)
    distances *= -2
    distances += np.einsum("ij,ij->i", a, a)[:, None]
    distances += np.einsum("ij,ij->i", b, b)
    return distances


def _mean_squared_distance(vectors: Floats) -> float:
    """Between two rows of a sample, on the average."""
    middle = vectors.mean(axis=0)
    return 2 * float(np.mean(np.einsum("ij,ij->i", vectors, vectors)) - middle @ middle)
