"""Snapshots: what one query sees, frozen at one generation, and how readers follow the catalogue.

A snapshot is a list of mapped segments with their live masks and a view of the tail. `Snapshots` keeps the
newest one of this process. When the catalogue has moved on, it reads only the difference since the snapshot's
generation, or everything where the removals of that time have been purged (`floor_gen`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import Catalogue, calibrations, marks, segments, settings, tail_rows
from mrlstore.catalogue.connection import Connection, begin_again
from mrlstore.catalogue.segments import SegmentRow
from mrlstore.errors import CorruptStore
from mrlstore.index.codes import Coding
from mrlstore.index.group import Group
from mrlstore.planning.calibration_curves import CalibrationCurves, parse
from mrlstore.storage.row_texts import LONGEST
from mrlstore.storage.segment import Fetch, Segment, new_masks, open_segment
from mrlstore.storage.tail import Tail
from mrlstore.system.files import Files
from mrlstore.types import Namespaces
from mrlstore.where import Node

T = TypeVar("T")


class SnapshotMoved(Exception):
    """The catalogue is of another generation than the snapshot: begin again with the newest."""


def retry_when_moved(run: Callable[[], T]) -> T:
    """Run until it raises neither SnapshotMoved nor Overtaken; every run reads the newest generation."""
    while True:
        with suppress(SnapshotMoved):
            return begin_again(run)


@dataclass(frozen=True)
class LiveSegment:
    """A segment, and which of its rows are still there."""

    segment: Segment
    live: NDArray[np.bool_] | None = None  # [rows]; None: all
    dead: int = 0  # rows that are not

    def without(self, keys: NDArray[np.int64]) -> LiveSegment:
        """The same with these keys dead."""
        rows = self.segment.find(keys)
        rows = rows[rows >= 0]
        if len(rows) == 0:
            return self
        live = np.ones(self.segment.rows, dtype=np.bool_) if self.live is None else self.live.copy()
        live[rows] = False
        return LiveSegment(self.segment, live, len(live) - int(np.count_nonzero(live)))


class LiveGroup(NamedTuple):
    """Rows that are searched together: those of one namespace in a segment, or those in the tail."""

    name: str  # of the segment's base part, or "tail"
    namespace: str | None  # that its rows are of; None: of several
    holder: Segment | Tail
    start: int  # row of the holder where the group begins
    group: Group
    allowed: NDArray[np.bool_] | None  # rows that may be answers; None: all
    size: int  # how many that are
    generation: int  # of the snapshot

    def matching(self, namespace: Namespaces, node: Node, fetch: Fetch) -> LiveGroup:
        """The same where a filter lets pass only some; `fetch` reads metadata that columns do not hold."""
        if isinstance(self.holder, Tail):
            mask = self.holder.mask(namespace, node)
        else:
            stop = self.start + len(self.group.keys)
            mask = self.holder.mask(node, self.start, stop, fetch, self.generation)
            if self.allowed is not None:
                mask = mask & self.allowed
        return self._replace(allowed=mask, size=int(np.count_nonzero(mask)))


class KeyLocation(NamedTuple):
    """Where the vector of a key lies."""

    position: int  # of the key among those that were asked for
    holder: Segment | Tail
    row: int


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Everything that has a vector, at one generation. Immutable; maps stay valid while it is referenced."""

    generation: int
    dim: int | None
    prefix_dim: int | None
    segments: tuple[LiveSegment, ...]
    tail: Tail | None  # None until the store knows its dimension
    calibration: CalibrationCurves = CalibrationCurves()
    mark: marks.Mark = marks.NO_MARK  # how far the store has followed a log of writes
    kept: dict[str, object] = field(default_factory=dict, repr=False)  # by searches, while it lives

    def groups(self, namespace: Namespaces) -> tuple[LiveGroup, ...]:
        """What a search of namespaces goes through; CorruptStore where vectors that it needs are damaged."""
        return tuple(group for group in self._groups(namespace) if group.size)

    def _groups(self, namespace: Namespaces) -> Iterator[LiveGroup]:
        for part in self.segments:
            segment = part.segment
            if segment.row.base.damaged and segment.may_have(namespace):
                raise CorruptStore(segment.base.path, "its vectors are damaged: run repair()")
            for name in segment.names_among(namespace):
                run = segment.run(name)
                if run is not None:
                    live = None if part.live is None else part.live[run.start : run.stop]
                    size = run.stop - run.start if live is None else int(np.count_nonzero(live))
                    base = segment.row.base.name
                    yield LiveGroup(base, name, segment, run.start, run.group, live, size, self.generation)
        if self.tail is not None and self.tail.length:
            mask = self.tail.mask(namespace, None)
            size, name_of_all = int(np.count_nonzero(mask)), namespace if isinstance(namespace, str) else None
            yield LiveGroup("tail", name_of_all, self.tail, 0, self.tail.group, mask, size, self.generation)

    def rows(self) -> int:
        """Rows with a vector."""
        held = sum(part.segment.rows - part.dead for part in self.segments)
        return held + (self.tail.count() if self.tail is not None else 0)

    def locate(self, keys: NDArray[np.int64]) -> Iterator[KeyLocation]:
        """Where those of the keys lie that have a vector, in no order."""
        for part in self.segments:
            rows = part.segment.find(keys)
            for position in np.flatnonzero(rows >= 0).tolist():
                yield KeyLocation(position, part.segment, int(rows[position]))
        if self.tail is not None and self.tail.length:
            order = np.argsort(self.tail.keys, kind="stable")
            at = np.minimum(np.searchsorted(self.tail.keys, keys, sorter=order), self.tail.length - 1)
            rows = order[at]
            for position in np.flatnonzero(self.tail.keys[rows] == keys).tolist():
                yield KeyLocation(position, self.tail, int(rows[position]))


