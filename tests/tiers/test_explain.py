"""explain=True against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scale import FULL
from tests.tiers.conftest import PREFIX, Indexed


def prefix_cosines(indexed: Indexed, query: np.ndarray) -> np.ndarray:
    rows = indexed.rows[:, :PREFIX].astype(np.float64)
    part = query[:PREFIX].astype(np.float64)
    return np.asarray(rows @ part / np.linalg.norm(rows, axis=1) / np.linalg.norm(part))


def test_ranks_and_scores_are_those_of_numpy(generated: Indexed) -> None:
    for query in generated.queries[:10]:
        result = generated.store.query(query, explain=True, include=(), ef=400, shortlist=400)
        told = result.plan.explanation
        cosines = prefix_cosines(generated, query)
        assert [one.id for one in told.hits] == result.ids
        assert [one.rank for one in told.hits] == list(range(1, 11))
        for one in told.hits:
            assert one.prefix_score == pytest.approx(cosines[int(one.id)], abs=1e-3)
            above = int(np.count_nonzero(cosines > cosines[int(one.id)]))
            if above < 30:  # so near the top that the shortlist holds all that are above
                assert abs(one.prefix_rank - above - 1) <= 2
        assert told.from_beyond_k == sum(one.prefix_rank > 10 for one in told.hits)
        assert (told.visited, told.reranked) == (result.plan.visited, result.plan.reranked)
        listed = np.argsort(-cosines)[:400]
        whole = generated.rows[listed] @ query / np.linalg.norm(generated.rows[listed], axis=1)
        best = {str(row) for row in listed[np.argsort(-whole)[:10]]}
        assert set(result.ids) == best
        assert told.reranked == 400


def test_the_answer_is_the_same(generated: Indexed) -> None:
    for query in generated.queries[:20]:
        plain = generated.store.query(query)
        told = generated.store.query(query, explain=True)
        assert (plain.ids, plain.scores.tolist()) == (told.ids, told.scores.tolist())
        assert plain.plan.explanation is None


def test_a_short_shortlist_is_warned_of_and_a_long_one_is_not(generated: Indexed) -> None:
    def warned(shortlist: int) -> float:
        results = [
            generated.store.query(q, explain=True, include=(), ef=400, shortlist=shortlist)
            for q in generated.queries
        ]
        for result in results:
            told = result.plan.explanation
            assert told.margin == pytest.approx(told.kth_score - told.hidden_score)
        return float(np.mean([bool(result.plan.explanation.warnings) for result in results]))

    assert warned(11) > 0.7
    assert warned(400) < 0.1


def test_filters_tell_how_many_match_and_which_way_was_chosen(generated: Indexed) -> None:
    asked = {"explain": True, "where": {"n": 3}}
    listed = generated.store.query(generated.queries[0], shortlist=20, **asked).plan.explanation
    assert listed.paths == ("scan",), "a walk is not worth while for so few rows"
    assert listed.reranked <= 20 < listed.visited == listed.matching
    told = generated.store.query(generated.queries[0], **asked).plan.explanation
    assert told.matching == len(range(3, len(generated.rows), 100))
    assert told.paths == ("scan" if FULL else "exact",), "what calibration found to be cheapest"
    assert told.microseconds["filter"] > 0
    assert set(told.microseconds) == {"filter", "first stage", "re-rank", "hydrate", "other"}
    assert all(value >= 0 for value in told.microseconds.values())


def test_exact_and_empty_answers_are_explained(generated: Indexed) -> None:
    told = generated.store.query(generated.queries[0], explain=True, exact=True).plan.explanation
    assert told.margin is None
    assert [one.prefix_rank for one in told.hits] == [None] * 10
    assert told.reranked == len(generated.rows)
    nothing = generated.store.query(generated.queries[0], explain=True, where={"n": -1}).plan.explanation
    assert (nothing.hits, nothing.kth_score, nothing.matching) == ((), None, 0)


def test_batches_are_explained(generated: Indexed) -> None:
    batch = generated.store.query_batch(generated.queries[:3], explain=True, include=())
    assert all(result.plan.explanation is not None for result in batch)
    assert [[one.id for one in r.plan.explanation.hits] for r in batch] == batch.ids
