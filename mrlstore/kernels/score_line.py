"""A line of least squares through code scores and exact scores: which exact score a code score lets expect.

Of many near copies those with the best code scores have it partly by chance, and their exact scores lie
closer together than their code scores. A mean difference of both, learned from the first of them, then says
too little of the rest. The line is fitted to copies from everywhere in the list, so that it holds for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bits import square_root
from .jit import device

NO_PAIRS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
FEWEST_FITTED, SAMPLED = 128, 32  # copies of a node for which a line is fitted, and how many of them to
ABOVE = 3.5  # standard deviations about the line by which a copy may be better than expected
_LEAST_SPREAD = 1e-14  # of code scores: those of equal codes do not differ


@device
def is_sampled(place: Any, step: Any) -> Any:
    """Whether the first SAMPLED multiples of `step` hold a place."""
    return place < SAMPLED * step and place // step * step == place


@device
def add_pair(sums: Any, code: Any, exact: Any) -> Any:
    """Add one copy to the sums (count, codes, exacts, codes squared, products, exacts squared), float64."""
    x, y = np.float64(code), np.float64(exact)
    return (
        sums[0] + 1.0, sums[1] + x, sums[2] + y, sums[3] + x * x, sums[4] + x * y, sums[5] + y * y
    )  # fmt: skip


@device
def highest_expected(sums: Any, code: Any) -> Any:
    """The exact score, float32, that hardly a copy with this code score exceeds; sums: of 3 pairs or more."""
    count = sums[0]
    mean_code, mean_exact = sums[1] / count, sums[2] / count
    codes = sums[3] / count - mean_code * mean_code
    both = sums[4] / count - mean_code * mean_exact
    slope = both / codes if codes > _LEAST_SPREAD and both > 0 else 0.0
    rest = (sums[5] / count - mean_exact * mean_exact - slope * both) * count / (count - 2)
    expected = mean_exact + slope * (np.float64(code) - mean_code)
    return np.float32(expected) + np.float32(ABOVE) * square_root(np.float32(max(rest, 0.0)))
