"""Vectors that come back exactly: the stored row behind a vector that a store gave, and the other way round.

A store keeps the float16 row u nearest to the unit vector, and gives u * (length / |u|) as float32. Storing
that again may move an element by one float16 step, for |u| is not quite 1. `stored_rows` finds u;
`restorable` finds a float32 vector that is stored as u.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrlstore.storage.vector_rows import to_unit_rows

_SAME = 2.0**-22  # relative difference that two roundings to float32 can make

# How far from the edge of half a float16 step an element is kept, as a share of it, so that rounding to
# float32 does not carry it over the edge: the widest margin that leaves the row at unit length is used.
_MARGINS = (2.0**-6, 2.0**-9, 2.0**-11)


def stored_rows(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """The rows behind vectors [n, dim] that a store gave: (float16 [n, dim], float32 [n] lengths).

    A stored row is the one float16 vector proportional to the given one whose length is nearest to 1:
    any other differs in length by more than rounding to float16 ever does. Vectors that no store gave
    are rounded as storing them would. Raises InvalidInput for vectors without direction.
    """
    units, norms = to_unit_rows(vectors)
    wide = vectors.astype(np.float64)
    doubtful = np.flatnonzero(~_proportional(units, wide))
    if len(doubtful):
        units[doubtful] = _search(units[doubtful], wide[doubtful])
    return units, norms


def restorable(units: NDArray[np.float16], norms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors float32 [n, dim] of these lengths [n] that are stored as exactly these float16 rows [n, dim].

    Rows that cannot come from storing anything (far from unit length) are only scaled.
    """
    wide = units.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1))
    safe = np.where(lengths > 0, lengths, 1.0)
    vectors: NDArray[np.float32] = (wide * (norms / safe)[:, None]).astype(np.float32)
    usable = np.flatnonzero((np.abs(lengths - 1) < 2.0**-8) & np.isfinite(norms) & (norms > 0))
    wrong = usable[(to_unit_rows(vectors[usable])[0] != units[usable]).any(axis=1)]
    for margin in _MARGINS:
        if not len(wrong):
            break
        vectors[wrong] = (_inside(units[wrong], margin) * norms[wrong, None]).astype(np.float32)
        wrong = wrong[(to_unit_rows(vectors[wrong])[0] != units[wrong]).any(axis=1)]
    return vectors


def _proportional(units: NDArray[np.float16], wide: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each row of `wide` is its float16 row times one number, within float32; bool [n]."""
    rows = np.arange(len(units))
    lead = np.abs(wide).argmax(axis=1)
    heads = units[rows, lead].astype(np.float64)
    scale = wide[rows, lead] / np.where(heads == 0, 1.0, heads)
    floor = np.finfo(np.float32).tiny
    near = np.abs(units * scale[:, None] - wide) <= _SAME * np.abs(wide) + floor
    return near.all(axis=1) & (heads != 0)  # type: ignore[no-any-return]


def _search(units: NDArray[np.float16], wide: NDArray[np.float64]) -> NDArray[np.float16]:
    """The rows with each float16 number around their largest element; that one settles all the others."""
    found, rows = units.copy(), np.arange(len(units))
    lead = np.abs(wide).argmax(axis=1)
    best = np.full(len(units), np.inf)
    for step in range(-2, 3):
        head = units[rows, lead]
        for _ in range(abs(step)):
            head = np.nextafter(head, np.float16(np.inf if step > 0 else -np.inf))
        scaled = wide * (head.astype(np.float64) / wide[rows, lead])[:, None]
        tried = scaled.astype(np.float16)
        away = np.abs(np.sqrt((tried.astype(np.float64) ** 2).sum(axis=1)) - 1)
        better = _proportional(tried, wide) & (away < best)
        found[better], best[better] = tried[better], away[better]
    return found


def _inside(units: NDArray[np.float16], margin: float) -> NDArray[np.float64]:
    """Unit vectors float64 [n, dim] that round to `units`: each element within half a step."""
    wide = np.abs(units).astype(np.float64)
    below = np.nextafter(np.abs(units), np.float16(0)).astype(np.float64)
    above = np.nextafter(np.abs(units), np.float16(2)).astype(np.float64)
    low, high = wide - (wide - below) / 2 * (1 - margin), wide + (above - wide) / 2 * (1 - margin)
    least, most = np.full(len(units), 0.99), np.full(len(units), 1.01)
    for _ in range(50):
        middle = (least + most) / 2
        tried = np.clip(wide * middle[:, None], low, high)
        short = (tried * tried).sum(axis=1) < 1
        least, most = np.where(short, middle, least), np.where(short, most, middle)
    inside: NDArray[np.float64] = np.copysign(np.clip(wide * most[:, None], low, high), units)
    return inside
