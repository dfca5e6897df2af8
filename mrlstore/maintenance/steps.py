"""The steps of maintenance: flush the tail to a base part, index it, merge segments.

The caller of a step holds LOCK. A step reads at one generation, writes new folders, and names them in one
transaction, which first checks that the segments it has read are still as they were. Rows that were removed
meanwhile need nothing: a reader applies to every base part all removals after the generation at which it was
read. `policy` decides which step is due.
"""

from __future__ import annotations

import errno
import mmap
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mrlstore.catalogue import keywords, segments, settings, tail_rows
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.identity import LOCK
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.errors import StorageFull, StoreLocked
from mrlstore.index.build import MIN_GRAPH_ROWS, build_index, require_builder
from mrlstore.kernels import load
from mrlstore.maintenance import garbage, policy
from mrlstore.maintenance.columns_part import write_columns
from mrlstore.maintenance.merge import KeptGraph, kept_graph, row_order, write_merged
from mrlstore.storage.base_part import base_arrays, write_base
from mrlstore.storage.parts import NewPart, Part, write_part
from mrlstore.storage.segment import open_segment
from mrlstore.storage.session import Session
from mrlstore.storage.snapshot import LiveSegment, SnapshotMoved, coding_of_most, retry_when_moved
from mrlstore.system import late
from mrlstore.system.files import Lock
from mrlstore.system.job import UNWATCHED, Job
from mrlstore.system.late import LateModule
from mrlstore.system.log import log_event
from mrlstore.types import GraphBuilder
from mrlstore.writing.writer import transaction

if TYPE_CHECKING:
    from mrlstore.recall import calibrate
else:
    calibrate = LateModule("mrlstore.recall.calibrate")

_KEYWORD_PAGES = 1_000  # pages of the keyword index that one transaction writes: writers wait meanwhile


def take_lock(session: Session, wait_s: float) -> Lock:
    """Take LOCK; StoreLocked if it is not free in time, StorePoisoned if the store has been replaced."""
    lock = session.files.lock(session.path / LOCK, wait_s=wait_s)
    if lock is None:
        raise StoreLocked(
            f"{session.path}: another process has been indexing for {wait_s:g} s; try again later"
        )
    try:
        session.catalogue.connections.check_not_replaced()
    except BaseException:
        lock.release()
        raise
    return lock


def next_step(session: Session, job: Job) -> bool:
    """Do the step that is due: flush, merge, index or calibrate; False if none is."""
    with session.catalogue.read() as connection:
        waiting = tail_rows.count(connection)
    if waiting >= policy.TAIL_ROWS:
        flush(session, job, indexed=True)
        return True
    named = undamaged_segments(session)
    chosen = policy.in_background(policy.sizes(named))
    if chosen:
        merge(session, [named[i] for i in chosen], job)
        forget_removals(session)
        return True
    wanted = index_settings(session)
    for part in named:
        if policy.is_incomplete(part, wanted):
            complete(session, part, job)
            return True
    return calibrate.refresh(session, job) is not None


def optimize(session: Session, job: Job) -> None:
    """Do every step that makes queries faster or files smaller, and remove files that nothing names."""
    started = time.perf_counter()
    with session.storing("optimizing"), take_lock(session, job.wait_s):
        retry_when_moved(lambda: _all_steps(session, job))
        garbage.collect(session)
        _merge_keywords(session)
        session.catalogue.checkpoint(whole=True)
    log_event("optimized", session.path, seconds=time.perf_counter() - started)


def warm(session: Session) -> None:
    """Read codes and graphs into memory and load the kernels."""
    snapshot = session.snapshots.latest()
    for part in snapshot.segments:
        for array in part.segment.index.arrays.values() if part.segment.index is not None else ():
            np.add.reduce(array.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE], dtype=np.int64)
    if snapshot.dim is not None and snapshot.prefix_dim is not None:
        load.warm()


def _all_steps(session: Session, job: Job) -> None:
    """Flush, merge and index everything committed before this call."""
    with session.catalogue.read() as connection:
        waiting = tail_rows.count(connection)
    if waiting:
        flush(session)
    outdated, named = _has_outdated_indexes(session), undamaged_segments(session)
    chosen = [named[i] for i in policy.on_optimize(policy.sizes(named))]
    _check_free_space(session, chosen)
    if chosen:
        merge(session, chosen, job)
    complete_all(session, job)
    forget_removals(session)
    calibrate.refresh(session, job, always=outdated)


def complete_all(session: Session, job: Job) -> None:
    """Write the parts that segments lack, and replace outdated indexes."""
    for part in undamaged_segments(session):
        if policy.is_incomplete(part, index_settings(session)):
            complete(session, part, job)


