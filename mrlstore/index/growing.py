"""What a merge keeps of the graph of its largest segment, so that only other rows have to be inserted.

Rows that stay keep their links. Where a link led to a row that was removed, the links of that row are offered
in its place (Singh et al., FreshDiskANN, 2021). Where a removed row stood for near copies, one of these takes
its place, with its links.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.codes import BLOCK
from mrlstore.index.group import GroupIndex
from mrlstore.kernels.group_table import EMPTY

MIN_KEPT: Final = 0.5  # share of a group's rows that are in the old graph; with less it is built anew
MAX_REMOVED: Final = 0.3  # share of removed rows above which it is

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Seed:
    """The index of an older group, and what has become of its rows."""

    index: GroupIndex
    rows: Rows  # [rows of the old group]: the row of the new group that each has become, -1 for removed ones

    def fits(self, rows: int) -> bool:
        """Whether inserting the others of so many rows costs less than a new graph, and is as good."""
        if self.index.neighbours is None:
            return False
        coded = np.delete(self.rows, self.index.unprefixed.astype(np.int64))  # the others are not nodes
        kept = int(np.count_nonzero(coded >= 0))
        return kept >= MIN_KEPT * rows and len(coded) - kept <= MAX_REMOVED * len(coded)


class Mending(NamedTuple):
    """Links offered to some rows in place of those that led to removed rows."""

    rows: Rows
    starts: Rows  # [len(rows) + 1]: where the links offered to each row begin in `offered`
    offered: NDArray[np.uint32]


@dataclass(frozen=True)
class Start:
    """A graph of some of a group's rows, all links in the numbers of the new group."""

    nodes: Rows  # rows that are in the graph
    node_of: Rows  # [n]: the node that stands for each row; itself for rows that are still to be inserted
    entries: Rows  # old entries that are still there
    neighbours: NDArray[np.uint32]  # [n, width]; links to removed rows are EMPTY, in places between others
    _old: NDArray[np.uint32]  # [rows of the old group, width] its neighbour lists
    _heirs: Rows  # [rows of the old group + 1]: the new row in the place of each node, -1 where none is

    def mendings(self) -> Iterator[Mending]:
        """What to offer, in blocks of rows."""
        held = np.flatnonzero(self._heirs[:-1] >= 0)
        for start in range(0, len(held), BLOCK):
            block = held[start : start + BLOCK]
            links = self._old[block]
            lost = (links < len(self._old)) & (self._translated(links) < 0)
            which, _ = np.nonzero(lost)
            if not len(which):
                continue
            offered = self._translated(self._old[links[lost]])
            valid = offered >= 0
            counts = np.bincount(which, valid.sum(axis=1), minlength=len(block)).astype(np.int64)
            rows = np.flatnonzero(lost.any(axis=1))
            starts = np.concatenate([[0], np.cumsum(counts[rows])])
            yield Mending(self._heirs[block[rows]], starts, offered[valid].astype(np.uint32))

    def _translated(self, links: NDArray[np.uint32]) -> Rows:
        """Old links in new numbers, -1 where none is."""
        return _translate(links, self._heirs)


def start_from(seed: Seed, rows: int, width: int) -> Start:
    """The part of the new group's graph, `rows` rows with up to `width` links each, that the seed holds."""
    index, old = seed.index, seed.index.neighbours
    assert old is not None
    node_of, heirs = np.arange(rows), np.append(seed.rows, -1)
    sets, copies = index.copies
    heirs[copies.astype(np.int64)] = -1  # no link leads to a copy
    heirs[index.unprefixed.astype(np.int64)] = -1
    for node, first, last in sets.tolist():
        members = seed.rows[copies[first:last]]
        members = members[members >= 0]
        if heirs[node] < 0 and len(members):
            heirs[node] = members[0]
        node_of[members] = heirs[node]
    held = np.flatnonzero(heirs[:-1] >= 0)
    neighbours = np.full((rows, width), EMPTY, np.uint32)
    for start in range(0, len(held), BLOCK):
        block = held[start : start + BLOCK]
        links = _translate(old[block], heirs)
        neighbours[heirs[block]] = np.where(links < 0, EMPTY, links)
    entries = heirs[index.entries.astype(np.int64)]
    return Start(heirs[held], node_of, entries[entries >= 0], neighbours, np.asarray(old), heirs)


def _translate(links: NDArray[np.uint32], heirs: Rows) -> Rows:
    return heirs[np.minimum(links, len(heirs) - 1)]
