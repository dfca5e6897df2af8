"""Texts in two arrays: the UTF-8 bytes of all of them in a row, and the offset where each begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore


class Texts:
    """Reads texts by row; CorruptStore where one is not UTF-8."""

    __slots__ = ("_bytes", "_source", "_starts")

    def __init__(self, offsets: NDArray[np.int64], text: NDArray[np.uint8], source: Path) -> None:
        """Offsets [n + 1] and text [offsets[n]], C-contiguous. Damaged offsets give wrong or empty texts."""
        # Memoryviews, since making numpy's scalars would take most of the time; unsigned, since a damaged
        # offset must not become a negative index.
        self._starts, self._bytes, self._source = offsets.view(np.uint64).data, text.data, source

    def at(self, rows: Iterable[int]) -> list[str]:
        """The texts of these rows."""
        starts, text = self._starts, self._bytes
        try:
            return [str(text[starts[row] : starts[row + 1]], "utf-8") for row in rows]
        except UnicodeDecodeError as error:
            raise CorruptStore(self._source, f"not UTF-8 ({error})") from error


def pack(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Texts as (bytes, offsets)."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def unpack(offsets: NDArray[np.int64], text: NDArray[np.uint8]) -> list[bytes]:
    """All texts, as UTF-8, of arrays whose checksums have been verified."""
    whole, ends = text.tobytes(), offsets.tolist()
    return [whole[ends[i] : ends[i + 1]] for i in range(len(ends) - 1)]
