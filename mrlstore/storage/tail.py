"""The tail as a reader keeps it: rows committed and not yet in a segment, mirrored in memory.

Views share one growing buffer. A view sees its first `length` rows, which never change; a newer view is made
by writing rows behind them and counting them in. So an exception in the midst of that, or a signal handler
that does the same, leaves every view as it was: a second one that would write to the same rows copies the
buffer instead (`_claim`). A row that is removed, or has moved into a segment, is marked dead; the live rows
are copied to a new buffer when more than half are dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.rows import metadata_of
from mrlstore.catalogue.tail_rows import TailRow, without_direction
from mrlstore.errors import CorruptStore
from mrlstore.index import codes
from mrlstore.index.codes import Rotation
from mrlstore.index.group import Group
from mrlstore.kernels.load import kernels
from mrlstore.storage.row_texts import IN_CATALOGUE, TextKind, kept
from mrlstore.storage.vector_rows import in_original_length, inverse_lengths
from mrlstore.system.bounded_cache import BoundedCache
from mrlstore.system.files import Buffer
from mrlstore.system.lazy import lazy
from mrlstore.types import Namespaces
from mrlstore.where import Node

Parsed = BoundedCache[str, dict[str, Any]]  # metadata by its JSON text

_COPIED: Final = (
    "vectors", "norms", "inv_norms", "keys", "spaces", "ids", "metadata", "documents", "has_texts",
)  # fmt: skip
_LEAST_CAPACITY: Final = 64  # rows of a new buffer
# Rows that a buffer has room for once it had to grow: memory that is not written to costs nothing, and a copy
# of thousands of vectors would hold a query up.
_GROWN_CAPACITY: Final = 16_384
_GROWN_BYTES: Final = 256 * 1024 * 1024  # of vectors, at most
_PARSED: Final = 16_384  # rows whose metadata is kept parsed, eight times what a tail usually has
_PARSED_BYTES: Final = 64 * 1024 * 1024
# What a parsed dict takes: an empty one 64 bytes; text of short strings and numbers grows by about 10 times.
_DICT_BYTES: Final = 200
_GROWTH: Final = 10


def _new_parsed() -> Parsed:
    return BoundedCache(_PARSED, _PARSED_BYTES)


@dataclass(frozen=True)
class TailBuffer:
    """What views share: arrays with capacity for more rows."""

    prefix_dim: int
    vectors: NDArray[np.float16]  # [capacity, dim], unit rows
    norms: NDArray[np.float32]  # [capacity], original lengths
    inv_norms: NDArray[np.float32]  # [capacity], 1 / length of the float16 row
    keys: NDArray[np.int64]  # [capacity]
    codes: NDArray[np.uint8]  # [capacity, stride]
    has_prefix: NDArray[np.bool_]  # [capacity], whether the prefix is long enough to say anything
    spaces: NDArray[np.int32]  # [capacity], numbers of namespaces
    ids: NDArray[np.object_]  # [capacity], str
    metadata: NDArray[np.object_]  # [capacity], JSON text or None
    documents: NDArray[np.object_]  # [capacity], short ones
    has_texts: NDArray[np.bool_]  # [capacity], whether hits may carry these two: see TailRow
    numbers: dict[str, int] = field(default_factory=dict)  # namespace -> its number
    rotation: Rotation | None = None  # of the codes
    parsed: Parsed = field(default_factory=_new_parsed)
    extended_at: dict[int, object] = field(default_factory=dict)  # length -> who writes behind it

    @staticmethod
    def empty(
        dim: int,
        prefix_dim: int,
        capacity: int,
        rotation: Rotation | None = None,
        parsed: Parsed | None = None,
    ) -> TailBuffer:
        """A buffer without rows."""
        capacity, code_dim = max(capacity, _LEAST_CAPACITY), prefix_dim
        if rotation is not None:
            code_dim = len(rotation.scales)
        return TailBuffer(
            prefix_dim,
            np.empty((capacity, dim), dtype=np.float16),
            np.empty(capacity, dtype=np.float32),
            np.empty(capacity, dtype=np.float32),
            np.empty(capacity, dtype=np.int64),
            np.empty((capacity, codes.stride_of(code_dim)), dtype=np.uint8),
            np.empty(capacity, dtype=np.bool_),
            np.empty(capacity, dtype=np.int32),
            np.empty(capacity, dtype=object),
            np.empty(capacity, dtype=object),
            np.empty(capacity, dtype=object),
            np.empty(capacity, dtype=np.bool_),
            rotation=rotation,
            parsed=_new_parsed() if parsed is None else parsed,
        )

    def copied(
        self, rows: NDArray[np.int64], prefix_dim: int, rotation: Rotation | None, capacity: int
    ) -> TailBuffer:
        """These rows in a buffer of their own, with codes of this prefix and rotation."""
        dim, n = self.vectors.shape[1], len(rows)
        fresh = TailBuffer.empty(dim, prefix_dim, capacity, rotation, self.parsed)
        for name in _COPIED:
            getattr(fresh, name)[:n] = getattr(self, name)[rows]
        fresh.numbers.update(self.numbers)
        if prefix_dim == self.prefix_dim and rotation is self.rotation:
            fresh.codes[:n], fresh.has_prefix[:n] = self.codes[rows], self.has_prefix[rows]
        else:
            fresh.encode(0, n)
        return fresh

    def write(self, start: int, rows: Sequence[TailRow]) -> None:
        """Write rows from row `start` on. Views of up to `start` rows do not see them.

        CorruptStore where a vector is zero or not finite.
        """
        stop, dim = start + len(rows), self.vectors.shape[1]
        if any(len(row.vector) != 2 * dim for row in rows):
            raise CorruptStore("catalogue.db", f"the tail has vectors of other dims than {dim}")
        block = np.frombuffer(b"".join([row.vector for row in rows]), dtype=np.float16)
        self.vectors[start:stop] = block.reshape(len(rows), dim)
        self.norms[start:stop] = [row.norm for row in rows]
        self.keys[start:stop] = [row.key for row in rows]
        self.spaces[start:stop] = [self.numbers.setdefault(row.namespace, len(self.numbers)) for row in rows]
        self.ids[start:stop] = [row.id for row in rows]
        self.metadata[start:stop] = [row.metadata for row in rows]
        self.documents[start:stop] = [row.document for row in rows]
        self.has_texts[start:stop] = [row.has_texts for row in rows]
        self.encode(start, stop)
        usable = np.isfinite(self.inv_norms[start:stop]) & (self.inv_norms[start:stop] > 0)
        if not usable.all():
            raise without_direction("catalogue.db", rows[int(np.argmin(usable))].key)

    def encode(self, start: int, stop: int) -> None:
        """Make the codes and inverse lengths of rows whose vectors are there."""
        vectors, inv_norms = self.vectors[start:stop], self.inv_norms[start:stop]
        if kernels().compiled:
            made = self.codes[start:stop], self.has_prefix[start:stop]
            codes.encode_rows(vectors, self.prefix_dim, self.rotation, inv_norms, *made)
            return
        with np.errstate(all="ignore"):  # of damaged rows, which `write` refuses
            inv_norms[:] = inverse_lengths(vectors)
        self.codes[start:stop], short = codes.encoded(vectors, self.prefix_dim, self.rotation)
        self.has_prefix[start:stop] = True
        self.has_prefix[start + short.astype(np.int64)] = False

    def parsed_metadata(self, row: int) -> dict[str, Any] | None:
        """The metadata of one row."""
        text = self.metadata[row]
        if text is None:
            return None
        known = self.parsed.get(text)
        if known is None:
            known = metadata_of(text) or {}
            self.parsed.put(text, known, _DICT_BYTES + _GROWTH * len(text))
        return known


@dataclass(frozen=True)
class Tail:
    """One view: the buffer's first `length` rows, of which `live` ones count."""

    buffer: TailBuffer
    length: int
    live: NDArray[np.bool_]  # [length]

    @staticmethod
    def empty(dim: int, prefix_dim: int, rotation: Rotation | None = None) -> Tail:
        """A view without rows."""
        return Tail(TailBuffer.empty(dim, prefix_dim, 0, rotation), 0, np.zeros(0, dtype=np.bool_))

    @property
    def keys(self) -> NDArray[np.int64]:
        """Row keys, int64 [length]."""
        return self.buffer.keys[: self.length]

    def count(self) -> int:
        """How many rows are live."""
        return int(np.count_nonzero(self.live))

    @lazy
    def group(self) -> Group:
        """All rows as searches take them; the caller masks dead ones and other namespaces."""
        buffer, n = self.buffer, self.length
        short = np.flatnonzero(~buffer.has_prefix[:n]).astype(np.uint32)
        index = codes.codes_only(buffer.prefix_dim, buffer.codes[:n], short, buffer.rotation)
        return Group(buffer.vectors[:n], buffer.inv_norms[:n], buffer.keys[:n], index)

    def ids(self, rows: Iterable[int]) -> list[str]:
        """The ids of these rows."""
        return [self.buffer.ids[row] for row in rows]

    @property
    def row_texts(self) -> None:
        """As a segment without arrays of texts: `texts` gives them."""
        return None

    def texts(self, kind: TextKind, rows: Sequence[int]) -> list[Buffer]:
        """As `Segment.texts`."""
        buffer = self.buffer
        held = buffer.metadata if kind == "metadata" else buffer.documents
        return [kept(held[row]) if buffer.has_texts[row] else IN_CATALOGUE for row in rows]

    def namespaces(self) -> list[str]:
        """The namespaces that its rows have, or have had."""
        return list(self.buffer.numbers)

    def original(self, row: int) -> NDArray[np.float32]:
        """One vector in its original length, float32 [dim]."""
        buffer = self.buffer
        return in_original_length(buffer.vectors[row], buffer.inv_norms[row], buffer.norms[row])

    def namespaces_of(self, rows: Iterable[int]) -> list[str]:
        """The namespaces of these rows."""
        names = list(self.buffer.numbers)
        return [names[self.buffer.spaces[row]] for row in rows]

    def stored(self, row: int) -> tuple[bytes, float]:
        """(float16 bytes, original length) of one row."""
        return self.buffer.vectors[row].tobytes(), float(self.buffer.norms[row])

    def extended(self, rows: Sequence[TailRow]) -> Tail:
        """A view with these rows behind the present ones."""
        if not rows:
            return self
        view, stop = self, self.length + len(rows)
        if stop > len(self.buffer.keys) or not self._claim():
            most = _GROWN_BYTES // (2 * self.buffer.vectors.shape[1])
            view = self.packed(capacity=max(2 * stop, min(_GROWN_CAPACITY, most)))
        view.buffer.write(view.length, rows)
        live = np.concatenate([view.live, np.ones(len(rows), dtype=np.bool_)])
        return Tail(view.buffer, len(live), live)

    def without(self, keys: NDArray[np.int64]) -> Tail:
        """A view in which these keys are dead."""
        rows = self._rows_of(keys)
        rows = rows[self.live[rows]]
        if not len(rows):
            return self
        live = self.live.copy()
        live[rows] = False
        view = Tail(self.buffer, self.length, live)
        return view if view.count() * 2 > view.length else view.packed()

    def packed(self, capacity: int = 0) -> Tail:
        """A view of the live rows in a buffer of their own."""
        return self._copied(self.buffer.prefix_dim, self.buffer.rotation, capacity)

    def coded(self, prefix_dim: int, rotation: Rotation | None = None) -> Tail:
        """This view, or one of the live rows with codes of another prefix or rotation."""
        buffer = self.buffer
        if buffer.prefix_dim == prefix_dim and codes.same_rotation(buffer.rotation, rotation):
            return self
        return self._copied(prefix_dim, rotation, 0)

    def _copied(self, prefix_dim: int, rotation: Rotation | None, capacity: int) -> Tail:
        rows = np.flatnonzero(self.live)
        buffer = self.buffer.copied(rows, prefix_dim, rotation, max(capacity, 2 * len(rows)))
        return Tail(buffer, len(rows), np.ones(len(rows), dtype=np.bool_))

    def mask(self, namespace: Namespaces, node: Node | None) -> NDArray[np.bool_]:
        """Which rows are live, of these namespaces, and match: bool [length]."""
        spaces, numbers = self.buffer.spaces[: self.length], self.buffer.numbers
        if namespace is None:
            mask = self.live.copy()
        elif isinstance(namespace, str):
            mask = self.live & (spaces == numbers.get(namespace, -1))
        else:
            mask = self.live & np.isin(spaces, [numbers[name] for name in namespace if name in numbers])
        if node is not None:
            for row in np.flatnonzero(mask).tolist():
                mask[row] = node.matches(self.buffer.parsed_metadata(row))
        return mask

    def _rows_of(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows with these keys, those that are here, in no order."""
        held = self.keys
        if not (held[1:] > held[:-1]).all():  # rows of several processes, whose keys are of several ranges
            return np.flatnonzero(np.isin(held, keys))
        rows = np.searchsorted(held, keys)
        within = rows < len(held)
        rows, keys = rows[within], keys[within]
        there: NDArray[np.int64] = rows[held[rows] == keys]
        return there

    def _claim(self) -> bool:
        """Whether this call may write behind the view's rows; it is said to one caller alone, in one step."""
        token = object()
        return self.buffer.extended_at.setdefault(self.length, token) is token
