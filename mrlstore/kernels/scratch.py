"""Working memory of the kernels: arrays that grow when needed and never shrink. `search` lends it to calls.

Kernels get it as one table of addresses and sizes, int64 [FIELDS], and make views of it, see `views`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BEAM: Final = 0  # int64 [beam + 16]: packed entries
BEAM_SIZE: Final = 1
MARKS: Final = 2  # uint8 [rows]: all zero between calls
SEEN: Final = 3  # int32 [rows]
ROW_COUNT: Final = 4
LISTED: Final = 5  # int64 [shortlist + 16]
LIST_SCORES: Final = 6  # float32 [shortlist]
SHORTLIST: Final = 7
PADDED: Final = 8  # float32 [numbers]: the query's prefix
CODE: Final = 9  # int8 [numbers]
ROTATED_CODE: Final = 10  # int8 [numbers]
NUMBERS: Final = 11
PENDING: Final = 12  # int64 [pending]: rows to be scored
PENDING_SCORES: Final = 13  # float32 [pending]
PENDING_SIZE: Final = 14
HEAD_SCORES: Final = 15  # float32 [pending + 16]: scores of the heads of their codes
# Of searches of several groups at once:
JOINT: Final = 16  # int64 [joint + 16]: packed entries, the best of all groups
JOINT_SIZE: Final = 17
HEAP: Final = 18  # int64 [kept + 1]: slots of the best k
SLOT_KEYS: Final = 19  # int64 [kept + 1]: the row key in each slot
SLOT_PLACES: Final = 20  # int64 [kept + 1]: the place
KEPT: Final = 21  # kept + 1
FIELDS: Final = 22


class Scratch:
    """The arrays that kernels write to, and their table. One call at a time may use it."""

    def __init__(self) -> None:
        self.table = np.zeros(FIELDS, np.int64)
        self.rows = self.beam = self.shortlist = self.numbers = self.pending_size = -1
        self.joint = self.kept = -1

    def reserve(self, rows: int, beam: int, shortlist: int, numbers: int, pending: int) -> None:
        """Make each array at least this long; none shrinks.

        rows: of the group; beam: candidates of a walk; shortlist: rows to re-rank; numbers: the padded
        prefix; pending: rows that wait to be scored. While an array grows its size is -1, so that an
        exception at any point (MemoryError, or one of a signal handler) leaves a scratch that makes the array
        anew when it is next used.
        """
        if rows > self.rows:
            self.rows = -1
            self.marks = self._note(np.zeros(rows, np.uint8), MARKS, ROW_COUNT)
            self.seen = self._note(np.empty(rows, np.int32), SEEN)
            self.rows = rows
        if beam > self.beam:
            self.beam = -1
            self.entries = self._note(np.empty(beam + 16, np.int64), BEAM, BEAM_SIZE)
            self.beam = beam
        if shortlist > self.shortlist:
            self.shortlist = -1
            self.listed = self._note(np.empty(shortlist + 16, np.int64), LISTED, SHORTLIST)
            self.list_scores = self._note(np.empty(shortlist + 16, np.float32), LIST_SCORES)
            self.shortlist = shortlist
        if numbers > self.numbers:
            self.numbers = -1
            self.padded = self._note(np.zeros(numbers, np.float32), PADDED, NUMBERS)
            self.code = self._note(np.zeros(numbers, np.int8), CODE)
            self.rotated_code = self._note(np.zeros(numbers, np.int8), ROTATED_CODE)
            self.numbers = numbers
        if pending > self.pending_size:
            self.pending_size = -1
            self.pending = self._note(np.empty(pending, np.int64), PENDING, PENDING_SIZE)
            self.pending_scores = self._note(np.empty(pending, np.float32), PENDING_SCORES)
            self.head_scores = self._note(np.empty(pending + 16, np.float32), HEAD_SCORES)
            self.pending_size = pending

    def reserve_joint(self, joint: int, kept: int) -> None:
        """Make room for searches of several groups: for so many rows to re-rank, and the best k."""
        if joint > self.joint:
            self.joint = -1
            self.joint_entries = self._note(np.empty(joint + 16, np.int64), JOINT, JOINT_SIZE)
            self.joint = joint
        if kept > self.kept:
            self.kept = -1
            self.heap = self._note(np.empty(kept + 1, np.int64), HEAP, KEPT)
            self.slot_keys = self._note(np.empty(kept + 1, np.int64), SLOT_KEYS)
            self.slot_places = self._note(np.empty(kept + 1, np.int64), SLOT_PLACES)
            self.kept = kept

    def _note(self, array: NDArray[Any], field: int, size: int | None = None) -> NDArray[Any]:
        """Write an array's address, and its length where `size` names a field, to the table."""
        self.table[field] = array.ctypes.data
        if size is not None:
            self.table[size] = array.size
        return array
