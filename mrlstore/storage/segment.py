"""Segments: immutable rows on disk, grouped by namespace.

The base part holds keys, ids and vectors; the index part codes and graphs; the columns part the metadata in
a form that filters can use. Without an index a segment is flat: its vectors are scanned. Without columns its
metadata is read from the catalogue. This module opens the three parts and finds rows in them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.part_ref import PartKind, PartRef
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.columns import Columns, InvalidColumns, RowValues, Tally, open_columns
from mrlstore.errors import CorruptStore, DamagedPartWarning
from mrlstore.index.codes import Coding, coding_of
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.storage.base_part import check_base
from mrlstore.storage.page_cache import ReadAhead
from mrlstore.storage.parts import Part, holds, open_part
from mrlstore.storage.row_texts import BYTES, IN_CATALOGUE, SegmentTexts, TextKind, open_texts
from mrlstore.storage.texts import Texts
from mrlstore.storage.vector_rows import in_original_length, row_checksums
from mrlstore.system.bounded_cache import BoundedCache
from mrlstore.system.files import Buffer, Files
from mrlstore.system.lazy import lazy
from mrlstore.system.log import log_event
from mrlstore.types import Namespaces
from mrlstore.where import Node

Fetch = Callable[[NDArray[np.int64]], list[dict[str, Any] | None]]  # metadata of rows, by their keys

_OPEN_RUNS: Final = 10_000  # namespaces of a segment whose arrays are kept ready


class Mask(NamedTuple):
    """Which rows of a run pass a filter. It holds for readers of `generation` and of all later ones.

    Rows may have been removed by then, and so count as having no metadata: an older reader still sees them.
    """

    generation: int
    rows: NDArray[np.bool_]


class MaskKey(NamedTuple):
    """What a mask is of: a base part, the first row of the run, and the filter."""

    part: str
    start: int
    filter: str


MaskCache = BoundedCache[MaskKey, Mask]
MASKS: Final = 10_000
MASK_BYTES: Final = 64 * 1024 * 1024  # of all segments of a store; a mask is 1 byte a row


class NamespaceRows(NamedTuple):
    """The run [start, stop) of a segment's rows that a namespace has."""

    namespace: str
    start: int
    stop: int


@dataclass(frozen=True)
class Run:
    """One namespace's rows [start, stop) in a segment, ready to be searched."""

    start: int
    stop: int
    group: Group


