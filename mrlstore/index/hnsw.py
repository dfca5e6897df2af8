"""Builds the graph of one group with hnswlib, over the float32 prefixes.

The result has the same form as that of our own builder, so one kernel walks both: the lists of hnswlib's
lowest layer become the neighbour lists, the rows of its upper layers become entries, and links are added
until every row is reached. While it builds, hnswlib holds a float32 copy of the prefixes, and at the end for
a moment two. hnswlib is optional, and imported here alone. Its loader of files is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.codes import BLOCK, unit_prefixes
from mrlstore.index.graph import Graph, connected, entry_count, square_lengths
from mrlstore.kernels.group_table import EMPTY
from mrlstore.system.late import importing, numpy_random

SEED: Final = 100  # of the layers that rows are put in; hnswlib's own default
CHUNK: Final = 256  # rows between two looks whether the build is to stop: 0.6 s with ef_construction=2,000


def require_hnswlib() -> Any:
    """The package hnswlib; ImportError says how to get it."""
    with importing:
        try:
            import hnswlib
        except ImportError as error:
            raise ImportError(
                "this needs hnswlib, which is not installed: pip install 'mrlstore[hnswlib]' "
                "(it is compiled then, by a C++ compiler)",
                name="hnswlib",
            ) from error
    return hnswlib


def new_index(space: str, dim: int, rows: int, m: int, ef_construction: int) -> Any:
    """An empty hnswlib.Index for so many rows. Raises ImportError without hnswlib, and MemoryError."""
    index = require_hnswlib().Index(space, dim)
    try:
        index.init_index(rows, M=m, ef_construction=ef_construction, random_seed=SEED)
    except RuntimeError as error:
        raise MemoryError(f"hnswlib, for {rows:,} rows of {dim} dims: {error}") from error
    return index


def record_type(dim: int, most_links: int) -> np.dtype[Any]:
    """One row of hnswlib's lowest layer, as it lies in memory and in its files.

    `count` links are valid of `links`; `mark` is odd where the row is marked as deleted.
    """
    links = 4 + 4 * most_links
    return np.dtype(
        {
            "names": ["count", "mark", "links", "vector", "label"],
            "formats": ["<u2", "u1", ("<u4", most_links), ("<f4", dim), "<u8"],
            "offsets": [0, 2, 4, links, links + 4 * dim],
            "itemsize": links + 4 * dim + 8,
        }
    )


class Layers(NamedTuple):
    """What hnswlib has built: its lowest layer and how far up each row goes."""

    records: NDArray[Any]  # [n] of record_type, in hnswlib's order
    levels: NDArray[np.int32]  # [n], the highest layer of each record


def build_hnsw_graph(
    vectors: NDArray[np.float16],
    prefix_dim: int,
    codes: NDArray[np.uint8],
    nodes: NDArray[np.int64],
    width: int,
    ef: int,
    threads: int,
    progress: Callable[[int], None],
) -> Graph:
    """The graph over the rows `nodes` int64 [<= n] of a group.

    vectors: float16 [n, dim]; codes: uint8 [n, stride], by which links are added where rows are not reached;
    width: links of a row at most, twice hnswlib's M; ef: hnswlib's ef_construction. `progress` is given twice
    the number of rows after each chunk; what it raises ends the build. With several threads two builds of the
    same rows differ. Raises ImportError without hnswlib, and MemoryError.
    """
    layers = _layers(vectors, prefix_dim, nodes, width, ef, threads, progress)
    order = numpy_random.default_rng(len(nodes)).permutation(len(nodes))
    order = order[np.argsort(-layers.levels[order], kind="stable")]  # the upper layers first
    entries = layers.records["label"][order[: entry_count(len(nodes))]].astype(np.int64)
    neighbours = _flattened(layers.records, len(vectors))
    contiguous = np.ascontiguousarray(codes)
    return connected(contiguous, square_lengths(contiguous), neighbours, nodes, entries)


def _layers(
    vectors: NDArray[np.float16],
    prefix_dim: int,
    nodes: NDArray[np.int64],
    width: int,
    ef: int,
    threads: int,
    progress: Callable[[int], None],
) -> Layers:
    """Have hnswlib insert the rows under their numbers as labels, and copy its layers out."""
    index = new_index("ip", prefix_dim, len(nodes), width // 2, ef)  # of unit rows: the cosine
    for start in range(0, len(nodes), BLOCK):
        rows = nodes[start : start + BLOCK]
        prefixes, _ = unit_prefixes(vectors[rows, :prefix_dim], prefix_dim)
        for first in range(0, len(rows), CHUNK):
            part = slice(first, first + CHUNK)
            index.add_items(prefixes[part], rows[part], num_threads=threads)
            progress(2 * len(rows[part]))
    state = index.__getstate__()[0]
    records = np.asarray(state["data_level0"]).view(record_type(prefix_dim, width))
    return Layers(records, np.asarray(state["element_levels"]))


def _flattened(records: NDArray[Any], rows: int) -> NDArray[np.uint32]:
    """The links of the lowest layer as uint32 [rows, width], rows of the group, padded with EMPTY."""
    labels = records["label"].astype(np.uint32)
    width = records.dtype["links"].shape[0]
    neighbours = np.full((rows, width), EMPTY, np.uint32)
    for start in range(0, len(records), BLOCK):
        part = records[start : start + BLOCK]
        valid = np.arange(width) < part["count"][:, None]
        links = np.where(valid, part["links"], 0)
        neighbours[labels[start : start + BLOCK]] = np.where(valid, labels[links], EMPTY)
    return neighbours
