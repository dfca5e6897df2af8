"""The figures that `stats()` gives."""

from __future__ import annotations

from contextlib import suppress

from mrlstore.catalogue import rows, segments, tail
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.part_ref import PartRef
from mrlstore.storage.session import CATALOGUE, Core
from mrlstore.storage.snapshot import Snapshot, SnapshotMoved
from mrlstore.types import Stats


def stats(core: Core) -> Stats:
    """The state of the store at one generation; lengths of files are those of the moment."""
    while True:
        try:
            with core.catalogue.read() as connection:
                return _stats(core, connection, core.snapshots.at(connection))
        except SnapshotMoved:
            continue


def _stats(core: Core, connection: Connection, snapshot: Snapshot) -> Stats:
    count, bare = rows.count(connection, None)
    named = segments.load(connection)
    kinds = {part.name: kind for row in named for kind, part in _kinds(row)}
    sizes = dict.fromkeys(("catalogue", "base", "index", "columns", "other"), 0)
    for name in _list(core):
        sizes[kinds.get(name, "other")] += _folder_bytes(core, name)
    wal = _size(core, CATALOGUE + "-wal")
    sizes["catalogue"] = _size(core, CATALOGUE) + wal + _size(core, CATALOGUE + "-shm")
    held = sum(part.segment.rows for part in snapshot.segments)
    dead = sum(part.dead for part in snapshot.segments)
    in_parts = sizes["base"] + sizes["index"] + sizes["columns"]
    reclaimable = (
        core.catalogue.free_bytes(connection) + sizes["other"] + (in_parts * dead // held if held else 0)
    )
    return Stats(
        path=str(core.path),
        rows=count,
        rows_without_vector=bare,
        namespaces=len(rows.namespaces(connection)),
        dim=snapshot.dim,
        prefix_dim=snapshot.prefix_dim,
        generation=snapshot.generation,
        tail_rows=tail.count(connection),
        segments=len(named),
        flat_segments=sum(row.index is None for row in named),
        indexed_rows=sum(part.segment.rows - part.dead for part in snapshot.segments if part.segment.index),
        dead_rows=dead,
        damaged_parts=sum(part.damaged for row in named for part in row.parts),
        bytes_on_disk=sum(sizes.values()),
        bytes_reclaimable=reclaimable,
        bytes_wal=wal,
        bytes_by_kind=sizes,
        audit=() if core.audit is None else core.audit.figures(),
    )


def _kinds(row: segments.SegmentRow) -> list[tuple[str, PartRef]]:
    named = (("base", row.base), ("index", row.index), ("columns", row.columns))
    return [(kind, part) for kind, part in named if part is not None]


def _list(core: Core) -> list[str]:
    return core.files.list_dir(core.parts)


def _folder_bytes(core: Core, name: str) -> int:
    total = 0
    with suppress(FileNotFoundError, NotADirectoryError):
        for file in core.files.list_dir(core.parts / name):
            total += _size(core, f"parts/{name}/{file}")
    return total


def _size(core: Core, name: str) -> int:
    with suppress(FileNotFoundError):
        return core.files.size(core.path / name)
    return 0
