"""Rules, checksums and syncs switched off, one at a time: a suite that stays green then does not test them.

`test_switches` applies a switch in a forked child and runs its test there. Where that test has children of
its own, which are forked from a server that knows no switch, the switch goes through the environment:
`pytest -p tests.harness.switches` with MRLSTORE_TEST_SWITCH=name.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Switch:
    """What is switched off, and a test that must turn red."""

    off: Callable[[], None]
    red: str  # pytest's name of the test, from tests/ on
    children: bool = False  # whether that test has children which must know of the switch


def _array_crcs() -> None:
    from mrlstore import verify

    verify.check_part = lambda *arguments, **options: []  # type: ignore[assignment]


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


def _part_json_crc() -> None:
    from mrlstore import parts

    parts.zlib = _Indifferent()  # type: ignore[assignment]


def _columns_crc() -> None:
    from mrlstore.columns import layout

    layout.zlib = _Indifferent()  # type: ignore[assignment]


def _crc_of(module: str, function: str) -> Callable[[], None]:
    """Values of one table of the catalogue are taken as they are read."""

    def off() -> None:
        import importlib

        table = importlib.import_module(f"mrlstore.catalogue.{module}")
        real, compute = table.matches, getattr(table, function)
        table.matches = lambda crc, by, *values: by is compute or real(crc, by, *values)

    return off


def _row_crcs_of_parts() -> None:
    import numpy as np

    from mrlstore import verify

    verify.row_checks = lambda base: np.zeros(base.rows, dtype=np.bool_)


def _row_crcs_in_repair() -> None:
    from mrlstore import repair

    real = repair._read_whole_rows

    def all_whole(core: Any, row: Any) -> Any:
        arrays, whole = real(core, row)
        whole[:] = True
        return arrays, whole

    repair._read_whole_rows = all_whole


def _unsynced(verb: str, where: Callable[[Path], bool]) -> Callable[[], None]:
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


def _draft(path: Path) -> bool:
    return ".mrl.tmp-" in path.name


def _unsynced_commits() -> None:
    from mrlstore.catalogue import connection

    connection._PRAGMAS = connection._PRAGMAS.replace("synchronous = FULL", "synchronous = OFF")


def _watcher() -> None:
    from mrlstore.catalogue import Catalogue

    real, asked = Catalogue.changed, set()

    def changed(self: Any) -> bool:
        if id(self) in asked:
            return False
        asked.add(id(self))
        return real(self)

    Catalogue.changed = changed  # type: ignore[method-assign]


def _opened_by_others() -> None:
    from mrlstore.files import Files

    def size(self: Any, path: Path) -> int:
        return len(path.read_bytes())

    Files.size = size  # type: ignore[method-assign]


def _hydration() -> None:
    from mrlstore import query
    from mrlstore.catalogue import rows

    query._rows = lambda connection, keys, generation: {  # type: ignore[assignment]
        row.key: row for row in rows.by_key(connection, keys)
    }


def _removals_of_the_tail() -> None:
    from mrlstore.catalogue import tail

    real = tail.remove

    def remove(connection: Any, generation: int, keys: Any) -> None:
        waiting = {key for (key,) in connection.execute("SELECT key FROM tail").fetchall()}
        tail.drop(connection, [key for key in keys if key in waiting])
        real(connection, generation, [key for key in keys if key not in waiting])

    tail.remove = remove  # type: ignore[assignment]


def _floor() -> None:
    from mrlstore.catalogue import tail

    real = tail.forget_removals

    def forget(*arguments: Any) -> int:
        real(*arguments)
        return 0

    tail.forget_removals = forget  # type: ignore[assignment]


def _carried_over() -> None:
    from mrlstore import snapshot

    snapshot.Snapshots._opened = lambda self, connection, row: snapshot.LiveSegment(  # type: ignore[method-assign]
        self._open(row, None)
    )


def _filters_inside() -> None:
    from mrlstore import writer

    real = writer._chosen

    def delete(core: Any, namespace: str, ids: Any, node: Any) -> int:
        with core.catalogue.read() as connection:
            names = real(core, connection, namespace, ids, node)
        with core.catalogue.write() as write:
            return writer._remove(write, namespace, names)

    writer.delete = delete  # type: ignore[assignment]


def _same_bytes() -> None:
    from mrlstore.segment import Segment

    real = Segment.stored

    def stored(self: Any, row: int) -> tuple[bytes, float]:
        import numpy as np

        data, norm = real(self, row)
        vector = np.frombuffer(data, dtype=np.float16).astype(np.float32) * np.float32(1.001)
        return vector.astype(np.float16).tobytes(), norm

    Segment.stored = stored  # type: ignore[method-assign]


def _afresh() -> None:
    from mrlstore import garbage

    real, known = garbage._named, {}

    def named(core: Any) -> set[str]:
        return known.setdefault(id(core), real(core))  # type: ignore[no-any-return]

    garbage._named = named


def _missing_folders() -> None:
    from mrlstore import garbage
    from mrlstore.catalogue import segments

    def named(core: Any) -> set[str]:
        with core.catalogue.read() as connection:
            return {part.name for row in segments.load(connection) for part in row.parts}

    garbage._named = named


def _mapped_at_once() -> None:
    from dataclasses import replace

    from mrlstore import parts

    real = parts._open_part

    def open_part(files: Any, path: Path, *arguments: Any) -> Any:
        part = real(files, path, *arguments)

        class Late(dict[str, Any]):
            def __getitem__(self, name: str) -> Any:
                return parts._map_array(files, path / f"{name}.npy", part.entries[name])[0]

        return replace(part, arrays=Late(part.arrays))

    parts._open_part = open_part


def _merged_away() -> None:
    from mrlstore import snapshot
    from mrlstore.errors import CorruptStore

    real = snapshot.Snapshots._read

    def read(self: Any, *arguments: Any) -> Any:
        try:
            return real(self, *arguments)
        except FileNotFoundError as error:
            raise CorruptStore(error.filename, "is missing") from error

    snapshot.Snapshots._read = read  # type: ignore[method-assign]


def _never_made_anew() -> None:
    from mrlstore import create

    real = create._look

    def look(files: Any, path: Path) -> Any:
        try:
            return real(files, path)
        except create.CorruptStore:
            return "empty"

    create._look = look


def _made_in_place() -> None:
    from mrlstore.files import Files

    def rename(self: Any, source: Path, target: Path) -> None:
        import shutil

        shutil.copytree(source, target)

    Files.rename = rename  # type: ignore[method-assign]


def _free_iterators() -> None:
    from mrlstore import records

    real = records.scan

    def scan(core: Any, *arguments: Any) -> Any:
        with core.catalogue.read() as connection:
            connection.execute("SELECT count(*) FROM rows").fetchall()
            yield from real(core, *arguments)

    records.scan = scan  # type: ignore[assignment]


def _vacuum() -> None:
    from mrlstore.catalogue import schema

    schema.PREPARE = schema.PREPARE.replace("auto_vacuum = INCREMENTAL", "auto_vacuum = NONE")


def _hard_links() -> None:
    import errno

    from mrlstore.files import Files

    def link(self: Any, source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "switched off", str(source))

    Files.link = link  # type: ignore[method-assign]


def _alone() -> None:
    from mrlstore.catalogue import Catalogue
    from mrlstore.catalogue.connection import connect

    def copy(self: Any, target: Path, source: Any) -> None:
        made = connect(self._files, target, create=True)
        with made.backup("main", source, "main") as work:
            work.step()
        made.close()

    Catalogue._copy = copy  # type: ignore[method-assign]


def _two_maps() -> None:
    from mrlstore import segment

    real = segment.open_part
    segment.open_part = lambda *arguments, **options: real(*arguments)


def _names() -> None:
    import uuid

    from mrlstore import parts

    class Speaking:
        def __init__(self) -> None:
            self.hex = f"secretword{uuid.uuid4().hex[:22]}"

    class Uuids:
        uuid4 = Speaking

    parts.uuid = Uuids  # type: ignore[assignment]


def _folder_locks() -> None:
    from mrlstore.files import Files, Lock

    Files.lock = lambda self, path, *, wait_s=0.0: Lock(-1)  # type: ignore[method-assign, assignment]


def _poison() -> None:
    from mrlstore.catalogue import Catalogue

    Catalogue.poison = lambda self, reason: None  # type: ignore[method-assign]
    Catalogue.check_usable = lambda self: None  # type: ignore[method-assign]


def _short_writes() -> None:
    from mrlstore import parts
    from mrlstore.files import Files

    def write_file(files: Files, path: Any, pieces: Any) -> None:
        descriptor = files.create(path)
        try:
            for piece in pieces:
                files.write(descriptor, memoryview(piece).cast("B"))
            files.sync(descriptor)
        finally:
            files.close(descriptor)

    parts.write_file = write_file  # type: ignore[assignment]


def _checkpoints() -> None:
    from mrlstore.catalogue import catalogue

    catalogue.CHECKPOINT_BYTES = 1 << 40


def _fork() -> None:
    from mrlstore import store

    class Nobody(set[Any]):
        def add(self, _: Any) -> None:
            pass

    store._stores = Nobody()  # type: ignore[assignment]


def _vector_checks() -> None:
    from mrlstore import batch, vectors

    def unchecked(wide: Any, *arguments: Any, **options: Any) -> Any:
        import numpy as np

        return np.maximum(np.nan_to_num(np.linalg.norm(wide, axis=1)), 1e-9)

    vectors.check_lengths = unchecked  # type: ignore[assignment]
    if hasattr(batch, "check_lengths"):
        batch.check_lengths = unchecked  # type: ignore[attr-defined]


RULES = "tests/rules/test_rules.py::test_rule_"
CHANGED = "tests/corrupt/test_checksums.py::test_a_changed_value_in_the_catalogue_is_found"
BEFORE_COMMITS = RULES + "09_everything_a_commit_names_is_synced_before_it"
BY_ONE_RENAME = RULES + "08_a_store_appears_whole_by_one_rename"
OF_COPIES = RULES + "13_everything_is_synced_before_the_copy_gets_its_name"
SET_ASIDE = RULES + "09_what_repair_sets_aside_is_synced"

CHECKSUMS: dict[str, Switch] = {
    "crc of settings": Switch(_crc_of("settings", "_crc"), f"{CHANGED}[settings]"),
    "crc of counts of namespaces": Switch(_crc_of("rows", "_count_crc"), f"{CHANGED}[namespaces]"),
    "crc of rows": Switch(_crc_of("rows", "_crc"), f"{CHANGED}[rows]"),
    "crc of tail vectors": Switch(_crc_of("tail", "_crc"), f"{CHANGED}[tail]"),
    "crc of removals": Switch(_crc_of("tail", "_removal_crc"), f"{CHANGED}[removed]"),
    "crc of segments": Switch(_crc_of("segments", "_crc"), f"{CHANGED}[segments]"),
    "crc of calibrations": Switch(_crc_of("calibrations", "_crc"), f"{CHANGED}[calibration]"),
    "crc of part.json": Switch(
        _part_json_crc, "tests/corrupt/test_damage.py::test_a_flipped_number_in_part_json"
    ),
    "crc of arrays": Switch(
        _array_crcs, "tests/corrupt/test_damage.py::test_verify_says_where_and_what_to_do"
    ),
    "crc of rows of parts": Switch(
        _row_crcs_of_parts,
        "tests/corrupt/test_checksums.py::test_rows_of_a_part_have_a_checksum_of_their_own",
    ),
    "crc of rows of parts, in repair": Switch(
        _row_crcs_in_repair, "tests/corrupt/test_repair.py::test_repair_keeps_everything_that_is_whole[0]"
    ),
    "crc of columns": Switch(
        _columns_crc, "tests/corrupt/test_checksums.py::test_the_directory_of_columns_has_a_checksum"
    ),
}
SYNCS: dict[str, Switch] = {
    "sync of arrays": Switch(_unsynced("sync", lambda path: path.suffix == ".npy"), BEFORE_COMMITS),
    "sync of part.json": Switch(_unsynced("sync", lambda path: path.name == "part.json"), BEFORE_COMMITS),
    "sync of a part's folder": Switch(
        _unsynced("sync_dir", lambda path: path.parent.name == "parts"), BEFORE_COMMITS
    ),
    "sync of parts/": Switch(_unsynced("sync_dir", lambda path: path.name == "parts"), BEFORE_COMMITS),
    "sync of commits": Switch(_unsynced_commits, BEFORE_COMMITS),
    "sync of a new LOCK": Switch(_unsynced("sync", lambda path: path.name == "LOCK"), BY_ONE_RENAME),
    "sync of a new parts/": Switch(_unsynced("sync_dir", lambda path: path.name == "parts"), BY_ONE_RENAME),
    "sync of a new store": Switch(_unsynced("sync_dir", _draft), BY_ONE_RENAME),
    "sync of a new store's parent": Switch(
        _unsynced("sync_dir", lambda path: (path / "store.mrl").exists()), BY_ONE_RENAME
    ),
    "sync of folders above a new store": Switch(
        _unsynced("sync_dir", lambda path: path.name == "a"),
        RULES + "08_folders_above_a_new_store_are_synced",
    ),
    "sync of a copy's files": Switch(
        _unsynced("sync", lambda path: path.suffix == ".npy"), f"{OF_COPIES}[False]"
    ),
    "sync of a copy's part folders": Switch(
        _unsynced("sync_dir", lambda path: path.parent.name == "parts"), f"{OF_COPIES}[True]"
    ),
    "sync of a copy's parts/": Switch(
        _unsynced("sync_dir", lambda path: path.name == "parts"), f"{OF_COPIES}[True]"
    ),
    "sync of a copy": Switch(_unsynced("sync_dir", _draft), f"{OF_COPIES}[True]"),
    "sync of a copy's LOCK": Switch(
        _unsynced("sync", lambda path: path.name == "LOCK"), f"{OF_COPIES}[True]"
    ),
    "sync of a copy's catalogue": Switch(_unsynced_commits, f"{OF_COPIES}[True]"),
    "sync of a copy's parent": Switch(
        _unsynced("sync_dir", lambda path: (path / "copy.mrl").exists()), f"{OF_COPIES}[True]"
    ),
    "sync of the entry of damaged/": Switch(
        _unsynced("sync_dir", lambda path: path.name == "store.mrl"), SET_ASIDE
    ),
    "sync of damaged/": Switch(_unsynced("sync_dir", lambda path: path.name == "damaged"), SET_ASIDE),
    "sync of parts/ after setting aside": Switch(
        _unsynced("sync_dir", lambda path: path.name == "parts" and (path.parent / "damaged").exists()),
        SET_ASIDE,
    ),
}
NUMBERED: dict[str, Switch] = {
    "rule 1, only SQLite opens its files": Switch(
        _opened_by_others, RULES + "01_a_write_lock_survives_every_other_call"
    ),
    "rule 2, the watcher": Switch(
        _watcher, RULES + "02_every_change_is_seen_at_the_next_call_whatever_was_called_before"
    ),
    "rule 3, hydration": Switch(_hydration, RULES + "03_a_query_that_was_overtaken_runs_again[1]"),
    "rule 3, the floor": Switch(_floor, RULES + "03_a_reader_below_the_floor_reloads_whole"),
    "rule 4, removals of tail rows": Switch(
        _removals_of_the_tail, RULES + "04_removals_of_tail_rows_reach_readers_that_mirror_the_tail"
    ),
    "rule 4, removals during a merge": Switch(
        _carried_over, RULES + "04_changes_made_while_a_merge_runs_are_carried_over[delete]"
    ),
    "rule 4, filters inside the transaction": Switch(
        _filters_inside, RULES + "04_filters_of_writes_are_evaluated_inside_the_transaction[delete]"
    ),
    "rule 5, the same bytes": Switch(
        _same_bytes, RULES + "05_an_update_gives_a_new_key_and_keeps_the_vectors_bytes"
    ),
    "rule 6, folder locks": Switch(
        _folder_locks, RULES + "06_a_part_that_is_being_written_is_not_collected", children=True
    ),
    "rule 6, the catalogue afresh": Switch(
        _afresh, RULES + "06_a_part_named_by_a_commit_during_collection_is_kept"
    ),
    "rule 6, missing folders": Switch(
        _missing_folders, RULES + "06_if_a_named_folder_is_missing_nothing_is_deleted"
    ),
    "rule 7, mapped at once": Switch(_mapped_at_once, RULES + "07_a_snapshot_needs_no_file_again"),
    "rule 7, merged away": Switch(
        _merged_away, RULES + "07_a_part_that_was_merged_away_meanwhile_is_not_corruption[read]"
    ),
    "rule 8, never made anew": Switch(
        _never_made_anew, RULES + "08_a_damaged_store_is_never_made_anew[catalogue.db-a]"
    ),
    "rule 8, by one rename": Switch(_made_in_place, BY_ONE_RENAME),
    "rule 9, poison": Switch(_poison, RULES + "09_a_failed_fsync_poisons_until_reopened[10]"),
    "rule 9, short writes": Switch(_short_writes, RULES + "09_a_short_write_is_continued"),
    "rule 10, fork": Switch(_fork, RULES + "10_a_fork_in_the_midst_of_another_threads_write", children=True),
    "rule 11, scans": Switch(_free_iterators, RULES + "11_a_half_read_scan_holds_no_transaction"),
    "rule 12, checkpoints": Switch(_checkpoints, RULES + "12_a_log_is_checkpointed_once_it_is_long"),
    "rule 12, pages given back": Switch(_vacuum, RULES + "12_pages_are_given_back"),
    "rule 13, hard links": Switch(_hard_links, RULES + "13_parts_are_hard_links_and_the_catalogue_a_copy"),
    "rule 13, a catalogue that stands alone": Switch(
        _alone, RULES + "13_parts_are_hard_links_and_the_catalogue_a_copy"
    ),
    "rule 14, two maps": Switch(_two_maps, RULES + "14_scans_and_reranks_have_maps_of_their_own"),
    "rule 15, names": Switch(_names, RULES + "15_nothing_is_named_after_what_users_say"),
    "bad vectors": Switch(_vector_checks, "tests/store/test_bad_rows.py::test_bad_vectors_in_a_large_batch"),
}
SWITCHES = {**CHECKSUMS, **SYNCS, **NUMBERED}


def switch_off() -> None:
    """Apply what the environment names; also called by the server that children are forked from."""
    name = os.environ.get("MRLSTORE_TEST_SWITCH")
    if name:
        with suppress(ImportError):
            SWITCHES[name].off()


switch_off()
