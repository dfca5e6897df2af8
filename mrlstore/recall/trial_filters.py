"""The filters under which calibration asks its questions.

A filter by topic may pass only rows that lie far from the question. Many of them are about equally near, and
the prefix orders them badly. So half of the filtered questions are asked under a random filter, and half
under one that passes the rows farthest from the question's topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.recall import ground_truth
from mrlstore.system.late import numpy_random

RANDOM: Final = -1
_TOPICS: Final = 4
_FEWEST: Final = 32  # questions: with fewer, all are asked under a random filter


@dataclass(frozen=True)
class TrialFilter:
    """Which rows each question may find: a share of them, drawn at random or by a topic.

    topics: int64 [q], the topic of each question, or RANDOM.
    passed: for each topic the keys that pass, rising.
    """

    share: float
    topics: NDArray[np.int64]
    passed: tuple[NDArray[np.int64], ...] = field(repr=False)

    def mask(self, keys: NDArray[np.int64], topic: int) -> NDArray[np.bool_] | None:
        """Which of the rows with these keys pass for questions of a topic; None: all of them."""
        if self.share >= 1:
            return None
        if topic == RANDOM:
            return ground_truth.draw(keys, self.share)
        passed = self.passed[topic]
        at = np.searchsorted(passed, keys)
        return np.asarray(passed[np.minimum(at, len(passed) - 1)] == keys)


def random_filters(shares: Mapping[str, float], questions: int) -> dict[str, TrialFilter]:
    """A random filter of each share, for so many questions."""
    nobody = np.full(questions, RANDOM, dtype=np.int64)
    return {name: TrialFilter(share, nobody, ()) for name, share in shares.items()}


def filters(
    blocks: Iterable[ground_truth.Rows],
    questions: NDArray[np.float32],
    asked: int,
    shares: Mapping[str, float],
    prefix_dim: int,
) -> dict[str, TrialFilter]:
    """A filter of each share for the questions, float32 [q, dim], of which the first `asked` are filtered.

    Topics are among the questions; how far rows lie from them is told by their prefixes.
    """
    if asked < _FEWEST or all(share >= 1 for share in shares.values()):
        return random_filters(shares, len(questions))
    centres, topics = _topics(questions[:asked])
    keys, scores = _scores(blocks, centres[:, :prefix_dim])
    found: dict[str, TrialFilter] = {}
    for name, share in shares.items():
        if share >= 1:
            found |= random_filters({name: share}, len(questions))
            continue
        count = max(int(share * len(keys)), 1)
        passed = tuple(np.sort(keys[np.argpartition(one, count - 1)[:count]]) for one in scores)
        numbers = np.full(len(questions), RANDOM, dtype=np.int64)
        numbers[:asked] = topics
        found[name] = TrialFilter(share, numbers, passed)
    return found


def _topics(questions: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(the vectors of some topics, each question's topic): the nearest, half of the questions in all."""
    count = len(questions)
    centres = questions[numpy_random.default_rng(count).permutation(count)[:_TOPICS]]
    topics = np.full(count, RANDOM, dtype=np.int64)
    for number, centre in enumerate(centres):
        nearest = np.argsort(-(questions @ centre), kind="stable")
        free = nearest[topics[nearest] == RANDOM]
        topics[free[: count // (2 * _TOPICS)]] = number
    return centres, topics


def _scores(
    blocks: Iterable[ground_truth.Rows], centres: NDArray[np.float32]
) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]]:
    """(the keys of all live rows, for each centre their cosine with it, float32)."""
    keys, scores = [], []
    centres = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-30)
    for rows in blocks:
        live = slice(None) if rows.live is None else rows.live
        wide = rows.vectors[live, : centres.shape[1]].astype(np.float32)
        lengths = np.linalg.norm(wide, axis=1)
        keys.append(rows.keys[live])
        scores.append((wide @ centres.T / np.maximum(lengths, 1e-30)[:, None]).T)
    return np.concatenate(keys), list(np.concatenate(scores, axis=1))
