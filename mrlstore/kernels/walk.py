"""Walk the graph of a group over its codes, then re-rank: the two stages of a query in one call."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import table as t
from . import scratch as w
from .dot import load_byte, load_row, prefetch
from .encode import NO_PREFIX, encode_query, score_code, score_four
from .jit import device, kernel
from .rerank import write_ids
from .scan import finish, score_pending
from .topk import clear, insert, pack, packed_row, packed_score
from .views import floats, ints, longs, unsigned_bytes

SEEDS = 4  # entries that a walk starts from
SAMPLE = 64  # allowed rows that a filtered walk starts from besides
NEAREST = 24  # entries, of a quarter of them at most, that tell what a filter lets through around a query
TOGETHER = 2  # nodes that are expanded at a time
BEST = 10  # with slack a walk measures by the k-th best, for k of at least this: the first alone leads astray
NEAR = np.float32(0.2)  # the least distance that slack is a share of: codes err by more than a share of less
AHEAD = 4  # lists of neighbours' neighbours that are on their way from memory while others are read
ENOUGH = 8  # rows to score for one step of a filtered walk; neighbours of neighbours are asked for less


@device
def gather(
    table: Any, row: Any, allowed: Any, marks: Any, seen: Any, count: Any, pending: Any, waiting: Any
) -> Any:
    """Collect the rows behind one node that were not seen before; gives (seen, pending) counts.

    Every number read is compared with the row count: a damaged list leads nowhere, not astray.
    """
    n, width, stride = np.uint64(table[t.ROWS]), table[t.WIDTH], table[t.STRIDE]
    start = table[t.NEIGHBOURS] + row * width * 4
    for j in range(width):
        other = np.int64(load_row(start + 4 * j))
        if np.uint64(other) >= n or marks[other] != 0:
            continue
        if allowed != 0 and load_byte(allowed + other) == 0:
            continue
        marks[other] = 1
        seen[count] = other
        count += 1
        pending[waiting] = other
        waiting += 1
        prefetch(table[t.CODES] + other * stride, stride)
    return count, waiting


@device
def fetch_neighbours(table: Any, row: Any, marks: Any) -> None:
    """Have the neighbours of a row fetched, unless it was seen."""
    if np.uint64(row) < np.uint64(table[t.ROWS]) and marks[row] == 0:
        prefetch(table[t.NEIGHBOURS] + row * table[t.WIDTH] * 4, table[t.WIDTH] * 4)


@device
def gather_filtered(
    table: Any, row: Any, allowed: Any, marks: Any, seen: Any, count: Any, pending: Any, waiting: Any
) -> Any:
    """The same for a filter: where neighbours are not allowed, their own neighbours stand in for them."""
    n, width = np.uint64(table[t.ROWS]), table[t.WIDTH]
    start = table[t.NEIGHBOURS] + row * width * 4
    enough = min(waiting + ENOUGH, pending.size - width)
    count, waiting = gather(table, row, allowed, marks, seen, count, pending, waiting)
    if waiting >= enough:
        return count, waiting
    for j in range(min(AHEAD, width)):
        fetch_neighbours(table, np.int64(load_row(start + 4 * j)), marks)
    for j in range(width):
        if waiting >= enough:
            break
        if j + AHEAD < width:
            fetch_neighbours(table, np.int64(load_row(start + 4 * (j + AHEAD))), marks)
        other = np.int64(load_row(start + 4 * j))
        if np.uint64(other) >= n or marks[other] != 0:
            continue
        marks[other] = 1
        seen[count] = other
        count += 1
        count, waiting = gather(table, other, allowed, marks, seen, count, pending, waiting)
    return count, waiting


@device
def start_walk(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, ef: Any, beam: Any, marks: Any, seen: Any
) -> Any:
    """Put the best entries, and under a filter the best of a sample of allowed rows, into the beam.

    Gives (beam size, codes scored, share of the nearest entries that are allowed).
    """
    n, stride, size, visited = table[t.ROWS], table[t.STRIDE], 0, 0
    last = table[t.ENTRY_COUNT] - 1
    limit = min(ef, max(SEEDS, min(NEAREST, last // 4)) if allowed != 0 else SEEDS)
    for i in range(0, last + 1, 4):
        four = score_four(
            table[t.ENTRY_CODES] + i * stride,
            table[t.ENTRY_CODES] + min(i + 1, last) * stride,
            table[t.ENTRY_CODES] + min(i + 2, last) * stride,
            table[t.ENTRY_CODES] + min(i + 3, last) * stride,
            stride, code, scale, bias,
        )  # fmt: skip
        for j in range(min(4, last + 1 - i)):
            row = np.int64(load_row(table[t.ENTRIES] + 4 * (i + j)))
            if (
                np.uint64(row) < np.uint64(n)
                and four[j] > NO_PREFIX
                and insert(beam, size, limit, pack(four[j], row)) < limit
            ):
                size = min(size + 1, limit)
    visited += last + 1
    passing = np.float32(1)
    if allowed != 0:
        nearest, count = size, 0
        for i in range(nearest):
            count += load_byte(allowed + packed_row(beam[i])) != 0
        passing = np.float32(count) / np.float32(max(nearest, 1))
        limit = min(ef, SEEDS)
        size = min(size, limit)
        clear(beam, size, nearest)
        step = max(n // SAMPLE, 1)
        for i in range(0, n, step):
            at, stop = i, min(i + step, n)
            while at < stop and load_byte(allowed + at) == 0:
                at += 1
            if at < stop:
                score = score_code(table[t.CODES] + at * stride, stride, code, scale, bias)
                visited += 1
                if score > NO_PREFIX and insert(beam, size, limit, pack(score, at)) < limit:
                    size = min(size + 1, limit)
    count = 0
    for i in range(size):
        row = packed_row(beam[i])
        if marks[row] == 0:
            marks[row] = 1
            seen[count] = row
            beam[count] = beam[i]
            count += 1
    clear(beam, count, size)
    return count, visited, passing


@device
def walk(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, ef: Any, shortlist: Any, k: Any, slack: Any,
    around: Any, beam: Any, marks: Any, seen: Any, pending: Any, scores: Any, trace: Any,
) -> Any:  # fmt: skip
    """Fill the beam with the best rows that the walk finds.

    Gives (beam size, codes scored, nodes expanded, whether it ran out of nodes). Best first over a sorted
    beam: expand the best nodes that were not, until none is left; several at a time, so that more of their
    neighbours' codes are on the way from memory while others are scored. With a slack above 0 it also ends at
    a node whose distance, 1 - score, is more than 1 + slack times that of the k-th (or tenth) best: adaptive
    beam search (Al-Jazzazi et al., 2025). The beam then holds the best `shortlist` rows, and what is nearer
    than that. Under a filter the beam's seeds may be rows that are not allowed; all others are allowed. Where
    a share of less than `around` of the nearest entries is allowed no step is made, and the beam left empty.
    beam: int64 [>= ef + 16], the lowest bit of an entry says expanded. pending: int64 [>= TOGETHER x width],
    under a filter [>= 4 x width + 64]; scores: float32, as long. trace: int64, receives the entries that were
    expanded, as far as it reaches.
    """
    list_bytes = table[t.WIDTH] * 4
    size, visited, passing = start_walk(table, code, scale, bias, allowed, ef, beam, marks, seen)
    count, cursor, steps = size, 0, 0
    if passing < around:
        size = 0
    last = max(k, BEST) - 1 + (SEEDS if allowed != 0 else 0)
    while cursor < size:
        edge = np.float32(NO_PREFIX)
        if slack > 0 and size > last:
            nearest = packed_score(beam[last])
            edge = nearest - slack * max(np.float32(1) - nearest, NEAR)
            if packed_score(beam[cursor]) < edge:
                break
        waiting = 0
        for _ in range(TOGETHER):
            row = packed_row(beam[cursor])
            beam[cursor] |= 1
            if steps < trace.size:
                trace[steps] = beam[cursor]
            steps += 1
            if allowed == 0:
                count, waiting = gather(table, row, allowed, marks, seen, count, pending, waiting)
            else:
                count, waiting = gather_filtered(table, row, allowed, marks, seen, count, pending, waiting)
            cursor = next_node(beam, cursor, size)
            if cursor == size:
                break
        ahead = cursor
        for _ in range(TOGETHER):
            if ahead < size:
                prefetch(table[t.NEIGHBOURS] + packed_row(beam[ahead]) * list_bytes, list_bytes)
                ahead = next_node(beam, ahead, size)
        score_pending(table, code, scale, bias, pending, waiting, scores)
        for j in range(waiting):
            if not scores[j] > NO_PREFIX or (
                scores[j] < edge and size >= shortlist and pack(scores[j], 0) < beam[shortlist - 1]
            ):
                continue
            other = pending[j]
            place = insert(beam, size, ef, pack(scores[j], other))
            if place < ef:
                size = min(size + 1, ef)
                if place <= cursor:
                    cursor = place
                    prefetch(table[t.NEIGHBOURS] + other * list_bytes, list_bytes)
        visited += waiting
        while cursor < size and beam[cursor] & 1:
            cursor += 1
    for i in range(count):
        marks[seen[i]] = 0
    return size, visited, steps, cursor >= size


@device
def next_node(beam: Any, cursor: Any, size: Any) -> Any:
    """The next entry behind `cursor` that was not expanded; size if there is none."""
    cursor += 1
    while cursor < size and beam[cursor] & 1:
        cursor += 1
    return cursor


@kernel(
    "void(int64[::1], float32[:, ::1], int64[::1], int64, int64, int64, int64, float32, float32, float32,"
    " int64[:, ::1], float32[:, ::1], int64[:, ::1], uint8[::1])"
)
def search_walk(
    table: Any, queries: Any, work: Any, allowed: Any, ef: Any, shortlist: Any, k: Any, slack: Any,
    around: Any, margin: Any, rows: Any, scores: Any, counts: Any, ids: Any,
) -> None:  # fmt: skip
    """For each query walk, re-rank the best `shortlist`, write the best k rows and scores.

    queries: unit vectors [m, dim]; work: the table of a scratch; allowed: address of uint8 [n], or 0. slack,
    around: see walk; margin: see rerank_while; 0 re-ranks the whole shortlist. rows, scores: [m, k], filled
    from the left; with [1, 0] the shortlist is left in `work`, see finish. counts: [m, 6]: rows written, full
    rows scored, codes scored, rows kept, whether the walk ended before the beam was full, where the
    answer's ids end in `ids`: uint8, see write_ids.
    """
    padded, code, rotated_code = floats(work[w.PADDED], work[w.NUMBERS]), work[w.CODE], work[w.ROTATED_CODE]
    beam, listed = longs(work[w.BEAM], work[w.BEAM_SIZE]), longs(work[w.LISTED], work[w.SHORTLIST])
    marks, seen = unsigned_bytes(work[w.MARKS], work[w.ROW_COUNT]), ints(work[w.SEEN], work[w.ROW_COUNT])
    pending = longs(work[w.PENDING], work[w.PENDING_SIZE])
    pending_scores = floats(work[w.PENDING_SCORES], work[w.PENDING_SIZE])
    list_scores = floats(work[w.LIST_SCORES], work[w.SHORTLIST])
    place = 0
    for q in range(len(queries)):
        address, scale, bias = encode_query(table, queries[q], padded, code, rotated_code)
        size, visited, _, ended = walk(
            table, address, scale, bias, allowed, ef, shortlist, k, slack, around,
            beam, marks, seen, pending, pending_scores, beam[:0],
        )  # fmt: skip
        kept, count = 0, 0
        for i in range(size):
            row = packed_row(beam[i])
            if allowed == 0 or load_byte(allowed + row) != 0:
                kept += 1
                if count < shortlist:
                    listed[count], list_scores[count] = row, packed_score(beam[i])
                    count += 1
        counts[q, 0], counts[q, 1] = finish(
            table, queries[q], work, allowed, count, rows.shape[1], margin, rows[q], scores[q]
        )
        full = shortlist if slack > 0 else ef
        counts[q, 2], counts[q, 3], counts[q, 4] = visited, kept, np.int64(ended and size < full)
        place = write_ids(table, rows[q], counts[q, 0], ids, place)
        counts[q, 5] = place
