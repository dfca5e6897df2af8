"""The tail as a reader keeps it: rows committed and not yet in a segment, mirrored in memory.

Views share one growing buffer: a view sees its first `length` rows, and only the newest view is extended, so
older ones stay as they were. A row that is removed, or has moved into a segment, is marked dead; the buffer
is packed when more than half of it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.rows import metadata_of
from mrlstore.catalogue.tail import TailRow
from mrlstore.errors import CorruptStore
from mrlstore.index import codes
from mrlstore.index.group import Group
from mrlstore.storage.vector_rows import inverse_lengths
from mrlstore.where import Node


@dataclass(frozen=True)
class TailBuffer:
    """What all views share: arrays with room to grow, filled up to `len(ids)`."""

    prefix_dim: int
    vectors: NDArray[np.float16]  # [room, dim], unit rows
    norms: NDArray[np.float32]  # [room]
    inv_norms: NDArray[np.float32]  # [room]
    keys: NDArray[np.int64]  # [room]
    codes: NDArray[np.uint8]  # [room, stride]
    prefixed: NDArray[np.bool_]  # [room], whether the prefix is long enough to mean anything
    spaces: NDArray[np.int32]  # [room], numbers of namespaces
    numbers: dict[str, int] = field(default_factory=dict)  # namespace -> its number
    ids: list[str] = field(default_factory=list)
    metadata: list[str | None] = field(default_factory=list)


@dataclass(frozen=True)
class Tail:
    """One view: the buffer's first `length` rows, of which `live` ones count."""

    buffer: TailBuffer
    length: int
    live: NDArray[np.bool_]  # [length]
    _cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def empty(dim: int, prefix_dim: int, room: int = 64) -> Tail:
        """A view without rows."""
        stride = codes.stride_of(prefix_dim)
        buffer = TailBuffer(
            prefix_dim,
            np.empty((room, dim), dtype=np.float16),
            np.empty(room, dtype=np.float32),
            np.empty(room, dtype=np.float32),
            np.empty(room, dtype=np.int64),
            np.empty((room, stride), dtype=np.uint8),
            np.empty(room, dtype=np.bool_),
            np.empty(room, dtype=np.int32),
        )
        return Tail(buffer, 0, np.zeros(0, dtype=np.bool_))

    @property
    def keys(self) -> NDArray[np.int64]:
        """Row keys, int64 [length]."""
        return self.buffer.keys[: self.length]

    def count(self) -> int:
        """How many rows are live."""
        return int(np.count_nonzero(self.live))

    def group(self) -> Group:
        """The rows as the searches take them; dead ones and other namespaces are the caller's to mask."""
        if "group" not in self._cache:
            buffer, n = self.buffer, self.length
            unprefixed = np.flatnonzero(~buffer.prefixed[:n]).astype(np.uint32)
            index = codes.codes_only(buffer.prefix_dim, buffer.codes[:n], unprefixed)
            self._cache["group"] = Group(buffer.vectors[:n], buffer.inv_norms[:n], buffer.keys[:n], index)
        return self._cache["group"]  # type: ignore[no-any-return]

    def ids(self, rows: Iterable[int]) -> list[str]:
        """The ids of these rows."""
        return [self.buffer.ids[row] for row in rows]

    def namespace_of(self, row: int) -> str:
        """The namespace of one row."""
        return list(self.buffer.numbers)[int(self.buffer.spaces[row])]

    def original(self, row: int) -> NDArray[np.float32]:
        """One vector in its original length, float32 [dim]."""
        buffer = self.buffer
        return buffer.vectors[row].astype(np.float32) * np.float32(buffer.inv_norms[row] * buffer.norms[row])  # type: ignore[no-any-return]

    def stored(self, row: int) -> tuple[bytes, float]:
        """(float16 bytes, original length) of one row."""
        return self.buffer.vectors[row].tobytes(), float(self.buffer.norms[row])

    def extended(self, rows: Sequence[TailRow]) -> Tail:
        """A view with these rows behind the present ones."""
        if not rows:
            return self
        view = self
        if len(self.buffer.ids) != self.length or self.length + len(rows) > len(self.buffer.keys):
            view = self.packed(room=2 * (self.length + len(rows)))
        view._append(rows)
        live = np.concatenate([view.live, np.ones(len(rows), dtype=np.bool_)])
        return Tail(view.buffer, len(live), live)

    def without(self, keys: NDArray[np.int64]) -> Tail:
        """A view in which these keys are dead."""
        gone = np.isin(self.keys, keys) & self.live
        if not gone.any():
            return self
        view = Tail(self.buffer, self.length, self.live & ~gone)
        return view if view.count() * 2 > view.length else view.packed()

    def packed(self, room: int = 64) -> Tail:
        """A view of the live rows in a buffer of their own."""
        old, rows = self.buffer, np.flatnonzero(self.live)
        fresh = Tail.empty(old.vectors.shape[1], old.prefix_dim, max(room, 64, 2 * len(rows))).buffer
        for name in ("vectors", "norms", "inv_norms", "keys", "codes", "prefixed", "spaces"):
            getattr(fresh, name)[: len(rows)] = getattr(old, name)[rows]
        fresh.numbers.update(old.numbers)
        for name in ("ids", "metadata"):
            getattr(fresh, name).extend(getattr(old, name)[row] for row in rows)
        return Tail(fresh, len(rows), np.ones(len(rows), dtype=np.bool_))

    def coded(self, prefix_dim: int) -> Tail:
        """This view, or one of the live rows with codes of another prefix."""
        if self.buffer.prefix_dim == prefix_dim:
            return self
        rows = np.flatnonzero(self.live)
        old, fresh = (
            self.packed().buffer,
            Tail.empty(self.buffer.vectors.shape[1], prefix_dim, max(len(rows), 64)),
        )
        buffer, n = fresh.buffer, len(rows)
        for name in ("vectors", "norms", "inv_norms", "keys", "spaces"):
            getattr(buffer, name)[:n] = getattr(old, name)[:n]
        buffer.codes[:n], unprefixed = codes.native(buffer.vectors[:n], prefix_dim)
        buffer.prefixed[:n] = True
        buffer.prefixed[unprefixed.astype(np.int64)] = False
        buffer.numbers.update(old.numbers)
        buffer.ids.extend(old.ids)
        buffer.metadata.extend(old.metadata)
        return Tail(buffer, n, np.ones(n, dtype=np.bool_))

    def mask(self, namespace: str | None, node: Node | None) -> NDArray[np.bool_]:
        """Which rows are live, of this namespace (None: of any), and match: bool [length]."""
        if namespace is None:
            mask = self.live.copy()
        else:
            mask = self.live & (self.buffer.spaces[: self.length] == self.buffer.numbers.get(namespace, -1))
        if node is not None:
            for row in np.flatnonzero(mask):
                mask[row] = node.matches(_parsed(self.buffer.metadata[row]))
        return mask

    def _append(self, rows: Sequence[TailRow]) -> None:
        buffer, start = self.buffer, self.length
        stop = start + len(rows)
        dim = buffer.vectors.shape[1]
        if any(len(row.vector) != 2 * dim for row in rows):
            raise CorruptStore("catalogue.db", f"the tail has vectors of other dims than {dim}")
        block = np.frombuffer(b"".join(row.vector for row in rows), dtype=np.float16).reshape(len(rows), dim)
        buffer.vectors[start:stop] = block
        buffer.norms[start:stop] = [row.norm for row in rows]
        buffer.inv_norms[start:stop] = inverse_lengths(block)
        buffer.keys[start:stop] = [row.key for row in rows]
        buffer.codes[start:stop], unprefixed = codes.native(block, buffer.prefix_dim)
        buffer.prefixed[start:stop] = True
        buffer.prefixed[start + unprefixed.astype(np.int64)] = False
        numbers = buffer.numbers
        buffer.spaces[start:stop] = [numbers.setdefault(row.namespace, len(numbers)) for row in rows]
        buffer.metadata.extend(row.metadata for row in rows)
        buffer.ids.extend(row.id for row in rows)  # last: its length says how far the buffer is filled


@lru_cache(maxsize=16_384)
def _parsed(metadata: str | None) -> dict[str, Any] | None:
    return metadata_of(metadata)
