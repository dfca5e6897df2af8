"""Page residency and read-ahead: whether the rows of a shortlist have to be read from the disk first.

The vectors are mapped with MADV_RANDOM, so each row that is not in the page cache is a page fault of its own,
one after the other. Where that is so, the kernel is asked for all rows of a shortlist at once. Asking costs
about 1 us a row that is in memory, so it is left out once searches have shown that rows are there.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.storage.parts import Part

WARM_SEARCH_S: Final = 0.5e-3  # a search that took longer may have waited for the disk
# What a search takes in memory at most, measured, with room for a busy machine: 0.3 us for each code that is
# visited and 10 us for each row that is re-ranked, beside WARM_SEARCH_S.
_VISIT_S: Final = 0.3e-6
_RERANK_S: Final = 10e-6
# Asking for a row takes about 1 us if its pages are in memory and 8 us if they have to be read.
_ASK_S: Final = 20e-6
_ASK_ROW_S: Final = 2.5e-6


class ReadAhead:
    """Whether the vectors of one segment are read ahead, and the reading. Any thread may use it."""

    __slots__ = ("_base", "needed")

    def __init__(self, base: Part | None = None) -> None:
        self._base = base  # None: nothing is mapped
        self.needed = True  # until a search has shown that the rows are in memory

    def learn(self, elapsed_s: float, counts: Sequence[Sequence[int]]) -> None:
        """Judge by a search without read-ahead: was it slower than any search in memory?

        counts: for each query what the kernels count, of which [1] rows were re-ranked and [2] codes visited.
        """
        warm_s = WARM_SEARCH_S * len(counts)
        for _, reranked, visited, *_ in counts:
            warm_s += _VISIT_S * visited + _RERANK_S * reranked
        self.needed = elapsed_s > warm_s

    def learn_from_request(self, elapsed_s: float, rows: int) -> None:
        """Judge by how long a request for so many rows took: it was quick if their pages were in memory."""
        self.needed = elapsed_s > _ASK_S + _ASK_ROW_S * rows

    def request(self, first_row: int, rows: NDArray[np.int64], start: int, stop: int) -> None:
        """Ask the kernel to read the vectors of `first_row + rows[start:stop]` (MADV_WILLNEED).

        One call for each row: all in one call of process_madvise took as long, so did readahead and fadvise.
        """
        base = self._base
        if base is None or "vectors" not in base.random or not hasattr(mmap, "MADV_WILLNEED"):
            self.needed = False  # nothing can be asked of this system
            return
        vectors, mapped = base.random["vectors"]
        row_bytes = vectors.shape[1] * vectors.itemsize
        offset = base.entries["vectors"].offset
        started = time.perf_counter()
        for first in (offset + (first_row + rows[start:stop]) * row_bytes).tolist():
            page = first - first % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, first + row_bytes - page)
        self.learn_from_request(time.perf_counter() - started, stop - start)
