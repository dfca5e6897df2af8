"""Working memory of the kernels, one set for each thread, grown when needed and never shrunk."""

from __future__ import annotations

import threading

import numpy as np


class Scratch:
    """The arrays that kernels write to. `marks` is all zero between calls."""

    def __init__(self) -> None:
        self.rows = self.beam = self.best = self.shortlist = self.numbers = self.width = -1
        self.counts = np.zeros(4, np.int64)

    def reserve(self, rows: int, beam: int, best: int, shortlist: int, numbers: int, width: int) -> None:
        """Make room: group rows, beam size, k, shortlist length, padded prefix length, pending rows."""
        if rows > self.rows:
            self.rows = rows
            self.marks = np.zeros(rows, np.uint8)
            self.seen = np.empty(rows, np.int32)
        if beam > self.beam:
            self.beam = beam
            self.entries = np.empty(beam + 1, np.int64)
        if best > self.best:
            self.best = best
            self.scores = np.empty(best, np.float32)
            self.best_rows = np.empty(best, np.int64)
        if shortlist > self.shortlist:
            self.shortlist = shortlist
            self.list_scores = np.empty(shortlist, np.float32)
            self.listed = np.empty(shortlist, np.int64)
        if numbers > self.numbers:
            self.numbers = numbers
            self.padded = np.zeros(numbers, np.float32)
            self.code = np.zeros(numbers, np.int8)
            self.rotated_code = np.zeros(numbers, np.int8)
        if width > self.width:
            self.width = width
            self.pending = np.empty(width, np.int64)


_LOCAL = threading.local()


def scratch() -> Scratch:
    """This thread's own."""
    own: Scratch | None = getattr(_LOCAL, "scratch", None)
    if own is None:
        own = _LOCAL.scratch = Scratch()
    return own
