"""Working memory of the kernels, one set for each thread, grown when needed and never shrunk.

Kernels get it as one table of addresses and sizes, int64 [FIELDS]; see views.py.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SCORES: Final = 0  # float32 [best]: the answer
BEST_ROWS: Final = 1  # int64 [best]
BEST: Final = 2
BEAM: Final = 3  # int64 [beam + 1]: packed entries
BEAM_SIZE: Final = 4
MARKS: Final = 5  # uint8 [rows]: all zero between calls
SEEN: Final = 6  # int32 [rows]
ROW_COUNT: Final = 7
LISTED: Final = 8  # int64 [shortlist]
LIST_SCORES: Final = 9  # float32 [shortlist]
SHORTLIST: Final = 10
PADDED: Final = 11  # float32 [numbers]: the query's prefix
CODE: Final = 12  # int8 [numbers]
ROTATED_CODE: Final = 13  # int8 [numbers]
NUMBERS: Final = 14
PENDING: Final = 15  # int64 [width]: rows to be scored
PENDING_SIZE: Final = 16
FIELDS: Final = 17


class Scratch:
    """The arrays that kernels write to, and their table."""

    def __init__(self) -> None:
        self.table = np.zeros(FIELDS, np.int64)
        self.rows = self.beam = self.best = self.shortlist = self.numbers = self.width = -1

    def reserve(self, rows: int, beam: int, best: int, shortlist: int, numbers: int, width: int) -> None:
        """Make room: group rows, beam size, k, shortlist length, padded prefix length, pending rows."""
        if rows > self.rows:
            self.rows = rows
            self.marks = self._note(np.zeros(rows, np.uint8), MARKS, ROW_COUNT)
            self.seen = self._note(np.empty(rows, np.int32), SEEN)
        if beam > self.beam:
            self.beam = beam
            self.entries = self._note(np.empty(beam + 1, np.int64), BEAM, BEAM_SIZE)
        if best > self.best:
            self.best = best
            self.scores = self._note(np.empty(best, np.float32), SCORES, BEST)
            self.best_rows = self._note(np.empty(best, np.int64), BEST_ROWS)
        if shortlist > self.shortlist:
            self.shortlist = shortlist
            self.listed = self._note(np.empty(shortlist, np.int64), LISTED, SHORTLIST)
            self.list_scores = self._note(np.empty(shortlist, np.float32), LIST_SCORES)
        if numbers > self.numbers:
            self.numbers = numbers
            self.padded = self._note(np.zeros(numbers, np.float32), PADDED, NUMBERS)
            self.code = self._note(np.zeros(numbers, np.int8), CODE)
            self.rotated_code = self._note(np.zeros(numbers, np.int8), ROTATED_CODE)
        if width > self.width:
            self.width = width
            self.pending = self._note(np.empty(width, np.int64), PENDING, PENDING_SIZE)

    def _note(self, array: NDArray[Any], field: int, size: int | None = None) -> NDArray[Any]:
        self.table[field] = array.ctypes.data
        if size is not None:
            self.table[size] = array.size
        return array


_LOCAL = threading.local()


def scratch() -> Scratch:
    """This thread's own."""
    own: Scratch | None = getattr(_LOCAL, "scratch", None)
    if own is None:
        own = _LOCAL.scratch = Scratch()
    return own
