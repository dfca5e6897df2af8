"""How each rule, checksum and sync is switched off: what a program that does not keep it would do."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.inside import module


def array_crcs() -> None:
    verify = module("mrlstore.maintenance.verify")

    verify.check_part = lambda *arguments, **options: []


class _Anything(int):
    """A checksum that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


class _Indifferent:
    """zlib, with checksums that equal every other."""

    def crc32(self, *arguments: Any) -> int:
        return _Anything(zlib.crc32(*arguments))


def part_json_crc() -> None:
    parts = module("mrlstore.storage.parts")

    parts.zlib = _Indifferent()


def columns_crc() -> None:
    layout = module("mrlstore.columns.layout")

    layout.zlib = _Indifferent()


def texts_of_rows_crc() -> None:
    row_texts = module("mrlstore.storage.row_texts")

    row_texts.zlib = _Indifferent()
    row_texts.RowTexts.joined = lambda *_: None  # a kernel checks them, too


def crc_of(module: str, function: str) -> Callable[[], None]:
    """Values of one table of the catalogue are taken as they are read."""

    def off() -> None:
        import importlib

        table: Any = importlib.import_module(f"mrlstore.catalogue.{module}")
        real, compute = table.matches, getattr(table, function)
        table.matches = lambda crc, by, *values: by is compute or real(crc, by, *values)

    return off


def row_crcs_of_parts() -> None:
    import numpy as np

    verify = module("mrlstore.maintenance.verify")

    verify.damaged_rows = lambda base: np.zeros(base.rows, dtype=np.bool_)


def row_crcs_in_repair() -> None:
    import numpy as np

    salvage = module("mrlstore.maintenance.salvage")

    salvage._undamaged = lambda arrays: np.ones(len(arrays["keys"]), dtype=np.bool_)


def unsynced(verb: str, where: Callable[[Path], bool]) -> Callable[[], None]:
    """A program that leaves one kind of sync out."""

    def off() -> None:
        from tests.seam import RecordingFiles

        real = getattr(RecordingFiles, verb)

        def left_out(self: Any, what: Any) -> None:
            path = what if isinstance(what, Path) else self._names[what]
            if not where(path):
                real(self, what)

        setattr(RecordingFiles, verb, left_out)

    return off


def draft(path: Path) -> bool:
    return ".mrl.tmp-" in path.name


def unsynced_commits() -> None:
    connection = module("mrlstore.catalogue.connection")

    connection._PRAGMAS = connection._PRAGMAS.replace("synchronous = FULL", "synchronous = OFF")


def watcher() -> None:
    from mrlstore.catalogue import Catalogue

    real, first = Catalogue.state, dict[int, tuple[int, int]]()

    def state(self: Any) -> tuple[int, int]:
        return first.setdefault(id(self), real(self))

    Catalogue.state = state


def opened_by_others() -> None:
    from mrlstore.system.files import Files

    def size(self: Any, path: Path) -> int:
        return len(path.read_bytes())

    Files.size = size


def hydration() -> None:
    rows = module("mrlstore.catalogue.rows")
    hydrate = module("mrlstore.search.hydrate")

    hydrate.rows_of = lambda connection, keys, generation: list(rows.by_key(connection, keys))


def removals_of_the_tail() -> None:
    tail_rows = module("mrlstore.catalogue.tail_rows")

    real = tail_rows.remove

    def remove(connection: Any, generation: int, keys: Any) -> None:
        waiting = {key for (key,) in connection.execute("SELECT key FROM tail").fetchall()}
        tail_rows.drop(connection, [key for key in keys if key in waiting])
        real(connection, generation, [key for key in keys if key not in waiting])

    tail_rows.remove = remove


def floor() -> None:
    tail_rows = module("mrlstore.catalogue.tail_rows")

    real = tail_rows.forget_removals

    def forget(*arguments: Any) -> int:
        real(*arguments)
        return 0

    tail_rows.forget_removals = forget


def carried_over() -> None:
    snapshot = module("mrlstore.storage.snapshot")

    snapshot.Snapshots._opened = lambda self, connection, row: snapshot.LiveSegment(self._open(row, None))


def filters_inside() -> None:
    writer = module("mrlstore.writing.writer")

    real = writer.chosen_ids

    def delete(session: Any, namespace: str, selection: Any) -> int:
        with session.catalogue.read() as connection:
            names = real(session, connection, namespace, selection)
        with session.catalogue.write() as write:
            return writer.remove_rows(write, namespace, names)

    writer.delete = delete


def same_bytes() -> None:
    from mrlstore.storage.segment import Segment

    real = Segment.stored

    def stored(self: Any, row: int) -> tuple[bytes, float]:
        import numpy as np

        data, norm = real(self, row)
        vector = np.frombuffer(data, dtype=np.float16).astype(np.float32) * np.float32(1.001)
        return vector.astype(np.float16).tobytes(), norm

    Segment.stored = stored


