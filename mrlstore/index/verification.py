"""Checks the numbers of an index part, which opening does not read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.connect import rows_reached
from mrlstore.index.group import SCALE_BYTES, GroupIndex
from mrlstore.index.layout import open_index
from mrlstore.kernels.group_table import EMPTY


def verify_index(
    arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any], groups: NDArray[np.int64]
) -> list[str]:
    """Problems in words: ranges, codes, and rows of a graph that its first entry does not reach.

    groups: int64 [g + 1], the first row of each namespace, and the number of rows.
    """
    problems: list[str] = []
    for number, (start, stop) in enumerate(itertools.pairwise(groups.tolist())):
        try:
            index = open_index(arrays, info, number, start, stop)
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"group {number}: {error}")
            continue
        problems += [f"group {number}: {problem}" for problem in _problems(index)]
    return problems


def _problems(index: GroupIndex) -> Iterator[str]:
    """What is wrong with the numbers of one group's index."""
    n = len(index.codes)
    scales = _scales(index)
    unprefixed = index.unprefixed.astype(np.int64)
    if not np.isfinite(scales).all() or (scales < 0).any():
        yield "scales that are negative or not finite"
    if not np.array_equal(np.flatnonzero(scales == 0), unprefixed):
        yield "the list of rows without a prefix differs from the rows without a code"
    if index.neighbours is None:
        return
    sets, copies = index.copies
    if not _are_sets(sets, copies, n):
        yield "copies that belong to no node, or to two"
        return
    lists = np.array(index.neighbours)
    wrong = int(((lists >= n) & (lists != EMPTY)).sum())
    if wrong:
        yield f"{wrong} links lead outside the group"
    if (index.entries >= n).any():
        yield "entries outside the group"
    elif not np.array_equal(index.codes[index.entries], index.entry_codes):
        yield "codes of the entries differ from those of their rows"
    else:
        lost = n - len(unprefixed) - len(copies) - rows_reached(lists, int(index.entries[0])).sum()
        if lost:
            yield f"{lost} rows cannot be reached"


def _are_sets(sets: NDArray[np.uint32], copies: NDArray[np.uint32], n: int) -> bool:
    """Whether the sets divide the copies, numbers rise as they should, and no row is there twice."""
    rows = np.concatenate([sets[:, 0], copies]).astype(np.int64)
    bounds = np.append(sets[:, 1], len(copies)).astype(np.int64)
    if not np.array_equal(sets[:, 2], bounds[1:]) or bounds[0] != 0 or (np.diff(bounds) <= 0).any():
        return False
    if (rows >= n).any() or len(np.unique(rows)) < len(rows) or (np.diff(rows[: len(sets)]) < 0).any():
        return False
    falling = np.flatnonzero(np.diff(copies.astype(np.int64)) < 0) + 1  # only where the next set begins
    return bool(np.isin(falling, bounds).all())


def _scales(index: GroupIndex) -> NDArray[np.float32]:
    """float32 [n]: the scale of each code row."""
    at = index.scale_at
    return np.ascontiguousarray(index.codes[:, at : at + SCALE_BYTES]).view(np.float32)[:, 0]
