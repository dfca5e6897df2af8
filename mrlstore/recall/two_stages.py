"""The two stages of one search apart, for trials: one shortlist, re-ranked at several stop margins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.group import SHORT_PREFIX
from mrlstore.kernels.load import kernels
from mrlstore.search.group_search import GroupSearch, Scan, Walk
from mrlstore.search.joint_search import JointSearch
from mrlstore.search.queries import Queries
from mrlstore.search.workspace import borrow, empty_hits, empty_joint_hits, give_back


class Stages(NamedTuple):
    """What the first stage listed, and how far the second went at each stop margin.

    shortlist: int64 [n], row numbers of nodes by falling code score, then of rows without a code, which are
    scored in any case. coded: how many have a code. scored: at each margin the nodes that were scored on
    their full rows. visited, copies: rows whose code was scored, and near copies scored in full.
    """

    shortlist: NDArray[np.int64]
    coded: int
    scored: tuple[int, ...]
    visited: int
    copies: int


def stages(search: GroupSearch, queries: Queries, margins: Sequence[float]) -> Stages | None:
    """Search for one query; None where every row is scored in full, without a shortlist.

    margins: rising; then perhaps 0, at which the whole shortlist is scored. Near copies are scored at the
    greatest.
    """
    if isinstance(search, Walk) and (search.group.index is None or search.group.index.neighbours is None):
        search = search.scan
    if not isinstance(search, Walk | Scan) or search.group.index is None or not kernels().compiled:
        return None
    queries = queries.at(search.group.index.prefix_dim)
    if queries.prefix_norms[0] < SHORT_PREFIX:
        return None
    work, listed, best = borrow(), empty_hits(1, 0), empty_hits(1, search.k)
    search.reserve(work.scratch)
    search.launch(queries.vectors, listed, work.scratch)
    count, coded, visited, *_ = listed.counts[0].tolist()
    shortlist = work.scratch.listed[:count].copy()
    group, vector, memory = search.group.table, queries.vectors[0], work.scratch.table
    ending = np.array([margin for margin in margins if margin > 0], dtype=np.float32)
    ends = np.empty(len(ending), dtype=np.int64)
    kernels().rerank_ends(group, vector, memory, coded, search.k, ending, best.rows[0], best.scores[0], ends)
    scored = ends.tolist() + [coded] * (len(margins) - len(ending))
    best.counts[0] = 0
    if search.nodes.most:
        kernels().rerank_copies(
            group, vector, memory, search.address, coded, count, search.nodes.most, max(margins),
            search.nodes.reach, best.rows[0], best.scores[0], best.counts[0],
        )  # fmt: skip
    give_back(work)
    codes_of_copies, copies = int(best.counts[0, 2]), int(best.counts[0, 4])
    return Stages(shortlist, coded, tuple(scored), visited + codes_of_copies, copies)


class JointStages(NamedTuple):
    """The same for several groups that are searched together; the shortlist holds places.

    whole: rows scored in full of groups without codes; whole_keys: the keys of those among the best.
    """

    shortlist: NDArray[np.int64]
    scored: tuple[int, ...]
    visited: int
    copies: int
    whole: int
    whole_keys: NDArray[np.int64]


def joint_stages(joint: JointSearch, queries: Queries, margins: Sequence[float]) -> JointStages:
    """As `stages`, for several groups."""
    groups, without = len(joint.parts), joint.scored_whole()
    work, listed, best = borrow(), empty_joint_hits(1, 0, groups), empty_joint_hits(1, joint.k, groups)
    joint.reserve(work.scratch)
    queries = queries.at(joint.prefix_dim)
    joint.launch(queries.vectors, listed, work.scratch)
    count, coded = listed.sizes[0].tolist()
    shortlist = work.scratch.listed[:count].copy()
    best.counts[:] = listed.counts
    scored = []
    for margin in margins:
        joint.rerank(queries.vectors[0], best, work.scratch, coded, count, whole=False, stop_margin=margin)
        scored.append(int(best.counts[0, :, 1].sum()) - (count - coded) if margin > 0 else coded)
    joint.rerank(queries.vectors[0], best, work.scratch, coded, count, whole=True, stop_margin=max(margins))
    give_back(work)
    counts, size = best.counts[0], int(best.sizes[0, 0])
    found = np.isin(best.which[0, :size], without)
    keys = joint.keys_of(best.rows[0, :size][found], best.which[0, :size][found])
    return JointStages(
        shortlist, tuple(scored), int(counts[:, 2].sum()), int(counts[:, 4].sum()),
        int(counts[without, 1].sum()), keys,
    )  # fmt: skip