def afresh() -> None:
    """What the catalogue names is read once, before the folders are listed."""
    garbage = module("mrlstore.maintenance.garbage")

    collect, named = garbage.collect, garbage._named

    def collect_by_one_reading(session: Any, *arguments: Any) -> Any:
        known = named(session)
        garbage._named = lambda session: known
        try:
            return collect(session, *arguments)
        finally:
            garbage._named = named

    garbage.collect = collect_by_one_reading


def missing_folders() -> None:
    segments = module("mrlstore.catalogue.segments")
    garbage = module("mrlstore.maintenance.garbage")

    def named(session: Any) -> set[str]:
        with session.catalogue.read() as connection:
            return {part.name for row in segments.load(connection) for part in row.parts}

    garbage._named = named


def mapped_at_once() -> None:
    from dataclasses import replace

    parts = module("mrlstore.storage.parts")

    real = parts._open_part

    def open_part(files: Any, path: Path, *arguments: Any) -> Any:
        part = real(files, path, *arguments)

        class Late(dict[str, Any]):
            def __getitem__(self, name: str) -> Any:
                return parts._map_array(files, path / f"{name}.npy", part.entries[name])[0]

        return replace(part, arrays=Late(part.arrays))

    parts._open_part = open_part


def merged_away() -> None:
    from mrlstore.errors import CorruptStore

    snapshot = module("mrlstore.storage.snapshot")

    real = snapshot.Snapshots._read

    def read(self: Any, *arguments: Any) -> Any:
        try:
            return real(self, *arguments)
        except FileNotFoundError as error:
            raise CorruptStore(error.filename, "is missing") from error

    snapshot.Snapshots._read = read


def never_made_anew() -> None:
    create = module("mrlstore.storage.create")

    real = create._look

    def look(files: Any, path: Path) -> Any:
        try:
            return real(files, path)
        except create.CorruptStore:
            return "empty"

    create._look = look


def made_in_place() -> None:
    from tests.seam import RecordingFiles

    create = module("mrlstore.storage.create")
    real = create.Catalogue.create

    def in_place(files: Any, path: Path, new: Any) -> None:
        real(files, path.parents[1] / path.name, new)

    def rename(self: Any, source: Path, target: Path) -> None:
        pass

    create.Catalogue.create = staticmethod(in_place)
    RecordingFiles.rename = rename


def free_iterators() -> None:
    records = module("mrlstore.search.records")

    real = records.scan

    def scan(session: Any, *arguments: Any) -> Any:
        with session.catalogue.read() as connection:
            connection.execute("SELECT count(*) FROM rows").fetchall()
            yield from real(session, *arguments)

    records.scan = scan


def vacuum() -> None:
    schema = module("mrlstore.catalogue.schema")

    schema.PREPARE = schema.PREPARE.replace("auto_vacuum = INCREMENTAL", "auto_vacuum = NONE")


def hard_links() -> None:
    import errno

    from mrlstore.system.files import Files

    def link(self: Any, source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "switched off", str(source))

    Files.link = link


def alone() -> None:
    from mrlstore.catalogue import Catalogue
    from mrlstore.catalogue.connection import connect

    def copy(self: Any, target: Path, source: Any) -> None:
        made = connect(self._files, target, create=True)
        with made.backup("main", source, "main") as work:
            work.step()
        made.close()

    Catalogue._copy = copy


def two_maps() -> None:
    segment = module("mrlstore.storage.segment")

    real = segment.open_part
    segment.open_part = lambda *arguments, **options: real(*arguments)


def names() -> None:
    import uuid

    parts = module("mrlstore.storage.parts")

    class Speaking:
        def __init__(self) -> None:
            self.hex = f"secretword{uuid.uuid4().hex[:22]}"

    class Uuids:
        uuid4 = Speaking

    parts.uuid = Uuids


def folder_locks() -> None:
    from mrlstore.system.files import Files, Lock

    Files.lock = lambda self, path, *, wait_s=0.0: Lock(-1)


def poison() -> None:
    from mrlstore.catalogue import Catalogue

    Catalogue.poison = lambda self, reason: None
    Catalogue.check_usable = lambda self: None


def short_writes() -> None:
    parts = module("mrlstore.storage.parts")
    from mrlstore.system.files import Files

    def write_file(files: Files, path: Any, pieces: Any) -> None:
        descriptor = files.create(path)
        try:
            for piece in pieces:
                files.write(descriptor, memoryview(piece).cast("B"))
            files.sync(descriptor)
        finally:
            files.close(descriptor)

    parts.write_file = write_file


def checkpoints() -> None:
    catalogue = module("mrlstore.catalogue.catalogue")

    catalogue.CHECKPOINT_BYTES = 1 << 40


def fork() -> None:
    forks = module("mrlstore.system.forks")
    for step in ("before", "in_parent", "in_child"):
        setattr(forks, step, lambda: None)


def vector_checks() -> None:
    vectors = module("mrlstore.storage.vector_rows")
    batch = module("mrlstore.writing.batch")

    def unchecked(wide: Any, *arguments: Any, **options: Any) -> Any:
        import numpy as np

        return np.maximum(np.nan_to_num(np.linalg.norm(wide, axis=1)), 1e-9)

    vectors.check_lengths = unchecked
    if hasattr(batch, "check_lengths"):
        batch.check_lengths = unchecked
