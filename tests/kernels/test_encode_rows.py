"""Codes that a kernel makes of fresh rows, against numpy: odd shapes, short prefixes, damaged rows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mrlstore.index import codes
from mrlstore.index.codes import Rotation
from mrlstore.storage.vector_rows import inverse_lengths
from tests.nested import nested


def rotation_of(prefix_dim: int, code_dim: int) -> Rotation:
    axes = np.linalg.qr(np.random.default_rng(4).standard_normal((prefix_dim, prefix_dim)))[0][:code_dim]
    return codes.quantised(np.ascontiguousarray(axes, dtype=np.float32))


def made(
    vectors: NDArray[np.float16], prefix_dim: int, rotation: Rotation | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32]]:
    n, code_dim = len(vectors), prefix_dim if rotation is None else len(rotation.scales)
    found = np.full((n, codes.stride_of(code_dim)), 7, np.uint8)
    usable, inv_norms = np.zeros(n, np.bool_), np.zeros(n, np.float32)
    codes.encode_rows(vectors, prefix_dim, rotation, inv_norms, found, usable)
    return found, usable, inv_norms


@pytest.mark.parametrize(
    ("n", "dim", "prefix_dim", "code_dim"),
    [(1, 8, 3, 0), (5, 67, 67, 0), (4, 128, 60, 0), (7, 300, 256, 124), (3, 90, 77, 20), (9, 512, 384, 188)],
)
def test_rows_are_encoded_as_by_numpy(n: int, dim: int, prefix_dim: int, code_dim: int) -> None:
    vectors = nested(n, dim).astype(np.float16)
    vectors[n // 2, :prefix_dim] = 0  # a prefix too short for a code
    vectors[n // 2, -1] = 1
    rotation = rotation_of(prefix_dim, code_dim) if code_dim else None
    expected, short = codes.encoded(vectors, prefix_dim, rotation)
    found, usable, inv_norms = made(vectors, prefix_dim, rotation)
    np.testing.assert_array_equal(np.flatnonzero(~usable), short)
    np.testing.assert_array_equal(inv_norms, inverse_lengths(vectors))
    assert np.abs(found[:, 4:].astype(int) - expected[:, 4:]).max() <= 1
    np.testing.assert_allclose(
        found[:, :4].copy().view(np.float32), expected[:, :4].copy().view(np.float32), rtol=1e-5
    )


def test_damaged_rows_get_no_usable_length_and_spoil_no_other() -> None:
    vectors = nested(6, 96).astype(np.float16)
    sound = made(vectors, 64, None)
    vectors[1], vectors[2, 5], vectors[4, 90] = 0, np.nan, np.inf
    found, usable, inv_norms = made(vectors, 64, None)
    assert not usable[[1, 2, 4]].any() and usable[[0, 3, 5]].all()
    assert not np.isfinite(inv_norms[[1, 2]]).any() and inv_norms[4] == 0
    np.testing.assert_array_equal(found[[0, 3, 5]], sound[0][[0, 3, 5]])


def test_no_rows_are_nothing() -> None:
    assert len(made(np.empty((0, 64), np.float16), 32, None)[0]) == 0
