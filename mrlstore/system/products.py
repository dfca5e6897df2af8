"""Products of matrices, which no fork may interrupt."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from mrlstore.system import forks


def product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """A @ b, computed while no other thread forks.

    numpy multiplies by OpenBLAS, whose own fork handler stops its threads: where one of ours is inside a
    product at that moment, the process that forks waits for ever.
    """
    with forks.using():
        found: NDArray[Any] = a @ b
    return found
