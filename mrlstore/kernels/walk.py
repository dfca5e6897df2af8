"""Walk the graph of a group over its codes, then re-rank: the two stages of a query in one call."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import table as t
from . import scratch as w
from .dot import load_byte, load_row, prefetch
from .encode import NO_PREFIX, encode_query, score_code
from .jit import device, kernel
from .scan import finish
from .topk import insert, pack, packed_row, packed_score
from .views import floats, ints, longs, unsigned_bytes

SEEDS = 4  # entries that a walk starts from
SAMPLE = 64  # allowed rows that a filtered walk starts from besides
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
def gather_filtered(
    table: Any, row: Any, allowed: Any, marks: Any, seen: Any, count: Any, pending: Any, room: Any
) -> Any:
    """The same for a filter: where neighbours are not allowed, their own neighbours stand in for them."""
    n, width = np.uint64(table[t.ROWS]), table[t.WIDTH]
    start = table[t.NEIGHBOURS] + row * width * 4
    count, waiting = gather(table, row, allowed, marks, seen, count, pending, 0)
    for j in range(width):
        if waiting >= min(ENOUGH, room - width):
            break
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

    Gives (beam size, codes scored).
    """
    n, stride, size, visited = table[t.ROWS], table[t.STRIDE], 0, 0
    limit = min(ef, SEEDS)
    for i in range(table[t.ENTRY_COUNT]):
        row = np.int64(load_row(table[t.ENTRIES] + 4 * i))
        score = score_code(table[t.ENTRY_CODES] + i * stride, stride, code, scale, bias)
        visited += 1
        if (
            np.uint64(row) < np.uint64(n)
            and score > NO_PREFIX
            and insert(beam, size, limit, pack(score, row)) < limit
        ):
            size = min(size + 1, limit)
    if allowed != 0:
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
    return count, visited


@device
def walk(
    table: Any,
    code: Any,
    scale: Any,
    bias: Any,
    allowed: Any,
    ef: Any,
    beam: Any,
    marks: Any,
    seen: Any,
    pending: Any,
    trace: Any,
) -> Any:
    """Fill the beam with the best rows that the walk finds.

    Gives (beam size, codes scored, nodes expanded, whether it ran out of nodes). Best first over a sorted
    beam: expand the best node that was not, until none is left. Under a filter the beam's seeds may be rows
    that are not allowed; all others are allowed. beam: int64 [>= ef + 1], the lowest bit of an entry says
    expanded.
    trace: int64, receives the entries that were expanded, as far as it reaches.
    """
    stride, list_bytes = table[t.STRIDE], table[t.WIDTH] * 4
    size, visited = start_walk(table, code, scale, bias, allowed, ef, beam, marks, seen)
    count, cursor, steps = size, 0, 0
    while cursor < size:
        row = packed_row(beam[cursor])
        beam[cursor] |= 1
        if steps < trace.size:
            trace[steps] = beam[cursor]
        steps += 1
        following = cursor + 1
        while following < size and beam[following] & 1:
            following += 1
        if following < size:
            prefetch(table[t.NEIGHBOURS] + packed_row(beam[following]) * list_bytes, list_bytes)
        if allowed == 0:
            count, waiting = gather(table, row, allowed, marks, seen, count, pending, 0)
        else:
            count, waiting = gather_filtered(table, row, allowed, marks, seen, count, pending, pending.size)
        cursor = following
        for j in range(waiting):
            other = pending[j]
            score = score_code(table[t.CODES] + other * stride, stride, code, scale, bias)
            if not score > NO_PREFIX:
                continue
            place = insert(beam, size, ef, pack(score, other))
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


@kernel("UniTuple(int64, 5)(int64[::1], float32[::1], int64[::1], int64, int64, int64, int64, float32)")
def search_walk(
    table: Any, query: Any, work: Any, allowed: Any, ef: Any, shortlist: Any, k: Any, margin: Any
) -> Any:
    """Walk, re-rank the best `shortlist`, write the best k rows and scores to `work`, a scratch table.

    allowed: address of uint8 [n], or 0. margin: see rerank_while; 0 re-ranks the whole shortlist. With k = 0
    the shortlist is left in `work`, see finish. Gives (rows written, codes scored, full rows scored,
    rows kept, whether the walk ended before the beam was full).
    """
    padded, code, rotated_code = floats(work[w.PADDED], work[w.NUMBERS]), work[w.CODE], work[w.ROTATED_CODE]
    beam, listed = longs(work[w.BEAM], work[w.BEAM_SIZE]), longs(work[w.LISTED], work[w.SHORTLIST])
    marks, seen = unsigned_bytes(work[w.MARKS], work[w.ROW_COUNT]), ints(work[w.SEEN], work[w.ROW_COUNT])
    pending = longs(work[w.PENDING], work[w.PENDING_SIZE])
    address, scale, bias = encode_query(table, query, padded, code, rotated_code)
    size, visited, _, ended = walk(
        table, address, scale, bias, allowed, ef, beam, marks, seen, pending, beam[:0]
    )
    list_scores = floats(work[w.LIST_SCORES], work[w.SHORTLIST])
    kept, count = 0, 0
    for i in range(size):
        row = packed_row(beam[i])
        if allowed == 0 or load_byte(allowed + row) != 0:
            kept += 1
            if count < shortlist:
                listed[count], list_scores[count] = row, packed_score(beam[i])
                count += 1
    died = np.int64(ended and size < ef)
    found, count = finish(table, query, work, allowed, count, k, margin)
    return found, visited, count, kept, died
