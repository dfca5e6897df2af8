"""Intervals against their definition and against counts of how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrlstore.planning import confidence


def binomial_tail(found: int, trials: int, share: float) -> float:
    """P(X >= found)."""
    return sum(
        math.comb(trials, i) * share**i * (1 - share) ** (trials - i) for i in range(found, trials + 1)
    )


@pytest.mark.parametrize(("found", "trials"), [(0, 10), (10, 10), (5, 10), (98, 100), (1, 300), (299, 300)])
def test_clopper_pearson_is_its_definition(found: int, trials: int) -> None:
    span = confidence.clopper_pearson(found, trials)
    assert span.low <= span.mean <= span.high
    if found > 0:
        assert binomial_tail(found, trials, span.low) == pytest.approx(0.025, abs=1e-6)
    else:
        assert span.low == 0
    if found < trials:
        assert 1 - binomial_tail(found + 1, trials, span.high) == pytest.approx(0.025, abs=1e-6)
    else:
        assert span.high == 1


def test_without_trials_nothing_is_known() -> None:
    span = confidence.clopper_pearson(0, 0)
    assert (span.low, span.high) == (0, 1)
    assert math.isnan(span.mean)


def test_the_interval_of_clustered_shares_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        hard = rng.random(200) < 0.05  # a twentieth of the queries miss half of their neighbours
        shares = rng.binomial(10, np.where(hard, 0.5, 1.0)) / 10
        span = confidence.of_shares(shares, 10)
        held += span.low <= 0.975 <= span.high
    assert held >= 0.9 * 300


def test_a_sample_without_a_miss_still_has_width() -> None:
    span = confidence.of_shares(np.ones(100), 10)
    assert span.mean == span.high == 1
    assert 0.95 < span.low < 1
