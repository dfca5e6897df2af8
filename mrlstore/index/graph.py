"""Builds the graph of one group: rows are inserted in batches into a flat array of neighbour lists.

Each row of a batch is searched for in the graph as it was before the batch, by a walk over the codes. Then
each target of a new link is offered a link back (batch-parallel Vamana: Manohar et al., ParlayANN, 2024).
Neither the number of threads nor timing changes the outcome. At last `connect` sees that every row is
reached. A graph either begins with a few rows whose pairs are all compared, or with that of an older segment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.connect import address_of, connect, rows_that_reach
from mrlstore.index.copies import decoded
from mrlstore.index.group import SCALE_BYTES, GroupIndex, index_table
from mrlstore.index.growing import Start
from mrlstore.kernels.group_table import EMPTY
from mrlstore.kernels.load import kernels
from mrlstore.system.late import numpy_random
from mrlstore.system.threads import Threads

ALPHA: Final = 1.0  # Vamana's pruning ratio of the first pass
FILL: Final = 0.75  # share of a row's slots for which the kernel prunes again with a larger alpha
FIRST_ROWS: Final = 128  # the first rows are linked by comparing all their pairs
BATCHES: Final = 50  # a batch is at most this part of all rows, so that few rows miss each other
ROWS_PER_ENTRY: Final = 256
MIN_ENTRIES: Final = 16
MAX_ENTRIES: Final = 1_024


class Graph(NamedTuple):
    """The graph of one group."""

    neighbours: NDArray[np.uint32]  # [n, width], rows of the group, padded with EMPTY
    entries: NDArray[np.uint32]  # [e], ascending: rows where a walk may start


def build_graph(
    codes: NDArray[np.uint8],
    nodes: NDArray[np.int64],
    width: int,
    ef: int,
    threads: int,
    progress: Callable[[int], None],
) -> Graph:
    """The graph over the rows `nodes` int64 [<= n] of the code rows uint8 [n, stride].

    width: links of a row at most; ef: candidates that the walk of an insertion keeps. `progress` is given the
    number of rows after each batch, twice that of the batch; what it raises ends the build.
    """
    codes = np.ascontiguousarray(codes)
    order = numpy_random.default_rng(len(codes)).permutation(nodes)
    neighbours = np.full((len(codes), width), EMPTY, np.uint32)
    entries = order[: entry_count(len(nodes))]
    with Threads(threads, "mrlstore-build") as pool:
        builder = _Builder(codes, order, neighbours, ef, threads, pool, progress)
        builder.link_first_rows(max(FIRST_ROWS, len(entries)))
        while builder.inserted < len(order):
            builder.insert_batch()
    return connected(codes, builder.squares, neighbours, nodes, entries)


class GrownGraph(NamedTuple):
    """A graph that began with that of an older segment."""

    graph: Graph
    node_of: NDArray[np.int64]  # [n]: the node that stands for each row


def grow_graph(
    codes: NDArray[np.uint8],
    start: Start,
    node_of: NDArray[np.int64],
    new: NDArray[np.int64],
    radius: float,
    ef: int,
    threads: int,
    progress: Callable[[int], None],
) -> GrownGraph:
    """The graph `start` once its links to removed rows are mended and the rows `new` are inserted.

    node_of: int64 [n], the node that stands for each row, as far as it is known; a new row whose nearest node
    is within the squared distance `radius` becomes a near copy of that, see `copies`. The others: see
    build_graph.
    """
    codes, rng = np.ascontiguousarray(codes), numpy_random.default_rng(len(codes))
    others = np.setdiff1d(start.nodes, start.entries)
    order = np.concatenate([start.entries, rng.permutation(others), rng.permutation(new)])
    with Threads(threads, "mrlstore-build") as pool:
        builder = _Builder(codes, order, start.neighbours, ef, threads, pool, progress)
        builder.adopt(start)
        stands_in = np.arange(len(codes))
        while builder.inserted < len(order):
            copies, originals = builder.insert_batch(radius)
            stands_in[copies] = originals
    node_of = stands_in[node_of]
    nodes = np.setdiff1d(order, np.flatnonzero(stands_in != np.arange(len(codes))))
    fresh = np.intersect1d(new, nodes)
    missing = max(entry_count(len(nodes)) - len(start.entries), 0)
    drawn = rng.permutation(fresh if len(start.entries) else nodes)[:missing]
    entries = np.concatenate([start.entries, drawn])
    return GrownGraph(connected(codes, builder.squares, start.neighbours, nodes, entries), node_of)


def connected(
    codes: NDArray[np.uint8],
    squares: NDArray[np.float32],
    neighbours: NDArray[np.uint32],
    nodes: NDArray[np.int64],
    entries: NDArray[np.int64],
) -> Graph:
    """The graph of these lists uint32 [n, width], which are changed until the first entry reaches every node.

    squares: the squared length of each code row, float32 [n]; entries that do not reach the first are left
    out, since a walk from them could end without having seen the others.
    """
    start = int(entries[0])
    connect(codes, squares, neighbours, nodes, start)
    kept = np.sort(entries)
    kept = kept[rows_that_reach(neighbours, start)[kept]]
    return Graph(neighbours, kept.astype(np.uint32))


def entry_count(nodes: int) -> int:
    """How many entries the graph of so many nodes has."""
    return min(max(nodes // ROWS_PER_ENTRY, MIN_ENTRIES), MAX_ENTRIES)


class _Memory:
    """Working memory of one thread of a build, as the kernels of `links` take it."""

    def __init__(self, n: int, stride: int, width: int, ef: int) -> None:
        self.marks = np.zeros(n, np.uint8)
        self.seen = np.empty(n, np.int32)
        self.pending = np.empty(n + width, np.int64)
        self.beam = np.empty(ef + 16, np.int64)
        self.own = np.ones(2 * stride, np.int8)
        self.signed = np.ones(2 * stride, np.int8)
        self.near = np.empty(max(n + width, 2 * ef), np.int64)
        self.distances = np.empty(max(n + width, 2 * ef), np.float32)
        self.chosen = np.empty(width, np.int64)
        self.trace = np.empty(2 * ef, np.int64)
        self.scores = np.empty(n + width, np.float32)


class _Builder:
    """A graph that grows by batches, each as large as the graph so far until a fiftieth of all rows."""

    def __init__(
        self,
        codes: NDArray[np.uint8],
        order: NDArray[np.int64],
        neighbours: NDArray[np.uint32],
        ef: int,
        threads: int,
        pool: Threads,
        progress: Callable[[int], None],
    ) -> None:
        """Prepare it: `order` int64 [<= n] are the rows as they come; `neighbours` are changed in place."""
        (n, stride), width = codes.shape, neighbours.shape[1]
        self.codes, self.progress, self.ef, self.fill = codes, progress, max(ef, width), int(FILL * width)
        self.squares = square_lengths(codes)
        self.neighbours, self.order = neighbours, order
        self.inserted = 0
        self.index = GroupIndex(
            prefix_dim=stride - SCALE_BYTES,
            codes=codes,
            rotation=None,
            rotation_scales=None,
            neighbours=self.neighbours,
            entries=self.order[:1].astype(np.uint32),  # one random entry: long paths give long-range links
            entry_codes=codes[self.order[:1]],
            unprefixed=np.zeros(0, np.uint32),
        )
        self.table = index_table(self.index)
        self.offers_per_row = np.zeros(n, np.int64)
        self.memories = [_Memory(n, stride, width, self.ef) for _ in range(threads)]
        self.pool = pool

    def link_first_rows(self, count: int) -> None:
        """Link the first rows by comparing all their pairs."""
        rows = self.order[:count]
        others = np.tile(rows.astype(np.uint32), len(rows))
        self._offer(rows, np.arange(0, len(others) + 1, len(rows)), others)
        self._count(len(rows))

    def adopt(self, start: Start) -> None:
        """Begin with a graph whose rows come first in `order`, and mend its links to removed rows."""
        for mending in start.mendings():
            self._offer(*mending)
            self.progress(0)
        self._count(len(start.nodes))

    def insert_batch(self, radius: float = -1.0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Insert the next rows, and offer their links to the targets.

        Rows whose nearest neighbour lies within the squared distance `radius` are not inserted: they are
        given back, with that neighbour.
        """
        largest = max(len(self.order) // BATCHES, FIRST_ROWS)
        count = min(self.inserted, largest, len(self.order) - self.inserted)
        rows = self.order[self.inserted : self.inserted + count]
        kernel = kernels().insert_rows

        def run(memory: _Memory, start: int, stop: int) -> None:
            kernel(
                self.table, self.squares, self.neighbours, rows, start, stop, self.ef, ALPHA, self.fill,
                memory.beam, memory.marks, memory.seen, memory.pending, memory.own, memory.signed,
                memory.near, memory.distances, memory.chosen, memory.trace, memory.scores,
            )  # fmt: skip

        self._share(run, count)
        copies, nodes = self._near_copies(rows, radius)
        self.neighbours[copies] = EMPTY
        rows = np.setdiff1d(rows, copies, assume_unique=True)
        most = len(rows) * self.neighbours.shape[1]
        targets, offered = np.empty(most, np.int64), np.empty(most, np.uint32)
        starts = np.empty(most + 1, np.int64)
        found = kernels().reverse(self.neighbours, rows, self.offers_per_row, targets, starts, offered)
        self._offer(targets[:found], starts[: found + 1], offered)
        self._count(count)
        return copies, nodes

    def _near_copies(
        self, rows: NDArray[np.int64], radius: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Those of the rows whose first link, to the nearest row, is no longer than that, and these."""
        nearest = self.neighbours[rows, 0]
        linked = nearest != EMPTY
        rows, nearest = rows[linked], nearest[linked].astype(np.int64)
        if radius < 0 or not len(rows):
            return rows[:0], nearest[:0]
        away = decoded(self.codes[rows]) - decoded(self.codes[nearest])
        near = np.einsum("ij,ij->i", away, away) <= radius
        return rows[near], nearest[near]

    def _offer(self, rows: NDArray[np.int64], starts: NDArray[np.int64], offered: NDArray[np.uint32]) -> None:
        """Offer row rows[i] links to offered[starts[i] : starts[i + 1]]; it keeps the best."""
        kernel = kernels().refine

        def run(memory: _Memory, start: int, stop: int) -> None:
            kernel(
                address_of(self.codes), self.codes.shape[1], self.squares, self.neighbours, rows, starts,
                offered, start, stop, ALPHA, self.fill,
                memory.marks, memory.pending, memory.own, memory.signed,
                memory.near, memory.distances, memory.chosen,
            )  # fmt: skip

        self._share(run, len(rows))

    def _share(self, run: Callable[[_Memory, int, int], None], count: int) -> None:
        """Run on equal ranges of `count` rows, one for each thread."""
        bounds = np.linspace(0, count, len(self.memories) + 1).astype(int).tolist()
        list(self.pool.map(run, self.memories, bounds[:-1], bounds[1:]))

    def _count(self, rows: int) -> None:
        self.inserted += rows
        self.progress(2 * rows)


def square_lengths(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The squared length of each code row, float32 [n]."""
    squares = np.zeros(len(codes), np.float32)
    kernels().square_lengths(
        address_of(codes), codes.shape[1], 0, len(codes), np.ones(2 * codes.shape[1], np.int8), squares
    )
    return squares
