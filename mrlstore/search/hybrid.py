"""Queries with keywords: BM25 over the documents, alone or fused with the vectors' answer.

Two ranked lists become one by reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): a row
scores weight / (60 + rank) in each list that it is in. Ranks need no common scale, which cosines and BM25 do
not have. Everything is read in one transaction of the catalogue, so both lists and the rows are of one
generation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import keywords, rows, settings
from mrlstore.catalogue.connection import Connection
from mrlstore.checks import check_count, check_namespace, check_number
from mrlstore.errors import InvalidInput
from mrlstore.search.group_search import Queries
from mrlstore.search.hydrate import hits_of, metadata_of_keys, rows_of, vectors_of
from mrlstore.search.keyword_terms import Term, any_of, parse_keywords
from mrlstore.search.params import Asked, Wanted
from mrlstore.search.query import explained, find
from mrlstore.search.records import matching_keys
from mrlstore.storage.segment import Fetch
from mrlstore.storage.session import Session, View
from mrlstore.storage.snapshot import Snapshot
from mrlstore.types import LIMITS, FusedRank, Hit, KeywordPlan, Plan, Result, Where
from mrlstore.where import Node, parse

RANK_CONSTANT: Final = 60
LEAST_DEPTH: Final = 100  # of both lists
MANY_DOCUMENTS: Final = 1_000  # from here on words that stand in more than half of them are left out

Ranked = list[tuple[int, float]]  # (row key, score), best first


class Placed(NamedTuple):
    """A row of an answer, and its places in the two lists, from 0; None: it is not in that list."""

    key: int
    score: float
    by_vector: int | None
    by_words: int | None


@dataclass(frozen=True)
class Question:
    """What is looked for by words, and how much words and vectors weigh; checked."""

    terms: tuple[Term, ...]
    k: int
    namespace: str
    where: Where | None
    weights: tuple[float, float] | None  # of the vectors' list, of the keywords' list

    @property
    def depth(self) -> int:
        """How many rows of each list are fused."""
        return min(max(LEAST_DEPTH, 2 * self.k), LIMITS.k)


@dataclass(frozen=True)
class _Words:
    """The keywords' list, and which terms it is of."""

    ranked: Ranked
    searched: tuple[Term, ...]
    ignored: tuple[Term, ...]
    matching: int | None


def check_question(
    keywords: object, weights: object, k: object, namespace: str, where: Where | None, min_score: object
) -> Question:
    """What was asked, checked; InvalidInput if it cannot be answered."""
    if keywords is None:
        raise InvalidInput("weights: there is nothing to weigh without keywords")
    if min_score is not None:
        raise InvalidInput(
            "min_score: is a cosine similarity, which scores with keywords are not; leave it out"
        )
    count = check_count(k, "k", 1, LIMITS.k)
    terms = parse_keywords(keywords)
    return Question(terms, count, check_namespace(namespace), where, _check_weights(weights))


def check_words_alone(question: Question, *efforts: object) -> None:
    """Refuse, without a vector, what only concerns vectors; `efforts` are query's, in its order."""
    names = ("target_recall", "shortlist", "ef", "exact", "dim")
    for name, value in [*zip(names, efforts, strict=False), ("weights", question.weights)]:
        if value is not None and value is not False:
            raise InvalidInput(f"{name}: concerns vectors, and only keywords are given")


def _check_weights(weights: object) -> tuple[float, float] | None:
    if weights is None:
        return None
    pair = list(weights) if isinstance(weights, list | tuple) else []
    numbers = [check_number(weight, "weights") for weight in pair]
    if len(numbers) != 2 or min(numbers) < 0 or not max(numbers):
        raise InvalidInput(f"weights: expected two numbers, not below 0 and not both 0, got {weights!r:.80}")
    return numbers[0], numbers[1]


def answer(
    session: Session, question: Question, asked: tuple[Asked, Queries] | None, wanted: Wanted
) -> Result:
    """The best k rows by keywords, or, asked for `question.depth` rows by vector too, by both."""

    def run(view: View) -> Result:
        with view.connection() as connection:
            return _run(session, connection, view.snapshot, question, asked, wanted)

    return session.consistently(run)


