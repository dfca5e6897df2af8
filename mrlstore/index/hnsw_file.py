"""Reads an index file of hnswlib, 0.5 to 0.8, without hnswlib: its loader crashes on damaged files.

A file is a header, the records of the lowest layer, and for each record the length and the links of its upper
layers. It has no checksums, so everything that can be judged is: sizes, counts, links, labels. The metric is
not in it. See `saveIndex` in hnswlib/hnswalg.h.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.index.codes import BLOCK
from mrlstore.index.hnsw import record_type
from mrlstore.types import LIMITS

# offset_level0, max_elements, elements, record bytes, label offset, vector offset, top layer, enterpoint,
# links of upper layers, links of the lowest, M, mult, ef_construction
_HEADER: Final = struct.Struct("<6QiI3QdQ")
_LENGTH: Final = struct.Struct("<I")
_MOST_LINKS: Final = 20_000  # twice hnswlib's largest M
_MOST_LAYERS: Final = 64


class HnswFile(NamedTuple):
    """The lowest layer of an index file, mapped; every number that was read is within its bounds."""

    path: Path
    records: NDArray[Any]  # [n] of record_type, in the file's order

    @property
    def dim(self) -> int:
        """Dimensions of its vectors."""
        return int(self.records.dtype["vector"].shape[0])

    @property
    def deleted(self) -> NDArray[np.bool_]:
        """Which records are marked as deleted, bool [n]."""
        return (self.records["mark"] & 1).astype(np.bool_)


class _Header(NamedTuple):
    """What the header says, in its order."""

    offset_level0: int
    max_elements: int
    elements: int
    record_bytes: int
    label_offset: int
    vector_offset: int
    top_layer: int
    enterpoint: int
    upper_links: int
    lowest_links: int
    m: int
    mult: float
    ef_construction: int

    def problem(self) -> str | None:
        """What is wrong with it, in words."""
        dim, rest = divmod(self.label_offset - self.vector_offset, 4)
        if not 0 < self.lowest_links <= _MOST_LINKS or not 0 < self.upper_links <= _MOST_LINKS:
            return f"{self.lowest_links} and {self.upper_links} links of a row"
        if self.offset_level0 or self.vector_offset != 4 + 4 * self.lowest_links or rest or dim < 1:
            return "vectors that do not begin behind the links"
        if self.record_bytes != self.label_offset + 8:
            return f"records of {self.record_bytes} bytes with labels at {self.label_offset}"
        if dim > LIMITS.max_dim:
            return f"vectors of {dim:,} dims; a store takes {LIMITS.max_dim:,}"
        if self.elements > self.max_elements or not math.isfinite(self.mult):
            return f"{self.elements:,} rows of {self.max_elements:,} at most"
        if self.elements and not (self.enterpoint < self.elements and 0 <= self.top_layer < _MOST_LAYERS):
            return f"a search that begins at row {self.enterpoint:,} of {self.elements:,}"
        return None


def open_hnsw_file(path: Path) -> HnswFile:
    """Map an index file and check it, reading its links and labels once.

    Raises InvalidInput where it is not an index file, or damaged, and OSError where it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size:
        raise _damaged(path, f"{size} bytes are too few for a header")
    header = _Header(*_HEADER.unpack(start))
    problem = header.problem()
    if problem is not None:
        raise _damaged(path, problem)
    upper = _HEADER.size + header.elements * header.record_bytes
    if upper > size:
        raise _damaged(path, f"{header.elements:,} rows of {header.record_bytes} bytes in {size:,} bytes")
    dim = (header.label_offset - header.vector_offset) // 4
    kind = record_type(dim, header.lowest_links)
    _check_upper_layers(path, header, upper, size)
    if not header.elements:  # an empty range cannot be mapped
        return HnswFile(path, np.zeros(0, kind))
    records = np.memmap(path, kind, "r", _HEADER.size, (header.elements,))
    _check_records(path, records)
    return HnswFile(path, records)


def _damaged(path: Path, what: str) -> InvalidInput:
    return InvalidInput(f"{path}: no index file of hnswlib, or a damaged one: {what}")


def _check_upper_layers(path: Path, header: _Header, start: int, size: int) -> None:
    """Whether the upper layers fill the rest of the file, and link rows that reach as high."""
    empty = np.zeros(0, np.uint8)  # which cannot be mapped
    rest = np.memmap(path, np.uint8, "r", start, (size - start,)) if size > start else empty
    text, at, layer_bytes = rest.data, 0, 4 + 4 * header.upper_links
    levels = np.zeros(header.elements, np.int64)
    lists: list[NDArray[np.uint32]] = []  # one row for each layer of each row, [layers, 1 + links]
    for row in range(header.elements):
        if at + 4 > len(text):
            raise _damaged(path, f"it ends before the upper layers of row {row:,}")
        (length,) = _LENGTH.unpack_from(text, at)
        at += 4
        if length:
            layers, remainder = divmod(length, layer_bytes)
            if remainder or layers > header.top_layer or at + length > len(text):
                raise _damaged(path, f"{length:,} bytes of upper layers of row {row:,}")
            levels[row] = layers
            lists.append(np.frombuffer(text[at : at + length], "<u4").reshape(layers, -1))
            at += length
    if at != len(text):
        raise _damaged(path, f"{len(text) - at:,} bytes behind the last row")
    if header.elements and levels[header.enterpoint] != header.top_layer:
        raise _damaged(path, f"a search begins at row {header.enterpoint:,}, which is not in the top layer")
    if lists:
        _check_upper_links(path, np.concatenate(lists), levels)


def _check_upper_links(path: Path, lists: NDArray[np.uint32], levels: NDArray[np.int64]) -> None:
    """Whether links of a layer lead to rows in that layer. lists: uint32 [layers of all rows, 1 + links]."""
    upper = levels[levels > 0]
    layer = np.concatenate([np.arange(1, count + 1) for count in upper.tolist()])
    counts, links = lists[:, 0] & 0xFFFF, lists[:, 1:]
    if (counts > links.shape[1]).any():
        raise _damaged(path, "an upper layer with more links than it has room for")
    valid = np.arange(links.shape[1]) < counts[:, None]
    there = links < len(levels)
    reach = levels[np.where(there, links, 0)]
    if (valid & (~there | (reach < layer[:, None]))).any():
        raise _damaged(path, "an upper layer with links to rows that are not in it")


def _check_records(path: Path, records: NDArray[Any]) -> None:
    """Whether the links of the lowest layer lead to rows, and no label stands twice."""
    n, width = len(records), records.dtype["links"].shape[0]
    for start in range(0, n, BLOCK):
        part = records[start : start + BLOCK]
        valid = np.arange(width) < part["count"][:, None]
        wrong = (part["count"] > width) | (valid & (part["links"] >= n)).any(axis=1)
        if wrong.any():
            raise _damaged(path, f"links of row {start + int(np.argmax(wrong)):,} to rows that are not there")
    labels = np.sort(records["label"])
    twice = np.flatnonzero(labels[1:] == labels[:-1])
    if len(twice):
        raise _damaged(path, f"label {labels[twice[0]]} stands twice")
