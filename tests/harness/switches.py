"""Rules switched off, one at a time: `pytest -p tests.harness.switches` with MRLSTORE_TEST_SWITCH=name.

Only tests of the harness use this: a suite that stays green with a rule off does not test the rule.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Switch:
    """What is switched off, and a test that must turn red."""

    off: Callable[[], None]
    red: str  # pytest's name of the test, from tests/ on


def _row_crcs() -> None:
    from mrlstore.catalogue import rows

    def unchecked(connection: Any, raw: tuple[Any, ...]) -> Any:
        key, namespace, id_, bare, metadata, document, _ = raw
        return rows.Row(key, namespace, id_, bool(bare), metadata, document)

    rows._checked = unchecked  # type: ignore[assignment]


def _tail_crcs() -> None:
    from mrlstore.catalogue import tail

    class Anything(int):
        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = int.__hash__

    real = tail._crc
    tail._crc = lambda *arguments: Anything(real(*arguments))


def _array_crcs() -> None:
    from mrlstore import verify

    verify.check_part = lambda *arguments, **options: []  # type: ignore[assignment]


def _part_json_crc() -> None:
    from mrlstore import parts

    class Indifferent:
        def crc32(self, *arguments: Any) -> Any:
            class Anything(int):
                def __ne__(self, other: object) -> bool:
                    return False

                def __eq__(self, other: object) -> bool:
                    return True

                __hash__ = int.__hash__

            return Anything(zlib.crc32(*arguments))

    import zlib

    parts.zlib = Indifferent()  # type: ignore[assignment]


def _watcher() -> None:
    from mrlstore.catalogue import Catalogue

    real, asked = Catalogue.changed, set()

    def changed(self: Any) -> bool:
        if id(self) in asked:
            return False
        asked.add(id(self))
        return real(self)

    Catalogue.changed = changed  # type: ignore[method-assign]


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


def _folder_locks() -> None:
    from mrlstore.files import Files, Lock

    Files.lock = lambda self, path, *, wait_s=0.0: Lock(-1)  # type: ignore[method-assign, assignment]


def _poison() -> None:
    from mrlstore.catalogue import Catalogue

    Catalogue.poison = lambda self, reason: None  # type: ignore[method-assign]
    Catalogue.check_usable = lambda self: None  # type: ignore[method-assign]


def _file_syncs() -> None:
    from mrlstore import parts
    from mrlstore.files import Files

    def write_file(files: Files, path: Any, pieces: Any) -> None:
        descriptor = files.create(path)
        try:
            for piece in pieces:
                rest = memoryview(piece).cast("B")
                while len(rest):
                    rest = rest[files.write(descriptor, rest) :]
        finally:
            files.close(descriptor)

    parts.write_file = write_file  # type: ignore[assignment]


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
SWITCHES: dict[str, Switch] = {
    "crc of catalogue rows": Switch(
        _row_crcs, "tests/corrupt/test_damage.py::test_a_flipped_bit_in_a_text_of_the_catalogue"
    ),
    "crc of tail vectors": Switch(
        _tail_crcs, "tests/corrupt/test_damage.py::test_a_flipped_bit_in_a_vector_of_the_tail"
    ),
    "crc of arrays": Switch(_array_crcs, "tests/corrupt/test_damage.py::test_flipped_bits_in_parts[0]"),
    "crc of part.json": Switch(
        _part_json_crc, "tests/corrupt/test_damage.py::test_a_flipped_number_in_part_json"
    ),
    "rule 2, the watcher": Switch(
        _watcher, RULES + "02_every_change_is_seen_at_the_next_call_whatever_was_called_before"
    ),
    "rule 3, hydration": Switch(_hydration, RULES + "03_a_query_that_was_overtaken_runs_again[1]"),
    "rule 4, removals of tail rows": Switch(
        _removals_of_the_tail, RULES + "04_removals_of_tail_rows_reach_readers_that_mirror_the_tail"
    ),
    "rule 6, folder locks": Switch(_folder_locks, RULES + "06_a_part_that_is_being_written_is_not_collected"),
    "rule 9, poison": Switch(_poison, RULES + "09_a_failed_fsync_poisons_until_reopened[10]"),
    "rule 9, syncs of files": Switch(_file_syncs, RULES + "09_everything_a_commit_names_is_synced_before_it"),
    "rule 9, short writes": Switch(_short_writes, RULES + "09_a_short_write_is_continued"),
    "rule 10, fork": Switch(_fork, RULES + "10_a_fork_in_the_midst_of_another_threads_write"),
    "rule 12, checkpoints": Switch(_checkpoints, RULES + "12_a_log_is_checkpointed_once_it_is_long"),
    "bad vectors": Switch(_vector_checks, "tests/store/test_bad_rows.py::test_bad_vectors_in_a_large_batch"),
}


def switch_off() -> None:
    """Apply what the environment names; also called by the server that children are forked from."""
    name = os.environ.get("MRLSTORE_TEST_SWITCH")
    if name:
        with suppress(ImportError):
            SWITCHES[name].off()


switch_off()
