"""Merging: the live rows of several segments as one base part, grouped by namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.storage.base_part import write_base
from mrlstore.storage.parts import NewPart, Stream
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import LiveSegment

_BLOCK = 1_024  # rows that are copied at a time


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
