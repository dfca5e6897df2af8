"""int8 codes of the renormalised prefix, which walks and scans read instead of the vectors.

A code row is uint8 [stride]: a float32 scale, int8 numbers with 128 added, and 128 as padding up to whole
cache lines. The prefix may be rotated first to the principal axes of a sample, of which only the leading ones
are kept: cosines hardly change and rows shrink to a third (docs/decisions/0006-rotation-by-bytes-read.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import SCALE_BYTES, SHORT_PREFIX, GroupIndex, digest_of
from mrlstore.kernels.load import kernels
from mrlstore.system.late import numpy_random
from mrlstore.system.lazy import lazy
from mrlstore.system.products import product

LINE: Final = 64  # bytes of a cache line
SAMPLE_ROWS: Final = 8_192  # rows that a rotation is fitted to and judged on
BLOCK: Final = 4_096  # rows that are encoded at a time
TINY: Final = 1e-30  # least length to divide by
MAX_PREFIX: Final = 8_192
CODE_DIMS: Final = (124, 188, 252, 380, 508)  # with the scale 2, 3, 4, 6 and 8 cache lines
MIN_SAMPLE: Final = 1_000  # fewer rows get no rotation
HELD_OUT: Final = 250  # rows of the sample that judge the rotation
# Code rows that a query is taken to read: fewer than a walk visits, because prefetching hides a part.
VISITS: Final = 300
_TILE: Final = 32  # axes that the kernel encode_rows takes at a time
_NO_AXES: Final = np.empty((0, 0), np.float32)
KEPT_COST: Final = 1.5  # a rotation that the store has is taken where queries cost so much more at most


@dataclass(frozen=True)
class Rotation:
    """The leading principal axes of a sample of prefixes, as int8 and as the same float32."""

    codes: NDArray[np.uint8]  # [c, padded prefix], biased
    scales: NDArray[np.float32]  # [c]
    axes: NDArray[np.float32]  # [c, prefix], what codes and scales stand for

    @lazy
    def by_dim(self) -> NDArray[np.float32]:
        """The axes beside each other, float32 [prefix, c and zeros up to a multiple of 32]."""
        count, prefix_dim = self.axes.shape
        beside = np.zeros((prefix_dim, -(-count // _TILE) * _TILE), np.float32)
        beside[:, :count] = self.axes.T
        return beside

    @lazy
    def digest(self) -> bytes:
        """Equal for rotations by which a vector has the same code."""
        return digest_of(self.codes, self.scales)


@dataclass(frozen=True)
class Coding:
    """What codes an index has: those of a rotation, or without one."""

    rotation: Rotation | None


def padded(count: int) -> int:
    """The next multiple of a cache line."""
    return -(-count // LINE) * LINE


def stride_of(code_dim: int) -> int:
    """Bytes of a code row that holds `code_dim` numbers and the scale."""
    return padded(code_dim + SCALE_BYTES)


def unit_prefixes(
    vectors: NDArray[np.floating], prefix_dim: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Renormalised prefixes, float32 [n, prefix_dim], and which rows have a usable prefix, bool [n].

    A prefix shorter than SHORT_PREFIX of the whole vector is not usable: it would be rounding noise.
    """
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
    numbers = prefixes if rotation is None else product(prefixes, rotation.axes.T)
    n, code_dim = numbers.shape
    codes = np.full((n, stride_of(code_dim)), 128, np.uint8)
    peaks = np.maximum(np.abs(numbers).max(axis=1), np.float32(TINY))
    rounded = np.rint(numbers * (np.float32(127) / peaks)[:, None]).astype(np.int16)
    codes[:, SCALE_BYTES : SCALE_BYTES + code_dim] = rounded + 128
    scales = np.where(usable, peaks / np.float32(127), np.float32(0)).astype(np.float32)
    codes[:, :SCALE_BYTES] = scales.view(np.uint8).reshape(n, SCALE_BYTES)
    return codes


