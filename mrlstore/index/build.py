"""Builds the arrays of an index part: codes for all rows, and a graph for each group that is large enough.

A graph is built anew, or grows from that of an older segment.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index import codes as coding
from mrlstore.index.copies import copy_radius, copy_sets, find_copies
from mrlstore.index.graph import build_graph, grow_graph
from mrlstore.index.group import NO_COPIES, SCALE_AT, CopySets
from mrlstore.index.growing import Seed, start_from
from mrlstore.index.hnsw import build_hnsw_graph, require_hnswlib
from mrlstore.index.layout import Arrays
from mrlstore.kernels.group_table import EMPTY
from mrlstore.system.job import UNWATCHED, Job
from mrlstore.types import GraphBuilder

MIN_GRAPH_ROWS: Final = 2_000  # a smaller group has no graph: scanning its codes costs no more than a walk


@dataclass
class _BuildProgress:
    """How far a build is: a row counts once when it is encoded and twice when it is linked."""

    total: int
    job: Job
    done: int = 0

    def step(self, rows: int) -> None:
        """Count rows as done; raises Interrupted if the job is to stop."""
        self.done += rows
        self.job.step("index", min(self.done, self.total), self.total)


def build_index(
    vectors: NDArray[np.float16],
    groups: NDArray[np.int64],
    *,
    prefix_dim: int,
    m: int = 16,
    ef_construction: int = 200,
    threads: int | None = None,
    job: Job = UNWATCHED,
    builder: GraphBuilder = "mrlstore",
    like: coding.Coding | None = None,
    seeds: Sequence[Seed | None] = (),
) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of an index part, and what its JSON header says of them.

    vectors: float16 [n, dim] unit rows; groups: int64 [g + 1], the first row of each namespace, and n. like:
    what codes the store's other segments have, see choose_rotation. seeds: for each group the index of an
    older one whose graph is kept where that is cheaper than a new one; they have the same prefix, m and
    builder, and the codes `like`.
    Raises Interrupted soon after the job is asked to stop, ImportError where the builder is not installed.
    """
    n, sizes = len(vectors), np.diff(groups)
    large = sizes >= MIN_GRAPH_ROWS
    if large.any():
        require_builder(builder)  # before the rows are encoded
    state = _BuildProgress(n + 2 * int(sizes[large].sum()), job)
    rotation = coding.choose_rotation(vectors, prefix_dim, like)
    codes, usable = _encode_all(vectors, prefix_dim, rotation, state)
    if like is None or builder != "mrlstore" or not coding.same_rotation(rotation, like.rotation):
        seeds = ()
    neighbours = np.full((n if large.any() else 0, 2 * m), EMPTY, np.uint32)
    found: list[_GroupArrays] = []
    for number, (start, stop) in enumerate(itertools.pairwise(groups.tolist())):
        rows = _GroupRows(vectors[start:stop], codes[start:stop], usable[start:stop], prefix_dim)
        work = _GraphWork(2 * m, ef_construction, threads or os.cpu_count() or 1, state.step)
        seed = seeds[number] if seeds else None
        if seed is not None and seed.fits(stop - start):
            group = _grown(rows, work, seed)
        else:
            group = _new(rows, work, builder)
        if group.neighbours is not None:
            neighbours[start:stop] = group.neighbours
        found.append(group)
    entries = [one.entries for one in found]
    joined, entry_starts = _joined(entries), _starts(entries)
    first_rows = np.repeat(groups[:-1], np.diff(entry_starts))
    unprefixed = [one.unprefixed for one in found]
    copies = [one.copies for one in found]
    arrays: Arrays = {
        "codes": codes,
        "neighbours": neighbours,
        "entries": joined,
        "entry_starts": entry_starts,
        "entry_codes": codes[joined + first_rows],
        "unprefixed": _joined(unprefixed),
        "unprefixed_starts": _starts(unprefixed),
        "copy_sets": np.concatenate([NO_COPIES.sets, *(one.sets for one in copies)]),
        "copy_set_starts": _starts([one.sets for one in copies]),
        "copies": _joined([one.rows for one in copies]),
        "copy_starts": _starts([one.rows for one in copies]),
        "rotation": np.zeros((0, coding.padded(prefix_dim)), np.uint8)
        if rotation is None
        else rotation.codes,
        "rotation_scales": np.zeros(0, np.float32) if rotation is None else rotation.scales,
    }
    info = {
        "prefix_dim": prefix_dim,
        "code_dim": prefix_dim if rotation is None else len(rotation.scales),
        "scale_at": SCALE_AT,
        "m": m,
        "ef_construction": ef_construction,
        "graph": builder,
    }
    return arrays, info


