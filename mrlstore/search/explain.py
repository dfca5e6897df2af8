"""explain=True: what the re-rank changed, how close the shortlist's edge was, and where the time went.

Everything here happens after the answer is found. Ranks by prefix are counted among the rows of the
shortlists, with exact cosines of the prefix, not with the codes that chose them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.search.group_search import Queries
from mrlstore.search.searcher import Answer, Watch, Watched
from mrlstore.types import Explanation, HitRanks, Result

SPREADS: Final = 2.5  # how far above the trend a row beyond the edge is taken to lie at best, in deviations
_FEWEST: Final = 8  # rows without which no trend is fitted


@dataclass(frozen=True)
class _Listed:
    """One group's shortlist, scored both ways."""

    seen: Watched
    keys: NDArray[np.int64]  # [s]
    prefix: NDArray[np.float32]  # [s] cosine of the prefix
    full: NDArray[np.float32]  # [s] cosine of the whole


def explain(k: int, query: Queries, watch: Watch, found: Answer, result: Result) -> Explanation:
    """What a watched search of one query for the best k did."""
    answered, hits, plan = time.perf_counter(), result.hits, result.plan
    lists = [_score(seen, query.vectors[0]) for seen in watch.groups]
    prefix = {
        key: score for some in lists for key, score in zip(some.keys.tolist(), some.prefix, strict=True)
    }
    shortlisted = [some for some in lists if some.seen.listed is not None]
    ordered = np.sort(np.concatenate([some.prefix for some in shortlisted] or [np.empty(0, np.float32)]))
    among = {key for some in shortlisted for key in some.keys.tolist()}
    ranks = []
    for place, (hit, key) in enumerate(zip(hits, found.keys.tolist(), strict=False), 1):
        score = float(prefix.get(key, np.nan))
        above = len(ordered) - int(np.searchsorted(ordered, score, side="right"))
        ranks.append(HitRanks(hit.id, place, hit.score, above + 1 if key in among else None, score))
    last = hits[-1].score if hits else None
    hidden = _hidden(shortlisted, k)
    margin = None if last is None or hidden is None else last - hidden
    absent = [seen.absent for seen in watch.groups if seen.listed is not None]
    known = [pages for pages in absent if pages is not None]
    return Explanation(
        hits=tuple(ranks),
        from_beyond_k=sum(one.prefix_rank is not None and one.prefix_rank > k for one in ranks),
        kth_score=last,
        hidden_score=hidden,
        margin=margin,
        warnings=tuple(_warnings(ranks, shortlisted, margin, k, query.prefix_norms[0] ** 2)),
        visited=plan.visited,
        reranked=plan.reranked,
        absent_pages=sum(known) if len(known) == len(absent) else None,
        microseconds=_times(watch, filtered=plan.matching is not None, answered=answered),
        matching=plan.matching,
        paths=tuple(part.path for part in plan.segments),
    )


def _score(seen: Watched, query: NDArray[np.float32]) -> _Listed:
    assert seen.found is not None
    rows = seen.found.rows[0, : seen.found.counts[0][0]] if seen.listed is None else seen.listed
    group = seen.group
    width = group.index.prefix_dim if group.index is not None else len(query)
    wide = group.vectors[rows].astype(np.float32)
    full = wide @ query * group.inv_norms[rows]
    lengths = np.linalg.norm(wide[:, :width], axis=1) * max(float(np.linalg.norm(query[:width])), 1e-30)
    prefix = wide[:, :width] @ query[:width] / np.maximum(lengths, 1e-30)
    return _Listed(seen, group.keys[rows], prefix.astype(np.float32), full.astype(np.float32))


def _hidden(lists: Sequence[_Listed], k: int) -> float | None:
    """Estimate the best score that a row just beyond the edge of a shortlist could have.

    The trend of whole against prefix cosine over the shortlisted rows, at the edge, some deviations above.
    """
    guesses = []
    for some in lists:
        if len(some.prefix) < max(_FEWEST, k) or len(some.prefix) >= some.seen.allowed:
            continue
        spread = float(np.var(some.prefix))
        slope = 0.0 if spread < 1e-12 else float(np.cov(some.prefix, some.full, bias=True)[0, 1]) / spread
        middle, centre = float(some.prefix.mean()), float(some.full.mean())
        away = float(np.std(some.full - centre - slope * (some.prefix - middle)))
        guesses.append(centre + slope * (float(some.prefix.min()) - middle) + SPREADS * away)
    return min(max(guesses), 1.0) if guesses else None


def _warnings(
    ranks: Sequence[HitRanks],
    lists: Sequence[_Listed],
    margin: float | None,
    k: int,
    prefix_energy: float,
) -> list[str]:
    told = []
    length = sum(len(some.prefix) for some in lists)
    late = [one for one in ranks if one.prefix_rank is not None and one.prefix_rank > 0.8 * length]
    if margin is not None and margin < 0:
        told.append(
            f"the shortlist looks too short: a row beyond its edge could score {-margin:.4f} more than the "
            "last hit (an estimate)"
        )
    if late and margin is not None and length > 1.5 * k:
        told.append(
            f"the shortlist looks too short: {len(late)} of {len(ranks)} hits came from its last fifth"
        )
    if prefix_energy < 0.01:
        told.append(f"the query's prefix holds {prefix_energy:.1%} of its energy")
    return told


def _times(watch: Watch, *, filtered: bool, answered: float) -> dict[str, float]:
    groups, filter_s = watch.groups, watch.ready - watch.started if filtered else 0.0
    first = sum((seen.listed_at if seen.listed is not None else seen.done) - seen.started for seen in groups)
    second = sum(seen.done - seen.reranking_at for seen in groups if seen.listed is not None)
    watching = sum(seen.reranking_at - seen.listed_at for seen in groups if seen.listed is not None)
    after = answered - watch.searched
    stages = {"filter": filter_s, "first stage": first, "re-rank": second, "hydrate": after}
    stages["other"] = watch.searched - watch.started - filter_s - first - second - watching
    return {name: 1e6 * seconds for name, seconds in stages.items()}
