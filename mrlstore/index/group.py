"""A group: one namespace's rows inside one segment, or in the tail, as plain arrays, mapped or in memory.

It is the unit that is searched, see `mrlstore.search.group_search`. Kernels get it as one table of addresses
and sizes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.kernels import group_table
from mrlstore.system.lazy import lazy

SCALE_AT, SCALE_BYTES = 0, 4  # offset and size of the scale in a code row
SHORT_PREFIX = 1e-6  # a prefix shorter than this part of the whole vector is rounding noise


class CopySets(NamedTuple):
    """The nodes that stand for near copies, and these."""

    sets: NDArray[np.uint32]  # [s, 3]: a node, and where its copies begin and end in `rows`
    rows: NDArray[np.uint32]  # [c] rows of the group, those of a node in rising order


NO_COPIES: Final = CopySets(np.zeros((0, 3), np.uint32), np.zeros(0, np.uint32))


def digest_of(rotation: NDArray[np.uint8], scales: NDArray[np.float32]) -> bytes:
    """Equal for rotations by which a vector has the same code."""
    digest = hashlib.blake2b(rotation.tobytes(), digest_size=16)
    digest.update(scales.tobytes())
    return digest.digest()


@dataclass(frozen=True)
class GroupIndex:
    """The index part's slice for one group. Without `neighbours` only its codes are scanned."""

    prefix_dim: int
    codes: NDArray[np.uint8]  # [n, stride]: float32 scale, int8 numbers plus 128, padding
    rotation: NDArray[np.uint8] | None  # [c, padded prefix]: int8 plus 128; None: codes without rotation
    rotation_scales: NDArray[np.float32] | None  # [c]
    neighbours: NDArray[np.uint32] | None  # [n, width], rows of this group, padded with 0xFFFFFFFF
    entries: NDArray[np.uint32]  # [e] rows where a walk may start
    entry_codes: NDArray[np.uint8]  # [e, stride] their codes, side by side
    unprefixed: NDArray[np.uint32]  # [u] rows whose prefix is too short: no node, always re-ranked
    scale_at: int = SCALE_AT  # in parts of version 2 and older the scale lies behind the numbers
    copies: CopySets = NO_COPIES  # rows that are not nodes of the graph
    rotation_digest: bytes | None = None  # where it is known already, see digest_of

    @lazy
    def encoding(self) -> tuple[object, ...]:
        """Equal for groups in which a query has the same code."""
        shape = self.prefix_dim, self.codes.shape[1], self.scale_at
        if self.rotation is None or self.rotation_scales is None:
            return shape
        return (*shape, self.rotation_digest or digest_of(self.rotation, self.rotation_scales))

    @lazy
    def node_of(self) -> NDArray[np.int64]:
        """The node that stands for each row, int64 [n]: the row itself but for copies."""
        n, (sets, copies) = len(self.codes), self.copies
        nodes = np.arange(n)
        for node, first, last in sets.tolist():
            nodes[np.minimum(copies[first:last], n - 1)] = min(node, n - 1)  # damaged numbers do no harm
        return nodes

    @lazy
    def all_nodes(self) -> NDArray[np.bool_]:
        """Which rows are nodes, bool [n]; kept, so that the searches of all queries share it."""
        nodes = np.ones(len(self.codes), np.bool_)
        nodes[np.minimum(self.copies.rows, len(nodes) - 1)] = False  # damaged numbers do no harm
        return nodes

    def allowed_nodes(self, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """The nodes, bool [n], of which the row or a copy is allowed; None: all rows are."""
        sets, copies = self.copies
        if allowed is None:
            return self.all_nodes
        last = len(self.codes) - 1
        rows = np.minimum(copies, last)  # damaged numbers do no harm
        nodes = allowed & self.all_nodes
        if not len(sets):
            return nodes
        starts = np.minimum(sets[:, 1], len(copies) - 1).astype(np.int64)
        nodes[np.minimum(sets[:, 0], last)] |= np.logical_or.reduceat(allowed[rows], starts)
        return nodes


@dataclass(frozen=True)
class Group:
    """The rows that are searched together. Keep the object: it caches its table for the kernels."""

    vectors: NDArray[np.float16]  # [n, dim], unit rows, C-contiguous; may be seen as uint16
    inv_norms: NDArray[np.float32]  # [n], 1 / length of the stored float16 row
    keys: NDArray[np.int64]  # [n], for ties: equal scores go by key ascending
    index: GroupIndex | None = None
    # With these, kernels write the ids of the hits; without, the caller reads them one by one.
    id_starts: NDArray[np.int64] | None = None  # [n + 1], where each id begins in `id_text`
    id_text: NDArray[np.uint8] | None = None  # UTF-8

    @lazy
    def table(self) -> NDArray[np.int64]:
        """int64 [FIELDS], see kernels.group_table: addresses and sizes, valid while this object lives."""
        return _table(self)

    @lazy
    def sizes(self) -> tuple[int, int, int, int]:
        """Sizes of working memory: rows, rows without prefix, numbers of a code, rows scored at a time."""
        index = self.index
        if index is None:
            return len(self.keys), 0, 0, 0
        numbers = max(index.codes.shape[1], 0 if index.rotation is None else index.rotation.shape[1])
        width = 0 if index.neighbours is None else index.neighbours.shape[1]
        return len(self.keys), len(index.unprefixed), numbers, 4 * max(width, 16) + 64


def _put(
    table: NDArray[np.int64], field: int, array: NDArray[Any] | None, itemsize: int, shape: tuple[int, ...]
) -> None:
    """Write an array's address to the table once its shape is checked; an absent or empty one stays 0."""
    if array is None or array.size == 0:
        return
    if array.itemsize != itemsize or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(f"array {field} of a group: {array.dtype} {array.shape}, not {shape}")
    table[field] = array.__array_interface__["data"][0]


def _table(group: Group) -> NDArray[np.int64]:
    """The table of a group; raises ValueError where shapes do not fit."""
    n, dim = group.vectors.shape
    if group.index is None:
        table = np.zeros(group_table.FIELDS, np.int64)
    else:
        table = index_table(group.index)
        if table[group_table.ROWS] != n or not 0 < group.index.prefix_dim <= dim:
            raise ValueError(
                f"{table[group_table.ROWS]} codes of prefix {group.index.prefix_dim} for {n} x {dim}"
            )
    _put(table, group_table.VECTORS, group.vectors, 2, (n, dim))
    _put(table, group_table.INV_NORMS, group.inv_norms, 4, (n,))
    _put(table, group_table.KEYS, group.keys, 8, (n,))
    table[group_table.ROWS], table[group_table.DIM] = n, dim
    if group.id_starts is not None and group.id_text is not None:
        _put(table, group_table.ID_STARTS, group.id_starts, 8, (n + 1,))
        _put(table, group_table.ID_TEXT, group.id_text, 1, (len(group.id_text),))
        table[group_table.ID_BYTES] = len(group.id_text)
    return table


def index_table(index: GroupIndex) -> NDArray[np.int64]:
    """The part of a group's table that its index gives; raises ValueError where shapes do not fit."""
    table = np.zeros(group_table.FIELDS, np.int64)
    (n, stride), entries = index.codes.shape, len(index.entries)
    if stride % 64:
        raise ValueError(f"codes of {stride} bytes")
    table[group_table.ROWS], table[group_table.STRIDE], table[group_table.PREFIX_DIM] = (
        n,
        stride,
        index.prefix_dim,
    )
    table[group_table.SCALE], table[group_table.NUMBERS] = (
        index.scale_at,
        0 if index.scale_at else SCALE_BYTES,
    )
    _put(table, group_table.CODES, index.codes, 1, (n, stride))
    _put(table, group_table.ENTRIES, index.entries, 4, (entries,))
    _put(table, group_table.ENTRY_CODES, index.entry_codes, 1, (entries, stride))
    table[group_table.ENTRY_COUNT] = entries
    _put(table, group_table.COPY_SETS, index.copies.sets, 4, (len(index.copies.sets), 3))
    _put(table, group_table.COPIES, index.copies.rows, 4, (len(index.copies.rows),))
    table[group_table.SET_COUNT] = len(index.copies.sets)
    table[group_table.COPY_COUNT] = len(index.copies.rows)
    _put(table, group_table.UNPREFIXED, index.unprefixed, 4, (len(index.unprefixed),))
    table[group_table.UNPREFIXED_COUNT] = len(index.unprefixed)
    if index.neighbours is not None:
        _put(table, group_table.NEIGHBOURS, index.neighbours, 4, (n, index.neighbours.shape[1]))
        table[group_table.WIDTH] = index.neighbours.shape[1]
    if index.rotation is not None and index.rotation_scales is not None:
        code_dim, padded = index.rotation.shape
        if padded % 64 or padded < index.prefix_dim or code_dim > stride - SCALE_BYTES:
            raise ValueError(f"rotation of shape {index.rotation.shape} for codes of {stride} bytes")
        _put(table, group_table.ROTATION, index.rotation, 1, (code_dim, padded))
        _put(table, group_table.ROTATION_SCALES, index.rotation_scales, 4, (code_dim,))
        table[group_table.ROTATION_STRIDE], table[group_table.CODE_DIM] = padded, code_dim
    elif stride < index.prefix_dim + SCALE_BYTES:
        raise ValueError(f"codes of {stride} bytes for a prefix of {index.prefix_dim} dims")
    return table
