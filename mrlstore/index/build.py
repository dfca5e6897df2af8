"""Builds the arrays of an index part: codes for all rows, and a graph for each group that is large enough."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.index import codes as coding
from mrlstore.index.copies import find_copies
from mrlstore.index.graph import build_graph
from mrlstore.index.group import NO_COPIES, SCALE_AT, CopySets
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
) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of an index part, and what its JSON header says of them.

    vectors: float16 [n, dim] unit rows; groups: int64 [g + 1], the first row of each namespace, and n. like:
    what codes the store's other segments have, see choose_rotation.
    Raises Interrupted soon after the job is asked to stop, ImportError where the builder is not installed.
    """
    n, sizes = len(vectors), np.diff(groups)
    large = sizes >= MIN_GRAPH_ROWS
    if large.any():
        require_builder(builder)  # before the rows are encoded
    state = _BuildProgress(n + 2 * int(sizes[large].sum()), job)
    rotation = coding.choose_rotation(vectors, prefix_dim, like)
    codes, usable = _encode_all(vectors, prefix_dim, rotation, state)
    neighbours = np.full((n if large.any() else 0, 2 * m), EMPTY, np.uint32)
    entries: list[NDArray[np.uint32]] = []
    unprefixed: list[NDArray[np.uint32]] = []
    copies: list[CopySets] = []
    for start, stop in zip(groups[:-1].tolist(), groups[1:].tolist(), strict=True):
        unprefixed.append(np.flatnonzero(~usable[start:stop]).astype(np.uint32))
        nodes = np.flatnonzero(usable[start:stop])
        copies.append(find_copies(codes[start:stop], nodes, state.step))
        if len(nodes) < MIN_GRAPH_ROWS:
            entries.append(np.zeros(0, np.uint32))
            continue
        single, workers = np.setdiff1d(nodes, copies[-1].rows), threads or os.cpu_count() or 1
        if builder == "hnswlib":
            graph = build_hnsw_graph(
                vectors[start:stop], prefix_dim, codes[start:stop], single, 2 * m, ef_construction, workers,
                state.step,
            )  # fmt: skip
        else:
            graph = build_graph(codes[start:stop], single, 2 * m, ef_construction, workers, state.step)
        neighbours[start:stop] = graph.neighbours
        state.step(2 * (len(nodes) - len(single)))
        entries.append(graph.entries)
    joined = _joined(entries)
    entry_starts = _starts(entries)
    first_rows = np.repeat(groups[:-1], np.diff(entry_starts))
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
