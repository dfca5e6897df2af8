"""Maintenance: tail -> base part -> index and columns parts -> merged segment.

Every step is run by a holder of LOCK. It reads at one generation, writes new folders, and swaps them in with
one transaction that checks that its inputs are still named; removals made meanwhile are carried over, because
a reader applies to every base part the removals after the generation that it was read at.
"""

from __future__ import annotations

import mmap
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import keywords, rows, segments, settings, tail
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.columns import build_columns
from mrlstore.errors import StorageFull, StoreLocked
from mrlstore.index.build import build_index
from mrlstore.index.group import SCALE_AT
from mrlstore.maintenance import garbage
from mrlstore.maintenance.merge import order_of, write_merged
from mrlstore.recall import calibrate
from mrlstore.search import group_search as ways
from mrlstore.storage.base_part import base_arrays, write_base
from mrlstore.storage.parts import NewPart, Part, write_part
from mrlstore.storage.segment import open_segment
from mrlstore.storage.session import LOCK, Session
from mrlstore.storage.snapshot import LiveSegment, SnapshotMoved, retry_when_moved
from mrlstore.system.files import Lock
from mrlstore.system.job import Job
from mrlstore.system.log import tell
from mrlstore.writing.writer import transaction

TAIL_ROWS = 2_048  # a longer tail is sealed
MAX_SEGMENTS = 4
SIZE_RATIO = 8
DEAD_SHARE = 0.1  # a segment with more dead rows than this is rewritten
_BLOCK = 1_024
_KEYWORD_PAGES = 1_000  # of the keyword index, written in one transaction


def take_lock(session: Session, wait_s: float) -> Lock:
    """LOCK, or StoreLocked if somebody keeps it for longer; StorePoisoned if it is another store's."""
    lock = session.files.lock(session.path / LOCK, wait_s=wait_s)
    if lock is None:
        raise StoreLocked(
            f"{session.path}: another process has been indexing for {wait_s:g} s; try again later"
        )
    try:
        session.catalogue.connections.check_place()
    except BaseException:
        lock.release()
        raise
    return lock


def tend(session: Session, job: Job) -> bool:
    """Do the most useful step, if any: seal, merge or index. LOCK is held by the caller."""
    with session.catalogue.read() as connection:
        waiting = tail.count(connection)
    if waiting >= TAIL_ROWS:
        seal(session)
        return True
    named = healthy_segments(session)
    chosen = choose_merge([(part.segment.rows, part.dead) for part in named])
    if chosen:
        merge(session, [named[i] for i in chosen], job)
        forget_removals(session)
        return True
    for part in named:
        if lacks(part, session.snapshots.latest().prefix_dim):
            complete(session, part, job)
            return True
    return calibrate.refresh(session, job) is not None


def optimize(session: Session, job: Job) -> None:
    """Bring the store into its best shape, and give disk space back."""
    started = time.perf_counter()
    with session.storing("optimizing"), take_lock(session, job.wait_s):
        retry_when_moved(lambda: settle(session, job))
        garbage.collect(session, lambda name: True)
        _merge_keywords(session)
        session.catalogue.checkpoint(whole=True)
    tell("optimized", session.path, seconds=time.perf_counter() - started)


def warm(session: Session) -> None:
    """Read codes and graphs into memory and load the kernels."""
    snapshot = session.snapshots.latest()
    for part in snapshot.segments:
        for array in part.segment.index.arrays.values() if part.segment.index is not None else ():
            np.add.reduce(array.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE], dtype=np.int64)
    if snapshot.dim is not None and snapshot.prefix_dim is not None:
        ways.warm()


def settle(session: Session, job: Job) -> None:
    """Seal, merge and index everything committed before this call. LOCK is held by the caller."""
    with session.catalogue.read() as connection:
        waiting = tail.count(connection)
    if waiting:
        seal(session)
    named = healthy_segments(session)
    chosen = choose_all([(part.segment.rows, part.dead) for part in named])
    _check_room(session, [named[i] for i in chosen])
    if chosen:
        merge(session, [named[i] for i in chosen], job)
    complete_all(session, job)
    forget_removals(session)
    calibrate.refresh(session, job)


def complete_all(session: Session, job: Job) -> None:
    """Give every segment the parts that it lacks. LOCK is held by the caller."""
    for part in healthy_segments(session):
        if lacks(part, session.snapshots.latest().prefix_dim):
            complete(session, part, job)


def lacks(part: LiveSegment, prefix_dim: int | None) -> bool:
    """Whether a segment has no index or columns, or an outdated index."""
    row = part.segment.row
    return row.index is None or row.columns is None or outdated(part, prefix_dim)


