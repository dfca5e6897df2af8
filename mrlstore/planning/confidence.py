"""Confidence intervals of recall, in plain Python: Clopper-Pearson, and the same for shares in clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
_ASSUMED_EFFECT: Final = 3  # design effect where no query missed anything, see of_shares
_STEPS = 300  # terms of a continued fraction, at most
_TINY = 1e-300  # in place of a zero denominator (Lentz)


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds the true one with 95% confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def clopper_pearson(found: float, trials: float, confidence: float = CONFIDENCE) -> Interval:
    """The exact interval of a binomial share; `found` and `trials` need not be whole numbers.

    C. Clopper and E. Pearson, Biometrika 26 (1934). Without trials it is [0, 1].
    """
    if trials <= 0:
        return Interval(math.nan, 0.0, 1.0)
    tail = (1 - confidence) / 2
    low = 0.0 if found <= 0 else _quantile(tail, found, trials - found + 1)
    high = 1.0 if found >= trials else _quantile(1 - tail, found + 1, trials - found)
    return Interval(found / trials, low, high)


def of_shares(shares: NDArray[np.floating], each: int) -> Interval:
    """The interval of the mean of per-query shares, float [q], each of `each` neighbours.

    Misses come in clusters (a hard query misses several), so the neighbours are not independent: the number
    of trials is divided by the design effect that the spread between the queries shows (L. Kish, 1965), and
    is at least one for each query. A sample without a miss shows no spread: an effect of 3 is assumed.
    """
    if len(shares) == 0:
        return Interval(math.nan, 0.0, 1.0)
    trials = effective_trials(shares, each)
    return clopper_pearson(min(float(np.mean(shares)), 1.0) * trials, trials)


def effective_trials(shares: NDArray[np.floating], each: int) -> float:
    """How many independent trials shares [q > 0] of `each` neighbours are worth, see `of_shares`."""
    count = len(shares)
    mean = min(float(np.mean(shares)), 1.0)
    spread = float(np.var(shares, ddof=1)) / count if count > 1 else 0.0
    whole = float(count * each)
    trials = mean * (1 - mean) / spread if spread > 0 else whole / _ASSUMED_EFFECT
    return min(max(trials, float(count)), whole)


def standard_error(shares: NDArray[np.floating]) -> float:
    """The standard error of the mean of per-query shares, float [q]; 0 for one query."""
    return float(np.std(shares, ddof=1) / math.sqrt(len(shares))) if len(shares) > 1 else 0.0


def _quantile(probability: float, a: float, b: float) -> float:
    """Where the beta distribution's integral reaches `probability`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if _beta(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    scale = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return scale * _fraction(x, a, b) / a
    return 1 - scale * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Lentz's evaluation of the continued fraction of the incomplete beta function."""
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _STEPS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + step * d
            c = 1 + step / c
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = c if abs(c) > _TINY else _TINY
            value *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return value
