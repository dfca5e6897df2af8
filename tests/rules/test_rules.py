"""The numbered rules of the design, one test or more for each; every one fails when its rule is broken."""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import mrlstore
from mrlstore.api.opening import open_store
from mrlstore.maintenance import garbage, steps
from mrlstore.storage.page_cache import ReadAhead
from tests import inside
from tests.children import Child, children
from tests.oracle import Oracle, assert_exact, assert_same_rows, nested_vectors
from tests.rules import bodies
from tests.seam import RecordingFiles, with_sqlite
from tests.shared import Shared

DIM = 8
ROWS = 2100  # just enough for a graph
LONG = {"turn": 0, "long": "x" * 5_000}  # metadata that only the catalogue has
QUERY = nested_vectors(1, DIM, seed=90)[0]


def ids(n: int, name: str = "r") -> list[str]:
    return [f"{name}{i}" for i in range(n)]


def sql(path: Path, statement: str, *bound: Any) -> Any:
    """Ask the catalogue through SQLite, as rule 1 demands."""
    connection = apsw.Connection(str(path / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return connection.execute(statement, bound).fetchall()
    finally:
        connection.close()


def collect(store: Any) -> int:
    """Garbage collection now: the 30 seconds that it usually waits are taken as gone."""
    session = inside.session(store)
    with steps.take_lock(session, 60):
        return garbage.collect(session, lambda name: True)


def build_indexed(path: Path) -> None:
    metadatas = [{"n": i, "turn": 0} for i in range(ROWS)]
    with mrlstore.open(path, dim=DIM, prefix_dim=4, auto_maintain=False) as store:
        store.upsert(ids(ROWS), nested_vectors(ROWS, DIM), metadatas)
        store.optimize()
        store.upsert(ids(50, "tail"), nested_vectors(50, DIM, seed=2), [{"n": i, **LONG} for i in range(50)])


@pytest.fixture
def indexed(opened: Any, shared: Shared, path: Path) -> Any:
    """Rows with a graph, and a short tail."""
    return opened(shared.store("rules.mrl", path, build_indexed))


# --- 1: nobody but SQLite opens its files ---


def test_rule_01_only_sqlite_opens_its_files(tmp_path: Path) -> None:
    child = Child(bodies.opened_names, str(tmp_path))
    with children(child):
        assert child.receive() == []
        child.finish()


def test_rule_01_a_write_lock_survives_every_other_call(indexed: Any, path: Path, tmp_path: Path) -> None:
    """Closing any other descriptor of the database would drop the POSIX locks of this whole process."""
    holder = apsw.Connection(str(path / "catalogue.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    holder.execute("BEGIN IMMEDIATE")
    try:
        indexed.stats()
        indexed.query(QUERY)
        list(indexed.scan(limit=10))
        indexed.backup(tmp_path / "copy.mrl")
        with mrlstore.open(path, mode="r") as reader:
            reader.stats()
        child = Child(_try_to_write, str(path / "catalogue.db"))
        with children(child):
            assert child.receive() == "busy"
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def _try_to_write(pipe: Any, name: str) -> None:
    connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("BEGIN IMMEDIATE")
        pipe.send("free")
    except apsw.BusyError:
        pipe.send("busy")


# --- 2: the watcher ---


def test_rule_02_every_change_is_seen_at_the_next_call_whatever_was_called_before(
    indexed: Any, opened: Any
) -> None:
    reader = opened(mode="r")
    held: list[Any] = []

    def half_a_scan() -> None:
        scan = reader.scan()
        next(scan)
        held.append(scan)

    calls: list[Callable[[], object]] = [
        lambda: reader.query(QUERY),
        lambda: reader.query(QUERY, where={"n": 3}),
        lambda: reader.get(["r1"]),
        lambda: reader.count({"n": {"$lt": 5}}),
        half_a_scan,
        lambda: reader.stats(),
        lambda: len(reader),
        lambda: reader.namespaces(),
        lambda: reader.verify(),
        lambda: reader.query_batch(np.stack([QUERY] * 3)),
        lambda: reader.query(id="r1"),
    ]
    for number, call in enumerate(calls * 2):
        call()
        name = f"new{number}"
        indexed.upsert([name], [QUERY * (number + 1)], [{"new": number}])
        assert name in reader.query(QUERY, k=50, exact=True, include=()).ids  # nothing is hydrated
        assert name in reader
        assert name in reader.query(QUERY, k=50, exact=True).ids
        assert name in reader.query(QUERY, k=50).ids
        assert reader.count({"new": number}) == 1
        indexed.delete([name])
        assert name not in reader.query(QUERY, k=50, include=()).ids
        assert reader.count({"new": number}) == 0


def test_rule_02_own_writes_are_seen_though_data_version_ignores_them(indexed: Any) -> None:
    for number in range(20):
        indexed.query(QUERY)
        indexed.upsert([f"own{number}"], [QUERY])
        assert f"own{number}" in indexed.query(QUERY, k=100, exact=True).ids


# --- 3: hydration belongs to the generation that was searched ---


@pytest.mark.parametrize("times", [1, 2, 3, 10])
def test_rule_03_a_query_that_was_overtaken_runs_again(
    indexed: Any, opened: Any, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Another handle replaces everything between the search and the hydration, up to ten times over."""
    from mrlstore.search.searcher import Searcher

    other = opened()
    turns = {0: nested_vectors(50, DIM, seed=2)}
    real = Searcher.search
    done: list[int] = []

    def overtaken(self: Any, *arguments: Any) -> Any:
        found = real(self, *arguments)
        if len(done) < times:
            turn = len(done) + 1
            done.append(turn)
            turns[turn] = nested_vectors(50, DIM, seed=100 + turn)
            changed = [{**LONG, "n": i, "turn": turn} for i in range(50)]
            other.upsert(ids(50, "tail"), turns[turn], changed)
        return found

    monkeypatch.setattr(Searcher, "search", overtaken)
    found = indexed.query(QUERY, k=ROWS + 50, exact=True, include=("metadata", "vector"))
    assert done, "nothing was injected: the test no longer tests"
    mine = [hit for hit in found if hit.id.startswith("tail")]
    seen = {hit.metadata["turn"] for hit in mine}
    assert len(mine) == 50
    assert len(seen) == 1, f"metadata of several generations: {seen}"
    (turn,) = seen
    for hit in mine:
        row = turns[turn][int(hit.id[4:])]
        cosine = float(row @ QUERY / np.linalg.norm(row) / np.linalg.norm(QUERY))
        assert abs(hit.score - cosine) < 2e-3, "a score of another generation than the metadata"
    assert len(done) <= 3, "the third try holds a read transaction, so it cannot be overtaken"


def test_rule_03_a_filter_read_from_another_generation_is_not_mixed_in(
    indexed: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = inside.module("mrlstore.search.searcher")

    other = opened()
    done: list[int] = []
    real = module.Searcher

    def overtaken(*arguments: Any) -> Any:
        if len(done) < 2:
            done.append(1)
            other.update(metadatas={"turn": len(done)}, where={"n": {"$lt": 40}})
        return real(*arguments)

    monkeypatch.setattr(module, "Searcher", overtaken)
    found = indexed.query(QUERY, k=200, where={"turn": 0, "n": {"$lt": 100}}, exact=True)
    assert done
    assert {hit.metadata["turn"] for hit in found} == {0}
    expected = {0: 150, 1: 70}[1 if not any(hit.metadata["n"] < 40 for hit in found) else 0]
    assert len(found) in (expected, 60 + 10)


def test_rule_03_a_reader_below_the_floor_reloads_whole(indexed: Any, opened: Any) -> None:
    reader = opened(mode="r")
    before = reader.query(QUERY, k=20, exact=True).ids
    oracle = Oracle()
    for turn in range(3):  # removals are recorded, merged away and purged, all unseen by the reader
        gone = ids(ROWS)[turn * 500 : turn * 500 + 500]
        indexed.delete(gone)
        indexed.delete(ids(10, "tail"))
        indexed.upsert(ids(10, "tail"), nested_vectors(10, DIM, seed=turn))
        indexed.optimize()
    assert sql(Path(indexed.stats().path), "SELECT value FROM settings WHERE name = 'floor_gen'")[0][0] > 0
    for record in indexed.scan(include=("vector", "metadata")):
        oracle.upsert([record.id], [record.vector], [record.metadata])
    found = reader.query(QUERY, k=5000, exact=True)
    assert len(found) == len(oracle.rows) == ROWS + 50 - 1500
    assert set(found.ids) == {name for _, name in oracle.rows}
    assert found.ids == indexed.query(QUERY, k=5000, exact=True).ids
    assert before


# --- 4: removals ---


def test_rule_04_removals_of_tail_rows_reach_readers_that_mirror_the_tail(indexed: Any, opened: Any) -> None:
    reader = opened(mode="r")
    assert "tail3" in reader.query(nested_vectors(50, DIM, seed=2)[3], k=1).ids
    indexed.delete(["tail3"])
    assert "tail3" not in reader.query(nested_vectors(50, DIM, seed=2)[3], k=60).ids
    indexed.upsert(["tail4"], [-QUERY])
    found = reader.query(QUERY, k=10_000, exact=True)
    assert found.ids[-1] == "tail4"
    assert found.ids.count("tail4") == 1


@pytest.mark.parametrize("change", ["delete", "replace", "update", "clear"])
def test_rule_04_changes_made_while_a_merge_runs_are_carried_over(
    indexed: Any, opened: Any, change: str
) -> None:
    oracle = Oracle()
    for record in indexed.scan(include=("vector", "metadata")):
        oracle.upsert([record.id], [record.vector], [record.metadata])
    for target in (indexed, oracle):  # work for the merge: dead rows and a second segment
        target.delete(ids(300))
        target.upsert(ids(100, "more"), nested_vectors(100, DIM, seed=5))
    other, seen = opened(), set()

    def meanwhile(step: Any) -> None:
        if step.phase in seen:
            return
        seen.add(step.phase)
        number = len(seen)
        mine = ids(ROWS)[300 + number * 100 : 400 + number * 100] + ids(20, "more") + ["tail7"]
        for target in (other, oracle):
            if change == "delete":
                target.delete(mine)
            elif change == "replace":
                target.upsert(mine, nested_vectors(len(mine), DIM, seed=number))
            elif change == "update":
                target.update(mine, [{"changed": number}] * len(mine))
            else:
                target.clear()
                target.upsert(["last"], [QUERY])

    indexed.optimize(progress=meanwhile)
    assert len(seen) >= 2, f"too few steps to interfere with: {seen}"
    for handle in (indexed, other):
        assert_same_rows(handle, oracle, 4e-3)
        assert_exact(handle.query(QUERY, k=100, exact=True), oracle.scores(QUERY), 100, 2e-3)
        assert set(handle.query(QUERY, k=10_000).ids) == {name for _, name in oracle.rows}
    indexed.optimize()
    assert_same_rows(indexed, oracle, 4e-3)
    assert indexed.verify().ok


def test_rule_04_only_removals_that_lie_nowhere_are_purged(indexed: Any, path: Path, opened: Any) -> None:
    indexed.delete(["r1", "tail1"])
    assert sql(path, "SELECT count(*) FROM removed")[0][0] >= 2
    indexed.optimize()
    dead = indexed.stats().dead_rows
    assert sql(path, "SELECT count(*) FROM removed")[0][0] >= dead
    fresh = opened(mode="r")
    assert "r1" not in fresh.query(QUERY, k=10_000).ids
    assert "tail1" not in fresh.query(QUERY, k=10_000).ids


@pytest.mark.parametrize("verb", ["delete", "update"])
def test_rule_04_filters_of_writes_are_evaluated_inside_the_transaction(
    indexed: Any, opened: Any, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """A row that another handle commits just before our transaction begins is seen by its filter."""
    other = opened()
    catalogue = inside.session(indexed).catalogue
    done: list[int] = []
    real = catalogue.write

    def write() -> Any:
        if not done:
            done.append(True)
            other.upsert(["late"], [QUERY], [{"n": 77, "turn": 0}])
            other.update(["r77"], [{"n": -1}])
        return real()

    monkeypatch.setattr(catalogue, "write", write)
    if verb == "delete":
        assert indexed.delete(where={"n": 77}) == 1
        assert "late" not in indexed
        assert "r77" in indexed
    else:
        assert indexed.update(metadatas={"seen": 1}, where={"n": 77}) == 1
        assert indexed.get(["late"])[0].metadata == {"n": 77, "turn": 0, "seen": 1}
        assert "seen" not in indexed.get(["r77"])[0].metadata
    assert done


# --- 5: an update is a new row with the same vector ---


def test_rule_05_an_update_gives_a_new_key_and_keeps_the_vectors_bytes(indexed: Any, path: Path) -> None:
    for name in ("r17", "tail17"):
        key = sql(path, "SELECT key FROM rows WHERE id = ?", name)[0][0]
        vector = indexed.get([name], include=("vector",))[0].vector.tobytes()
        score = {hit.id: hit.score for hit in indexed.query(QUERY, k=10_000, exact=True)}[name]
        for turn in range(3):
            indexed.update([name], [{"turn": turn}], ["document"])
        new = sql(path, "SELECT key FROM rows WHERE id = ?", name)[0][0]
        assert new > key
        assert sql(path, "SELECT count(*) FROM removed WHERE key = ?", key)[0][0] == 1
        assert indexed.get([name], include=("vector",))[0].vector.tobytes() == vector
        assert {hit.id: hit.score for hit in indexed.query(QUERY, k=10_000, exact=True)}[name] == score
        assert indexed.count({"n": 17, "turn": 2}) >= 1


# --- 6: garbage collection ---


def test_rule_06_a_part_that_is_being_written_is_not_collected(path: Path, opened: Any) -> None:
    store = opened(dim=DIM)
    store.upsert(["a"], [QUERY])
    writer = Child(bodies.write_and_wait, str(path))
    with children(writer):
        assert writer.receive() == "written"
        before = set(os.listdir(path / "parts"))
        assert before, "the writer has written nothing yet"
        collect(store)
        store.optimize()
        assert before <= set(os.listdir(path / "parts")), "a part was collected under its writer's hands"
        writer.send("go on")
        assert writer.receive() == "committed"
        writer.finish()
    assert len(store) == 5001
    assert len(store.query(QUERY, k=5001, exact=True)) == 5001


def test_rule_06_what_a_dead_writer_left_is_collected(path: Path, opened: Any) -> None:
    store = opened(dim=DIM)
    store.upsert(["a"], [QUERY])
    writer = Child(bodies.write_and_wait, str(path))
    with children(writer):
        assert writer.receive() == "written"
        writer.kill()
    assert os.listdir(path / "parts") != []
    assert collect(store) == 1
    assert os.listdir(path / "parts") == []
    assert store.query(QUERY).ids == ["a"]


def test_rule_06_the_catalogue_is_read_afresh_before_a_folder_is_deleted(indexed: Any, path: Path) -> None:
    """A part that is named between the first look and the folder's lock is kept."""
    session = inside.session(indexed)
    named = {row[0] for row in sql(path, "SELECT base FROM segments UNION SELECT idx FROM segments")}
    stray = path / "parts" / ("0" * 32)
    stray.mkdir()
    renamed: list[str] = []
    real = session.files.lock

    def name_it_now(folder: Path, *, wait_s: float = 0.0) -> Any:
        if folder == stray and not renamed:
            victim = sorted(named)[0]
            renamed.append(victim)
        return real(folder, wait_s=wait_s)

    session.files.lock = name_it_now
    try:
        collect(indexed)
    finally:
        del session.files.lock
    assert renamed
    assert not stray.exists()
    assert named <= set(os.listdir(path / "parts")) | {None}


def test_rule_06_a_part_named_by_a_commit_during_collection_is_kept(
    indexed: Any, opened: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of folders is taken, then a writer commits one of them, then collection comes to it."""
    other = opened()
    session = inside.session(indexed)
    real = session.files.list_dir
    done: list[bool] = []

    def list_dir(folder: Path) -> list[str]:
        if folder.name == "parts" and not done:
            done.append(True)
            before = set(real(folder))
            other.upsert(ids(5000, "big"), nested_vectors(5000, DIM, seed=3))
            return sorted(before | set(real(folder)))
        return list(real(folder))

    monkeypatch.setattr(session.files, "list_dir", list_dir)
    collect(indexed)
    assert done
    assert len(indexed.query(QUERY, k=10_000, exact=True)) == ROWS + 50 + 5000
    assert indexed.verify().ok


def test_rule_06_if_a_named_folder_is_missing_nothing_is_deleted(indexed: Any, path: Path) -> None:
    stray = path / "parts" / ("0" * 32)
    stray.mkdir()
    victim = sql(path, "SELECT base FROM segments")[0][0]
    (path / "parts" / victim).rename(path / "elsewhere")
    with pytest.raises(mrlstore.CorruptStore, match=victim):
        collect(indexed)
    assert stray.exists()
    (path / "elsewhere").rename(path / "parts" / victim)
    assert collect(indexed) == 1
    assert not stray.exists()


# --- 7: everything of a part is mapped when it enters a snapshot ---


def test_rule_07_a_snapshot_needs_no_file_again(indexed: Any, opened: Any, path: Path) -> None:
    reader = opened(mode="r")
    expected: dict[str, Any] = {}

    def answers() -> dict[str, Any]:
        return {
            "exact": [(hit.id, hit.score) for hit in reader.query(QUERY, k=30, exact=True)],
            "walk": [(hit.id, hit.score) for hit in reader.query(QUERY, k=10)],
            "where": reader.query(QUERY, k=30, where={"n": {"$lt": 100}}).ids,
            "dim": reader.query(QUERY, k=10, dim=3).ids,
            "vector": reader.get(["r77"], include=("vector",))[0].vector.tolist(),
        }

    reader.query(QUERY, k=1, exact=True, include=())  # the snapshot is there; most arrays were never touched
    hidden = path.parent / "hidden"
    (path / "parts").rename(hidden)
    try:
        (path / "parts").mkdir()
        expected = answers()
    finally:
        (path / "parts").rmdir()
        hidden.rename(path / "parts")
    assert answers() == expected


def test_rule_07_a_part_that_is_gone_and_still_named_is_corruption(indexed: Any, path: Path) -> None:
    victim = sql(path, "SELECT base FROM segments")[0][0]
    indexed.close()
    (path / "parts" / victim).rename(path.parent / "victim")
    try:
        with pytest.raises(mrlstore.CorruptStore, match=victim), mrlstore.open(path, mode="r") as reader:
            reader.query(QUERY)
    finally:
        (path.parent / "victim").rename(path / "parts" / victim)


def once_merged(store: Any, path: Path, done: list[bool]) -> Callable[[Path], None]:
    """What another process does between two steps of a reader, the first time: all parts are replaced."""

    def merge(_: Path) -> None:
        if done:
            return
        done.append(True)
        before = set(os.listdir(path / "parts"))
        store.delete(ids(1000))
        store.optimize()
        collect(store)
        assert not before & set(os.listdir(path / "parts"))

    return merge


@pytest.mark.parametrize("verb", ["read", "map"])
def test_rule_07_a_part_that_was_merged_away_meanwhile_is_not_corruption(
    indexed: Any, path: Path, verb: str
) -> None:
    """Between reading the catalogue and opening the parts another process merges them and collects them."""
    files = RecordingFiles()
    reader = open_store(path, mode="r", files=files)
    done: list[bool] = []
    files.before[verb] = once_merged(indexed, path, done)
    found = reader.query(QUERY, k=10_000, exact=True)
    assert done
    assert len(found) == ROWS + 50 - 1000
    assert set(found.ids) == {record.id for record in indexed.scan()}
    reader.close()


# --- 8: creation ---


def test_rule_08_a_store_appears_whole_by_one_rename(path: Path) -> None:
    files = with_sqlite(RecordingFiles())
    open_store(path, dim=DIM, auto_maintain=False, files=files).close()
    (rename,) = (op for op in files.log if op.verb == "rename")
    draft = Path(rename.path).parent
    assert (draft.parent, rename.other) == (path, str(path / "catalogue.db"))
    at = files.log.index(rename)
    before, after = files.log[:at], files.log[at + 1 :]
    made = next(i for i, op in enumerate(before) if (op.verb, op.path) == ("make_dir", str(path)))
    assert any((op.verb, op.path) == ("sync_dir", str(path.parent)) for op in before[made:])
    inside_folder = [i for i, op in enumerate(before) if Path(op.path).parent == path and op.verb in MAKING]
    synced = [i for i, op in enumerate(before) if (op.verb, op.path) == ("sync_dir", str(path))]
    assert before[inside_folder[0]].path == str(draft), "the draft is there first, and shows what the rest is"
    assert inside_folder[0] < synced[0] < inside_folder[1]
    assert synced[-1] > inside_folder[-1], "all that the folder holds is synced before the catalogue comes"
    assert any((op.verb, op.path) == ("sync_dir", str(path / "parts")) for op in before)
    for op in before:
        if op.verb == "create" and not op.path.endswith(("-wal", "-journal")):
            assert Op_synced(before, op.path), op.path
    assert any((op.verb, op.path) == ("sync_dir", str(path)) for op in after)
    assert not draft.exists()


def test_rule_08_folders_above_a_new_store_are_synced(tmp_path: Path) -> None:
    files = with_sqlite(RecordingFiles())
    path = tmp_path / "a" / "b" / "s.mrl"
    open_store(path, dim=DIM, auto_maintain=False, files=files).close()
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        made = next(i for i, op in enumerate(files.log) if (op.verb, op.path) == ("make_dir", str(folder)))
        assert any((op.verb, op.path) == ("sync_dir", str(folder.parent)) for op in files.log[made:])


MAKING = ("make_dir", "create")


def Op_synced(log: list[Any], path: str) -> bool:  # noqa: N802
    """Whether the file was synced after its last write."""
    last_write = max(
        (i for i, op in enumerate(log) if op.path == path and op.verb in ("write", "create")), default=0
    )
    return any(op.verb == "sync" and op.path == path for op in log[last_write:])


def test_rule_08_who_loses_the_race_opens_the_winners(path: Path) -> None:
    files = RecordingFiles()

    def somebody_is_faster(_: Path) -> None:
        files.before.clear()
        with mrlstore.open(path, dim=DIM, auto_maintain=False) as winner:
            winner.upsert(["winner"], [QUERY])

    files.before["lock"] = somebody_is_faster
    with open_store(path, dim=DIM, auto_maintain=False, files=files) as store:
        assert store.query(QUERY).ids == ["winner"]
        store.upsert(["loser"], [QUERY])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert sorted(entry.name for entry in path.iterdir()) == ["LOCK", "catalogue.db", "parts"]


def test_rule_08_who_loses_the_race_with_another_dim_is_told(path: Path) -> None:
    files = RecordingFiles()

    def somebody_is_faster(_: Path) -> None:
        files.before.clear()
        mrlstore.open(path, dim=DIM + 1, auto_maintain=False).close()

    files.before["lock"] = somebody_is_faster
    with pytest.raises(mrlstore.InvalidInput, match=str(DIM + 1)):
        open_store(path, dim=DIM, auto_maintain=False, files=files)


@pytest.mark.parametrize("mode", ["a", "r", "x"])
@pytest.mark.parametrize("missing", ["catalogue.db", "parts"])
def test_rule_08_a_damaged_store_is_never_made_anew(path: Path, mode: Any, missing: str) -> None:
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert(ids(4200), nested_vectors(4200, DIM))
    (path / missing).rename(path.parent / "kept")
    before = sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))
    with pytest.raises((mrlstore.CorruptStore, mrlstore.StoreExists), match=path.name):
        mrlstore.open(path, mode=mode)
    assert sorted(str(entry.relative_to(path)) for entry in path.rglob("*")) == before
    (path.parent / "kept").rename(path / missing)
    with mrlstore.open(path) as store:
        assert len(store) == 4200


# --- 9: fsync ---


def test_rule_09_everything_a_commit_names_is_synced_before_it(path: Path) -> None:
    mrlstore.open(path, dim=DIM, prefix_dim=4, auto_maintain=False).close()
    files = with_sqlite(RecordingFiles())
    with open_store(path, auto_maintain=False, files=files) as store:
        files.log.clear()
        store.upsert(ids(5000), nested_vectors(5000, DIM), [{"n": i} for i in range(5000)])
        bulk = list(files.log)
        files.log.clear()
        store.upsert(ids(100, "t"), nested_vectors(100, DIM))
        small = list(files.log)
        files.log.clear()
        store.optimize()
        merged = list(files.log)
    wal = str(path / "catalogue.db-wal")
    changes = [op.verb for op in small if op.path == wal and op.verb in ("write", "sync", "truncate")]
    assert changes[-1] == "sync", "a commit ends with a sync of the log"
    for log in (bulk, merged):
        created = [op.path for op in log if op.verb == "create" and "/parts/" in op.path]
        assert created
        for file in created:
            folder = str(Path(file).parent)
            written = max(i for i, op in enumerate(log) if op.path == file and op.verb in ("write", "create"))
            synced = next(
                i for i, op in enumerate(log) if i > written and op.verb == "sync" and op.path == file
            )
            entered = next(
                i for i, op in enumerate(log) if i > synced and op.verb == "sync_dir" and op.path == folder
            )
            parts = next(
                i
                for i, op in enumerate(log)
                if i > entered and op.verb == "sync_dir" and op.path == str(path / "parts")
            )
            commits = [i for i, op in enumerate(log) if op.verb == "sync" and op.path == wal]
            assert any(i > parts for i in commits), file
            named_early = [i for i in commits if written < i < parts]
            if log is bulk:
                assert not named_early, f"{file}: a commit before the part was synced"


def test_rule_09_a_short_write_is_continued(path: Path) -> None:
    class Grudging(RecordingFiles):
        def write(self, descriptor: int, data: memoryview) -> int:
            return super().write(descriptor, data[: max(1, min(1000, len(data) // 2))])

    rows = nested_vectors(4500, DIM)
    with open_store(path, dim=DIM, auto_maintain=False, files=Grudging()) as store:
        store.upsert(ids(4500), rows, [{"n": i} for i in range(4500)])
        store.optimize()
    oracle = Oracle()
    oracle.upsert(ids(4500), rows, [{"n": i} for i in range(4500)])
    with mrlstore.open(path, mode="r") as store:
        assert store.verify().ok
        assert_same_rows(store, oracle)


@pytest.mark.parametrize("size", [10, 5000])
def test_rule_09_a_failed_fsync_poisons_until_reopened(path: Path, size: int) -> None:
    """The kernel may have dropped the pages: nothing more is believed of this handle."""
    files = with_sqlite(RecordingFiles())
    store = open_store(path, dim=DIM, auto_maintain=False, files=files)
    store.upsert(["before"], [QUERY])
    armed = True

    def fail(name: Path) -> None:
        if armed:
            from mrlstore.system.files import SyncFailed

            raise SyncFailed("fsync failed (test)")

    def fail_sqlite(name: Path) -> None:
        if armed:
            error = apsw.IOError("test")
            vars(error).update(result=apsw.SQLITE_IOERR, extendedresult=apsw.SQLITE_IOERR_FSYNC)
            raise error

    files.before.update({"sync": fail, "sync_dir": fail, "sqlite sync": fail_sqlite})
    with pytest.raises(mrlstore.StorePoisoned):
        store.upsert(ids(size), nested_vectors(size, DIM))
    armed = False
    for call in (
        lambda: store.upsert(["x"], [QUERY]),
        lambda: store.delete(["before"]),
        lambda: store.update(["before"], [{"x": 1}]),
        lambda: store.query(QUERY),
        lambda: store.get(["before"]),
        lambda: len(store),
        lambda: store.optimize(),
    ):
        with pytest.raises(mrlstore.StorePoisoned):
            call()
    store.close()
    with mrlstore.open(path, auto_maintain=False) as again:
        assert "before" in again
        assert len(again) in (1, 1 + size)
        again.upsert(["after"], [QUERY])
        assert again.verify().ok


def test_rule_09_real_fsync_errors_are_taken_for_failures(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = mrlstore.open(path, dim=DIM, auto_maintain=False)
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(mrlstore.StorePoisoned):
        store.upsert(ids(5000), nested_vectors(5000, DIM))
    monkeypatch.setattr(os, "fsync", real)
    with pytest.raises(mrlstore.StorePoisoned):
        store.upsert(["x"], [QUERY])
    store.close()
    with mrlstore.open(path, auto_maintain=False) as again:
        assert len(again) == 0


def test_rule_09_what_repair_sets_aside_is_synced(indexed: Any, path: Path) -> None:
    victim = sql(path, "SELECT idx FROM segments")[0][0]
    indexed.close()
    file = next((path / "parts" / victim).glob("neighbours*"))
    file.write_bytes(bytes(len(file.read_bytes())))
    files = with_sqlite(RecordingFiles())
    with open_store(path, auto_maintain=False, files=files) as store:
        assert store.repair().ok
    log = [(op.verb, op.path) for op in files.log]
    removed = next(
        number
        for number, (verb, name) in enumerate(log)
        if verb == "unlink" and Path(name).parent == path / "parts" / victim
    )
    for folder in (path, path / "damaged", path / "damaged" / victim):
        assert ("sync_dir", str(folder)) in log[:removed]
    assert ("sync_dir", str(path / "parts")) in log[removed:]


# --- 10: fork ---


def test_rule_10_a_forked_child_does_not_free_its_parents_locks(indexed: Any, path: Path) -> None:
    indexed.upsert(ids(2100, "more"), nested_vectors(2100, DIM, seed=4))
    indexed.close()
    child = Child(bodies.fork_while_indexing, str(path))
    with children(child):
        said = child.receive()
        child.finish()
    assert said == {
        "held before": True,
        "child": 0,
        "held after": True,
        "free at last": True,
        "rows": ROWS + 50 + 2100 + 1,
    }


def test_rule_10_a_fork_in_the_midst_of_another_threads_write(path: Path) -> None:
    """SQLite's view of its locks is inherited: a child must not believe that it holds the parent's."""
    mrlstore.open(path, dim=DIM, auto_maintain=False).close()
    child = Child(bodies.fork_beside_a_writer, str(path), 3)
    with children(child):
        codes, missing = child.receive()
        child.finish()
    assert codes == [0, 0, 0]
    assert missing == []


# --- 11: no iterator holds a read transaction ---


def test_rule_11_a_half_read_scan_holds_no_transaction(indexed: Any, path: Path) -> None:
    scans = [
        indexed.scan(),
        indexed.scan({"n": {"$gt": 3}}),
        indexed.scan(include=("vector",), namespace=None),
    ]
    for scan in scans:
        next(scan)
    indexed.upsert(["x"], [QUERY])
    checkpoint = sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert checkpoint[0][0] == 0, "somebody keeps the log from being folded back"
    assert os.stat(path / "catalogue.db-wal").st_size == 0
    assert all(len(list(scan)) > ROWS - 10 for scan in scans)


# --- 12: checkpoints ---


def test_rule_12_the_log_stays_short(path: Path, opened: Any) -> None:
    store = opened(dim=1024)
    rows = nested_vectors(2000, 1024)
    largest = written = 0
    for turn in range(12):  # about 60 MB through the log
        store.upsert(ids(2000, f"t{turn % 2}-"), rows)
        written += 2000 * 2048
        largest = max(largest, os.stat(path / "catalogue.db-wal").st_size)
    assert written > 45 << 20
    assert largest < 40 << 20, f"the log grew to {largest >> 20} MiB"


def test_rule_12_a_log_is_checkpointed_once_it_is_long(path: Path) -> None:
    files = with_sqlite(RecordingFiles())
    with open_store(path, dim=1024, auto_maintain=False, files=files) as store:
        rows = nested_vectors(1000, 1024)
        database = str(path / "catalogue.db")
        store.upsert(ids(1000), rows)
        files.log.clear()
        for turn in range(11):
            store.upsert(ids(1000, f"t{turn}-"), rows)
        moved = sum(len(op.data) for op in files.log if op.verb == "write" and op.path == database)
        assert moved > 16 << 20, "nothing was folded back while writing"


def test_rule_12_pages_are_given_back(path: Path, opened: Any) -> None:
    store = opened(dim=DIM)
    assert sql(path, "PRAGMA auto_vacuum") == [(2,)]
    store.upsert(ids(1500), nested_vectors(1500, DIM), None, ["d" * 10_000] * 1500)
    store.optimize()
    full = os.stat(path / "catalogue.db").st_size
    assert full > 14 << 20
    store.clear()
    store.optimize()
    assert os.stat(path / "catalogue.db").st_size < full / 4


# --- 13: backup ---


def test_rule_13_parts_are_hard_links_and_the_catalogue_a_copy(
    indexed: Any, path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mrl"
    indexed.backup(copy)
    for file in copy.rglob("*.npy"):
        assert file.stat().st_ino == (path / file.relative_to(copy)).stat().st_ino, file
    assert (copy / "catalogue.db").stat().st_ino != (path / "catalogue.db").stat().st_ino
    assert sql(copy, "PRAGMA journal_mode")[0][0] == "delete"


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_rule_13_where_links_are_refused_files_are_copied(path: Path, tmp_path: Path, code: int) -> None:
    class NoLinks(RecordingFiles):
        def link(self, source: Path, target: Path) -> None:
            raise OSError(code, os.strerror(code), str(source))

    with open_store(path, dim=DIM, auto_maintain=False, files=NoLinks()) as store:
        store.upsert(ids(4200), nested_vectors(4200, DIM))
        store.backup(tmp_path / "copy.mrl")
        expected = store.query(QUERY, k=20, exact=True).ids
    for file in (tmp_path / "copy.mrl").rglob("*.npy"):
        assert file.stat().st_nlink == 1
    with mrlstore.open(tmp_path / "copy.mrl") as copy:
        assert copy.query(QUERY, k=20, exact=True).ids == expected
        assert copy.verify().ok


def test_rule_13_other_errors_of_a_link_are_told_and_leave_nothing(path: Path, tmp_path: Path) -> None:
    class Full(RecordingFiles):
        def link(self, source: Path, target: Path) -> None:
            raise OSError(errno.ENOSPC, "full", str(source))

    with open_store(path, dim=DIM, auto_maintain=False, files=Full()) as store:
        store.upsert(ids(4200), nested_vectors(4200, DIM))
        with pytest.raises(mrlstore.StorageFull):
            store.backup(tmp_path / "copy.mrl")
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_rule_13_a_backup_starts_again_when_parts_are_collected_under_it(
    indexed: Any, path: Path, tmp_path: Path
) -> None:
    files = RecordingFiles()
    done: list[bool] = []
    files.before["link"] = once_merged(indexed, path, done)
    with open_store(path, mode="r", files=files) as reader:
        reader.backup(tmp_path / "copy.mrl")
    assert done
    with mrlstore.open(tmp_path / "copy.mrl", mode="r") as copy:
        assert copy.verify().ok
        assert len(copy.query(QUERY, k=10_000, exact=True)) == len(copy) == ROWS + 50 - 1000
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy.mrl", path.name]


@pytest.mark.parametrize("linked", [True, False])
def test_rule_13_everything_is_synced_before_the_copy_gets_its_name(
    indexed: Any, path: Path, tmp_path: Path, linked: bool
) -> None:
    class Copying(RecordingFiles):
        def link(self, source: Path, target: Path) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    files = with_sqlite(RecordingFiles() if linked else Copying())
    with open_store(path, auto_maintain=False, files=files) as store:
        files.log.clear()
        store.backup(tmp_path / "copy.mrl")
    (rename,) = [op for op in files.log if op.verb == "rename"]
    draft, at = rename.path, files.log.index(rename)
    before = files.log[:at]
    folders = {op.path for op in before if op.verb == "make_dir"}
    assert folders <= {op.path for op in before if op.verb == "sync_dir"}
    made = {op.path for op in before if op.verb == "create" and not op.path.endswith(("-wal", "-journal"))}
    assert f"{draft}/catalogue.db" in made
    assert linked == (not any("/parts/" in name for name in made))
    for name in made:
        assert Op_synced(before, name), name
    assert any(op.verb == "sync_dir" and op.path == str(tmp_path) for op in files.log[at:])


# --- 14: two maps ---


class _Map(mmap.mmap):
    """A map that tells which advice it was given."""

    advice: list[int]

    def madvise(self, *arguments: Any) -> None:
        self.advice = [*getattr(self, "advice", []), int(arguments[0])]
        super().madvise(*arguments)


class MappingFiles(RecordingFiles):
    """Keeps every map that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[tuple[Path, Any]] = []

    def map(self, path: Path, size: int) -> Any:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            made = _Map(descriptor, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        finally:
            os.close(descriptor)
        self.maps.append((path, made))
        return made


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="this system has no MADV_RANDOM")
def test_rule_14_scans_and_reranks_have_maps_of_their_own(indexed: Any, path: Path) -> None:
    files = MappingFiles()
    with open_store(path, mode="r", files=files) as reader:
        reader.query(QUERY, k=10)
        maps = [made for name, made in files.maps if name.name == "vectors.npy"]
        random = [made for made in maps if mmap.MADV_RANDOM in getattr(made, "advice", [])]
        plain = [made for made in maps if mmap.MADV_RANDOM not in getattr(made, "advice", [])]
        assert len(random) == 1
        assert len(plain) == 1


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system has no MADV_WILLNEED")
def test_rule_14_warm_rows_are_not_announced(indexed: Any, path: Path) -> None:
    files = MappingFiles()
    with open_store(path, mode="r", files=files) as reader:
        told = {}
        for cold in (True, False):
            reader.query(QUERY, k=10)
            segments = [part.segment for part in inside.session(reader).snapshots.latest().segments]
            assert segments
            for segment in segments:
                segment.read_ahead.needed = cold
            before = _announced(files)
            reader.query(QUERY, k=10)
            told[cold] = _announced(files) - before
    assert told[True] >= 10, "rows of a cold segment are announced"
    assert told[False] == 0, "rows are announced though they are warm"


def _announced(files: MappingFiles) -> int:
    return sum(getattr(made, "advice", []).count(mmap.MADV_WILLNEED) for _, made in files.maps)


def test_rule_14_what_was_announced_for_nothing_is_warm() -> None:
    read_ahead = ReadAhead()
    assert read_ahead.needed, "who has just opened a segment knows nothing of it"
    read_ahead.learn_from_request(32 * 1e-6, 32)
    assert not read_ahead.needed
    counts = [[10, 31, 2_000, 0, 0, -1]]
    read_ahead.learn(0.3e-3, counts)
    assert not read_ahead.needed
    read_ahead.learn(5e-3, counts)
    assert read_ahead.needed
    read_ahead.learn_from_request(32 * 8e-6, 32)
    assert read_ahead.needed


def test_rule_14_systems_that_cannot_be_told_answer_as_well(
    indexed: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mrlstore.open(path, mode="r") as reader:
        expected = [(hit.id, hit.score) for hit in reader.query(QUERY, k=10)]
    monkeypatch.delattr(mmap, "MADV_WILLNEED", raising=False)
    with mrlstore.open(path, mode="r") as reader:
        assert [(hit.id, hit.score) for hit in reader.query(QUERY, k=10)] == expected
        segments = [part.segment for part in inside.session(reader).snapshots.latest().segments]
        assert segments
        assert not any(segment.read_ahead.needed for segment in segments)


# --- 15: names ---


def test_rule_15_nothing_is_named_after_what_users_say(path: Path, opened: Any) -> None:
    store = opened(dim=DIM)
    secret = "secretword"
    for evil in ("../../secretword", "secretword/../x", "secretword\0", "/tmp/secretword"):
        store.upsert([evil], [QUERY], [{evil: evil}], [evil], namespace=evil)
    rows = [f"{secret}{i}" for i in range(4500)]
    store.upsert(
        rows, nested_vectors(4500, DIM), [{f"{secret}{i % 50}": i} for i in range(4500)], namespace=secret
    )
    store.optimize()
    allowed = re.compile(
        r"catalogue\.db(-wal|-shm)?|LOCK|parts(/[0-9a-f]{32}(/(part\.json|[a-z_]+(\.[a-z_0-9]+)*\.npy))?)?"
    )
    for entry in path.rglob("*"):
        assert allowed.fullmatch(str(entry.relative_to(path))), entry
    for name, text in sql(path, "SELECT name, sql FROM sqlite_master"):
        assert secret not in name
        assert secret not in (text or "")
    assert not any(secret in entry.name for entry in path.parent.iterdir())
