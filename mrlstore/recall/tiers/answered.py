"""Queries with their exact answers, and the recall of other answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlstore.recall import ground_truth
from mrlstore.recall.trials import Probes
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import Snapshot


@dataclass(frozen=True)
class AnsweredProbes:
    """Queries of one namespace with their exact answers."""

    probes: Probes
    exact: Mapping[int, ground_truth.Nearest]  # by dim, over all rows

    def accepted(self, number: int, k: int, dim: int) -> NDArray[np.int64]:
        """The keys that count as found among the best k by `dim` dims: more than k where scores tie."""
        return self.exact[dim].accepted(number, k)


def answer_exactly(
    session: Session, snapshot: Snapshot, probes: Probes, depth: int, dims: Sequence[int]
) -> AnsweredProbes:
    """Find the best `depth` rows of each query, by each of the dims, among all rows."""
    blocks = ground_truth.rows_of(snapshot, probes.namespace)
    found = ground_truth.nearest(
        blocks, probes.vectors, depth, dims=dims, own=probes.own, threads=session.threads
    )
    return AnsweredProbes(probes, {d: found[d, "all"] for d in dims})


def rows_in(snapshot: Snapshot, namespace: str) -> int:
    """How many rows with vectors a namespace has."""
    return sum(
        len(block.keys) if block.live is None else int(np.count_nonzero(block.live))
        for block in ground_truth.rows_of(snapshot, namespace)
    )


def shares_found(
    answered: Sequence[AnsweredProbes], k: int, d: int, shortlist: int, full: int
) -> NDArray[np.float64]:
    """Recall@k of each query where the best `shortlist` by the first d dims are re-ranked in full."""
    return np.array(
        [
            share_found(one.accepted(number, k, full), one.exact[d].keys[number, :shortlist], k)
            for one in answered
            for number in range(len(one.probes.vectors))
        ]
    )


def share_found(accepted: NDArray[np.int64], found: NDArray[np.int64], k: int) -> float:
    """The share of the true best k that was found; `accepted` has more than k keys where scores tie."""
    wanted = min(k, len(accepted))
    return min(int(np.isin(accepted, found).sum()), wanted) / wanted if wanted else 1.0
