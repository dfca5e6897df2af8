"""Answers of a cluster: those of a store, with a token and what was covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mrlstore.cluster.answer_merge import plan_of_all
from mrlstore.types import BatchResult, Hit, HitGroup, LazyHits, Plan, Result, Written


@dataclass(frozen=True)
class Coverage:
    """Which shards an answer is of."""

    shards: int  # how many were to be asked
    missing: tuple[int, ...] = ()  # those that could not be asked; only with on_missing="partial"

    @property
    def is_whole(self) -> bool:
        """Whether no shard is missing."""
        return not self.missing


class ClusterWritten(Written):
    """How many rows a write has stored, changed or removed: an int with a token for `after=`.

    `generation` is 0: each copy of a shard has generations of its own.
    """

    token: str

    def __new__(cls, rows: int, token: str) -> Self:  # noqa: D102
        written = super().__new__(cls, rows, 0)
        written.token = token
        return written

    def __getnewargs__(self) -> tuple[int, str]:  # type: ignore[override]
        return int(self), self.token


class ClusterResult(Result):
    """The answer to one query, of one moment of each shard."""

    __slots__ = ("_answers", "coverage", "token")

    def __init__(
        self,
        hits: list[Hit],
        answers: Mapping[int, Result],
        token: str,
        coverage: Coverage,
        groups: list[HitGroup] | None = None,
    ) -> None:
        scores = np.array([hit.score for hit in hits], dtype=np.float32)

        def plan() -> Plan:
            return plan_of_all(self.plans)

        super().__init__([hit.id for hit in hits], scores, plan, hits, groups)
        self.token, self.coverage, self._answers = token, coverage, answers

    @property
    def plans(self) -> dict[int, Plan]:
        """What the query did in each shard, by its number."""
        return {shard: answer.plan for shard, answer in self._answers.items()}


class ClusterBatch(BatchResult):
    """The answers to a batch of queries, each of the same moment of each shard."""

    __slots__ = ("coverage", "token")

    def __init__(self, results: Sequence[ClusterResult], k: int, token: str, coverage: Coverage) -> None:
        super().__init__([_BatchAnswers(results)], k)
        self.token, self.coverage = token, coverage


class _BatchAnswers(LazyHits):
    def __init__(self, results: Sequence[ClusterResult]) -> None:
        self._results = results

    def ids(self) -> list[list[str]]:  # noqa: D102
        return [result.ids for result in self._results]

    def scores(self) -> list[NDArray[np.float32]]:  # noqa: D102
        return [result.scores for result in self._results]

    def results(self) -> list[Result]:  # noqa: D102
        return list(self._results)