def set_prefix_dim(session: Session, prefix_dim: int, job: Job) -> None:
    """Change the store's prefix and rebuild every index for it.

    The new prefix is committed first. From then on an index of another prefix counts as outdated, and is
    searched until it is replaced. After a crash the next maintenance, of any process, goes on.
    """
    require_builder(index_settings(session).graph)
    with session.storing("changing prefix_dim"), take_lock(session, job.wait_s):
        if session.snapshots.latest().prefix_dim != prefix_dim:
            with session.catalogue.write() as write:
                settings.put(write.connection, "prefix_dim", prefix_dim)
            session.reload_settings()
        retry_when_moved(lambda: complete_all(session, job))
        calibrate.refresh(session, job)
        garbage.collect(session)


def set_graph(session: Session, graph: GraphBuilder, job: Job) -> None:
    """Change what builds the store's graphs and rebuild them all; interrupted, it is as `set_prefix_dim`."""
    require_builder(graph)
    with session.storing("changing the graph"), take_lock(session, job.wait_s):
        if index_settings(session).graph != graph:
            with session.catalogue.write() as write:
                settings.put(write.connection, "graph", graph)
            session.reload_settings()
        outdated = _has_outdated_indexes(session)
        retry_when_moved(lambda: complete_all(session, job))
        calibrate.refresh(session, job, always=outdated)
        garbage.collect(session)


def _has_outdated_indexes(session: Session) -> bool:
    """Whether indexes are to be replaced, so that what calibration has measured will not hold."""
    wanted = index_settings(session)
    return any(policy.has_outdated_index(part, wanted) for part in undamaged_segments(session))


def index_settings(session: Session) -> policy.IndexSettings:
    """What indexes are to be like by the newest commit: another process may have changed it."""
    with session.catalogue.read() as connection:
        return policy.IndexSettings(settings.dims(connection).prefix_dim, settings.graph(connection))


def undamaged_segments(session: Session) -> list[LiveSegment]:
    """The newest segments, without those whose vectors are known to be damaged."""
    return [part for part in session.snapshots.latest().segments if not part.segment.row.base.damaged]


def flush(session: Session, job: Job = UNWATCHED, *, indexed: bool = False) -> None:
    """Write the tail as a base part; `indexed` with index and columns, so that no query scans it whole."""
    started = time.perf_counter()
    with session.catalogue.read() as connection:
        generation = settings.generation(connection)
        waiting = sorted(tail_rows.since(connection, 0), key=lambda row: (row.namespace, row.key))
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
    made, row = [part], SegmentRow(0, generation, len(waiting), part.ref)
    try:
        if indexed:
            wanted, base = index_settings(session), _opened(session, row)
            made.append(_write_index(session, base, wanted, set(), job))
            made.append(write_columns(session, keys, job))
            row = replace(row, index=made[1].ref, columns=made[2].ref)
    except BaseException:
        _discard(session, made)
        raise
    with transaction(session, made) as write:
        tail_rows.drop(write.connection, keys.tolist())
        segments.add(write.connection, write.generation, row)
    log_event("flushed", session.path, rows=len(waiting), seconds=time.perf_counter() - started)


def complete(session: Session, part: LiveSegment, job: Job) -> None:
    """Write the index and columns parts that a segment lacks, or whose index is outdated."""
    row, base = part.segment.row, part.segment.base
    started = time.perf_counter()
    made: list[NewPart] = []
    try:
        changed, wanted = row, index_settings(session)
        if row.index is None or policy.has_outdated_index(part, wanted):
            made.append(_write_index(session, base, wanted, {row.base.name}, job))
            changed = replace(changed, index=made[-1].ref)
        if row.columns is None:
            made.append(write_columns(session, base.arrays["keys"], job))
            changed = replace(changed, columns=made[-1].ref)
    except BaseException:
        _discard(session, made)
        raise
    with transaction(session, made) as write:
        _check_named(write.connection, [row])
        segments.replace(write.connection, write.generation, changed)
    log_event("indexed", session.path, rows=base.rows, seconds=time.perf_counter() - started)


