"""Walk the graph of a group over its codes, then re-rank: the two stages of a query in one call."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrlstore.kernels import group_table as t

from . import scratch as w
from .dot import load_byte, load_row, nonzero_bytes, prefetch_far
from .encode import NO_PREFIX, encode_query, score_four
from .jit import device, kernel
from .rerank import write_ids
from .scan import finish, list_by_scan, score_pending
from .topk import clear, insert, pack, packed_row, packed_score
from .views import floats, ints, longs, unsigned_bytes

SEEDS = 4  # entries that a walk starts from
SAMPLE = 64  # allowed rows whose best SEEDS a filtered walk starts from besides
TOGETHER = 2  # nodes that are expanded at a time
BEST = 10  # with slack a walk measures by the k-th best, for k of at least this: the first alone leads astray
NEAR = np.float32(0.2)  # the least distance that slack is a share of: codes err by more than a share of less


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
        prefetch_far(table[t.CODES] + other * stride, stride)
    return count, waiting


@device
def start_walk(
    table: Any, code: Any, scale: Any, bias: Any, limit: Any, beam: Any, marks: Any, seen: Any
) -> Any:
    """Put the best `limit` entries into the beam. Gives (beam size, codes scored)."""
    n, size = table[t.ROWS], 0
    last = table[t.ENTRY_COUNT] - 1
    for i in range(0, last + 1, 4):
        four = score_entries(table, code, scale, bias, i)
        for j in range(min(4, last + 1 - i)):
            row = np.int64(load_row(table[t.ENTRIES] + 4 * (i + j)))
            if (
                np.uint64(row) < np.uint64(n)
                and four[j] > NO_PREFIX
                and insert(beam, size, limit, pack(four[j], row)) < limit
            ):
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
    return count, last + 1


@device
def sample_allowed(table: Any, allowed: Any, marks: Any, pending: Any) -> Any:
    """The first allowed row of each of SAMPLE or more stretches of the group, into pending; their number."""
    n, stride, waiting = table[t.ROWS], table[t.STRIDE], 0
    step = max(n // SAMPLE, 1)
    for start in range(0, n, step):
        at, stop = start, min(start + step, n)
        while at + 64 <= stop and nonzero_bytes(allowed + at) == 0:
            at += 64
        while at < stop and load_byte(allowed + at) == 0:
            at += 1
        if at < stop and marks[at] == 0:
            pending[waiting] = at
            waiting += 1
            prefetch_far(table[t.CODES] + at * stride, stride)
    return waiting


@device
def start_filtered(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, ef: Any, shortlist: Any,
    beam: Any, found: Any, marks: Any, seen: Any, pending: Any, scores: Any,
) -> Any:  # fmt: skip
    """Put the best entries, and the best of a sample of allowed rows, into the beam; the allowed into found.

    Far from the query, where nothing near an entry is allowed, the sample alone leads to what is. Gives (beam
    size, found size, rows marked, codes scored, score of the last of SEEDS entries).
    """
    size, visited = start_walk(table, code, scale, bias, min(ef, SEEDS), beam, marks, seen)
    waiting = sample_allowed(table, allowed, marks, pending)
    score_pending(table, code, table[t.STRIDE], scale, bias, pending, waiting, scores)
    kept, limit = 0, min(shortlist, SEEDS)
    for j in range(waiting):
        if scores[j] > NO_PREFIX and insert(found, kept, limit, pack(scores[j], pending[j])) < limit:
            kept = min(kept + 1, limit)
    sampled = kept
    for i in range(sampled):
        row = packed_row(found[i])
        marks[row] = 1
        seen[size + i] = row
    entries = size
    for i in range(entries):
        pending[i] = beam[i]
    nearest = packed_score(beam[entries - 1]) if entries == SEEDS else NO_PREFIX
    for i in range(sampled):
        if insert(beam, size, ef, found[i]) < ef:
            size = min(size + 1, ef)
    for i in range(entries):
        entry = pending[i]
        if load_byte(allowed + packed_row(entry)) != 0 and insert(found, kept, shortlist, entry) < shortlist:
            kept = min(kept + 1, shortlist)
    return size, kept, entries + sampled, visited + waiting, nearest


@device
def walk(
    table: Any, code: Any, scale: Any, bias: Any, ef: Any, shortlist: Any, k: Any, slack: Any,
    beam: Any, marks: Any, seen: Any, pending: Any, scores: Any, trace: Any,
) -> Any:  # fmt: skip
    """Fill the beam with the best rows that the walk finds.

    Gives (beam size, codes scored, nodes expanded, whether it ran out of nodes). Best first over a sorted
    beam: expand the best nodes that were not, until none is left; several at a time, so that more of their
    neighbours' codes are on the way from memory while others are scored. With a slack above 0 it also ends at
    a node whose distance, 1 - score, is more than 1 + slack times that of the k-th (or tenth) best: adaptive
    beam search (Al-Jazzazi et al., 2025). The beam then holds the best `shortlist` rows, and what is nearer
    than that. beam: int64 [>= ef + 16], the lowest bit of an entry says expanded. pending: int64
    [>= TOGETHER x width]; scores: float32, as long. trace: int64, receives the entries that were expanded, as
    far as it reaches.
    """
    size, visited = start_walk(table, code, scale, bias, min(ef, SEEDS), beam, marks, seen)
    count, cursor, steps = size, 0, 0
    last = max(k, BEST) - 1
    while cursor < size:
        edge = np.float32(NO_PREFIX)
        if slack > 0 and size > last:
            edge = edge_behind(beam[last], slack)
            if packed_score(beam[cursor]) < edge:
                break
        waiting = 0
        for _ in range(TOGETHER):
            row = packed_row(beam[cursor])
            beam[cursor] |= 1
            if steps < trace.size:
                trace[steps] = beam[cursor]
            steps += 1
            count, waiting = gather(table, row, 0, marks, seen, count, pending, waiting)
            cursor = next_node(beam, cursor, size)
            if cursor == size:
                break
        prefetch_next(table, beam, cursor, size)
        score_pending(table, code, table[t.STRIDE], scale, bias, pending, waiting, scores)
        for j in range(waiting):
            if not scores[j] > NO_PREFIX or (
                scores[j] < edge and size >= shortlist and pack(scores[j], 0) < beam[shortlist - 1]
            ):
                continue
            size, cursor = keep(table, beam, size, ef, pack(scores[j], pending[j]), cursor)
        visited += waiting
        while cursor < size and beam[cursor] & 1:
            cursor += 1
    for i in range(count):
        marks[seen[i]] = 0
    return size, visited, steps, cursor >= size


@device
def walk_filtered(
    table: Any, code: Any, scale: Any, bias: Any, allowed: Any, ef: Any, shortlist: Any, k: Any, slack: Any,
    ahead: Any, beam: Any, found: Any, marks: Any, seen: Any, pending: Any, scores: Any,
) -> Any:  # fmt: skip
    """Fill `found` with the best `shortlist` allowed rows that a walk finds.

    Gives (found size, codes scored, whether it ran out of nodes, whether it may be lost). The walk is the
    same, but goes over rows that are not allowed too, as bridges of one node: behind such a node only allowed
    rows are taken. So rows that pass at random are found by way of those between them, and where whole
    regions do not pass, the walk does not get lost there. It ends by the k-th best of the allowed rows. Where
    all of these lie far from the query it may end among some that are farther still: it counts as lost if
    more than `ahead` of the entries, a sample of all rows, are nearer than the k-th best. found: int64
    [>= shortlist + 16], packed entries; pending: int64 [>= 2 x SAMPLE], too.
    """
    size, kept, count, visited, nearest = start_filtered(
        table, code, scale, bias, allowed, ef, shortlist, beam, found, marks, seen, pending, scores
    )
    cursor, last = 0, max(k, BEST) - 1
    while cursor < size:
        edge = np.float32(NO_PREFIX)
        if slack > 0 and kept > last:
            edge = edge_behind(found[last], slack)
            if packed_score(beam[cursor]) < edge:
                break
        waiting = 0
        for _ in range(TOGETHER):
            row = packed_row(beam[cursor])
            beam[cursor] |= 1
            only = 0 if load_byte(allowed + row) != 0 else allowed
            count, waiting = gather(table, row, only, marks, seen, count, pending, waiting)
            cursor = next_node(beam, cursor, size)
            if cursor == size:
                break
        prefetch_next(table, beam, cursor, size)
        score_pending(table, code, table[t.STRIDE], scale, bias, pending, waiting, scores)
        for j in range(waiting):
            if not scores[j] > NO_PREFIX:
                continue
            entry = pack(scores[j], pending[j])
            if load_byte(allowed + pending[j]) != 0 and insert(found, kept, shortlist, entry) < shortlist:
                kept = min(kept + 1, shortlist)
            if scores[j] >= edge:
                size, cursor = keep(table, beam, size, ef, entry, cursor)
        visited += waiting
        while cursor < size and beam[cursor] & 1:
            cursor += 1
    for i in range(count):
        marks[seen[i]] = 0
    lost = False
    if kept > last and nearest > packed_score(found[last]):
        lost = entries_before(table, code, scale, bias, packed_score(found[last])) > ahead
    return kept, visited, cursor >= size, lost


@device
def entries_before(table: Any, code: Any, scale: Any, bias: Any, score: Any) -> Any:
    """How many entries score more."""
    count, last = 0, table[t.ENTRY_COUNT] - 1
    for i in range(0, last + 1, 4):
        four = score_entries(table, code, scale, bias, i)
        for j in range(min(4, last + 1 - i)):
            count += 1 if four[j] > score else 0
    return count


@device
def score_entries(table: Any, code: Any, scale: Any, bias: Any, i: Any) -> Any:
    """Scores of four entries from the i-th on; behind the last that of the last."""
    start, stride, last = table[t.ENTRY_CODES], table[t.STRIDE], table[t.ENTRY_COUNT] - 1
    return score_four(
        table,
        start + i * stride,
        start + min(i + 1, last) * stride,
        start + min(i + 2, last) * stride,
        start + min(i + 3, last) * stride,
        stride, code, scale, bias,
    )  # fmt: skip


@device
def edge_behind(entry: Any, slack: Any) -> Any:
    """The score below which a walk ends whose k-th best is this entry."""
    nearest = packed_score(entry)
    return nearest - slack * max(np.float32(1) - nearest, NEAR)


@device
def keep(table: Any, beam: Any, size: Any, ef: Any, entry: Any, cursor: Any) -> Any:
    """Put an entry into the beam of a walk; gives the beam's size and the next node to expand."""
    place = insert(beam, size, ef, entry)
    if place < ef:
        size = min(size + 1, ef)
        if place <= cursor:
            cursor = place
            list_bytes = table[t.WIDTH] * 4
            prefetch_far(table[t.NEIGHBOURS] + packed_row(entry) * list_bytes, list_bytes)
    return size, cursor


