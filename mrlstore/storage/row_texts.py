"""Metadata and short documents of a segment's rows, in arrays of its columns part: hits are made of these.

They are a copy that stays true, because the row of a key never changes. The catalogue has the truth: a text
that is not kept here (see `kept`) is marked, and read from there; so is one that does not match its crc32.
Arrays of a kind are left out where no row has a text of that kind.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore
from mrlstore.kernels.load import kernels
from mrlstore.storage.parts import Array, Part
from mrlstore.system.files import Buffer

TextKind = Literal["metadata", "documents"]

KINDS: Final[tuple[TextKind, ...]] = ("metadata", "documents")
LONGEST: Final = 4_096  # bytes of UTF-8; a longer text is in the catalogue only
IN_CATALOGUE: Final = b"\xff"  # stands for a text that has to be read there: a byte that UTF-8 never has
NO_TEXT: Final = b""
INFO: Final = "texts_up_to"  # in part.json: that the part was written with its rows' texts, and LONGEST
BYTES: Final = tuple(f"{kind}.bytes" for kind in KINDS)  # arrays that are read at random places

_MOST_ROWS, _JOINED_BYTES = 256, 65_536  # that a kernel joins; more texts are read one by one
_KEPT: Final = 8  # joiners of one kind and segment that wait for the next call
_steps: list[NDArray[np.uint32]] = []


class JoinedTexts(NamedTuple):
    """Texts of some rows, in their order: UTF-8, a comma behind each but the last."""

    text: bytes  # of metadata: `null` where a row has none
    ends: list[int]  # where each text ends in it; only of documents


class _Joiner:
    """The kernel `join_texts`, bound to one kind of a segment's texts and to memory of its own."""

    __slots__ = ("_as_json", "_chosen", "_ends", "_joined", "_rows", "_run")

    def __init__(self, texts: RowTexts, *, as_json: bool) -> None:
        self._as_json, self._rows = as_json, np.zeros(_MOST_ROWS, np.int64)
        chosen, ends = np.zeros(2, np.int64), np.zeros(_MOST_ROWS + 1, np.int64)
        joined = np.zeros(_JOINED_BYTES, np.uint8)
        self._run = kernels().join_texts.bound(
            texts.table, _crc_steps(), as_json, chosen, self._rows, joined, ends
        )
        # Single numbers are read and written faster by memoryviews.
        self._chosen, self._ends, self._joined = chosen.data, ends.data, joined.data

    def __call__(self, rows: NDArray[np.int64], start: int) -> JoinedTexts | None:
        count = len(rows)
        self._chosen[0], self._chosen[1], self._rows[:count] = count, start, rows
        self._run()
        stop = self._ends[count]
        if stop < 0:
            return None
        return JoinedTexts(bytes(self._joined[:stop]), [] if self._as_json else self._ends[:count].tolist())


def _crc_steps() -> NDArray[np.uint32]:
    """The tables by which a kernel computes crc32, see `kernels.joining.crc32`."""
    if not _steps:
        plain = [
            zlib.crc32(bytes((byte,)) + bytes(zeros)) ^ zlib.crc32(bytes(1 + zeros))
            for zeros in range(8)
            for byte in range(256)
        ]
        _steps.append(np.array(plain, np.uint32).reshape(8, 256))
    return _steps[0]


