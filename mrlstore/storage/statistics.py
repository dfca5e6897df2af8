"""The figures that `stats()` gives."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from mrlstore.catalogue import rows, segments, settings, tail_rows
from mrlstore.catalogue.connection import Connection
from mrlstore.errors import CorruptStore
from mrlstore.index.build import built_by, has_graphs
from mrlstore.storage.session import CATALOGUE, PARTS, Session, View
from mrlstore.storage.snapshot import Snapshot
from mrlstore.types import Stats


def stats(session: Session) -> Stats:
    """The state of the store at one generation; the lengths of files are read beside it."""

    def run(view: View) -> Stats:
        with view.connection() as connection:
            return _stats(session, connection, view.snapshot)

    return session.consistently(run)


def _stats(session: Session, connection: Connection, snapshot: Snapshot) -> Stats:
    count, without_vector = rows.count(connection, None)
    named = segments.load(connection)
    kinds = {part.name: kind for row in named for kind, part in row.parts_by_kind.items()}
    sizes = dict.fromkeys(("catalogue", "base", "index", "columns", "other"), 0)
    for name in _list(session):
        sizes[kinds.get(name, "other")] += _folder_bytes(session, name)
    wal = _size(session, CATALOGUE + "-wal")
    sizes["catalogue"] = _size(session, CATALOGUE) + wal + _size(session, CATALOGUE + "-shm")
    held = sum(part.segment.rows for part in snapshot.segments)
    dead = sum(part.dead for part in snapshot.segments)
    in_parts = sizes["base"] + sizes["index"] + sizes["columns"]
    reclaimable = (
        session.catalogue.free_bytes(connection) + sizes["other"] + (in_parts * dead // held if held else 0)
    )
    return Stats(
        path=str(session.path),
        rows=count,
        rows_without_vector=without_vector,
        namespaces=len(rows.namespaces(connection)),
        dim=snapshot.dim,
        prefix_dim=snapshot.prefix_dim,
        generation=snapshot.generation,
        tail_rows=tail_rows.count(connection),
        segments=len(named),
        flat_segments=sum(row.index is None for row in named),
        indexed_rows=sum(part.segment.rows - part.dead for part in snapshot.segments if part.segment.index),
        dead_rows=dead,
        damaged_parts=sum(part.damaged for row in named for part in row.parts),
        bytes_on_disk=sum(sizes.values()),
        bytes_reclaimable=reclaimable,
        bytes_wal=wal,
        bytes_by_kind=sizes,
        audit=() if session.audit is None else session.audit.figures(),
        shipping=tuple(one.figures() for one in session.shipping),
        graph=settings.graph(connection),
        rows_by_graph=_rows_by_graph(snapshot),
    )


def _rows_by_graph(snapshot: Snapshot) -> dict[str, int]:
    """Live rows of the segments that have graphs, by what has built these."""
    counts: Counter[str] = Counter()
    for part in snapshot.segments:
        index = part.segment.index
        if index is not None and has_graphs(index.arrays):
            counts[str(built_by(index.info))] += part.segment.rows - part.dead
    return dict(counts)


def _list(session: Session) -> list[str]:
    return session.files.list_dir(session.parts)


def _folder_bytes(session: Session, name: str) -> int:
    total = 0
    with suppress(FileNotFoundError, NotADirectoryError, CorruptStore):  # the last: a link
        for file in session.files.list_dir(session.parts / name):
            total += _size(session, f"{PARTS}/{name}/{file}")
    return total


def _size(session: Session, name: str) -> int:
    with suppress(FileNotFoundError):
        return session.files.size(session.path / name)
    return 0