def outdated(part: LiveSegment, prefix_dim: int | None) -> bool:
    """Whether a segment's index is of another prefix than the store's, or as older versions wrote it."""
    index = part.segment.index
    if index is None:
        return False
    return index.info.get("prefix_dim") != prefix_dim or index.info.get("scale_at") != SCALE_AT


def set_prefix_dim(session: Session, prefix_dim: int, job: Job) -> None:
    """Change the store's prefix and rebuild every index for it.

    The new prefix is committed first. From then on an index of another prefix counts as missing, but is
    searched until its successor takes its place; whoever tends the store next goes on after a crash.
    """
    with session.storing("changing prefix_dim"), take_lock(session, job.wait_s):
        if session.snapshots.latest().prefix_dim != prefix_dim:
            with session.catalogue.write() as write:
                settings.put(write.connection, "prefix_dim", prefix_dim)
            session.reload_settings()
        retry_when_moved(lambda: complete_all(session, job))
        calibrate.refresh(session, job)
        garbage.collect(session, lambda name: True)


def choose_merge(sizes: list[tuple[int, int]]) -> list[int]:
    """Which segments, of (rows, dead), to merge in the background: a few small ones, or one that rots."""
    for i, (count, dead) in enumerate(sizes):
        if dead > max(TAIL_ROWS // 2, 2 * DEAD_SHARE * count):
            return [i]
    if len(sizes) <= MAX_SEGMENTS:
        return []
    order = sorted(range(len(sizes)), key=lambda i: sizes[i][0])
    chosen, total = order[:2], sum(sizes[i][0] for i in order[:2])
    for i in order[2:]:
        if sizes[i][0] > SIZE_RATIO * total:
            break
        chosen.append(i)
        total += sizes[i][0]
    return chosen


def choose_all(sizes: list[tuple[int, int]]) -> list[int]:
    """Which segments to merge into one on `optimize`: all but those that dwarf the rest and are healthy."""
    order = sorted(range(len(sizes)), key=lambda i: sizes[i][0])
    chosen: list[int] = []
    total = 0
    for i in order:
        count, dead = sizes[i]
        if chosen and count > SIZE_RATIO * total and dead <= DEAD_SHARE * count:
            continue
        chosen.append(i)
        total += count
    if len(chosen) == 1 and sizes[chosen[0]][1] == 0:
        return []
    if len(chosen) == 1 and sizes[chosen[0]][1] <= DEAD_SHARE * sizes[chosen[0]][0]:
        return []
    return chosen


def healthy_segments(session: Session) -> list[LiveSegment]:
    """The segments of now whose vectors are not known to be damaged."""
    return [part for part in session.snapshots.latest().segments if not part.segment.row.base.damaged]


def seal(session: Session) -> None:
    """Write the tail as a base part."""
    started = time.perf_counter()
    with session.catalogue.read() as connection:
        generation = settings.generation(connection)
        waiting = sorted(tail.since(connection, 0), key=lambda row: (row.namespace, row.key))
    if not waiting:
        return
    dim = len(waiting[0].vector) // 2
    vectors = np.frombuffer(b"".join(row.vector for row in waiting), dtype=np.float16).reshape(-1, dim)
    keys = np.array([row.key for row in waiting], dtype=np.int64)
    part = write_base(
        session.files,
        session.parts,
        session.settings.store_uuid,
        [row.namespace for row in waiting],
        [row.id for row in waiting],
        base_arrays(keys, vectors, np.array([row.norm for row in waiting], dtype=np.float32)),
    )
    with transaction(session, [part]) as write:
        tail.drop(write.connection, [row.key for row in waiting])
        segments.add(write.connection, write.generation, SegmentRow(0, generation, len(waiting), part.ref))
    tell("sealed", session.path, rows=len(waiting), seconds=time.perf_counter() - started)


def complete(session: Session, part: LiveSegment, job: Job) -> None:
    """Give a segment the index and columns parts that it lacks."""
    row, base = part.segment.row, part.segment.base
    started = time.perf_counter()
    made: list[NewPart] = []
    try:
        changed = row
        if row.index is None or outdated(part, session.snapshots.latest().prefix_dim):
            made.append(_write_index(session, base, job))
            changed = replace(changed, index=made[-1].ref)
        if row.columns is None:
            made.append(_write_columns(session, base.arrays["keys"], job))
            changed = replace(changed, columns=made[-1].ref)
    except BaseException:
        _discard(session, made)
        raise
    with transaction(session, made) as write:
        _check_named(write.connection, [row])
        segments.replace(write.connection, write.generation, changed)
    tell("indexed", session.path, rows=base.rows, seconds=time.perf_counter() - started)


def merge(session: Session, inputs: list[LiveSegment], job: Job) -> None:
    """Write the live rows of these segments as one, with index and columns; dead rows are left behind."""
    started = time.perf_counter()
    with session.catalogue.read() as connection:
        snapshot = session.snapshots.at(connection)
        generation = snapshot.generation
    names = {part.segment.row.base.name for part in inputs}
    inputs = [part for part in snapshot.segments if part.segment.row.base.name in names]
    made: list[NewPart] = []
    row: SegmentRow | None = None
    try:
        order = order_of(inputs)
        if len(order.keys):
            made.append(write_merged(session, inputs, order, partial(job.step, "merge")))
            row = SegmentRow(0, generation, len(order.keys), made[0].ref)
            base = open_segment(session.files, session.parts, session.settings.store_uuid, row, None).base
            made.append(_write_index(session, base, job))
            made.append(_write_columns(session, order.keys, job))
            row = replace(row, index=made[1].ref, columns=made[2].ref)
    except BaseException:
        _discard(session, made)
        raise
    with transaction(session, made) as write:
        _check_named(write.connection, [part.segment.row for part in inputs])
        segments.drop(write.connection, [part.segment.row.id for part in inputs])
        if row is not None:
            segments.add(write.connection, write.generation, row)
    tell(
        "merged",
        session.path,
        segments=len(inputs),
        rows=row.rows if row is not None else 0,
        seconds=time.perf_counter() - started,
    )


def forget_removals(session: Session) -> None:
    """Purge removals of keys that no segment holds any more. LOCK is held, so no merge is under way."""
    snapshot = session.snapshots.latest()
    with session.catalogue.read() as connection:
        removed = np.unique(np.array(tail.removed_since(connection, 0), dtype=np.int64))
    held = np.zeros(len(removed), dtype=np.bool_)
    for part in snapshot.segments:
        held |= part.segment.find(removed) >= 0
    nowhere = removed[~held].tolist()
    if not nowhere:
        return
    with session.catalogue.write() as write:
        named = {row.base.name for row in segments.load(write.connection)}
        if named != {part.segment.row.base.name for part in snapshot.segments}:
            return  # a big batch was written meanwhile, and may have removed some of its own rows
        purged = tail.forget_removals(write.connection, nowhere)
        floor = settings.get_int(write.connection, "floor_gen")
        settings.put(write.connection, "floor_gen", max(floor, purged))


def _merge_keywords(session: Session) -> None:
    """Make the keyword index one piece, in transactions short enough for writers to get their turn."""
    with session.catalogue.read() as connection:
        going = keywords.scattered(connection)
    while going:
        with session.catalogue.write() as write:
            going = keywords.merge(write.connection, _KEYWORD_PAGES)


def _write_index(session: Session, base: Part, job: Job) -> NewPart:
    options, prefix_dim = session.settings, session.snapshots.latest().prefix_dim
    assert prefix_dim is not None  # settled by the first vector
    arrays, info = build_index(
        base.arrays["vectors"],
        base.arrays["groups"],
        prefix_dim=prefix_dim,
        m=options.m,
        ef_construction=options.ef_construction,
        threads=session.threads,
        job=job,
    )
    return write_part(
        session.files, session.parts, "index", base.rows, arrays, store_uuid=options.store_uuid, info=info
    )


def _write_columns(session: Session, keys: NDArray[np.int64], job: Job) -> NewPart:
    """Columns of the metadata of these rows; a row removed meanwhile counts as having none."""

    def texts() -> Iterator[str | None]:
        for start in range(0, len(keys), _BLOCK):
            job.step("columns", start, len(keys))
            wanted = keys[start : start + _BLOCK].tolist()
            with session.catalogue.read() as connection:
                found = {row.key: row.metadata for row in rows.by_key(connection, wanted)}
            yield from (found.get(key) for key in wanted)

    arrays = {"columns": build_columns(texts(), len(keys), job=job)}
    return write_part(
        session.files, session.parts, "columns", len(keys), arrays, store_uuid=session.settings.store_uuid
    )


def _discard(session: Session, made: list[NewPart]) -> None:
    for part in made:
        part.discard(session.files)


def _check_named(connection: Connection, inputs: list[SegmentRow]) -> None:
    """Give up if an input is not as it was read: verify() may have marked one of its parts as damaged."""
    if not set(inputs) <= set(segments.load(connection)):
        raise SnapshotMoved


def _check_room(session: Session, inputs: list[LiveSegment]) -> None:
    """Refuse to start a merge that would fill the disk."""
    needed = sum(part.segment.base.size for part in inputs) * 5 // 4
    free = shutil.disk_usage(session.path).free
    if needed > free:
        raise StorageFull(28, f"optimize() needs {needed:,} bytes and {free:,} are free", str(session.path))
