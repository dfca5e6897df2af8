"""Merging: the live rows of several segments as one base part, by namespace, and the graph that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.build import MIN_GRAPH_ROWS, has_graphs
from mrlstore.index.codes import Coding
from mrlstore.index.growing import Seed
from mrlstore.index.verification import verify_index
from mrlstore.maintenance import policy
from mrlstore.storage.base_part import write_base
from mrlstore.storage.parts import NewPart, Part, Stream, holds
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import LiveSegment

_BLOCK = 1_024  # rows that are copied at a time
# What is read of a graph that is kept; a kept damage would get a new checksum.
_GRAPH_ARRAYS: Final = (
    "neighbours", "entries", "entry_starts", "unprefixed", "unprefixed_starts", "copy_sets",
    "copy_set_starts", "copies", "copy_starts", "rotation", "rotation_scales",
)  # fmt: skip


@dataclass(frozen=True)
class RowOrder:
    """Where the rows of a merged segment come from, in their new order."""

    source: NDArray[np.int32]  # [n] number of the input
    row: NDArray[np.int64]  # [n] row there
    keys: NDArray[np.int64]  # [n]
    namespaces: list[str]  # [n]


def row_order(inputs: list[LiveSegment]) -> RowOrder:
    """The rows that are not removed, by namespace, then by input, then by row."""
    runs = [
        (name, number, start, stop)
        for number, part in enumerate(inputs)
        for name, start, stop in part.segment.runs()
    ]
    sources, taken, keys, namespaces = [], [], [], []
    for name, number, start, stop in sorted(runs):
        part = inputs[number]
        chosen = (
            np.arange(start, stop) if part.live is None else start + np.flatnonzero(part.live[start:stop])
        )
        sources.append(np.full(len(chosen), number, dtype=np.int32))
        taken.append(chosen.astype(np.int64))
        keys.append(part.segment.keys[chosen])
        namespaces += [name] * len(chosen)
    if not runs:
        nothing = np.empty(0, dtype=np.int64)
        return RowOrder(nothing.astype(np.int32), nothing, nothing, [])
    return RowOrder(np.concatenate(sources), np.concatenate(taken), np.concatenate(keys), namespaces)


def gather(inputs: list[LiveSegment], order: RowOrder, name: str, start: int, stop: int) -> NDArray[Any]:
    """Rows [start, stop) of one base array in the new order."""
    first = inputs[0].segment.base.arrays[name]
    block = np.empty((stop - start, *first.shape[1:]), dtype=first.dtype)
    for number in np.unique(order.source[start:stop]):
        at = np.flatnonzero(order.source[start:stop] == number)
        block[at] = inputs[number].segment.base.arrays[name][order.row[start:stop][at]]
    return block


def write_merged(
    session: Session, inputs: list[LiveSegment], order: RowOrder, step: Callable[[int, int], None]
) -> NewPart:
    """Write the rows in their new order as a base part; `step` gets rows (done, total), may raise."""
    n = len(order.keys)
    vectors = inputs[0].segment.base.arrays["vectors"]

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, n, _BLOCK):
            step(start, n)
            yield gather(inputs, order, "vectors", start, min(n, start + _BLOCK))

    ids = [""] * n
    for number, part in enumerate(inputs):
        at = np.flatnonzero(order.source == number)
        for position, name in zip(at.tolist(), part.segment.ids(order.row[at].tolist()), strict=True):
            ids[position] = name
    by_row: dict[str, NDArray[Any] | Stream] = {
        "keys": order.keys,
        "vectors": Stream(vectors.dtype, (n, vectors.shape[1]), blocks()),
    }
    for name in ("norms", "inv_norms", "row_crcs"):
        by_row[name] = gather(inputs, order, name, 0, n)
    return write_base(
        session.files, session.parts, session.settings.store_uuid, order.namespaces, ids, by_row
    )


class KeptGraph(NamedTuple):
    """The graphs of one input, from which those of the merged segment grow."""

    coding: Coding  # of its codes
    seeds: list[Seed | None]  # for each group of the merged segment


def kept_graph(
    inputs: list[LiveSegment], order: RowOrder, base: Part, wanted: policy.IndexSettings, m: int
) -> KeptGraph | None:
    """What the merged segment `base` keeps of the graphs of its largest input that has such as are wanted.

    None if there is none, or if it is damaged. hnswlib's graphs are always built anew.
    """
    numbers = [i for i, one in enumerate(inputs) if _has_graph(one, wanted, m)]
    if wanted.graph != "mrlstore" or not numbers:
        return None
    number = max(numbers, key=lambda i: inputs[i].segment.rows - inputs[i].dead)
    segment = inputs[number].segment
    index, coding = segment.index, segment.coding
    if index is None or coding is None or not holds(index, _GRAPH_ARRAYS):
        return None
    if verify_index(index.arrays, index.info, segment.groups):
        return None
    seeds: list[Seed | None] = []
    for start, stop in pairwise(base.arrays["groups"].tolist()):
        run = segment.run(order.namespaces[start]) if stop - start >= MIN_GRAPH_ROWS else None
        if run is None or run.group.index is None:
            seeds.append(None)
            continue
        kept = np.flatnonzero(order.source[start:stop] == number)
        rows = np.full(run.stop - run.start, -1, dtype=np.int64)
        rows[order.row[start:stop][kept] - run.start] = kept
        seeds.append(Seed(run.group.index, rows))
    return KeptGraph(coding, seeds)


def _has_graph(part: LiveSegment, wanted: policy.IndexSettings, m: int) -> bool:
    """Whether a segment has a graph that is as wanted."""
    index = part.segment.index
    if index is None or policy.has_outdated_index(part, wanted) or not has_graphs(index.arrays):
        return False
    return index.info.get("m") == m and "copies" in index.entries  # parts of version 3 know of no near copies