def merge(session: Session, inputs: list[LiveSegment], job: Job) -> None:
    """Write the rows of these segments that are not removed as one segment, with index and columns."""
    started = time.perf_counter()
    with session.catalogue.read() as connection:
        snapshot = session.snapshots.at(connection)
        generation = snapshot.generation
    names = {part.segment.row.base.name for part in inputs}
    inputs = [part for part in snapshot.segments if part.segment.row.base.name in names]
    if any(part.segment.row.base.damaged for part in inputs):
        raise SnapshotMoved  # verify() has marked one since they were chosen
    made: list[NewPart] = []
    row: SegmentRow | None = None
    wanted = index_settings(session)
    try:
        order = row_order(inputs)
        if len(order.keys) >= MIN_GRAPH_ROWS:
            require_builder(wanted.graph)  # before the rows are written
        if len(order.keys):
            made.append(write_merged(session, inputs, order, partial(job.step, "merge")))
            row = SegmentRow(0, generation, len(order.keys), made[0].ref)
            base = _opened(session, row)
            kept = kept_graph(inputs, order, base, wanted, session.settings.m)
            made.append(_write_index(session, base, wanted, names, job, kept))
            made.append(write_columns(session, order.keys, job))
            row = replace(row, index=made[1].ref, columns=made[2].ref)
    except BaseException:
        _discard(session, made)
        raise
    with transaction(session, made) as write:
        _check_named(write.connection, [part.segment.row for part in inputs])
        segments.drop(write.connection, [part.segment.row.id for part in inputs])
        if row is not None:
            segments.add(write.connection, write.generation, row)
    log_event(
        "merged",
        session.path,
        segments=len(inputs),
        rows=row.rows if row is not None else 0,
        seconds=time.perf_counter() - started,
    )


def forget_removals(session: Session) -> None:
    """Delete the removals of keys that are in no segment any more.

    The caller holds LOCK, so no other merge is under way that has still read such a key.
    """
    snapshot = session.snapshots.latest()
    with session.catalogue.read() as connection:
        removed = np.unique(np.array(tail_rows.removed_since(connection, 0), dtype=np.int64))
    held = np.zeros(len(removed), dtype=np.bool_)
    for part in snapshot.segments:
        held |= part.segment.find(removed) >= 0
    unheld = removed[~held].tolist()
    if not unheld:
        return
    with session.catalogue.write() as write:
        named = {row.base.name for row in segments.load(write.connection)}
        if named != {part.segment.row.base.name for part in snapshot.segments}:
            return  # a new segment may hold such a key: a large batch can have removed rows of its own
        purged = tail_rows.forget_removals(write.connection, unheld)
        floor = settings.get_int(write.connection, "floor_gen")
        settings.put(write.connection, "floor_gen", max(floor, purged))


def _merge_keywords(session: Session) -> None:
    """Merge the keyword index into one FTS5 segment, in transactions so short that writers can go between."""
    with session.catalogue.read() as connection:
        unfinished = keywords.is_fragmented(connection)
    while unfinished:
        with session.catalogue.write() as write:
            unfinished = keywords.merge(write.connection, _KEYWORD_PAGES)


def _write_index(
    session: Session,
    base: Part,
    wanted: policy.IndexSettings,
    replaced: set[str],
    job: Job,
    kept: KeptGraph | None = None,
) -> NewPart:
    """Write the index of a base part, with the rotation of the segments other than `replaced` if it fits.

    Where it grows from a graph that is `kept`, with the rotation of that, if it fits.
    """
    options, prefix_dim = session.settings, wanted.prefix_dim
    found = session.snapshots.latest().segments
    others = [part for part in found if part.segment.row.base.name not in replaced]
    assert prefix_dim is not None  # it was set with the first vector
    like = kept.coding if kept is not None else coding_of_most(others, prefix_dim)
    arrays, info = build_index(
        base.arrays["vectors"],
        base.arrays["groups"],
        prefix_dim=prefix_dim,
        m=options.m,
        ef_construction=options.ef_construction,
        threads=session.threads,
        job=job,
        builder=wanted.graph,
        like=like,
        seeds=() if kept is None else kept.seeds,
    )
    return write_part(
        session.files, session.parts, "index", base.rows, arrays, store_uuid=options.store_uuid, info=info
    )


def _opened(session: Session, row: SegmentRow) -> Part:
    """The base part of a segment that is not in the catalogue yet."""
    return open_segment(session.files, session.parts, session.settings.store_uuid, row, None).base


def _discard(session: Session, made: list[NewPart]) -> None:
    for part in made:
        part.discard(session.files)


def _check_named(connection: Connection, inputs: list[SegmentRow]) -> None:
    """Raise SnapshotMoved if a segment is not as it was read: verify() may have marked it as damaged."""
    if not set(inputs) <= set(segments.load(connection)):
        raise SnapshotMoved


def _check_free_space(session: Session, inputs: list[LiveSegment]) -> None:
    """Raise StorageFull if the merge of these segments does not fit on the disk."""
    parts = [
        part for one in inputs for part in (one.segment.base, one.segment.column_part) if part is not None
    ]
    needed = sum(part.size for part in parts) * 5 // 4
    free = late.shutil.disk_usage(session.path).free
    if needed > free:
        raise StorageFull(
            errno.ENOSPC, f"optimize() needs {needed:,} bytes and {free:,} are free", str(session.path)
        )
