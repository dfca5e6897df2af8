"""When segments are rewritten: which of them to merge, and which lack an index or columns.

A merge costs a new graph for all of its rows, so rows should be merged few times; every segment costs each
query a search of its own, so there should be few segments. Segments are therefore merged with others of about
their own size, as an LSM tree with size tiers does it. This module decides; `steps` carries out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mrlstore.index.build import built_by, has_graphs
from mrlstore.index.group import SCALE_AT
from mrlstore.storage.snapshot import LiveSegment
from mrlstore.types import GraphBuilder

TAIL_ROWS = 2_048  # from this many rows on the tail is flushed: every query scans all of it
MAX_SEGMENTS: Final = 4  # that the background thread leaves unmerged
SIZE_RATIO: Final = 8  # a segment more than this many times larger than the others together is not merged
DEAD_SHARE: Final = 0.1  # optimize() rewrites segments with a larger share of removed rows


class Size(NamedTuple):
    """What the choice of a merge depends on."""

    rows: int  # removed ones included
    dead: int  # of them removed


class IndexSettings(NamedTuple):
    """What the index of every segment is to be like."""

    prefix_dim: int | None  # None before the first vector
    graph: GraphBuilder


def sizes(parts: Sequence[LiveSegment]) -> list[Size]:
    """The sizes of these segments."""
    return [Size(part.segment.rows, part.dead) for part in parts]


def in_background(found: Sequence[Size]) -> list[int]:
    """Which segments the background thread merges now, by their places in `found`.

    One by itself if removed rows are more than a fifth of it, and more than half of TAIL_ROWS. Else, if there
    are more than MAX_SEGMENTS, the two smallest, and larger ones while SIZE_RATIO permits.
    """
    for i, (rows, dead) in enumerate(found):
        if dead > max(TAIL_ROWS // 2, 2 * DEAD_SHARE * rows):
            return [i]
    if len(found) <= MAX_SEGMENTS:
        return []
    order = sorted(range(len(found)), key=lambda i: found[i].rows)
    chosen, total = order[:2], sum(found[i].rows for i in order[:2])
    for i in order[2:]:
        if found[i].rows > SIZE_RATIO * total:
            break
        chosen.append(i)
        total += found[i].rows
    return chosen


def on_optimize(found: Sequence[Size]) -> list[int]:
    """Which segments optimize() merges into one, by their places in `found`.

    Those with many removed rows, and others until each segment that remains has more than SIZE_RATIO times
    the rows of all smaller ones together. So few remain: each is that much larger than the last.
    """
    chosen = {i for i, (rows, dead) in enumerate(found) if dead > DEAD_SHARE * rows}
    while True:
        units = [(found[i].rows, {i}) for i in range(len(found)) if i not in chosen]
        if chosen:
            units.append((sum(found[i].rows - found[i].dead for i in chosen), chosen))
        units.sort(key=lambda unit: unit[0])
        smaller = merged = 0  # rows of the smaller ones; how many of `units` are merged
        for number, (rows, _) in enumerate(units):
            if rows <= SIZE_RATIO * smaller:
                merged = number + 1
            smaller += rows
        more = set().union(*(places for _, places in units[:merged]))
        if more <= chosen:
            return sorted(chosen)
        chosen |= more


def is_incomplete(part: LiveSegment, wanted: IndexSettings) -> bool:
    """Whether a segment lacks an index or columns, or has an outdated index."""
    row = part.segment.row
    return row.index is None or row.columns is None or has_outdated_index(part, wanted)


def has_outdated_index(part: LiveSegment, wanted: IndexSettings) -> bool:
    """Whether a segment's index is in an older layout, of another prefix than the store's, or another graph.

    An index without a graph, because all groups are small, suits every builder.
    """
    index = part.segment.index
    if index is None:
        return False
    if index.info.get("prefix_dim") != wanted.prefix_dim or index.info.get("scale_at") != SCALE_AT:
        return True
    return has_graphs(index.arrays) and built_by(index.info) != wanted.graph