@dataclass(frozen=True)
class Segment:
    """An open segment. Its maps stay valid as long as it is referenced, whatever happens to its files."""

    row: SegmentRow
    base: Part
    index: Part | None
    columns: Columns | None
    column_part: Part | None
    row_texts: SegmentTexts | None = field(compare=False, repr=False)
    masks: MaskCache = field(compare=False, repr=False)
    read_ahead: ReadAhead = field(compare=False, repr=False)
    _runs: BoundedCache[str, Run] = field(
        default_factory=lambda: BoundedCache(_OPEN_RUNS), compare=False, repr=False
    )
    _texts: dict[str, Texts] = field(default_factory=dict, compare=False, repr=False)

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
        """Where each namespace's rows begin, and the end: int64 [namespaces + 1]."""
        return self.base.arrays["groups"]

    @lazy
    def coding(self) -> Coding | None:
        """What codes its index has; None without an index, or where it is damaged."""
        prefix_dim = None if self.index is None else self.index.info.get("prefix_dim")
        if self.index is None or not isinstance(prefix_dim, int):
            return None
        return coding_of(self.index.arrays, prefix_dim)

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
        return self._text("ids").at(rows)

    def texts(self, kind: TextKind, rows: Sequence[int]) -> list[Buffer]:
        """The metadata (JSON) or the document of each of these rows: UTF-8, NO_TEXT or IN_CATALOGUE."""
        return [IN_CATALOGUE] * len(rows) if self.row_texts is None else self.row_texts.at(kind, rows)

    def namespaces(self) -> list[str]:
        """The namespaces, in the order of their rows."""
        return self._text("namespaces").at(range(len(self.groups) - 1))

    def run(self, namespace: str) -> Run | None:
        """This namespace's rows, or None."""
        run = self._runs.get(namespace)
        if run is None:
            number = self._number_of(namespace)
            if number is None:
                return None
            run = self._open_run(number)
            self._runs.put(namespace, run)
        return run

    def runs(self) -> list[NamespaceRows]:
        """Which rows each namespace has."""
        starts = self.groups.tolist()
        if sorted([0, *starts, self.rows]) != [0, *starts, self.rows]:
            raise CorruptStore(self.base.path / "groups.npy", f"does not rise from 0 to {self.rows}")
        return [NamespaceRows(name, starts[i], starts[i + 1]) for i, name in enumerate(self.namespaces())]

    def mask(self, node: Node, start: int, stop: int, fetch: Fetch, generation: int) -> NDArray[np.bool_]:
        """Which rows of [start, stop) pass a filter, dead or not, for a reader of this generation.

        `fetch` reads metadata that the columns do not hold, as of that generation.
        """
        key = MaskKey(self.row.base.name, start, node.key)
        cached = self.masks.get(key)
        if cached is not None and cached.generation <= generation:
            return cached.rows
        mask = Mask(generation, self._evaluate(node, start, stop, fetch))
        self.masks.put(key, mask, mask.rows.nbytes + len(key.filter))
        return mask.rows

    def tally(self, field: str, rows: NDArray[np.int64]) -> Tally:
        """How many of these rows, ascending, have each value of a metadata field, as far as columns tell."""
        if self.columns is None:
            return Tally([], rows)
        try:
            return self.columns.tally(field, rows)
        except InvalidColumns as error:
            raise self._damaged_columns(error) from error

    def row_values(self, field: str, rows: NDArray[np.int64]) -> RowValues:
        """The value of a metadata field in each of these rows, ascending, as far as columns tell."""
        if self.columns is None:
            return RowValues(np.full(len(rows), -1, dtype=np.int64), [], np.arange(len(rows)))
        try:
            return self.columns.row_values(field, rows)
        except InvalidColumns as error:
            raise self._damaged_columns(error) from error

    def _damaged_columns(self, error: InvalidColumns) -> CorruptStore:
        place = self.base.path if self.column_part is None else self.column_part.path
        return CorruptStore(place, f"{error}: run verify() and repair()")

    def original(self, row: int) -> NDArray[np.float32]:
        """One vector in its original length, float32 [dim]; CorruptStore if it is known to be damaged."""
        if self.row.base.damaged:
            self._check_row(row)
        arrays = self.base.arrays
        return in_original_length(arrays["vectors"][row], arrays["inv_norms"][row], arrays["norms"][row])

    def stored(self, row: int) -> tuple[bytes, float]:
        """(float16 bytes, original length) of one row, as the tail keeps them; CorruptStore if they changed.

        The row gets a new checksum where it goes, which would hide damage: so the old one is checked here.
        """
        self._check_row(row)
        return self.base.arrays["vectors"][row].tobytes(), float(self.base.arrays["norms"][row])

    def may_have(self, namespace: Namespaces) -> bool:
        """Whether it may have rows of these namespaces, as far as its names can be trusted."""
        if self.row.base.damaged and not self._names_are_whole:
            return True
        return any(self.run(name) is not None for name in self.names_among(namespace))

    def names_among(self, namespace: Namespaces) -> Sequence[str]:
        """The namespaces among these that it may have rows of, in the order of their names."""
        if isinstance(namespace, str):
            return (namespace,)
        return self.namespaces() if namespace is None else namespace

    @lazy
    def _names_are_whole(self) -> bool:
        return holds(self.base, ("groups", "namespaces.offsets", "namespaces.bytes"))

    def _check_row(self, row: int) -> None:
        arrays, at = self.base.arrays, slice(row, row + 1)
        found = row_checksums(
            self.keys[at], arrays["norms"][at], arrays["inv_norms"][at], arrays["vectors"][at]
        )
        if found[0] != arrays["row_crcs"][row]:
            raise CorruptStore(
                self.base.path, f"the vector in row {row} is damaged: run verify() and repair()"
            )

    def _evaluate(self, node: Node, start: int, stop: int, fetch: Fetch) -> NDArray[np.bool_]:
        def fetch_rows(rows: NDArray[np.int64]) -> list[dict[str, Any] | None]:
            return fetch(self.keys[rows])

        if self.columns is not None:
            return self.columns.mask(node, start, stop, fetch_rows)
        metadata = fetch_rows(np.arange(start, stop))
        return np.fromiter((node.matches(m) for m in metadata), dtype=np.bool_, count=stop - start)

    def _text(self, name: str) -> Texts:
        """The texts of the pair of arrays `name`.offsets and `name`.bytes."""
        texts = self._texts.get(name)
        if texts is None:
            arrays, source = self.base.arrays, self.base.path / f"{name}.bytes.npy"
            texts = self._texts[name] = Texts(arrays[f"{name}.offsets"], arrays[f"{name}.bytes"], source)
        return texts

    def _number_of(self, namespace: str) -> int | None:
        """The number of a namespace among those of the segment, by bisection."""
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

    def _open_run(self, number: int) -> Run:
        start, stop = int(self.groups[number]), int(self.groups[number + 1])
        if not 0 <= start <= stop <= self.rows:
            raise CorruptStore(self.base.path / "groups.npy", f"group {number} is [{start}, {stop})")
        arrays = self.base.arrays
        vectors = self.base.random["vectors"].array if self.base.random else arrays["vectors"]
        flat = Group(
            vectors[start:stop], arrays["inv_norms"][start:stop], self.keys[start:stop],
            id_starts=arrays["ids.offsets"][start : stop + 1], id_text=arrays["ids.bytes"],
        )  # fmt: skip
        return Run(start, stop, self._indexed(flat, number, start, stop))

    def _indexed(self, flat: Group, number: int, start: int, stop: int) -> Group:
        """The same group with its index, if there is one and its arrays fit."""
        if self.index is None:
            return flat
        try:
            index = open_index(self.index.arrays, self.index.info, number, start, stop)
            group = replace(flat, index=index)
            _ = group.table  # checks every shape
        except (ValueError, KeyError, TypeError) as error:
            _warn_damaged(self.index.path, str(error) or type(error).__name__)
            return flat
        return group


