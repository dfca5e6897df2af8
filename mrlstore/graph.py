"""Build the index arrays of a part: codes for all rows, a graph for each group that is large enough.

hnswlib inserts the rows in chunks; its lists of the lowest level are copied into a flat array, chosen anew by
an alpha-pruned pass with reverse links, and mended until every row is reached from every entry. hnswlib's own
loader is never called.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import codes as coding
from .group import GroupIndex

Arrays = dict[str, NDArray[Any]]
MIN_GRAPH_ROWS: Final = 2_000
CHUNK: Final = 500  # rows between two looks at should_stop, hnswlib's slowest step
ALPHA: Final = 1.2
CANDIDATES: Final = 96
EMPTY: Final = 0xFFFFFFFF
ENTRY_EVERY: Final = 256
MAX_ENTRIES: Final = 1_024


class Interrupted(Exception):
    """should_stop() said so; nothing was written."""


@dataclass
class _Work:
    """One build: what was asked for, and how far it is."""

    total: int
    threads: int
    progress: Callable[[int, int], None] | None
    should_stop: Callable[[], bool] | None
    done: int = field(default=0)

    def step(self, rows: int) -> None:
        """Count rows as done; raises Interrupted when asked to stop."""
        self.done += rows
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)
        if self.should_stop is not None and self.should_stop():
            raise Interrupted


def build_index(
    vectors: NDArray[np.float16],
    groups: NDArray[np.int64],
    *,
    prefix_dim: int,
    m: int = 16,
    ef_construction: int = 200,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Arrays, dict[str, Any]]:
    """Index arrays, and what a JSON header should say of them.

    vectors: float16 [n, dim] unit rows; groups: int64 [g + 1], where each namespace's rows begin.
    Raises Interrupted soon after should_stop() turns true.
    """
    sizes = np.diff(groups)
    walked = sizes >= MIN_GRAPH_ROWS
    n = len(vectors)
    work = _Work(n + 2 * int(sizes[walked].sum()), threads or os.cpu_count() or 1, progress, should_stop)
    rotation = _choose_rotation(vectors, prefix_dim)
    codes, usable = _encode_all(vectors, prefix_dim, rotation, work)
    width = 2 * m
    neighbours = np.full((n if walked.any() else 0, width), EMPTY, np.uint32)
    entries: list[NDArray[np.uint32]] = []
    missing: list[NDArray[np.uint32]] = []
    for start, stop, large in zip(groups[:-1].tolist(), groups[1:].tolist(), walked.tolist(), strict=True):
        missing.append(np.flatnonzero(~usable[start:stop]).astype(np.uint32))
        entries.append(np.zeros(0, np.uint32))
        nodes = np.flatnonzero(usable[start:stop])
        if large and len(nodes) >= MIN_GRAPH_ROWS:
            lists, own = _build_group(codes[start:stop], nodes, m, ef_construction, work)
            neighbours[start:stop] = lists
            entries[-1] = own
    starts = np.concatenate([[0], np.cumsum([len(e) for e in entries])]).astype(np.int64)
    firsts = np.repeat(groups[:-1], np.diff(starts))
    joined = np.concatenate(entries) if entries else np.zeros(0, np.uint32)
    arrays: Arrays = {
        "codes": codes,
        "neighbours": neighbours,
        "entries": joined,
        "entry_starts": starts,
        "entry_codes": codes[joined + firsts],
        "unprefixed": np.concatenate(missing) if missing else np.zeros(0, np.uint32),
        "unprefixed_starts": np.concatenate([[0], np.cumsum([len(u) for u in missing])]).astype(np.int64),
        "rotation": np.zeros((0, coding.padded(prefix_dim)), np.uint8)
        if rotation is None
        else rotation.codes,
        "rotation_scales": np.zeros(0, np.float32) if rotation is None else rotation.scales,
    }
    info = {
        "prefix_dim": prefix_dim,
        "code_dim": prefix_dim if rotation is None else len(rotation.scales),
        "m": m,
        "ef_construction": ef_construction,
    }
    return arrays, info


def open_index(
    arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any], group: int, start: int, stop: int
) -> GroupIndex:
    """The slice for group number `group`, rows [start, stop) of the part. Reads only its few small numbers.

    Raises ValueError when the arrays cannot belong together.
    """
    codes, neighbours, rotation = arrays["codes"], arrays["neighbours"], arrays["rotation"]
    entries, prefix_dim = arrays["entries"], info["prefix_dim"]
    if codes.ndim != 2 or codes.dtype.itemsize != 1 or not 0 <= start <= stop <= len(codes):
        raise ValueError(f"codes of shape {codes.shape} do not hold rows {start} to {stop}")
    if neighbours.ndim != 2 or len(neighbours) not in (0, len(codes)) or neighbours.dtype.itemsize != 4:
        raise ValueError(f"neighbours of shape {neighbours.shape} for {len(codes)} rows")
    if not isinstance(prefix_dim, int) or not 0 < prefix_dim <= coding.MAX_PREFIX:
        raise ValueError(f"prefix_dim {prefix_dim!r}")
    e0, e1 = _range(arrays["entry_starts"], group, len(entries))
    u0, u1 = _range(arrays["unprefixed_starts"], group, len(arrays["unprefixed"]))
    if arrays["entry_codes"].shape != (len(entries), codes.shape[1]):
        raise ValueError(f"entry codes of shape {arrays['entry_codes'].shape}")
    return GroupIndex(
        prefix_dim=prefix_dim,
        codes=codes[start:stop],
        rotation=rotation if len(rotation) else None,
        rotation_scales=arrays["rotation_scales"] if len(rotation) else None,
        neighbours=neighbours[start:stop] if len(neighbours) and e1 > e0 else None,
        entries=entries[e0:e1],
        entry_codes=arrays["entry_codes"][e0:e1],
        unprefixed=arrays["unprefixed"][u0:u1],
    )


def _range(starts: NDArray[np.int64], group: int, length: int) -> tuple[int, int]:
    if starts.ndim != 1 or not 0 <= group < len(starts) - 1:
        raise ValueError(f"no group {group} among {len(starts) - 1}")
    first, last = int(starts[group]), int(starts[group + 1])
    if not 0 <= first <= last <= length:
        raise ValueError(f"group {group} claims entries {first} to {last} of {length}")
    return first, last


def verify_index(
    arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any], groups: NDArray[np.int64]
) -> list[str]:
    """Check every range and that each row of a graph is reached from its entries; problems in words."""
    problems: list[str] = []
    for number, (start, stop) in enumerate(itertools.pairwise(groups.tolist())):
        try:
            index = open_index(arrays, info, number, start, stop)
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"group {number}: {error}")
            continue
        problems += [f"group {number}: {problem}" for problem in _problems(index)]
    return problems


def _problems(index: GroupIndex) -> Iterator[str]:
    n = len(index.codes)
    scales = _scales(index.codes)
    unprefixed = index.unprefixed.astype(np.int64)
    if not np.isfinite(scales).all() or (scales < 0).any():
        yield "scales that are no positive numbers"
    if not np.array_equal(np.flatnonzero(scales == 0), unprefixed):
        yield "the rows without prefix are not those without a code"
    if index.neighbours is None:
        return
    lists = np.array(index.neighbours)
    wrong = int(((lists >= n) & (lists != EMPTY)).sum())
    if wrong:
        yield f"{wrong} links lead outside the group"
    if (index.entries >= n).any():
        yield "entries outside the group"
    elif not np.array_equal(index.codes[index.entries], index.entry_codes):
        yield "codes of the entries differ from those of their rows"
    else:
        lost = n - len(unprefixed) - _reached(lists, int(index.entries[0])).sum()
        if lost:
            yield f"{lost} rows cannot be reached"


def _scales(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(codes[:, -coding.SCALE_BYTES :]).view(np.float32)[:, 0]


def _reached(lists: NDArray[np.uint32], start: int) -> NDArray[np.bool_]:
    from .kernels import refine

    parents = np.full(len(lists), -1, np.int64)
    refine.reach(lists, start, parents, np.empty(len(lists), np.int64))
    return parents >= 0


def _choose_rotation(vectors: NDArray[np.float16], prefix_dim: int) -> coding.Rotation | None:
    """The shortest rotated codes that keep the shortlist, judged on a sample of the rows themselves."""
    return coding.choose_rotation(vectors, prefix_dim)


def _encode_all(
    vectors: NDArray[np.float16], prefix_dim: int, rotation: coding.Rotation | None, work: _Work
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    code_dim = prefix_dim if rotation is None else len(rotation.scales)
    codes = np.empty((len(vectors), coding.stride_of(code_dim)), np.uint8)
    usable = np.empty(len(vectors), np.bool_)
    for start in range(0, len(vectors), coding.BLOCK):
        stop = min(start + coding.BLOCK, len(vectors))
        prefixes, usable[start:stop] = coding.unit_prefixes(vectors[start:stop], prefix_dim)
        codes[start:stop] = coding.encode(prefixes, usable[start:stop], rotation)
        work.step(stop - start)
    return codes, usable


def _build_group(
    codes: NDArray[np.uint8], nodes: NDArray[np.int64], m: int, ef_construction: int, work: _Work
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Neighbours uint32 [n, 2 m] and entries uint32 [e] of one group."""
    codes = np.ascontiguousarray(codes)
    lists = _insert(codes, nodes, m, ef_construction, work)
    norms = _measure(codes)
    lists = _complete(codes, norms, lists, work)
    rng = np.random.default_rng(len(codes))
    count = min(max(len(nodes) // ENTRY_EVERY, 1), MAX_ENTRIES)
    entries = nodes[np.sort(rng.choice(len(nodes), count, replace=False))].astype(np.uint32)
    _mend(codes, norms, lists, nodes, int(entries[0]))
    return lists, entries[_can_reach(lists, int(entries[0]))[entries]]


def _insert(
    codes: NDArray[np.uint8], nodes: NDArray[np.int64], m: int, ef_construction: int, work: _Work
) -> NDArray[np.uint32]:
    """Hnswlib's graph of the lowest level, by row."""
    import hnswlib

    stride = codes.shape[1]
    builder = hnswlib.Index("l2", stride - coding.SCALE_BYTES)
    builder.init_index(len(nodes), M=m, ef_construction=ef_construction, random_seed=100)
    scales = _scales(codes)
    for start in range(0, len(nodes), CHUNK):
        rows = nodes[start : start + CHUNK]
        numbers = (codes[rows, : -coding.SCALE_BYTES].astype(np.float32) - 128) * scales[rows, None]
        builder.add_items(numbers, rows, num_threads=work.threads)
        work.step(len(rows))
    return _flatten(builder.__getstate__(), len(codes))


def _flatten(state: Any, n: int) -> NDArray[np.uint32]:
    """Level 0 of hnswlib's state: per element a count, links by internal number, the data, the label."""
    state = state[0] if isinstance(state, tuple) else state
    count = state["cur_element_count"]
    size, width = state["size_data_per_element"], state["max_M0"]
    block = np.asarray(state["data_level0"]).view(np.uint8)[: count * size].reshape(count, size)
    labels = block[:, state["label_offset"] : state["label_offset"] + 8].copy().view(np.uint64)[:, 0]
    links = block[:, 4 : 4 + 4 * width].copy().view(np.uint32)
    counts = block[:, :2].copy().view(np.uint16)[:, 0]
    real = (np.arange(width) < counts[:, None]) & (links < count)
    lists = np.full((n, width), EMPTY, np.uint32)
    lists[labels] = np.where(real, labels[np.where(real, links, 0)], EMPTY)
    return lists


def _measure(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    from .kernels import refine

    norms = np.zeros(len(codes), np.float32)
    refine.measure(_address(codes), codes.shape[1], 0, len(codes), np.zeros(codes.shape[1], np.int8), norms)
    return norms


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _complete(
    codes: NDArray[np.uint8], norms: NDArray[np.float32], lists: NDArray[np.uint32], work: _Work
) -> NDArray[np.uint32]:
    """Choose all lists anew among neighbours of neighbours, then offer every link to the other end."""
    from .kernels import refine

    n, width = lists.shape
    none, nothing = np.zeros(n + 1, np.int64), np.zeros(0, np.uint32)
    lists = _refine(codes, norms, lists, none, nothing, True, work)
    offers, offered = np.zeros(n + 1, np.int64), np.empty(n * width, np.uint32)
    refine.reverse(lists, offers, offered)
    return _refine(codes, norms, lists, offers, offered, False, work)


def _refine(
    codes: NDArray[np.uint8],
    norms: NDArray[np.float32],
    lists: NDArray[np.uint32],
    offers: NDArray[np.int64],
    offered: NDArray[np.uint32],
    two_hops: bool,
    work: _Work,
) -> NDArray[np.uint32]:
    from .kernels import refine

    n, width = lists.shape
    out = np.empty((n, width), np.uint32)
    kernel = refine.refine.ready()
    block = 4_096

    def run(start: int) -> int:
        stop = min(start + block, n)
        kernel(
            _address(codes), codes.shape[1], norms, lists, offers, offered, out, start, stop,
            CANDIDATES, np.float32(ALPHA), width, two_hops,
        )  # fmt: skip
        return stop - start

    with ThreadPoolExecutor(work.threads) as pool:
        for first in range(0, n, block * work.threads):
            starts = range(first, min(first + block * work.threads, n), block)
            work.step(sum(pool.map(run, starts)) // 2)
    return out


def _mend(
    codes: NDArray[np.uint8],
    norms: NDArray[np.float32],
    lists: NDArray[np.uint32],
    nodes: NDArray[np.int64],
    entry: int,
) -> None:
    """Link what the entry does not reach from the nearest row that can spare a slot, until all is reached."""
    from .kernels import refine

    parents, queue = np.full(len(lists), -1, np.int64), np.empty(len(lists), np.int64)
    signed = np.zeros(codes.shape[1], np.int8)
    refine.reach(lists, entry, parents, queue)
    for row in nodes[parents[nodes] < 0].tolist():
        if parents[row] < 0:
            refine.link_to(_address(codes), codes.shape[1], norms, lists, parents, row, signed)
            refine.reach(lists, row, parents, queue)


def _can_reach(lists: NDArray[np.uint32], target: int) -> NDArray[np.bool_]:
    """Which rows lead to the target."""
    from .kernels import refine

    n, width = lists.shape
    offers, offered = np.zeros(n + 1, np.int64), np.empty(n * width, np.uint32)
    refine.reverse(lists, offers, offered)
    reached = np.zeros(n, np.bool_)
    reached[target] = True
    front = np.array([target])
    while len(front):
        spans = [offered[offers[row] : offers[row + 1]] for row in front.tolist()]
        found = np.unique(np.concatenate(spans)) if spans else front[:0]
        front = found[~reached[found]]
        reached[front] = True
    return reached