class RowTexts:
    """The texts of one kind of a segment's rows."""

    __slots__ = ("_as_json", "_crcs", "_joiners", "_on_damage", "_starts", "_text", "kept", "table")

    def __init__(
        self,
        offsets: NDArray[np.int64],
        text: NDArray[np.uint8],
        crcs: NDArray[np.uint32],
        on_damage: Callable[[], None],
        *,
        as_json: bool,
    ) -> None:
        """Offsets [n + 1], text and crcs [n], C-contiguous; `on_damage` is called for each damaged text."""
        # As `texts.Texts`: memoryviews are faster than numpy, and an unsigned offset is not a negative index.
        self._starts, self._text, self._crcs = offsets.view(np.uint64).data, text.data, crcs.data
        self._on_damage, self._as_json = on_damage, as_json
        self.kept = offsets, text, crcs  # whose addresses the kernel has
        addresses = [array.__array_interface__["data"][0] for array in self.kept]
        self.table = np.array([*addresses, len(crcs), len(text)], np.int64)
        self._joiners: list[_Joiner] = []

    def joined(self, rows: NDArray[np.int64], start: int) -> JoinedTexts | None:
        """The texts of the rows `start` + rows; None where `at` has to be asked, because one is not here."""
        try:
            joiner = self._joiners.pop()
        except IndexError:
            if not kernels().compiled:
                return None
            joiner = _Joiner(self, as_json=self._as_json)
        found = joiner(rows, start) if len(rows) <= _MOST_ROWS else None
        if len(self._joiners) < _KEPT:
            self._joiners.append(joiner)
        return found

    def at(self, rows: Iterable[int]) -> list[Buffer]:
        """The text of each of these rows: UTF-8 in the mapped file, NO_TEXT or IN_CATALOGUE."""
        starts, text, crcs, crc32 = self._starts, self._text, self._crcs, zlib.crc32
        found: list[Buffer] = []
        for row in rows:
            piece = text[starts[row] : starts[row + 1]]
            if crc32(piece, row) == crcs[row]:
                found.append(piece)
            else:
                found.append(IN_CATALOGUE)
                self._on_damage()
        return found


class SegmentTexts:
    """All texts that a segment's columns part holds."""

    __slots__ = ("_by_kind",)

    def __init__(self, by_kind: dict[TextKind, RowTexts]) -> None:
        """A kind that is not given is one that no row has."""
        self._by_kind = by_kind

    def joined(self, kind: TextKind, rows: NDArray[np.int64], start: int) -> JoinedTexts | None:
        """As `RowTexts.joined`."""
        texts = self._by_kind.get(kind)
        if texts is not None:
            return texts.joined(rows, start)
        count = len(rows)
        if kind == "metadata":
            return JoinedTexts(b",".join([b"null"] * count), [])
        return JoinedTexts(b"," * (count - 1), list(range(count)))

    def at(self, kind: TextKind, rows: Sequence[int]) -> list[Buffer]:
        """As `RowTexts.at`."""
        texts = self._by_kind.get(kind)
        return [NO_TEXT] * len(rows) if texts is None else texts.at(rows)


def open_texts(part: Part, on_damage: Callable[[], None]) -> SegmentTexts | None:
    """The texts in a columns part, None if it was written without; CorruptStore where arrays do not fit."""
    if INFO not in part.info:
        return None
    found: dict[TextKind, RowTexts] = {}
    for kind in KINDS:
        arrays = {name: array for name, array in part.arrays.items() if name.startswith(f"{kind}.")}
        if not arrays:
            continue
        offsets = _checked(part, f"{kind}.offsets", np.dtype(np.int64), part.rows + 1)
        crcs = _checked(part, f"{kind}.crcs", np.dtype(np.uint32), part.rows)
        text = _checked(part, f"{kind}.bytes", np.dtype(np.uint8), None)
        at_random = part.random.get(f"{kind}.bytes")
        found[kind] = RowTexts(
            offsets,
            text if at_random is None else at_random.array,
            crcs,
            on_damage,
            as_json=kind == "metadata",
        )
    return SegmentTexts(found)


def _checked(part: Part, name: str, dtype: np.dtype[Any], length: int | None) -> Array:
    array = part.arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != 1 or len(array) != (length or len(array)):
        raise CorruptStore(part.path / f"{name}.npy", f"is not {dtype} [{'n' if length is None else length}]")
    return array


def kept(text: str | None) -> bytes:
    """What the arrays hold for a text of a row, UTF-8; IN_CATALOGUE for one that is empty or too long."""
    if text is None:
        return NO_TEXT
    encoded = text.encode()
    return encoded if 0 < len(encoded) <= LONGEST else IN_CATALOGUE


def checksum(text: Buffer, row: int) -> int:
    """The crc32 of a row's text, begun with the row's number: pages of zeros do not match."""
    return zlib.crc32(text, row)
