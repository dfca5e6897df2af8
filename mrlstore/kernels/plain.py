"""Stand-ins of three kernels in numpy, for searches while no machine code is ready: exact, and slower."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .group_table import DIM, INV_NORMS, KEYS, LARGEST_SQUARE, ROWS, SMALLEST_SQUARE, VECTORS

BLOCK: Final = 4 * 1024 * 1024  # numbers that are widened to float32 at a time
_SHORTEST: Final = np.float32(1e-30)  # least squared length to divide by


def normalise(vectors: NDArray[np.float32], prefix_dim: int, norms: NDArray[np.float64]) -> bool:
    """As unit_rows.normalise."""
    with np.errstate(over="ignore", invalid="ignore"):  # judged below
        squares = np.einsum("ij,ij->i", vectors, vectors)
    usable = (squares > SMALLEST_SQUARE) & (squares < LARGEST_SQUARE)
    count = len(vectors) if usable.all() else int(np.argmin(usable))
    rows, whole = vectors[:count], squares[:count].astype(np.float64)
    heads = np.einsum("ij,ij->i", rows[:, :prefix_dim], rows[:, :prefix_dim]).astype(np.float64)
    norms[:count] = np.sqrt(heads / whole)
    rows *= (1 / np.sqrt(whole)).astype(np.float32)[:, None]
    if count < len(vectors):
        norms[count] = -1
    return count == len(vectors)


def unit_halves(numbers: int, lengths: NDArray[np.float32], halves: NDArray[np.uint16]) -> None:
    """As unit_rows.unit_halves."""
    rows = _view(numbers, np.float32, halves.shape)
    halves.view(np.float16)[: len(lengths)] = rows[: len(lengths)] / lengths[:, None]


def exact(
    table: NDArray[np.int64],
    query: NDArray[np.float32],
    dim: int,
    allowed: int,
    k: int,
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> tuple[int, int]:
    """As rerank.exact."""
    n, width = int(table[ROWS]), int(table[DIM])
    vectors, keys = _view(table[VECTORS], np.float16, (n, width)), _view(table[KEYS], np.int64, (n,))
    candidates = np.flatnonzero(_view(allowed, np.uint8, (n,))) if allowed else np.arange(n)
    found, best = np.empty(0, np.int64), np.empty(0, np.float32)
    step = max(BLOCK // width, 1)
    for start in range(0, len(candidates), step):
        some = candidates[start : start + step]
        wide = vectors[some, :dim].astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # damaged rows
            score = np.einsum("ij,j->i", wide, query)
            if dim == width:
                score *= _view(table[INV_NORMS], np.float32, (n,))[some]
            else:
                score /= np.sqrt(np.maximum(np.einsum("ij,ij->i", wide, wide), _SHORTEST))
        score = np.clip(np.where(np.isnan(score), np.float32(-1), score), -1, 1)
        found, best = np.concatenate([found, some]), np.concatenate([best, score])
        order = np.lexsort((keys[found], -best))[:k]
        found, best = found[order], best[order]
    rows[: len(found)], scores[: len(found)] = found, best
    return len(found), len(candidates)


def _view(address: Any, kind: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """The array at an address."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    if size == 0:
        return np.empty(shape, kind)
    memory = (ctypes.c_char * size).from_address(int(address))
    return np.ndarray(shape, np.dtype(kind), memoryview(memory))
