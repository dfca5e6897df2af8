"""Segments: immutable rows on disk, grouped by namespace.

The base part holds keys, ids and vectors; the index part codes and graphs; the columns part the metadata in
a form that filters can use. Without an index a segment is flat and scanned; without columns its metadata is
read from the catalogue. This module writes base parts, opens all three and finds rows in them.
"""

from __future__ import annotations

import functools
import logging
import mmap
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.part_ref import PartRef
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.columns import Columns, InvalidColumns, open_columns
from mrlstore.errors import CorruptStore, DamagedPartWarning
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.storage.parts import NewPart, Part, Stream, holds, open_part, write_part
from mrlstore.storage.texts import Texts, pack
from mrlstore.storage.vector_rows import inverse_lengths, row_checksums
from mrlstore.system.files import Files
from mrlstore.system.log import tell
from mrlstore.where import Node

Fetch = Callable[[NDArray[np.int64]], list[dict[str, Any] | None]]  # keys -> metadata
WARM_S: Final = 0.5e-3  # a search that took longer may have waited for the disk
_MASK_CACHE_BYTES = 32 * 1024 * 1024


def base_arrays(
    keys: NDArray[np.int64], vectors: NDArray[np.float16], norms: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """The arrays of a base part that are one entry a row, for vectors that are in memory."""
    inv_norms = inverse_lengths(vectors)
    crcs = row_checksums(keys, norms, inv_norms, vectors)
    return {"keys": keys, "vectors": vectors, "norms": norms, "inv_norms": inv_norms, "row_crcs": crcs}


def write_base(
    files: Files,
    parts: Path,
    store_uuid: str,
    namespaces: Sequence[str],
    ids: Sequence[str],
    by_row: Mapping[str, NDArray[Any] | Stream],
) -> NewPart:
    """Write rows, already in the order of their namespaces (UTF-8), as a base part.

    `by_row` holds what `base_arrays` gives, or the same gathered from other base parts.
    """
    names, starts = _group_starts(namespaces)
    name_bytes, name_offsets = pack(names)
    id_bytes, id_offsets = pack(ids)
    arrays: dict[str, NDArray[Any] | Stream] = {
        **by_row,
        "key_order": np.argsort(cast("NDArray[np.int64]", by_row["keys"]), kind="stable").astype(np.int64),
        "ids.offsets": id_offsets,
        "ids.bytes": id_bytes,
        "groups": np.array([*starts, len(ids)], dtype=np.int64),
        "namespaces.offsets": name_offsets,
        "namespaces.bytes": name_bytes,
    }
    return write_part(files, parts, "base", len(ids), arrays, store_uuid=store_uuid)


@dataclass(frozen=True)
class Span:
    """One namespace's rows in a segment: [start, stop), ready to be searched."""

    number: int
    start: int
    stop: int
    group: Group


class Heat:
    """Whether a segment's rows have to be waited for: until it has shown otherwise, they have."""

    __slots__ = ("cold",)

    def __init__(self) -> None:
        self.cold = True

    def learn(self, elapsed_s: float, counts: Sequence[Sequence[int]]) -> None:
        """Call it cold when searches without announcing took several times what warm memory takes.

        counts: those of ways.Found.
        """
        warm_s = WARM_S * len(counts)
        for _, reranked, visited, *_ in counts:
            warm_s += 0.3e-6 * visited + 10e-6 * reranked
        self.cold = elapsed_s > warm_s

    def learn_announced(self, elapsed_s: float, rows: int) -> None:
        """Call it warm when announcing was no work: 1 us a row that is there, 8 us one that must be read."""
        self.cold = elapsed_s > 20e-6 + 2.5e-6 * rows


@dataclass(frozen=True)
class Segment:
    """An open segment."""

    row: SegmentRow
    base: Part
    index: Part | None
    columns: Columns | None
    column_part: Part | None
    heat: Heat = field(default_factory=Heat, compare=False, repr=False)
    _spans: dict[str, Span] = field(default_factory=dict, compare=False, repr=False)
    _texts: dict[str, Texts] = field(default_factory=dict, compare=False, repr=False)
    _masks: OrderedDict[tuple[str, int], NDArray[np.bool_]] = field(
        default_factory=OrderedDict, compare=False, repr=False
    )

    @property
    def rows(self) -> int:
        """How many rows it holds, dead ones included."""
        return self.base.rows

    @property
    def dim(self) -> int:
        """Dimensions of its vectors."""
        return int(self.base.arrays["vectors"].shape[1])

    @property
    def keys(self) -> NDArray[np.int64]:
        """Row keys, int64 [rows]."""
        return self.base.arrays["keys"]

    @property
    def groups(self) -> NDArray[np.int64]:
        """Where each namespace's rows start, and the end: int64 [namespaces + 1]."""
        return self.base.arrays["groups"]

    def find(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each key, -1 where it is not here."""
        if self.rows == 0 or len(keys) == 0:
            return np.full(len(keys), -1, dtype=np.int64)
        order = self.base.arrays["key_order"]
        try:
            at = np.minimum(np.searchsorted(self.keys, keys, sorter=order), self.rows - 1)
        except ValueError as error:
            raise CorruptStore(self.base.path / "key_order.npy", f"not an order of rows ({error})") from error
        rows = np.clip(order[at], 0, self.rows - 1)
        return np.where(self.keys[rows] == keys, rows, -1)

    def ids(self, rows: Iterable[int]) -> list[str]:
        """The ids of these rows."""
        return self._read("ids").at(rows)

    def namespaces(self) -> list[str]:
        """The namespaces, in the order of their rows."""
        return self._read("namespaces").at(range(len(self.groups) - 1))

    def span(self, namespace: str) -> Span | None:
        """This namespace's rows, or None."""
        span = self._spans.get(namespace)
        if span is None:
            number = self._number_of(namespace)
            if number is None:
                return None
            span = self._spans[namespace] = self._open_span(number)
        return span

    def spans(self) -> list[tuple[str, int, int]]:
        """(namespace, start, stop) of every namespace."""
        starts = self.groups.tolist()
        if sorted([0, *starts, self.rows]) != [0, *starts, self.rows]:
            raise CorruptStore(self.base.path / "groups.npy", f"does not rise from 0 to {self.rows}")
        return [(name, starts[i], starts[i + 1]) for i, name in enumerate(self.namespaces())]

    def mask(self, node: Node, start: int, stop: int, fetch: Fetch) -> NDArray[np.bool_]:
        """Which rows of [start, stop) match, dead or not; asks the catalogue only what columns can't tell."""
        cached = self._masks.get((node.key, start))
        if cached is not None:
            return cached

        def fetch_rows(rows: NDArray[np.int64]) -> list[dict[str, Any] | None]:
            return fetch(self.keys[rows])

        if self.columns is None:
            metadata = fetch_rows(np.arange(start, stop))
            return np.fromiter((node.matches(m) for m in metadata), dtype=np.bool_, count=stop - start)
        mask = self.columns.mask(node, start, stop, fetch_rows)
        self._remember((node.key, start), mask)
        return mask

    def original(self, row: int) -> NDArray[np.float32]:
        """One vector in its original length, float32 [dim]; CorruptStore if it is known to be damaged."""
        if self.row.base.damaged:
            self._check_row(row)
        arrays = self.base.arrays
        unit = arrays["vectors"][row].astype(np.float32)
        return unit * np.float32(arrays["inv_norms"][row] * arrays["norms"][row])  # type: ignore[no-any-return]

    def concerns(self, namespace: str) -> bool:
        """Whether it may have rows of a namespace, as far as its names can be trusted."""
        if self.row.base.damaged and not self._names_hold:
            return True
        return self.span(namespace) is not None

    @functools.cached_property
    def _names_hold(self) -> bool:
        return holds(self.base, ("groups", "namespaces.offsets", "namespaces.bytes"))

    def stored(self, row: int) -> tuple[bytes, float]:
        """(float16 bytes, original length) of one row, as the tail keeps them; CorruptStore if they changed.

        They get a new checksum where they go, so the old one is looked at here: damage must not be certified.
        """
        self._check_row(row)
        return self.base.arrays["vectors"][row].tobytes(), float(self.base.arrays["norms"][row])

    def _check_row(self, row: int) -> None:
        arrays, at = self.base.arrays, slice(row, row + 1)
        found = row_checksums(
            self.keys[at], arrays["norms"][at], arrays["inv_norms"][at], arrays["vectors"][at]
        )
        if found[0] != arrays["row_crcs"][row]:
            raise CorruptStore(
                self.base.path, f"the vector in row {row} is damaged: run verify() and repair()"
            )

    def announce(self, start: int, rows: NDArray[np.int64], told: int, reach: int) -> None:
        """Ask the kernel to read the vectors of rows start + `rows[told:reach]` all at once (MADV_WILLNEED).

        One call for each row: all in one call of process_madvise took as long, so did readahead and fadvise.
        """
        if "vectors" not in self.base.random or not hasattr(mmap, "MADV_WILLNEED"):
            self.heat.cold = False  # there is nothing to be done about it
            return
        vectors, mapped = self.base.random["vectors"]
        row_bytes = vectors.shape[1] * vectors.itemsize
        offset = self.base.entries["vectors"].offset
        started = time.perf_counter()
        for first in (offset + (start + rows[told:reach]) * row_bytes).tolist():
            page = first - first % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, first + row_bytes - page)
        self.heat.learn_announced(time.perf_counter() - started, reach - told)

    def _read(self, name: str) -> Texts:
        """The texts of a pair of arrays."""
        texts = self._texts.get(name)
        if texts is None:
            arrays, source = self.base.arrays, self.base.path / f"{name}.bytes.npy"
            texts = self._texts[name] = Texts(arrays[f"{name}.offsets"], arrays[f"{name}.bytes"], source)
        return texts

    def _remember(self, key: tuple[str, int], mask: NDArray[np.bool_]) -> None:
        self._masks[key] = mask
        while len(self._masks) > max(1, _MASK_CACHE_BYTES // max(1, self.rows)):
            try:
                self._masks.popitem(last=False)
            except KeyError:  # another thread was faster
                break

    def _number_of(self, namespace: str) -> int | None:
        wanted = namespace.encode()
        offsets, text = self.base.arrays["namespaces.offsets"], self.base.arrays["namespaces.bytes"]
        low, high = 0, len(offsets) - 1
        while low < high:
            middle = (low + high) // 2
            if text[offsets[middle] : offsets[middle + 1]].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        found = low < len(offsets) - 1 and text[offsets[low] : offsets[low + 1]].tobytes() == wanted
        return low if found else None

    def _open_span(self, number: int) -> Span:
        start, stop = int(self.groups[number]), int(self.groups[number + 1])
        if not 0 <= start <= stop <= self.rows:
            raise CorruptStore(self.base.path / "groups.npy", f"group {number} is [{start}, {stop})")
        arrays = self.base.arrays
        vectors = self.base.random["vectors"][0] if self.base.random else arrays["vectors"]
        flat = Group(
            vectors[start:stop], arrays["inv_norms"][start:stop], self.keys[start:stop],
            id_starts=arrays["ids.offsets"][start : stop + 1], id_text=arrays["ids.bytes"],
        )  # fmt: skip
        return Span(number, start, stop, self._indexed(flat, number, start, stop))

    def _indexed(self, flat: Group, number: int, start: int, stop: int) -> Group:
        """The same group with its index, if there is one and its arrays fit."""
        if self.index is None:
            return flat
        try:
            index = open_index(self.index.arrays, self.index.info, number, start, stop)
            group = replace(flat, index=index)
            _ = group.table  # looks at every shape
        except (ValueError, KeyError, TypeError) as error:
            _warn_damaged(self.index.path, str(error) or type(error).__name__)
            return flat
        return group


def open_segment(files: Files, parts: Path, store_uuid: str, row: SegmentRow, base: Part | None) -> Segment:
    """Open a segment's parts; `base` may be given where it is open already.

    A damaged index or columns part is worked around with DamagedPartWarning; FileNotFoundError means that a
    named file is missing.
    """
    if base is None:
        base = open_part(files, parts, row.base, "base", store_uuid, random=("vectors",))
        check_base(base, row.rows)
    index = _open_optional(files, parts, store_uuid, row.index, "index", base)
    column_part = _open_optional(files, parts, store_uuid, row.columns, "columns", base)
    columns = None
    if column_part is not None:
        try:
            columns = open_columns(column_part.arrays["columns"])
        except (InvalidColumns, KeyError) as error:
            _warn_damaged(column_part.path, str(error))
    return Segment(row, base, index, columns, column_part)


def _open_optional(
    files: Files, parts: Path, store_uuid: str, ref: PartRef | None, kind: Any, base: Part
) -> Part | None:
    if ref is None:
        return None
    if ref.damaged:
        _warn_damaged(parts / ref.name, "marked by verify()")
        return None
    try:
        part = open_part(files, parts, ref, kind, store_uuid)
        if part.rows != base.rows:
            raise CorruptStore(part.path, f"{part.rows} rows, its base part has {base.rows}")
        return part
    except CorruptStore as error:
        _warn_damaged(parts / ref.name, error.reason)
        return None


def _warn_damaged(path: Path, reason: str) -> None:
    tell("damaged", path.parents[1], f"{reason}; worked around", level=logging.WARNING, part=path.name)
    warnings.warn(
        DamagedPartWarning(f"{path} is damaged ({reason}); it is worked around, and slower: run repair()"),
        stacklevel=3,
    )


_BASE_SHAPES: dict[str, tuple[str, int]] = {
    "keys": ("<i8", 0),
    "key_order": ("<i8", 0),
    "ids.offsets": ("<i8", 1),
    "norms": ("<f4", 0),
    "inv_norms": ("<f4", 0),
    "row_crcs": ("<u4", 0),
}


def check_base(base: Part, rows: int) -> None:
    """Refuse a base part whose arrays do not fit together; their contents are left to verify()."""
    arrays = base.arrays
    try:
        fits = base.rows == rows and all(
            arrays[name].dtype.str == dtype and arrays[name].shape == (rows + extra,)
            for name, (dtype, extra) in _BASE_SHAPES.items()
        )
        vectors = arrays["vectors"]
        fits = fits and vectors.dtype.str == "<f2" and vectors.ndim == 2 and len(vectors) == rows
        for name in ("groups", "namespaces.offsets"):
            fits = fits and arrays[name].dtype.str == "<i8" and arrays[name].ndim == 1
        for name in ("ids.bytes", "namespaces.bytes"):
            fits = fits and arrays[name].dtype.str == "|u1" and arrays[name].ndim == 1
        fits = fits and len(arrays["groups"]) == len(arrays["namespaces.offsets"]) >= 1
    except KeyError as error:
        raise CorruptStore(base.path, f"the array {error} is missing") from error
    if not fits:
        raise CorruptStore(base.path, "the shapes of its arrays do not fit together")


def _group_starts(namespaces: Sequence[str]) -> tuple[list[str], list[int]]:
    names: list[str] = []
    starts = []
    for row, name in enumerate(namespaces):
        if not names or name != names[-1]:
            names.append(name)
            starts.append(row)
    return names, starts
