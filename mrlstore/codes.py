"""int8 codes of the renormalised prefix: what walks and scans read instead of the vectors.

A code row is uint8 [stride]: int8 numbers with 128 added, 128 as padding, and a float32 scale in the last
four bytes, so that one row is one run of cache lines. The prefix may be rotated first, by the principal axes
of a sample, and only the leading dims kept: cosines hardly change and rows shrink to a third.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .group import SHORT_PREFIX, GroupIndex

LINE: Final = 64
SCALE_BYTES: Final = 4
SAMPLE_ROWS: Final = 10_000
BLOCK: Final = 4_096
TINY: Final = 1e-30


@dataclass(frozen=True)
class Rotation:
    """The leading principal axes of a sample of prefixes, as int8 rows for the query and the same as float32."""

    codes: NDArray[np.uint8]  # [c, padded prefix], int8 with 128 added
    scales: NDArray[np.float32]  # [c]
    axes: NDArray[np.float32]  # [c, prefix], what codes and scales stand for


def padded(count: int) -> int:
    """The next multiple of a cache line."""
    return -(-count // LINE) * LINE


def stride_of(code_dim: int) -> int:
    """Bytes of a code row that holds `code_dim` numbers and the scale."""
    return padded(code_dim + SCALE_BYTES)


def unit_prefixes(
    vectors: NDArray[np.floating], prefix_dim: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Renormalised prefixes, float32 [n, prefix_dim], and which rows have a prefix to speak of, bool [n]."""
    rows = vectors[:, :prefix_dim].astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if prefix_dim == vectors.shape[1]:
        whole = lengths
    else:
        rest = vectors[:, prefix_dim:].astype(np.float32)
        whole = np.sqrt(lengths**2 + np.einsum("ij,ij->i", rest, rest, dtype=np.float64))
    usable = lengths > SHORT_PREFIX * np.maximum(whole, TINY)
    rows *= np.where(usable, 1 / np.maximum(lengths, TINY), 0).astype(np.float32)[:, None]
    return rows, usable


def encode(
    prefixes: NDArray[np.float32], usable: NDArray[np.bool_], rotation: Rotation | None
) -> NDArray[np.uint8]:
    """Code rows uint8 [n, stride] of unit prefixes float32 [n, prefix]; rows not usable get scale zero."""
    numbers = prefixes if rotation is None else prefixes @ rotation.axes.T
    n, code_dim = numbers.shape
    codes = np.full((n, stride_of(code_dim)), 128, np.uint8)
    peaks = np.maximum(np.abs(numbers).max(axis=1), np.float32(TINY))
    codes[:, :code_dim] = np.rint(numbers * (np.float32(127) / peaks)[:, None]).astype(np.int16) + 128
    scales = np.where(usable, peaks / np.float32(127), np.float32(0)).astype(np.float32)
    codes[:, -SCALE_BYTES:] = scales.view(np.uint8).reshape(n, SCALE_BYTES)
    return codes


def native(vectors: NDArray[np.floating], prefix_dim: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Codes without rotation, uint8 [n, stride], and the rows without a usable prefix, uint32 [u]."""
    prefixes, usable = unit_prefixes(vectors, prefix_dim)
    return encode(prefixes, usable, None), np.flatnonzero(~usable).astype(np.uint32)


def codes_only(prefix_dim: int, codes: NDArray[np.uint8], unprefixed: NDArray[np.uint32]) -> GroupIndex:
    """An index without a graph around native codes, for the tail: its codes are scanned."""
    none = np.zeros(0, np.uint32)
    return GroupIndex(prefix_dim, codes, None, None, None, none, codes[:0], unprefixed)


def fit_rotation(prefixes: NDArray[np.float32], code_dim: int) -> Rotation:
    """The `code_dim` leading axes of the second moments of a sample, float32 [s, prefix]; not centred."""
    _, axes = np.linalg.eigh(prefixes.T @ prefixes)
    return quantised(np.ascontiguousarray(axes.T[::-1][:code_dim], dtype=np.float32))


def quantised(axes: NDArray[np.float32]) -> Rotation:
    """Round the axes to int8, and round-trip them, so that rows and queries see the same rotation."""
    code_dim, prefix_dim = axes.shape
    scales = (np.abs(axes).max(axis=1) / 127).astype(np.float32)
    numbers = np.rint(axes / scales[:, None])
    codes = np.full((code_dim, padded(prefix_dim)), 128, np.uint8)
    codes[:, :prefix_dim] = (numbers + 128).astype(np.uint8)
    return Rotation(codes, scales, (numbers * scales[:, None]).astype(np.float32))
