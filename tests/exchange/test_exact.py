"""What a store gives, stored again, must be the same float16 rows, at any dimension."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore.exchange.exact import restorable, stored_rows
from mrlstore.storage.vector_rows import inverse_lengths, to_unit_rows


def given_by_a_store(dim: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(what a store gives float32, what it holds float16, lengths)."""
    rng = np.random.default_rng(dim)
    shape = np.arange(1, dim + 1) ** -0.5 * rng.uniform(1e-3, 1e3, (rows, 1))
    vectors = (rng.standard_normal((rows, dim)) * shape).astype(np.float32)
    vectors[: rows // 4] = np.round(vectors[: rows // 4])  # coarse ones too
    vectors[~vectors.any(axis=1), 0] = 1
    units, norms = to_unit_rows(vectors)
    scale = (inverse_lengths(units) * norms)[:, None]
    return units.astype(np.float32) * scale, units, norms


@pytest.mark.parametrize("dim", [2, 3, 8, 64, 768])
def test_rows_are_found_and_given_so_that_they_are_stored_the_same(dim: int) -> None:
    given, units, norms = given_by_a_store(dim, 30_000 if dim < 100 else 300)
    if dim < 64:
        assert (to_unit_rows(given)[0] != units).any(), "storing them as they are changes none: no test"
    found, lengths = stored_rows(given)
    assert (found == units).all()
    np.testing.assert_allclose(lengths, norms, rtol=3e-7)
    again, kept = to_unit_rows(restorable(found, lengths))
    assert (again == units).all()
    np.testing.assert_allclose(kept, lengths, rtol=3e-7 if dim > 64 else 1e-5)


def test_vectors_of_others_are_rounded_as_storing_does() -> None:
    vectors = np.random.default_rng(1).standard_normal((500, 5)).astype(np.float32)
    assert (stored_rows(vectors)[0] == to_unit_rows(vectors)[0]).mean() > 0.999


def test_rows_that_are_no_unit_rows_are_only_scaled() -> None:
    given = restorable(np.array([[3, 4], [0, 0]], dtype=np.float16), np.array([10, 1], dtype=np.float32))
    np.testing.assert_allclose(given, [[6, 8], [0, 0]])
