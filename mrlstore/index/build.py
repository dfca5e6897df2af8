"""Build the index arrays of a part: codes for all rows, a graph for each group that is large enough.

Rows are inserted in batches into a flat array of neighbour lists, by walks over the codes themselves; then it
is mended until every row is reached from every entry.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.index import codes as coding
from mrlstore.index.group import SCALE_AT, SCALE_BYTES, GroupIndex, index_table
from mrlstore.system.job import UNWATCHED, Job

Arrays = dict[str, NDArray[Any]]
MIN_GRAPH_ROWS: Final = 2_000
ALPHA: Final = 1.0
FILL: Final = 0.75  # share of a row's slots for which a larger alpha is tried
FIRST: Final = 128  # rows linked by looking at all pairs
BATCHES: Final = 50
EMPTY: Final = 0xFFFFFFFF
ENTRY_EVERY: Final = 256
MAX_ENTRIES: Final = 1_024


@dataclass
class _Work:
    """One call of build_index: its threads, its job, and how many of `total` units are done."""

    total: int
    threads: int
    job: Job
    done: int = 0

    def step(self, units: int) -> None:
        """Count units as done; raises Interrupted if the job is to stop."""
        self.done += units
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
) -> tuple[Arrays, dict[str, Any]]:
    """Index arrays, and what a JSON header should say of them.

    vectors: float16 [n, dim] unit rows; groups: int64 [g + 1], where each namespace's rows begin.
    Raises Interrupted soon after the job is asked to stop.
    """
    sizes = np.diff(groups)
    walked = sizes >= MIN_GRAPH_ROWS
    n = len(vectors)
    work = _Work(n + 2 * int(sizes[walked].sum()), threads or os.cpu_count() or 1, job)
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
        "scale_at": SCALE_AT,
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
    last = codes.shape[1] - SCALE_BYTES  # there it was before version 3
    scale_at = info.get("scale_at", last)
    if scale_at not in (SCALE_AT, last):
        raise ValueError(f"scale_at {scale_at!r} in codes of {codes.shape[1]} bytes")
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
        scale_at=scale_at,
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
    scales = _scales(index)
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


def _scales(index: GroupIndex) -> NDArray[np.float32]:
    at = index.scale_at
    return np.ascontiguousarray(index.codes[:, at : at + SCALE_BYTES]).view(np.float32)[:, 0]


def _reached(lists: NDArray[np.uint32], start: int) -> NDArray[np.bool_]:
    from mrlstore.kernels import refine

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
    build = _Build(np.ascontiguousarray(codes), nodes, 2 * m, ef_construction, work)
    build.first()
    while build.inserted < len(nodes):
        build.batch()
    entry = int(build.order[0])
    _mend(build.codes, build.norms, build.lists, nodes, entry)
    entries = np.sort(build.order[: build.entries])
    return build.lists, entries[_can_reach(build.lists, entry)[entries]].astype(np.uint32)


class _Build:
    """A graph that grows by batches, each twice as large as the last until a fiftieth of all rows.

    The rows of a batch are walked to in the graph as it was before, side by side; then each target of their
    links is offered the way back (the batch-parallel Vamana of Manohar et al., ParlayANN, 2024). The outcome
    depends neither on threads nor on time.
    """

    def __init__(
        self, codes: NDArray[np.uint8], nodes: NDArray[np.int64], width: int, ef: int, work: _Work
    ) -> None:
        n = len(codes)
        self.codes, self.work, self.ef, self.fill = codes, work, max(ef, width), int(FILL * width)
        self.norms = _measure(codes)
        self.lists = np.full((n, width), EMPTY, np.uint32)
        self.order = np.random.default_rng(n).permutation(nodes)
        self.entries = min(max(len(nodes) // ENTRY_EVERY, 16), MAX_ENTRIES)
        self.inserted = 0
        self.index = GroupIndex(
            prefix_dim=codes.shape[1] - SCALE_BYTES,
            codes=codes,
            rotation=None,
            rotation_scales=None,
            neighbours=self.lists,
            entries=self.order[:1].astype(np.uint32),  # from afar, so that the way is long and its links too
            entry_codes=codes[self.order[:1]],
            unprefixed=np.zeros(0, np.uint32),
        )
        self.table = index_table(self.index)
        self.counts = np.zeros(n, np.int64)
        self.threads = [_Room(n, codes.shape[1], width, self.ef) for _ in range(work.threads)]
        self.pool = ThreadPoolExecutor(work.threads)

    def first(self) -> None:
        """Link the first rows by looking at all their pairs; the entries are among them."""
        rows = self.order[: max(FIRST, self.entries)]
        others = np.tile(rows.astype(np.uint32), len(rows))
        self._offer(rows, np.arange(0, len(others) + 1, len(rows)), others)
        self._done(len(rows))

    def batch(self) -> None:
        """Insert the next rows."""
        from mrlstore.kernels import refine

        count = min(self.inserted, max(len(self.order) // BATCHES, FIRST), len(self.order) - self.inserted)
        rows = self.order[self.inserted : self.inserted + count]
        kernel = refine.insert_rows.ready()

        def run(room: _Room, start: int, stop: int) -> None:
            kernel(
                self.table, self.norms, self.lists, rows, start, stop, self.ef, ALPHA, self.fill,
                room.beam, room.marks, room.seen, room.pending, room.own, room.signed,
            )  # fmt: skip

        self._share(run, count)
        width = self.lists.shape[1]
        targets, offered = np.empty(count * width, np.int64), np.empty(count * width, np.uint32)
        offers = np.empty(count * width + 1, np.int64)
        found = refine.reverse(self.lists, rows, self.counts, targets, offers, offered)
        self._offer(targets[:found], offers[: found + 1], offered)
        self._done(count)

    def _offer(self, rows: NDArray[np.int64], offers: NDArray[np.int64], offered: NDArray[np.uint32]) -> None:
        from mrlstore.kernels import refine

        kernel = refine.refine.ready()

        def run(room: _Room, start: int, stop: int) -> None:
            kernel(
                _address(self.codes), self.codes.shape[1], self.norms, self.lists, rows, offers, offered,
                start, stop, ALPHA, self.fill, room.marks, room.pending, room.own, room.signed,
            )  # fmt: skip

        self._share(run, len(rows))

    def _share(self, run: Callable[[_Room, int, int], None], count: int) -> None:
        """Give every thread an equal run of the rows."""
        bounds = np.linspace(0, count, len(self.threads) + 1).astype(int).tolist()
        list(self.pool.map(run, self.threads, bounds[:-1], bounds[1:]))

    def _done(self, rows: int) -> None:
        self.inserted += rows
        self.work.step(2 * rows)


class _Room:
    """What one thread of a build writes to."""

    def __init__(self, n: int, stride: int, width: int, ef: int) -> None:
        self.marks = np.zeros(n, np.uint8)
        self.seen = np.empty(n, np.int32)
        self.pending = np.empty(n + width, np.int64)
        self.beam = np.empty(ef + 16, np.int64)
        self.own = np.ones(2 * stride, np.int8)
        self.signed = np.ones(2 * stride, np.int8)


def _measure(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    from mrlstore.kernels import refine

    norms = np.zeros(len(codes), np.float32)
    refine.measure(
        _address(codes), codes.shape[1], 0, len(codes), np.ones(2 * codes.shape[1], np.int8), norms
    )
    return norms


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _mend(
    codes: NDArray[np.uint8],
    norms: NDArray[np.float32],
    lists: NDArray[np.uint32],
    nodes: NDArray[np.int64],
    entry: int,
) -> None:
    """Link what the entry does not reach from the nearest row that can spare a slot, until all is reached.

    Rows of equal codes are joined in between, which may cost a link that was needed: hence twice.
    """
    from mrlstore.kernels import refine

    address, stride, queue = _address(codes), codes.shape[1], np.empty(len(lists), np.int64)
    signed = np.ones(2 * stride, np.int8)
    hashes = _hashes(codes)[nodes]
    order = np.argsort(hashes, kind="stable")

    def reach() -> NDArray[np.int64]:
        parents = np.full(len(lists), -1, np.int64)
        refine.reach(lists, entry, parents, queue)
        for row in nodes[parents[nodes] < 0].tolist():
            if parents[row] < 0:
                refine.link_to(address, stride, norms, lists, parents, row, signed)
                refine.reach(lists, row, parents, queue)
        return parents

    refine.join_equals(address, stride, lists, reach(), nodes[order], hashes[order])
    reach()


def _hashes(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """One number for each code row, int64 [n]; equal rows have equal ones."""
    odd = np.random.default_rng(0).integers(0, 2**62, codes.shape[1] // 8) * 2 + 1
    hashes = np.zeros(len(codes), np.int64)
    for start in range(0, len(codes), coding.BLOCK):
        hashes[start : start + coding.BLOCK] = codes[start : start + coding.BLOCK].view(np.int64) @ odd
    return hashes


def _can_reach(lists: NDArray[np.uint32], target: int) -> NDArray[np.bool_]:
    """Which rows lead to the target."""
    from mrlstore.kernels import refine

    n, width = lists.shape
    targets, offered = np.empty(n, np.int64), np.empty(n * width, np.uint32)
    offers = np.empty(n + 1, np.int64)
    found = refine.reverse(lists, np.arange(n), np.zeros(n, np.int64), targets, offers, offered)
    spans = {row: (offers[i], offers[i + 1]) for i, row in enumerate(targets[:found].tolist())}
    reached = np.zeros(n, np.bool_)
    reached[target] = True
    front = [target]
    while front:
        sources = [offered[slice(*spans[row])] for row in front if row in spans]
        found_now = np.unique(np.concatenate(sources)) if sources else np.zeros(0, np.uint32)
        front = found_now[~reached[found_now]].tolist()
        reached[front] = True
    return reached
