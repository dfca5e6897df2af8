"""Builds the graph of one group: rows are inserted in batches into a flat array of neighbour lists.

Each row of a batch is searched for in the graph as it was before the batch, by a walk over the codes. Then
each target of a new link is offered a link back (batch-parallel Vamana: Manohar et al., ParlayANN, 2024).
Neither the number of threads nor timing changes the outcome. At last `connect` sees that every row is
reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.connect import address_of, connect, rows_that_reach
from mrlstore.index.group import SCALE_BYTES, GroupIndex, index_table
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
    with Threads(threads, "mrlstore-build") as pool:
        builder = _Builder(np.ascontiguousarray(codes), nodes, width, ef, threads, pool, progress)
        builder.link_first_rows()
        while builder.inserted < len(nodes):
            builder.insert_batch()
    entries = builder.order[: builder.entry_count]
    return connected(builder.codes, builder.squares, builder.neighbours, nodes, entries)


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
        nodes: NDArray[np.int64],
        width: int,
        ef: int,
        threads: int,
        pool: Threads,
        progress: Callable[[int], None],
    ) -> None:
        n, stride = codes.shape
        self.codes, self.progress, self.ef, self.fill = codes, progress, max(ef, width), int(FILL * width)
        self.squares = square_lengths(codes)
        self.neighbours = np.full((n, width), EMPTY, np.uint32)
        self.order = numpy_random.default_rng(n).permutation(nodes)
        self.entry_count = entry_count(len(nodes))
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

    def link_first_rows(self) -> None:
        """Link the first rows by comparing all their pairs; the entries are among them."""
        rows = self.order[: max(FIRST_ROWS, self.entry_count)]
        others = np.tile(rows.astype(np.uint32), len(rows))
        self._offer(rows, np.arange(0, len(others) + 1, len(rows)), others)
        self._count(len(rows))

    def insert_batch(self) -> None:
        """Insert the next rows, and offer their links to the targets."""
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
        most = count * self.neighbours.shape[1]
        targets, offered = np.empty(most, np.int64), np.empty(most, np.uint32)
        starts = np.empty(most + 1, np.int64)
        found = kernels().reverse(self.neighbours, rows, self.offers_per_row, targets, starts, offered)
        self._offer(targets[:found], starts[: found + 1], offered)
        self._count(count)

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