def new_masks() -> MaskCache:
    """An empty cache of masks, for all segments of one store."""
    return BoundedCache(MASKS, MASK_BYTES)


def open_segment(
    files: Files,
    parts: Path,
    store_uuid: str,
    row: SegmentRow,
    base: Part | None = None,
    masks: MaskCache | None = None,
) -> Segment:
    """Open a segment's parts; `base` may be given where it is open already, `masks` where they are shared.

    A damaged index or columns part is worked around with DamagedPartWarning; FileNotFoundError means that a
    named file is missing.
    """
    if base is None:
        base = open_part(files, parts, row.base, "base", store_uuid, random=("vectors",))
        check_base(base, row.rows)
    index = _open_optional(files, parts, store_uuid, row.index, "index", base)
    column_part = _open_optional(files, parts, store_uuid, row.columns, "columns", base, random=BYTES)
    columns, texts = None, None
    if column_part is not None:
        try:
            columns = open_columns(column_part.arrays["columns"])
        except (InvalidColumns, KeyError) as error:
            _warn_damaged(column_part.path, str(error))
        texts = _open_texts(column_part)
    masks = new_masks() if masks is None else masks
    return Segment(row, base, index, columns, column_part, texts, masks, ReadAhead(base))


def _open_texts(part: Part) -> SegmentTexts | None:
    """The metadata and documents in a columns part. The first damaged one that is read gives a warning."""
    warned = False

    def warn() -> None:
        nonlocal warned
        if not warned:
            warned = True
            _warn_damaged(part.path, "metadata or documents do not match their crc")

    try:
        return open_texts(part, warn)
    except CorruptStore as error:
        _warn_damaged(part.path, f"{Path(error.path).name}: {error.reason}")
        return None


def _open_optional(
    files: Files,
    parts: Path,
    store_uuid: str,
    ref: PartRef | None,
    kind: PartKind,
    base: Part,
    *,
    random: tuple[str, ...] = (),
) -> Part | None:
    """A part that the segment can do without, or None where it is missing or damaged."""
    if ref is None:
        return None
    if ref.damaged:
        _warn_damaged(parts / ref.name, "marked by verify()")
        return None
    try:
        part = open_part(files, parts, ref, kind, store_uuid, random=random)
        if part.rows != base.rows:
            raise CorruptStore(part.path, f"{part.rows} rows, its base part has {base.rows}")
        return part
    except CorruptStore as error:
        _warn_damaged(parts / ref.name, error.reason)
        return None


def _warn_damaged(path: Path, reason: str) -> None:
    log_event("damaged", path.parents[1], f"{reason}; worked around", level=logging.WARNING, part=path.name)
    warnings.warn(
        DamagedPartWarning(f"{path} is damaged ({reason}); it is worked around, and slower: run repair()"),
        stacklevel=3,
    )