class _Known(NamedTuple):
    """A snapshot, and a state of the catalogue that it covers."""

    state: tuple[int, int]
    snapshot: Snapshot


class Snapshots:
    """The newest snapshot of this process.

    A snapshot is built aside and put in place by one assignment, so an exception at any moment leaves the one
    before. A signal handler may come here while its thread is here: it then goes on from the same snapshot.
    """

    def __init__(self, files: Files, parts: Path, catalogue: Catalogue) -> None:
        self._files, self._parts, self._catalogue = files, parts, catalogue
        self._lock = threading.RLock()
        self._current: Snapshot | None = None
        self._known: _Known | None = None
        self._masks = new_masks()

    def latest(self) -> Snapshot:
        """What has been committed by anyone before this call."""
        state, known = self._catalogue.state(), self._known
        if known is not None and known.state == state:
            return known.snapshot
        with self._lock:
            snapshot = retry_when_moved(self._newest)
            self._current = snapshot
            self._known = _Known(state, snapshot)
            return snapshot

    def at(self, connection: Connection) -> Snapshot:
        """The snapshot of exactly this transaction; SnapshotMoved if a newer one is already known."""
        with self._lock:
            snapshot = self._follow(connection)
            if snapshot is not self._current:
                self._known = None  # lets go of the snapshot before
                self._current = snapshot
            return snapshot

    def close(self) -> None:
        """Let go of the snapshot and of everything that was kept for it; queries under way keep theirs."""
        self._known = self._current = None
        self._masks.clear()

    def _newest(self) -> Snapshot:
        with self._catalogue.read() as connection:
            return self._follow(connection)

    def _follow(self, connection: Connection) -> Snapshot:
        known, generation = self._current, settings.generation(connection)
        if known is not None and generation == known.generation:
            return known
        if known is not None and generation < known.generation:
            self._catalogue.check_not_older(known.generation)
            raise SnapshotMoved
        if known is not None and known.generation < settings.get_int(connection, "floor_gen"):
            known = None
        try:
            return self._read(connection, generation, known)
        except FileNotFoundError as error:
            # Inside one read transaction a named folder may have been merged away and collected meanwhile,
            # but only by a commit that this transaction can't see.
            with self._catalogue.read() as fresh:
                if settings.generation(fresh) != generation:
                    raise SnapshotMoved from error
            raise CorruptStore(
                error.filename or self._parts, "is missing, but the catalogue names it"
            ) from error

    def _read(self, connection: Connection, generation: int, known: Snapshot | None) -> Snapshot:
        dim, prefix_dim = settings.dims(connection)
        mark = marks.load(connection)
        since = known.generation if known is not None else 0
        removed = np.array(tail_rows.removed_since(connection, since), dtype=np.int64)
        before = {part.segment.row.base.name: part for part in known.segments} if known is not None else {}
        parts, moved = [], [removed]
        for row in segments.load(connection):
            old = before.get(row.base.name)
            if old is not None:
                part = self._updated(old, row).without(removed)
            else:
                part = self._opened(connection, row)
                if known is not None and known.tail is not None:
                    keys = known.tail.keys
                    moved.append(keys[part.segment.find(keys) >= 0])
            if part.segment.dim != dim:
                raise CorruptStore(part.segment.base.path, f"{part.segment.dim} dims, the store has {dim}")
            parts.append(part)
        view = known.tail if known is not None else None
        if dim is not None and prefix_dim is not None:
            coding = coding_of_most(parts, prefix_dim)
            rotation = None if coding is None else coding.rotation
            view = (
                view.coded(prefix_dim, rotation)
                if view is not None
                else Tail.empty(dim, prefix_dim, rotation)
            )
            fresh = tail_rows.since(connection, since, LONGEST, dim=dim, directions=False)
            view = view.without(np.concatenate(moved)).extended(fresh)
            calibration = _calibration(connection, known)
            return Snapshot(generation, dim, prefix_dim, tuple(parts), view, calibration, mark)
        return Snapshot(generation, None, None, tuple(parts), None, mark=mark)

    def _opened(self, connection: Connection, row: SegmentRow) -> LiveSegment:
        """A segment that is new to this process, without the rows that were removed since it was read."""
        segment = self._open(row, None)
        removed = np.array(tail_rows.removed_since(connection, row.built_gen), dtype=np.int64)
        return LiveSegment(segment).without(removed)

    def _updated(self, old: LiveSegment, row: SegmentRow) -> LiveSegment:
        """The same base part with the index and columns that the catalogue names now."""
        if old.segment.row == row:
            return old
        return LiveSegment(self._open(row, old.segment), old.live, old.dead)

    def _open(self, row: SegmentRow, old: Segment | None) -> Segment:
        base = None if old is None else old.base
        uuid = self._catalogue.settings.store_uuid
        return open_segment(self._files, self._parts, uuid, row, base, self._masks)


def coding_of_most(parts: Iterable[LiveSegment], prefix_dim: int | None) -> Coding | None:
    """What codes the largest segment has whose index is of this prefix; None if none is."""
    held = [part.segment for part in parts]
    fit = [one for one in held if one.index is not None and one.index.info.get("prefix_dim") == prefix_dim]
    return max(fit, key=lambda one: one.rows).coding if fit else None


def _calibration(connection: Connection, known: Snapshot | None) -> CalibrationCurves:
    """The curves of this generation; the known object, which remembers choices, where they are the same."""
    stored = calibrations.load(connection)
    if known is not None and known.calibration.stored == stored:
        return known.calibration
    return CalibrationCurves(parse(stored), stored)
