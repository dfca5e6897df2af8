"""`VectorLayout`: which vectors the points of a collection have, as requests and answers name them.

A row has one vector. It may have a name, and leading parts of it may have their own names, as in collections
that keep a short and a long Matryoshka embedding side by side: the short one is not stored again here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.server.bodies import float_row, shown
from mrlstore.server.indexes import IndexFacts, Metric
from mrlstore.server.refusals import HttpRefusal, invalid

DETAILS: Final = "qdrant"  # where the facts of an index keep what its creation said
METRICS: Final[Mapping[str, Metric]] = {"Cosine": "cosine", "Dot": "dotproduct", "Euclid": "euclidean"}
_SAME: Final = 1 - 1e-4  # cosine from which one vector counts as the leading part of another

Row = NDArray[np.float32]


@dataclass(frozen=True)
class VectorLayout:
    """The name of the whole vector, "" where it has none, its length, and the lengths of its named parts."""

    whole: str
    dim: int | None
    parts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: IndexFacts, dim: int | None) -> VectorLayout:
        """The layout of an index; `dim` is that of its store."""
        given = facts.details.get(DETAILS, {}).get("vectors")
        if given is None or "size" in given:
            return cls("", dim)
        sizes = {name: spec["size"] for name, spec in given.items()}
        whole = max(sizes, key=sizes.__getitem__)
        return cls(whole, dim, {name: size for name, size in sizes.items() if name != whole})

    def length_of(self, using: str) -> int | None:
        """How many numbers the vector of a name has; HttpRefusal (400) for a name that is not there."""
        if using == self.whole:
            return self.dim
        if using not in self.parts:
            names = ", ".join(map(repr, (self.whole, *self.parts)))
            raise invalid(f"using: there is no vector named {using!r:.60}; there is {names}")
        return self.parts[using]

    def row_of(self, given: object, place: str) -> Row | None:
        """The vector of a row that a point gives, float32 [dim], or None where it gives none."""
        if given is None or given == {}:
            return None
        if isinstance(given, list) and self.whole == "":
            return float_row(given, place, self.dim)
        if not isinstance(given, dict):
            raise invalid(f"{place}: expected an object with the vector {self.whole!r}, got {shown(given)}")
        unknown = next((name for name in given if name != self.whole and name not in self.parts), None)
        if unknown is not None:
            raise invalid(f"{place}: the collection has no vector named {unknown!r:.60}")
        row = float_row(given.get(self.whole), f"{place}.{self.whole}", self.dim)
        for name, length in self.parts.items():
            if name in given:
                part = float_row(given[name], f"{place}.{name}", length)
                if not is_leading_part(part, row):
                    raise invalid(
                        f"{place}.{name}: it is not the first {length} numbers of {self.whole!r}, scaled; "
                        "here a shorter vector has to be a leading part of the longer one"
                    )
        return row

    def written(self, vector: Row, names: tuple[str, ...] | None) -> Row | dict[str, Row]:
        """A vector as answers have it: a list where it has no name, else an object of the named ones."""
        if self.whole == "" and not self.parts:
            return vector
        lengths = {self.whole: len(vector), **self.parts}
        chosen = lengths if names is None else {name: lengths[name] for name in names if name in lengths}
        return {name: _unit(vector[:length]) for name, length in chosen.items()}


def is_leading_part(part: Row, row: Row) -> bool:
    """Whether a vector has the direction of the leading part of another one."""
    head = row[: len(part)].astype(np.float64)
    lengths = float(np.linalg.norm(head)) * float(np.linalg.norm(part.astype(np.float64)))
    return len(part) <= len(row) and float(head @ part) >= _SAME * lengths


def answered(vector: Row | None, metric: Metric) -> Row | None:
    """A stored vector as Qdrant gives it: of unit length where the metric is the cosine."""
    return vector if vector is None or metric != "cosine" else _unit(vector)


def names_of(given: object, layout: VectorLayout) -> tuple[bool, tuple[str, ...] | None]:
    """`with_vector` of a request: whether vectors are wanted, and which; None for all."""
    if given is None or isinstance(given, bool):
        return bool(given), None
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        for name in given:
            layout.length_of(name)
        return bool(given), tuple(given)
    raise invalid(f"with_vector: expected true, false or names, got {shown(given)}")


def absent_point(id: str) -> HttpRefusal:
    """A point that a request names is not there, or has no vector."""
    return HttpRefusal(404, "NOT_FOUND", f"no point with id {id:.60} found that has a vector")


def _unit(vector: Row) -> Row:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return vector if length == 0 else (vector / length).astype(np.float32)