def _run(
    session: Session,
    connection: Connection,
    snapshot: Snapshot,
    question: Question,
    asked: tuple[Asked, Queries] | None,
    wanted: Wanted,
) -> Result:
    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        return metadata_of_keys(connection, keys, snapshot.generation)

    if settings.get_int(connection, "format_version") < settings.FIRST_WITH_KEYWORDS:
        raise InvalidInput(
            f'{session.path} has no keyword index yet; open it once with mode="a", which makes it'
        )
    times = [time.perf_counter()]
    by_vector, best, plan = Ranked(), list[Placed](), Plan(snapshot.generation, "keywords", ())
    if asked is not None:
        by_vector, plan = _by_vector(snapshot, *asked, parse(question.where), fetch)
    times.append(time.perf_counter())
    depth = question.k if asked is None else question.depth
    weights = question.weights or (1.0, 1.0)
    words = _by_words(connection, snapshot, question, depth)
    times.append(time.perf_counter())
    if asked is None:
        best = [Placed(key, score, None, number) for number, (key, score) in enumerate(words.ranked)]
        plan = replace(plan, matching=words.matching)
    else:
        best = fuse(by_vector, words.ranked, weights)[: question.k]
    hits = _hits(connection, snapshot, best, wanted)
    times.append(time.perf_counter())
    told = KeywordPlan(
        searched=tuple(map(str, words.searched)),
        ignored=tuple(map(str, words.ignored)),
        listed=len(words.ranked),
        depth=depth,
        weights=None if asked is None else weights,
        hits=tuple(_told(hits, best, by_vector, words.ranked)),
    )
    stages = ("vectors", "keywords", "rows")
    seconds = {name: times[i + 1] - times[i] for i, name in enumerate(stages) if i or asked is not None}
    return Result(
        [hit.id for hit in hits],
        np.array([hit.score for hit in hits], dtype=np.float32),
        replace(plan, seconds=seconds, keywords=told),
        hits,
    )


def _by_vector(
    snapshot: Snapshot, asked: Asked, query: Queries, node: Node | None, fetch: Fetch
) -> tuple[Ranked, Plan]:
    """The vectors' list, and how it came about."""
    (found,), watch = find(snapshot, asked, node, query, fetch)
    result = Result(found.ids, found.scores, found.make_plan)
    if watch is not None:
        result = explained(result, asked, query, watch, found)
    return list(zip(found.keys.tolist(), found.scores.tolist(), strict=True)), result.plan


def fuse(by_vector: Ranked, by_words: Ranked, weights: tuple[float, float]) -> list[Placed]:
    """All rows of both lists, best first; equal scores go by row key. A list that weighs 0 adds no row."""
    places: tuple[dict[int, int], ...] = tuple(
        {key: number for number, (key, _) in enumerate(ranked)} for ranked in (by_vector, by_words)
    )
    fused = []
    for key in places[0] | places[1]:
        here = [place.get(key) for place in places]
        shares = [
            weight / (RANK_CONSTANT + number + 1)
            for weight, number in zip(weights, here, strict=True)
            if number is not None
        ]
        if sum(shares) > 0:
            fused.append(Placed(key, sum(shares), here[0], here[1]))
    return sorted(fused, key=lambda one: (-one.score, one.key))


def _by_words(connection: Connection, snapshot: Snapshot, question: Question, count: int) -> _Words:
    """The best rows by BM25, of those that the namespace and the filter let through."""
    node, allowed = parse(question.where), None
    if not question.terms:
        return _Words([], (), (), None)
    kept, ignored = _telling(connection, question.terms)
    if node is not None or not rows.only_namespace(connection, question.namespace):
        allowed = matching_keys(connection, snapshot, question.namespace, node)
    ranked = keywords.best(connection, any_of(kept), count, allowed)
    matching = None if node is None or allowed is None else len(allowed)
    return _Words(ranked, kept, ignored, matching)


def _telling(connection: Connection, terms: tuple[Term, ...]) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
    """Terms that tell rows apart, and those that stand in more than half of many documents.

    BM25 gives the latter no weight (FTS5 takes 1e-6), but they would make it score half of all rows or more.
    """
    total = keywords.documents(connection) if len(terms) > 1 else 0
    if total < MANY_DOCUMENTS:
        return terms, ()
    common = tuple(term for term in terms if keywords.at_least(connection, term.expression, total // 2 + 1))
    if len(common) == len(terms):
        return terms, ()
    return tuple(term for term in terms if term not in common), common


def _hits(connection: Connection, snapshot: Snapshot, best: Sequence[Placed], wanted: Wanted) -> list[Hit]:
    stored = rows_of(connection, [one.key for one in best], snapshot.generation)
    vectors = None
    if wanted.vector:
        found = vectors_of(snapshot, [row.key for row in stored if not row.bare])
        vectors = [found.get(row.key) for row in stored]
    ids, scores = (row.id for row in stored), (one.score for one in best)
    return hits_of(ids, scores, stored, vectors, wanted)


def _told(
    hits: Sequence[Hit],
    best: Sequence[Placed],
    by_vector: Ranked,
    by_words: Ranked,
) -> list[FusedRank]:
    """Where each hit stood in both lists."""
    return [
        FusedRank(
            hit.id,
            rank,
            hit.score,
            None if one.by_vector is None else one.by_vector + 1,
            None if one.by_vector is None else by_vector[one.by_vector][1],
            None if one.by_words is None else one.by_words + 1,
            None if one.by_words is None else by_words[one.by_words][1],
        )
        for rank, (hit, one) in enumerate(zip(hits, best, strict=True), 1)
    ]
