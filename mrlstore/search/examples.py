"""Queries by examples: rows or vectors that hits should be like, and some that they should not be like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.checks import namespace_words
from mrlstore.errors import InvalidInput
from mrlstore.search.queries import take_units
from mrlstore.search.query import stored_vector
from mrlstore.storage.session import Session

_NO_DIRECTION = 1e-6  # a mean of unit vectors that is shorter than this is rounding noise


class Examples(NamedTuple):
    """Examples as they were given: ids, and vectors of whatever numbers."""

    positive: list[Any]
    negative: list[Any]

    @property
    def ids(self) -> frozenset[str]:
        """The ids among them."""
        return frozenset(one for one in (*self.positive, *self.negative) if isinstance(one, str))


def direction(session: Session, namespace: str, examples: Examples) -> NDArray[np.float32]:
    """What is searched for, float32 [dim]: the mean of the positive examples, away from the negative ones.

    Each example counts by its direction. With negative ones it is the mean of the positive ones plus the
    difference of both means, as Qdrant's strategy average_vector has it.
    """
    return direction_of(
        examples, lambda id: stored_vector(session, namespace, id), namespace, session.snapshots.latest().dim
    )


def direction_of(
    examples: Examples,
    stored: Callable[[str], NDArray[np.float32] | None],
    namespace: str,
    dim: int | None,
) -> NDArray[np.float32]:
    """The same with `stored`, which gives the vector of an id in the namespace, and the store's dimension."""
    towards = _mean(examples.positive, "positive", stored, namespace, dim)
    if examples.negative:
        towards = 2 * towards - _mean(examples.negative, "negative", stored, namespace, dim)
    if not np.linalg.norm(towards) > _NO_DIRECTION:
        raise InvalidInput("positive: the examples cancel each other out, so there is no direction to search")
    return towards.astype(np.float32)


def _mean(
    examples: list[Any],
    name: str,
    stored: Callable[[str], NDArray[np.float32] | None],
    namespace: str,
    dim: int | None,
) -> NDArray[np.float64]:
    """The mean of the examples' unit vectors, float64 [dim]."""
    total = np.zeros(1)
    for place, example in enumerate(examples):
        vector = example
        if isinstance(example, str):
            vector = stored(example)
            if vector is None:
                raise InvalidInput(
                    f"{name}[{place}]: {example!r} is not in {namespace_words(namespace)}, or has no vector"
                )
        row = take_units([vector], dim, f"{name}[{place}]")[0].astype(np.float64)
        dim = len(row)
        total = total + row / np.linalg.norm(row)
    return total / len(examples)