class _GroupRows(NamedTuple):
    """The rows of one group."""

    vectors: NDArray[np.float16]  # [n, dim]
    codes: NDArray[np.uint8]  # [n, stride]
    usable: NDArray[np.bool_]  # [n], whether the prefix is long enough for a code
    prefix_dim: int


class _GraphWork(NamedTuple):
    """How a graph is built, and who is told of it."""

    width: int  # links of a row at most
    ef: int  # candidates that the walk of an insertion keeps
    threads: int
    step: Callable[[int], None]


class _GroupArrays(NamedTuple):
    """What the index of one group consists of, beside its codes."""

    unprefixed: NDArray[np.uint32]
    copies: CopySets
    neighbours: NDArray[np.uint32] | None  # [n, width]
    entries: NDArray[np.uint32]


def _new(rows: _GroupRows, work: _GraphWork, builder: GraphBuilder) -> _GroupArrays:
    """A graph of all rows, built anew; none where they are few."""
    unprefixed = np.flatnonzero(~rows.usable).astype(np.uint32)
    nodes = np.flatnonzero(rows.usable)
    copies = copy_sets(find_copies(rows.codes, nodes, copy_radius(rows.codes, nodes), work.step))
    if len(nodes) < MIN_GRAPH_ROWS:
        return _GroupArrays(unprefixed, copies, None, np.zeros(0, np.uint32))
    single = np.setdiff1d(nodes, copies.rows)
    if builder == "hnswlib":
        graph = build_hnsw_graph(
            rows.vectors, rows.prefix_dim, rows.codes, single, work.width, work.ef, work.threads, work.step
        )
    else:
        graph = build_graph(rows.codes, single, work.width, work.ef, work.threads, work.step)
    work.step(2 * (len(nodes) - len(single)))
    return _GroupArrays(unprefixed, copies, graph.neighbours, graph.entries)


def _grown(rows: _GroupRows, work: _GraphWork, seed: Seed) -> _GroupArrays:
    """The graph of an older group, with the other rows inserted."""
    unprefixed, nodes = np.flatnonzero(~rows.usable), np.flatnonzero(rows.usable)
    start = start_from(seed, len(rows.codes), work.width)
    known = np.zeros(len(rows.codes), np.bool_)
    known[seed.rows[seed.rows >= 0]] = True
    new = nodes[~known[nodes]]
    radius = copy_radius(rows.codes, nodes)
    node_of = find_copies(rows.codes, new, radius, work.step)
    new = new[node_of[new] == new]
    node_of[known] = start.node_of[known]
    grown = grow_graph(rows.codes, start, node_of, new, radius, work.ef, work.threads, work.step)
    work.step(2 * (len(nodes) - len(start.nodes) - len(new)))
    graph, copies = grown.graph, copy_sets(grown.node_of)
    return _GroupArrays(unprefixed.astype(np.uint32), copies, graph.neighbours, graph.entries)


def built_by(info: Mapping[str, Any]) -> object:
    """What has built the graphs of an index part, by its header, which older parts do not say."""
    return info.get("graph", "mrlstore")


def has_graphs(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether an index part has graphs: it has none where all groups are small."""
    return len(arrays["neighbours"]) > 0


def require_builder(builder: GraphBuilder) -> None:
    """Raise ImportError, which says what to do, if graphs by this builder cannot be built here."""
    if builder == "hnswlib":
        require_hnswlib()


def _joined(lists: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """The lists of all groups as one array."""
    return np.concatenate(lists) if lists else np.zeros(0, np.uint32)


def _starts(lists: list[NDArray[np.uint32]]) -> NDArray[np.int64]:
    """int64 [g + 1]: where the list of each group begins in the joined array, and its length."""
    return np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)


def _encode_all(
    vectors: NDArray[np.float16], prefix_dim: int, rotation: coding.Rotation | None, state: _BuildProgress
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Code rows uint8 [n, stride], and which rows have a usable prefix, bool [n]."""
    code_dim = prefix_dim if rotation is None else len(rotation.scales)
    codes = np.empty((len(vectors), coding.stride_of(code_dim)), np.uint8)
    usable = np.empty(len(vectors), np.bool_)
    for start in range(0, len(vectors), coding.BLOCK):
        stop = min(start + coding.BLOCK, len(vectors))
        prefixes, usable[start:stop] = coding.unit_prefixes(vectors[start:stop], prefix_dim)
        codes[start:stop] = coding.encode(prefixes, usable[start:stop], rotation)
        state.step(stop - start)
    return codes, usable
