"""Query vectors: from whatever numbers the caller gave to unit float32 rows and the length of each prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.kernels.load import kernels
from mrlstore.storage.vector_rows import as_array, as_matrix, check_dim, with_directions

_FLOAT32 = np.dtype(np.float32)


class NoDirection(ValueError):
    """A vector is zero, not finite, or its squared length does not fit float32."""


class Queries(NamedTuple):
    """Unit vectors, and how much of each lies in its prefix."""

    vectors: NDArray[np.float32]  # [m, dim], unit rows
    prefix_norms: list[float]  # [m], length of the first `prefix_dim` dimensions, at most 1
    prefix_dim: int

    def part(self, start: int, stop: int) -> Queries:
        """The queries in [start, stop)."""
        return Queries(self.vectors[start:stop], self.prefix_norms[start:stop], self.prefix_dim)

    def at(self, prefix_dim: int) -> Queries:
        """The same queries for a group that is indexed by another length of prefix."""
        if prefix_dim == self.prefix_dim:
            return self
        prefixes = self.vectors[:, :prefix_dim].astype(np.float64)
        return Queries(self.vectors, np.linalg.norm(prefixes, axis=1).tolist(), prefix_dim)


def prepare(
    vectors: NDArray[np.float32], prefix_dim: int, units: NDArray[np.float32] | None = None
) -> Queries:
    """Normalise float32 [m, dim] or [dim], which stay as they are, into `units` [>= m, dim] or a new array.

    Raises NoDirection where `normalise` of the kernels cannot scale a vector.
    """
    if units is None:
        rows = np.array(vectors, np.float32, ndmin=2, order="C")
    else:
        rows = units[: len(vectors)]
        rows[:] = vectors
    norms = np.empty(len(rows))
    if not kernels().normalise(rows, prefix_dim, norms):
        raise NoDirection("a vector without a direction")
    return Queries(rows, norms.tolist(), prefix_dim)


def take_query(vector: Any, dim: int | None, prefix_dim: int | None) -> Queries:
    """One query of whatever numbers the caller gave; InvalidInput says what is wrong with them."""
    if type(vector) is np.ndarray and vector.dtype == _FLOAT32 and vector.shape == (dim,):
        try:
            return prepare(vector, prefix_dim or len(vector))
        except NoDirection:
            pass  # `with_directions` rescales it, or says what is wrong
    elif isinstance(vector, str | bytes | Mapping):
        hint = "; a question in words is text=, with an embedder" if isinstance(vector, str) else ""
        raise InvalidInput(f"vector: expected numbers of shape [dim], got {type(vector).__name__}{hint}")
    array = as_array(vector, "vector")
    if array.ndim != 1:
        raise InvalidInput(f"vector: expected shape [dim], got {list(array.shape)}; see query_batch for many")
    row = with_directions(take_vectors(array[None, :], dim, "vector"), "vector")
    return prepare(row, prefix_dim or row.shape[1])


def take_vectors(vectors: Any, dim: int | None, what: str) -> NDArray[np.float32]:
    """Query vectors [n, dim] as float32; those that were float32 already have not been looked at yet."""
    if isinstance(vectors, list | tuple) and not vectors:
        return np.empty((0, dim or 0), dtype=np.float32)
    matrix = as_matrix(vectors, what)
    check_dim(matrix.shape[1], dim, what)
    return matrix if matrix.dtype == np.float32 else with_directions(matrix, what)


def take_units(vectors: Any, dim: int | None, what: str) -> NDArray[np.float32]:
    """The same, each with a direction; InvalidInput names the row that has none."""
    return with_directions(take_vectors(vectors, dim, what), what)