@device
def prefetch_next(table: Any, beam: Any, cursor: Any, size: Any) -> None:
    """Ask for the neighbours of the nodes that are likely to be expanded next."""
    list_bytes = table[t.WIDTH] * 4
    for _ in range(TOGETHER):
        if cursor < size:
            prefetch_far(table[t.NEIGHBOURS] + packed_row(beam[cursor]) * list_bytes, list_bytes)
            cursor = next_node(beam, cursor, size)


@device
def next_node(beam: Any, cursor: Any, size: Any) -> Any:
    """The next entry behind `cursor` that was not expanded; size if there is none."""
    cursor += 1
    while cursor < size and beam[cursor] & 1:
        cursor += 1
    return cursor


@kernel(
    "void(int64[::1], float32[:, ::1], int64[::1], int64, int64, int64, int64, float32, float32, int64,"
    " int64, int64[:, ::1], float32[:, ::1], int64[:, ::1], uint8[::1])"
)
def search_walk(
    table: Any, queries: Any, work: Any, allowed: Any, ef: Any, shortlist: Any, k: Any, slack: Any,
    margin: Any, walkable: Any, ahead: Any, rows: Any, scores: Any, counts: Any, ids: Any,
) -> None:  # fmt: skip
    """For each query walk, re-rank the best `shortlist`, write the best k rows and scores.

    A walk that is lost, ends too early, or finds too little though there are `walkable` rows, is followed by
    a scan. queries: unit vectors [m, dim]; work: the table of a scratch; allowed: address of uint8 [n], or 0.
    slack: see walk; margin: see scan_codes and rerank_while; with 0 all is read; ahead: see walk_filtered.
    rows, scores: [m, k], filled from the left; with [1, 0] the shortlist is left in `work`, see finish.
    counts: [m, 4]: rows written, full rows scored, codes scored, where the answer's ids end in `ids`: uint8,
    see write_ids.
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
        if allowed == 0:
            size, visited, _, ended = walk(
                table, address, scale, bias, ef, shortlist, k, slack,
                beam, marks, seen, pending, pending_scores, beam[:0],
            )  # fmt: skip
            lost, kept, count = ended and size < (shortlist if slack > 0 else ef), size, min(size, shortlist)
            listed[:count] = beam[:count]
        else:
            kept, visited, ended, lost = walk_filtered(
                table, address, scale, bias, allowed, ef, shortlist, k, slack, ahead,
                beam, listed, marks, seen, pending, pending_scores,
            )  # fmt: skip
            lost, count = lost or (ended and kept < shortlist), kept
        for i in range(count):
            listed[i], list_scores[i] = packed_row(listed[i]), packed_score(listed[i])
        if (lost or kept < k) and kept < walkable:
            count, looked_at = list_by_scan(table, work, address, scale, bias, allowed, shortlist, margin)
            visited += looked_at
        counts[q, 0], counts[q, 1] = finish(
            table, queries[q], work, allowed, count, rows.shape[1], margin, rows[q], scores[q]
        )
        counts[q, 2] = visited
        place = counts[q, 3] = write_ids(table, rows[q], counts[q, 0], ids, place)