def encoded(
    vectors: NDArray[np.floating], prefix_dim: int, rotation: Rotation | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """The codes of vectors, uint8 [n, stride], and the rows without a usable prefix, uint32 [u]."""
    prefixes, usable = unit_prefixes(vectors, prefix_dim)
    return encode(prefixes, usable, rotation), np.flatnonzero(~usable).astype(np.uint32)


def encode_rows(
    vectors: NDArray[np.float16],
    prefix_dim: int,
    rotation: Rotation | None,
    inv_norms: NDArray[np.float32],
    codes: NDArray[np.uint8],
    has_prefix: NDArray[np.bool_],
) -> None:
    """Write codes [n, stride], 1 / length [n] and whether the prefix is usable [n] of vectors [n, dim].

    By one kernel on one core, which must be ready; all arrays are C-contiguous.
    """
    dim = vectors.shape[1]
    axes = _NO_AXES if rotation is None else rotation.by_dim
    room = np.empty((9, max(dim + LINE, axes.shape[1])), np.float32)
    kernels().encode_rows(
        vectors.__array_interface__["data"][0], dim, prefix_dim,
        prefix_dim if rotation is None else len(rotation.scales), SHORT_PREFIX,
        axes, room, inv_norms, codes, has_prefix.view(np.uint8),
    )  # fmt: skip


def codes_only(
    prefix_dim: int,
    codes: NDArray[np.uint8],
    unprefixed: NDArray[np.uint32],
    rotation: Rotation | None = None,
) -> GroupIndex:
    """An index without a graph around codes, for the tail: its codes are scanned."""
    none = np.zeros(0, np.uint32)
    if rotation is None:
        return GroupIndex(prefix_dim, codes, None, None, None, none, codes[:0], unprefixed)
    return GroupIndex(
        prefix_dim, codes, rotation.codes, rotation.scales, None, none, codes[:0], unprefixed,
        rotation_digest=rotation.digest,
    )  # fmt: skip


def coding_of(arrays: Mapping[str, NDArray[Any]], prefix_dim: int) -> Coding | None:
    """That of an index part with these arrays, in memory of its own; None where they are damaged."""
    if "rotation" not in arrays or "rotation_scales" not in arrays:
        return None
    numbers, scales = np.array(arrays["rotation"]), np.array(arrays["rotation_scales"])
    if not numbers.size:
        return Coding(None)
    if numbers.shape != (scales.size, padded(prefix_dim)) or not np.isfinite(scales).all():
        return None
    axes = (numbers[:, :prefix_dim].astype(np.float32) - 128) * scales[:, None]
    return Coding(Rotation(numbers, scales, axes))


def same_rotation(a: Rotation | None, b: Rotation | None) -> bool:
    """Whether a vector has the same code by both."""
    if a is None or b is None or a is b:
        return a is b
    return np.array_equal(a.codes, b.codes) and np.array_equal(a.scales, b.scales)


def fit_rotation(prefixes: NDArray[np.float32], code_dim: int) -> Rotation:
    """The `code_dim` leading axes of the second moments of a sample, float32 [s, prefix]; not centred."""
    _, axes = np.linalg.eigh(product(prefixes.T, prefixes))
    return quantised(np.ascontiguousarray(axes.T[::-1][:code_dim], dtype=np.float32))


def quantised(axes: NDArray[np.float32]) -> Rotation:
    """The axes rounded to int8, and back to float32, so that rows and queries are rotated alike."""
    code_dim, prefix_dim = axes.shape
    scales = (np.abs(axes).max(axis=1) / 127).astype(np.float32)
    numbers = np.rint(axes / scales[:, None])
    codes = np.full((code_dim, padded(prefix_dim)), 128, np.uint8)
    codes[:, :prefix_dim] = (numbers + 128).astype(np.uint8)
    return Rotation(codes, scales, (numbers * scales[:, None]).astype(np.float32))


def choose_rotation(
    vectors: NDArray[np.floating], prefix_dim: int, like: Coding | None = None
) -> Rotation | None:
    """The rotation whose codes make queries cheapest; None where codes without one do, or rows are few.

    The rotation of `like`, that of the other segments of the store, or none where these have none, is taken
    if queries cost at most KEPT_COST times as much with it: segments with one rotation are searched together.
    It is taken unseen where rows are few.

    Longer codes cost more in the walk, shorter ones need a longer shortlist. Both are counted in bytes read:
    VISITS code rows, and as many full rows as a shortlist needs to hold 0.99 of the exact top 10 (at full
    dimension) of held-out rows of a sample.
    """
    lengths = [c for c in CODE_DIMS if stride_of(c) < stride_of(prefix_dim)]
    unseen = None if like is None else like.rotation
    if len(vectors) < MIN_SAMPLE or not lengths:
        return unseen
    rng = numpy_random.default_rng(0)
    rows = np.sort(rng.choice(len(vectors), min(SAMPLE_ROWS, len(vectors)), replace=False))
    sample = np.asarray(vectors[rows])
    prefixes, usable = unit_prefixes(sample, prefix_dim)
    sample, prefixes = sample[usable], prefixes[usable]
    if len(sample) < MIN_SAMPLE:
        return unseen
    held = rng.permutation(len(sample))[: min(HELD_OUT, len(sample) // 4)]
    best = _nearest(sample, held, 10)
    learned = np.ones(len(sample), np.bool_)
    learned[held] = False
    whole = fit_rotation(prefixes[learned], lengths[-1])
    # The whole set is denser than the sample, so shortlists are longer there: measured, by the fourth root.
    row_bytes = 2 * vectors.shape[1] * (len(vectors) / len(sample)) ** 0.25

    def cost_of(rotation: Rotation | None) -> float:
        numbers = prefixes if rotation is None else product(prefixes, rotation.axes.T)
        return VISITS * stride_of(numbers.shape[1]) + float(row_bytes) * _needed(numbers, held, best)

    chosen, least_cost = None, cost_of(None)
    for code_dim in lengths:
        rotation = Rotation(whole.codes[:code_dim], whole.scales[:code_dim], whole.axes[:code_dim])
        cost = cost_of(rotation)
        if cost < least_cost:
            chosen, least_cost = rotation, cost
    if like is not None and cost_of(like.rotation) <= KEPT_COST * least_cost:
        return like.rotation
    return chosen


def _scores(rows: NDArray[np.floating], own: NDArray[np.int64]) -> NDArray[np.float32]:
    """Dot products of the rows `own` with all rows, float32 [len(own), n]; -inf with themselves."""
    queries = rows[own].astype(np.float32)
    starts = range(0, len(rows), BLOCK)
    blocks = [product(queries, rows[i : i + BLOCK].astype(np.float32).T) for i in starts]
    scores = np.concatenate(blocks, axis=1)
    scores[np.arange(len(own)), own] = -np.inf
    return scores


def _nearest(rows: NDArray[np.floating], own: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The best `count` other rows of each of the rows `own`, int64 [len(own), count]."""
    return np.argpartition(-_scores(rows, own), count, axis=1)[:, :count]


def _needed(rows: NDArray[np.float32], held: NDArray[np.int64], best: NDArray[np.int64]) -> float:
    """The length of a shortlist by these numbers that holds 0.99 of `best` int64 [held, 10]."""
    scores = _scores(rows, held)
    of_best = np.take_along_axis(scores, best, axis=1)
    ranks = [(row > of_best[i, :, None]).sum(axis=1) for i, row in enumerate(scores[:, None, :])]
    return float(np.quantile(np.concatenate(ranks), 0.99)) + 1
