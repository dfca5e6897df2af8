"""Texts in two arrays: their bytes side by side, and where each begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore
from mrlstore.loaded import kernels

_USUAL: Final = 48  # bytes of an id for which there is room at once


class Texts:
    """Reads texts by row; CorruptStore where one is not UTF-8."""

    __slots__ = ("_arrays", "_bytes", "_places", "_source", "_starts")

    def __init__(self, offsets: NDArray[np.int64], text: NDArray[np.uint8], source: Path) -> None:
        """Offsets [n + 1], text [offsets[-1]]: C-contiguous; damage in them makes wrong or empty texts."""
        # numpy's scalars would cost most of it; unsigned, so that damage can't become a negative slice
        self._starts, self._bytes, self._source = offsets.view(np.uint64).data, text.data, source
        self._arrays = offsets, text  # alive as long as their addresses are known
        self._places = offsets.ctypes.data, len(offsets) - 1, text.ctypes.data, len(text)

    def at(self, rows: Iterable[int]) -> list[str]:
        """The texts of these rows."""
        starts, text = self._starts, self._bytes
        try:
            return [str(text[starts[row] : starts[row + 1]], "utf-8") for row in rows]
        except UnicodeDecodeError as error:
            raise CorruptStore(self._source, f"not UTF-8 ({error})") from error

    def gather(self, rows: NDArray[np.int64]) -> list[str]:
        """The same by a kernel, where kernels are loaded anyway: rows int64 [m]."""
        kernel, ends = kernels().gather, np.empty(len(rows), np.int64)
        copied = np.empty(_USUAL * len(rows), np.uint8)
        total = kernel(*self._places, rows, copied, ends)
        if total > len(copied):
            copied = np.empty(total, np.uint8)
            kernel(*self._places, rows, copied, ends)
        stops, whole = ends.tolist(), copied[:total].tobytes()
        try:
            if whole.isascii():  # characters are bytes
                text = whole.decode()
                return [text[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
            return [whole[start:stop].decode() for start, stop in zip([0, *stops], stops, strict=False)]
        except UnicodeDecodeError as error:
            raise CorruptStore(self._source, f"not UTF-8 ({error})") from error


def pack(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(bytes, offsets) of texts."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def unpack(offsets: NDArray[np.int64], text: NDArray[np.uint8]) -> list[bytes]:
    """The texts of a pair of arrays that is known to be whole, as UTF-8."""
    whole, ends = text.tobytes(), offsets.tolist()
    return [whole[ends[i] : ends[i + 1]] for i in range(len(ends) - 1)]
