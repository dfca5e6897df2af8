"""Rules, checksums and syncs switched off, one at a time: a suite that stays green then does not test them.

`test_switches` applies a switch in a forked child and runs its test there. Where that test has children of
its own, which are forked from a server that knows no switch, the switch goes through the environment:
`pytest -p tests.harness.switches` with MRLSTORE_TEST_SWITCH=name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.harness import off


@dataclass(frozen=True)
class Switch:
    """What is switched off, and a test that must turn red."""

    off: Callable[[], None]
    red: str  # pytest's name of the test, from tests/ on
    children: bool = False  # whether that test has children which must know of the switch


DAMAGED_TEXTS = "tests/store/test_row_texts.py::test_damaged_arrays_are_worked_around"
RULES = "tests/rules/test_rules.py::test_rule_"
CHANGED = "tests/corrupt/test_checksums.py::test_a_changed_value_in_the_catalogue_is_found"
BEFORE_COMMITS = RULES + "09_everything_a_commit_names_is_synced_before_it"
BY_ONE_RENAME = RULES + "08_a_store_appears_whole_by_one_rename"
OF_COPIES = RULES + "13_everything_is_synced_before_the_copy_gets_its_name"
SET_ASIDE = RULES + "09_what_repair_sets_aside_is_synced"

CHECKSUMS: dict[str, Switch] = {
    "crc of settings": Switch(off.crc_of("settings", "_crc"), f"{CHANGED}[settings]"),
    "crc of counts of namespaces": Switch(off.crc_of("rows", "_count_crc"), f"{CHANGED}[namespaces]"),
    "crc of rows": Switch(off.crc_of("rows", "_crc"), f"{CHANGED}[rows]"),
    "crc of tail vectors": Switch(off.crc_of("tail_rows", "_crc"), f"{CHANGED}[tail]"),
    "crc of removals": Switch(off.crc_of("tail_rows", "_removal_crc"), f"{CHANGED}[removed]"),
    "crc of segments": Switch(off.crc_of("segments", "_crc"), f"{CHANGED}[segments]"),
    "crc of operations": Switch(off.crc_of("marks", "_crc"), f"{CHANGED}[operations]"),
    "crc of calibrations": Switch(off.crc_of("calibrations", "_crc"), f"{CHANGED}[calibration]"),
    "crc of part.json": Switch(
        off.part_json_crc, "tests/corrupt/test_damage.py::test_a_flipped_number_in_part_json"
    ),
    "crc of arrays": Switch(
        off.array_crcs, "tests/corrupt/test_damage.py::test_verify_says_where_and_what_to_do"
    ),
    "crc of rows of parts": Switch(
        off.row_crcs_of_parts,
        "tests/corrupt/test_checksums.py::test_rows_of_a_part_have_a_checksum_of_their_own",
    ),
    "crc of rows of parts, in repair": Switch(
        off.row_crcs_in_repair, "tests/corrupt/test_repair.py::test_repair_keeps_everything_that_is_whole[0]"
    ),
    "crc of columns": Switch(
        off.columns_crc, "tests/corrupt/test_checksums.py::test_the_directory_of_columns_has_a_checksum"
    ),
    "crc of texts of rows": Switch(
        off.texts_of_rows_crc, f"{DAMAGED_TEXTS}[metadata.bytes-a bit in each byte]"
    ),
}
SYNCS: dict[str, Switch] = {
    "sync of arrays": Switch(off.unsynced("sync", lambda path: path.suffix == ".npy"), BEFORE_COMMITS),
    "sync of part.json": Switch(off.unsynced("sync", lambda path: path.name == "part.json"), BEFORE_COMMITS),
    "sync of a part's folder": Switch(
        off.unsynced("sync_dir", lambda path: path.parent.name == "parts"), BEFORE_COMMITS
    ),
    "sync of parts/": Switch(off.unsynced("sync_dir", lambda path: path.name == "parts"), BEFORE_COMMITS),
    "sync of commits": Switch(off.unsynced_commits, BEFORE_COMMITS),
    "sync of a new LOCK": Switch(off.unsynced("sync", lambda path: path.name == "LOCK"), BY_ONE_RENAME),
    "sync of a new parts/": Switch(
        off.unsynced("sync_dir", lambda path: path.name == "parts"), BY_ONE_RENAME
    ),
    "sync of a new store": Switch(
        off.unsynced("sync_dir", lambda path: path.name == "store.mrl"), BY_ONE_RENAME
    ),
    "sync of a new store's parent": Switch(
        off.unsynced("sync_dir", lambda path: (path / "store.mrl").exists()), BY_ONE_RENAME
    ),
    "sync of folders above a new store": Switch(
        off.unsynced("sync_dir", lambda path: path.name == "a"),
        RULES + "08_folders_above_a_new_store_are_synced",
    ),
    "sync of a copy's files": Switch(
        off.unsynced("sync", lambda path: path.suffix == ".npy"), f"{OF_COPIES}[False]"
    ),
    "sync of a copy's part folders": Switch(
        off.unsynced("sync_dir", lambda path: path.parent.name == "parts"), f"{OF_COPIES}[True]"
    ),
    "sync of a copy's parts/": Switch(
        off.unsynced("sync_dir", lambda path: path.name == "parts"), f"{OF_COPIES}[True]"
    ),
    "sync of a copy": Switch(off.unsynced("sync_dir", off.draft), f"{OF_COPIES}[True]"),
    "sync of a copy's LOCK": Switch(
        off.unsynced("sync", lambda path: path.name == "LOCK"), f"{OF_COPIES}[True]"
    ),
    "sync of a copy's catalogue": Switch(off.unsynced_commits, f"{OF_COPIES}[True]"),
    "sync of a copy's parent": Switch(
        off.unsynced("sync_dir", lambda path: (path / "copy.mrl").exists()), f"{OF_COPIES}[True]"
    ),
    "sync of the entry of damaged/": Switch(
        off.unsynced("sync_dir", lambda path: path.name == "store.mrl"), SET_ASIDE
    ),
    "sync of damaged/": Switch(off.unsynced("sync_dir", lambda path: path.name == "damaged"), SET_ASIDE),
    "sync of a folder in damaged/": Switch(
        off.unsynced("sync_dir", lambda path: path.parent.name == "damaged"), SET_ASIDE
    ),
    "sync of parts/ after setting aside": Switch(
        off.unsynced("sync_dir", lambda path: path.name == "parts" and (path.parent / "damaged").exists()),
        SET_ASIDE,
    ),
}
NUMBERED: dict[str, Switch] = {
    "rule 1, only SQLite opens its files": Switch(
        off.opened_by_others, RULES + "01_a_write_lock_survives_every_other_call"
    ),
    "rule 2, the watcher": Switch(
        off.watcher, RULES + "02_every_change_is_seen_at_the_next_call_whatever_was_called_before"
    ),
    "rule 3, hydration": Switch(off.hydration, RULES + "03_a_query_that_was_overtaken_runs_again[1]"),
    "rule 3, the floor": Switch(off.floor, RULES + "03_a_reader_below_the_floor_reloads_whole"),
    "rule 4, removals of tail rows": Switch(
        off.removals_of_the_tail, RULES + "04_removals_of_tail_rows_reach_readers_that_mirror_the_tail"
    ),
    "rule 4, removals during a merge": Switch(
        off.carried_over, RULES + "04_changes_made_while_a_merge_runs_are_carried_over[delete]"
    ),
    "rule 4, filters inside the transaction": Switch(
        off.filters_inside, RULES + "04_filters_of_writes_are_evaluated_inside_the_transaction[delete]"
    ),
    "rule 5, the same bytes": Switch(
        off.same_bytes, RULES + "05_an_update_gives_a_new_key_and_keeps_the_vectors_bytes"
    ),
    "rule 6, folder locks": Switch(
        off.folder_locks, RULES + "06_a_part_that_is_being_written_is_not_collected", children=True
    ),
    "rule 6, the catalogue afresh": Switch(
        off.afresh, RULES + "06_a_part_named_by_a_commit_during_collection_is_kept"
    ),
    "rule 6, missing folders": Switch(
        off.missing_folders, RULES + "06_if_a_named_folder_is_missing_nothing_is_deleted"
    ),
    "rule 7, mapped at once": Switch(off.mapped_at_once, RULES + "07_a_snapshot_needs_no_file_again"),
    "rule 7, merged away": Switch(
        off.merged_away, RULES + "07_a_part_that_was_merged_away_meanwhile_is_not_corruption[read]"
    ),
    "rule 8, never made anew": Switch(
        off.never_made_anew, RULES + "08_a_damaged_store_is_never_made_anew[catalogue.db-a]"
    ),
    "rule 8, by one rename": Switch(off.made_in_place, BY_ONE_RENAME),
    "rule 9, poison": Switch(off.poison, RULES + "09_a_failed_fsync_poisons_until_reopened[10]"),
    "rule 9, short writes": Switch(off.short_writes, RULES + "09_a_short_write_is_continued"),
    "rule 10, fork": Switch(
        off.fork, RULES + "10_a_fork_in_the_midst_of_another_threads_write", children=True
    ),
    "rule 11, scans": Switch(off.free_iterators, RULES + "11_a_half_read_scan_holds_no_transaction"),
    "rule 12, checkpoints": Switch(off.checkpoints, RULES + "12_a_log_is_checkpointed_once_it_is_long"),
    "rule 12, pages given back": Switch(off.vacuum, RULES + "12_pages_are_given_back"),
    "rule 13, hard links": Switch(off.hard_links, RULES + "13_parts_are_hard_links_and_the_catalogue_a_copy"),
    "rule 13, a catalogue that stands alone": Switch(
        off.alone, RULES + "13_parts_are_hard_links_and_the_catalogue_a_copy"
    ),
    "rule 14, two maps": Switch(off.two_maps, RULES + "14_scans_and_reranks_have_maps_of_their_own"),
    "rule 15, names": Switch(off.names, RULES + "15_nothing_is_named_after_what_users_say"),
    "bad vectors": Switch(
        off.vector_checks, "tests/store/test_bad_rows.py::test_bad_vectors_in_a_large_batch"
    ),
}
SWITCHES = {**CHECKSUMS, **SYNCS, **NUMBERED}


def switch_off() -> None:
    """Apply what the environment names; also called by the server that children are forked from."""
    name = os.environ.get("MRLSTORE_TEST_SWITCH")
    if name:
        with suppress(ImportError):
            SWITCHES[name].off()


switch_off()
