"""The two stages of a query in one call: a walk or a scan over the codes, then the re-rank of full rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import scratch
from .encode import NO_PREFIX, encode_query
from .filtered_walk import walk_filtered
from .group_table import KEYS, ROWS, SET_COUNT, UNPREFIXED, UNPREFIXED_COUNT
from .jit import device, kernel
from .memory import load_byte, load_row
from .near_copies import rerank_nodes
from .rerank import rerank_list, write_ids
from .scan import scan_codes
from .topk import best_first, packed_row, packed_score
from .views import floats, ints, longs, unsigned_bytes
from .walk import walk


@device
def add_unprefixed(table: Any, allowed: Any, listed: Any, count: Any) -> Any:
    """Append the allowed rows without a usable prefix, which no code finds, to a shortlist; gives its length.

    listed: int64, room for them behind `count`. Their list is ascending; entries that are not (damage) are
    skipped, so that no row comes twice.
    """
    n, previous = np.uint64(table[ROWS]), np.int64(-1)
    for i in range(table[UNPREFIXED_COUNT]):
        row = np.int64(load_row(table[UNPREFIXED] + 4 * i))
        if np.uint64(row) >= n or row <= previous:
            continue
        previous = row
        if allowed == 0 or load_byte(allowed + row) != 0:
            listed[count] = row
            count += 1
    return count


@device
def finish(
    table: Any, query: Any, address: Any, scale: Any, bias: Any, memory: Any, allowed: Any, coded: Any,
    most: Any, stop_margin: Any, reach: Any, rows: Any, scores: Any, counts: Any,
) -> Any:  # fmt: skip
    """Append the rows that no code finds to the shortlist of `coded` rows in `memory`, and re-rank it.

    query: float32 [dim], with its code; rows: int64 [k]; scores: float32 [k]; the others: see search_walk.
    Writes counts[0], [1] and [4], and adds to counts[2]. Gives whether the re-rank ended before the last row.
    """
    k = rows.size
    count = add_unprefixed(table, allowed, longs(memory[scratch.LISTED], memory[scratch.SHORTLIST]), coded)
    counts[4] = 0
    if k == 0:
        counts[0], counts[1] = count, coded
    elif table[SET_COUNT] == 0:
        counts[0], counts[1] = rerank_list(table, query, memory, coded, count, k, stop_margin, rows, scores)
    else:
        counts[0], scored, counts[4], by_code = rerank_nodes(
            table, query, address, scale, bias, memory, allowed, coded, count, most, k, stop_margin, reach,
            rows, scores,
        )  # fmt: skip
        counts[1] = scored + counts[4]
        counts[2] += by_code
    return k == 0 or counts[1] - counts[4] < count


@device
def list_by_scan(
    table: Any, memory: Any, code: Any, scale: Any, bias: Any, allowed: Any, shortlist: Any, stop_margin: Any,
    floor: Any,
) -> Any:  # fmt: skip
    """Leave the best `shortlist` allowed rows by code score in `memory`; gives (their number, rows seen).

    Rows with a score below `floor` are left out.
    """
    listed = longs(memory[scratch.LISTED], memory[scratch.SHORTLIST])
    scores = floats(memory[scratch.LIST_SCORES], memory[scratch.SHORTLIST])
    size = memory[scratch.PENDING_SIZE]
    pending, pending_scores = (
        longs(memory[scratch.PENDING], size),
        floats(memory[scratch.PENDING_SCORES], size),
    )
    count, seen = scan_codes(
        table, code, scale, bias, allowed, shortlist, stop_margin, scores, listed,
        pending, pending_scores, floats(memory[scratch.HEAD_SCORES], size), floor,
    )  # fmt: skip
    best_first(scores, listed, count, table[KEYS])
    return count, seen


@kernel(
    "void(int64[::1], float32[::1], int64[::1], int64, int64, int64, int64, float32, float32, int64[::1],"
    " float32[::1], int64[::1])"
)
def rerank_copies(
    table: Any, query: Any, memory: Any, allowed: Any, coded: Any, count: Any, most: Any, stop_margin: Any,
    reach: Any, rows: Any, scores: Any, counts: Any,
) -> None:  # fmt: skip
    """As rerank_nodes: a kernel of its own, for searches that read rows from the disk in between.

    rows: int64 [k]; scores: float32 [k]; counts: int64 [5], see search_walk; adds to counts[2].
    """
    padded = floats(memory[scratch.PADDED], memory[scratch.NUMBERS])
    address, scale, bias = encode_query(
        table, query, padded, memory[scratch.CODE], memory[scratch.ROTATED_CODE]
    )
    counts[0], scored, counts[4], by_code = rerank_nodes(
        table, query, address, scale, bias, memory, allowed, coded, count, most, rows.size, stop_margin,
        reach, rows, scores,
    )  # fmt: skip
    counts[1] = scored + counts[4]
    counts[2] += by_code


@kernel(
    "void(int64[::1], float32[:, ::1], int64[::1], int64, int64, int64, int64, int64, float32, float32,"
    " int64[:, ::1], float32[:, ::1], int64[:, ::1], uint8[::1])"
)
def search_scan(
    table: Any, queries: Any, memory: Any, allowed: Any, nodes: Any, first: Any, shortlist: Any, most: Any,
    stop_margin: Any, reach: Any, rows: Any, scores: Any, counts: Any, ids: Any,
) -> None:  # fmt: skip
    """For each query scan the codes, re-rank the best `shortlist`, and write the best k rows and scores.

    The arguments are those of search_walk.
    """
    padded, code, rotated_code = (
        floats(memory[scratch.PADDED], memory[scratch.NUMBERS]),
        memory[scratch.CODE],
        memory[scratch.ROTATED_CODE],
    )
    end = 0
    for q in range(len(queries)):
        address, scale, bias = encode_query(table, queries[q], padded, code, rotated_code)
        counts[q, 2], length = 0, first
        while True:
            count, seen = list_by_scan(
                table, memory, address, scale, bias, nodes, length, stop_margin, NO_PREFIX
            )
            counts[q, 2] += seen
            ended = finish(
                table, queries[q], address, scale, bias, memory, allowed, count, most, stop_margin, reach,
                rows[q], scores[q], counts[q],
            )  # fmt: skip
            if ended or length >= shortlist or count < length:
                break
            length = shortlist
        end = counts[q, 3] = write_ids(table, rows[q], counts[q, 0], ids, end)


@kernel(
    "void(int64[::1], float32[:, ::1], int64[::1], int64, int64, int64, int64, int64, int64, int64, float32,"
    " float32, float32, int64, int64, int64[:, ::1], float32[:, ::1], int64[:, ::1], uint8[::1])"
)
def search_walk(
    table: Any, queries: Any, memory: Any, allowed: Any, nodes: Any, ef: Any, first: Any, shortlist: Any,
    most: Any, k: Any, beam_ratio: Any, stop_margin: Any, reach: Any, walkable: Any, lost_entries: Any,
    rows: Any, scores: Any, counts: Any, ids: Any,
) -> None:  # fmt: skip
    """For each query walk the graph, re-rank the best `shortlist`, and write the best k rows and scores.

    A walk that is lost, ends too early, or finds fewer than k nodes though `walkable` are allowed, is
    followed by a scan.

    queries: float32 [m, dim], unit length; allowed: 0, or address of uint8 [n], the rows that may be found;
    nodes: the same for the nodes of which the row or a copy is allowed; it is not 0 where there are copies.
    ef: candidates that a walk keeps; shortlist: nodes to re-rank at most; first: nodes to list at first, and
    where the re-rank comes to their end, walk or scan are done again for the whole shortlist; most, reach:
    see rerank_nodes; k: the rank that the adaptive walk measures by; lost_entries: see walk_filtered.
    rows: int64 [m, k] and scores: float32 [m, k], filled from the left; with shape [1, 0] the re-rank is left
    out and the shortlist stays in `memory`, its length in counts. counts: int64 [m, 5]: rows written, full
    rows scored, codes scored, where the query's ids end in ids: uint8, see write_ids, and copies scored.
    """
    padded, code, rotated_code = (
        floats(memory[scratch.PADDED], memory[scratch.NUMBERS]),
        memory[scratch.CODE],
        memory[scratch.ROTATED_CODE],
    )
    beam, listed = (
        longs(memory[scratch.BEAM], memory[scratch.BEAM_SIZE]),
        longs(memory[scratch.LISTED], memory[scratch.SHORTLIST]),
    )
    marks, seen = (
        unsigned_bytes(memory[scratch.MARKS], memory[scratch.ROW_COUNT]),
        ints(memory[scratch.SEEN], memory[scratch.ROW_COUNT]),
    )
    pending = longs(memory[scratch.PENDING], memory[scratch.PENDING_SIZE])
    pending_scores = floats(memory[scratch.PENDING_SCORES], memory[scratch.PENDING_SIZE])
    list_scores = floats(memory[scratch.LIST_SCORES], memory[scratch.SHORTLIST])
    end = 0
    for q in range(len(queries)):
        address, scale, bias = encode_query(table, queries[q], padded, code, rotated_code)
        counts[q, 2], length = 0, first
        while True:
            if allowed == 0:
                size, visited, _, ended, _ = walk(
                    table, address, scale, bias, ef, length, k, beam_ratio,
                    beam, marks, seen, pending, pending_scores, beam[:0], beam[:0], 0, 0,
                )  # fmt: skip
                lost, kept, count = (
                    ended and size < (length if beam_ratio > 0 else ef),
                    size,
                    min(size, length),
                )
                for i in range(count):
                    listed[i] = beam[i]
            else:
                kept, visited, ended, lost, _ = walk_filtered(
                    table, address, scale, bias, nodes, ef, length, k, beam_ratio, lost_entries,
                    beam, listed, marks, seen, pending, pending_scores, beam[:0], 0, 0,
                )  # fmt: skip
                lost, count = lost or (ended and kept < length), kept
            for i in range(count):
                listed[i], list_scores[i] = packed_row(listed[i]), packed_score(listed[i])
            if (lost or kept < k) and kept < walkable:
                count, looked_at = list_by_scan(
                    table, memory, address, scale, bias, nodes, length, stop_margin, NO_PREFIX
                )
                visited += looked_at
            counts[q, 2] += visited
            ended = finish(
                table, queries[q], address, scale, bias, memory, allowed, count, most, stop_margin, reach,
                rows[q], scores[q], counts[q],
            )  # fmt: skip
            if ended or length >= shortlist or count < length:
                break
            length = shortlist
        end = counts[q, 3] = write_ids(table, rows[q], counts[q, 0], ids, end)
