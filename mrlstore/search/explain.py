"""explain=True: what the re-rank changed, how close the shortlist's edge was, and where the time went.

The searcher fills a `Trace` on its way; everything else happens after the answer is found. Ranks by prefix
are counted among the rows of the shortlists, by exact cosines of the prefix, not by the codes that chose.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import Group
from mrlstore.search.queries import Queries
from mrlstore.system.products import product
from mrlstore.types import Explanation, HitRanks, Result

SPREADS: Final = 2.5  # a row beyond the edge is taken to lie at most so many deviations above the trend
_FEWEST: Final = 8  # rows without which no trend is fitted


@dataclass
class GroupTrace:
    """What is seen of the search of one group. Times are seconds of time.perf_counter()."""

    group: Group
    allowed: int  # rows that may be answers
    started: float
    listed: NDArray[np.int64] | None = None  # the shortlist, by code score; None for an exact scan
    listed_at: float = 0.0
    absent: int | None = None  # pages of the shortlist's rows that were not in memory
    reranking_at: float = 0.0
    done: float = 0.0
    rows: NDArray[np.int64] | None = None  # the group's best, once it is done


@dataclass
class Trace:
    """What is seen of the search of one query. Times are seconds of time.perf_counter()."""

    groups: list[GroupTrace] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    ready: float = 0.0  # the filter is evaluated
    searched: float = 0.0


@dataclass(frozen=True)
class _Listed:
    """One group's shortlist, scored both ways."""

    seen: GroupTrace
    keys: NDArray[np.int64]  # [s]
    prefix: NDArray[np.float32]  # [s] cosine of the prefix
    full: NDArray[np.float32]  # [s] cosine of the whole


def explained(result: Result, k: int, query: Queries, trace: Trace, keys: NDArray[np.int64]) -> Result:
    """The same result, its plan with an explanation of the traced search of one query for the best k.

    keys: those of the hits, int64 [hits].
    """
    hits, plan, answered = result.hits, result.plan, time.perf_counter()
    lists = [_score(seen, query.vectors[0]) for seen in trace.groups]
    prefix = {
        key: score for some in lists for key, score in zip(some.keys.tolist(), some.prefix, strict=True)
    }
    shortlisted = [some for some in lists if some.seen.listed is not None]
    ordered = np.sort(np.concatenate([some.prefix for some in shortlisted] or [np.empty(0, np.float32)]))
    among = {key for some in shortlisted for key in some.keys.tolist()}
    ranks = []
    for place, (hit, key) in enumerate(zip(hits, keys.tolist(), strict=True), 1):
        score = float(prefix.get(key, np.nan))
        above = len(ordered) - int(np.searchsorted(ordered, score, side="right"))
        ranks.append(HitRanks(hit.id, place, hit.score, above + 1 if key in among else None, score))
    last = hits[-1].score if hits else None
    hidden = _hidden(shortlisted, k)
    margin = None if last is None or hidden is None else last - hidden
    absent = [seen.absent for seen in trace.groups if seen.listed is not None]
    known = [pages for pages in absent if pages is not None]
    explanation = Explanation(
        hits=tuple(ranks),
        from_beyond_k=sum(one.prefix_rank is not None and one.prefix_rank > k for one in ranks),
        kth_score=last,
        hidden_score=hidden,
        margin=margin,
        warnings=tuple(_warnings(ranks, shortlisted, margin, k, query.prefix_norms[0] ** 2)),
        visited=plan.visited,
        reranked=plan.reranked,
        absent_pages=sum(known) if len(known) == len(absent) else None,
        microseconds=_times(trace, filtered=plan.matching is not None, answered=answered),
        matching=plan.matching,
        paths=tuple(part.path for part in plan.segments),
    )
    return Result(result.ids, result.scores, replace(plan, explanation=explanation), hits)


def _score(seen: GroupTrace, query: NDArray[np.float32]) -> _Listed:
    rows = seen.rows if seen.listed is None else seen.listed
    assert rows is not None
    group = seen.group
    width = group.index.prefix_dim if group.index is not None else len(query)
    wide = group.vectors[rows].astype(np.float32)
    full = product(wide, query) * group.inv_norms[rows]
    lengths = np.linalg.norm(wide[:, :width], axis=1) * max(float(np.linalg.norm(query[:width])), 1e-30)
    prefix = product(wide[:, :width], query[:width]) / np.maximum(lengths, 1e-30)
    return _Listed(seen, group.keys[rows], prefix.astype(np.float32), full.astype(np.float32))


def _hidden(lists: Sequence[_Listed], k: int) -> float | None:
    """Estimate the best score that a row just beyond the edge of the shortlists could have.

    The trend of whole against prefix cosine over the shortlisted rows, at the edge, some deviations above.
    """
    prefix = np.concatenate([some.prefix for some in lists] or [np.empty(0, np.float32)])
    full = np.concatenate([some.full for some in lists] or [np.empty(0, np.float32)])
    if len(prefix) < max(_FEWEST, k) or len(prefix) >= sum(some.seen.allowed for some in lists):
        return None
    spread = float(np.var(prefix))
    slope = 0.0 if spread < 1e-12 else float(np.cov(prefix, full, bias=True)[0, 1]) / spread
    middle, centre = float(prefix.mean()), float(full.mean())
    away = float(np.std(full - centre - slope * (prefix - middle)))
    return min(centre + slope * (float(prefix.min()) - middle) + SPREADS * away, 1.0)


def _warnings(
    ranks: Sequence[HitRanks],
    lists: Sequence[_Listed],
    margin: float | None,
    k: int,
    prefix_energy: float,
) -> list[str]:
    warnings = []
    length = sum(len(some.prefix) for some in lists)
    late = [one for one in ranks if one.prefix_rank is not None and one.prefix_rank > 0.8 * length]
    if margin is not None and margin < 0:
        warnings.append(
            f"the shortlist looks too short: a row beyond its edge could score {-margin:.4f} more than the "
            "last hit (an estimate)"
        )
    if late and margin is not None and length > 1.5 * k:
        warnings.append(
            f"the shortlist looks too short: {len(late)} of {len(ranks)} hits came from its last fifth"
        )
    if prefix_energy < 0.01:
        warnings.append(f"the query's prefix holds {prefix_energy:.1%} of its energy")
    return warnings


def _times(trace: Trace, *, filtered: bool, answered: float) -> dict[str, float]:
    groups, filter_s = trace.groups, trace.ready - trace.started if filtered else 0.0
    first = sum((seen.listed_at if seen.listed is not None else seen.done) - seen.started for seen in groups)
    second = sum(seen.done - seen.reranking_at for seen in groups if seen.listed is not None)
    watching = sum(seen.reranking_at - seen.listed_at for seen in groups if seen.listed is not None)
    after = answered - trace.searched
    stages = {"filter": filter_s, "first stage": first, "re-rank": second, "hydrate": after}
    stages["other"] = trace.searched - trace.started - filter_s - first - second - watching
    return {name: 1e6 * seconds for name, seconds in stages.items()}
