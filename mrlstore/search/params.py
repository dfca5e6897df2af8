"""What a caller asks of a query, checked: how to answer it, and what hits shall carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Wanted:
    """What a hit or record is to carry, and the least score that a hit needs."""

    metadata: bool = False
    document: bool = False
    vector: bool = False
    min_score: float | None = None


NOTHING: Final = Wanted()


@dataclass(frozen=True, eq=False)
class Asked:
    """A query but for its vector and filter; the same arguments give the same object, to remember by."""

    k: int
    namespace: str
    target_recall: float | None = None
    shortlist: int | None = None
    ef: int | None = None
    exact: bool = False
    dim: int | None = None
    explain: bool = False
    wanted: Wanted = NOTHING
