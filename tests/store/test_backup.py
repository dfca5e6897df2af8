"""Backups: whole stores of one generation, made while writing."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import mrlstore
from mrlstore import MrlStoreError, StoreExists
from mrlstore.api.opening import open_store
from tests.children import Child, Pipe, children
from tests.layouts import LAYOUTS, fill, make_layout
from tests.oracle import Oracle, assert_exact, assert_same_rows, nested_vectors
from tests.seam import RecordingFiles


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_backup_is_the_same_store(library: Any, layout: str, tmp_path: Path, opened: Any) -> None:
    store, oracle = library(layout)
    store.backup(tmp_path / "copy.mrl")
    copy = opened(tmp_path / "copy.mrl", mode="r")
    assert_same_rows(copy, oracle)
    query = nested_vectors(1, 32, seed=8)[0]
    assert copy.query(query).ids == store.query(query).ids
    assert_exact(copy.query(query, exact=True), oracle.scores(query), 10)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy.mrl"], "nothing temporary is left"


def test_a_backup_leads_a_life_of_its_own(tmp_path: Path, opened: Any) -> None:
    store, oracle = opened(dim=8), Oracle()
    fill_small(store, oracle)
    store.backup(tmp_path / "copy.mrl")
    copy, copied = opened(tmp_path / "copy.mrl"), oracle.copy()
    store.clear()
    store.optimize()
    for target in (copy, copied):
        target.upsert(["new"], np.ones((1, 8)))
        target.delete(["r1"])
    copy.optimize()
    assert_same_rows(copy, copied)
    assert len(store) == 0
    store.close()
    shutil.rmtree(tmp_path / "store.mrl")
    assert_same_rows(copy, copied)


def fill_small(store: Any, oracle: Oracle) -> None:
    for target in (store, oracle):
        target.upsert(
            [f"r{i}" for i in range(4200)], nested_vectors(4200, 8), [{"n": i} for i in range(4200)]
        )
    store.optimize()
    for target in (store, oracle):
        target.upsert(["tail"], nested_vectors(1, 8, seed=4))
        target.delete(["r5"])


def test_a_backup_of_an_empty_store(tmp_path: Path, opened: Any) -> None:
    store = opened()
    store.backup(tmp_path / "copy.mrl")
    copy = opened(tmp_path / "copy.mrl")
    assert len(copy) == 0
    copy.upsert(["a"], np.ones((1, 5)))
    assert len(store) == 0


def test_a_backup_never_replaces_anything(tmp_path: Path, opened: Any) -> None:
    store = opened(dim=8)
    store.upsert(["a"], np.ones((1, 8)))
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("precious")
    store.backup(tmp_path / "copy.mrl")
    for taken in ("file", "folder", "copy.mrl"):
        with pytest.raises(StoreExists, match=taken):
            store.backup(tmp_path / taken)
    with pytest.raises(MrlStoreError):
        store.backup(tmp_path / "store.mrl")
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "precious"
    assert len(store) == 1


def test_a_backup_reports_its_progress_and_is_stopped_by_an_error_there(tmp_path: Path, opened: Any) -> None:
    store = opened(dim=8)
    store.upsert([f"r{n}" for n in range(50)], nested_vectors(50, 8, seed=1))
    store.optimize()
    seen: list[mrlstore.Progress] = []
    store.backup(tmp_path / "copy.mrl", progress=seen.append)
    assert [one.done for one in seen if one.phase == "parts"] == list(range(seen[0].total + 1))
    assert seen[0].total >= 1
    assert [(one.phase, one.done, one.total) for one in seen[-2:]] == [
        ("catalogue", 0, 1),
        ("catalogue", 1, 1),
    ]
    for stop in seen:

        def stopping(progress: mrlstore.Progress, stop: mrlstore.Progress = stop) -> None:
            if progress == stop:
                raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            store.backup(tmp_path / "other.mrl", progress=stopping)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy.mrl", "store.mrl"]


def test_a_backup_into_the_store_itself_is_refused(tmp_path: Path, opened: Any) -> None:
    store = opened(dim=8)
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(MrlStoreError):
        store.backup(tmp_path / "store.mrl" / "inside.mrl")
    assert store.verify().ok


def test_the_copys_catalogue_stands_alone(tmp_path: Path, opened: Any) -> None:
    store = opened(dim=8)
    store.upsert(["a"], np.ones((1, 8)))
    store.backup(tmp_path / "copy.mrl")
    names = {entry.name for entry in (tmp_path / "copy.mrl").iterdir()}
    assert "catalogue.db-wal" not in names
    assert "catalogue.db-shm" not in names


def test_a_backup_from_a_read_only_handle(tmp_path: Path, opened: Any) -> None:
    store, oracle = opened(dim=8), Oracle()
    fill_small(store, oracle)
    reader = opened(mode="r")
    reader.backup(tmp_path / "copy.mrl")
    assert_same_rows(opened(tmp_path / "copy.mrl"), oracle)


def test_backups_while_another_thread_writes_and_optimizes(tmp_path: Path, opened: Any) -> None:
    store = opened(dim=8)
    rows = nested_vectors(600, 8)
    ids = [f"r{i}" for i in range(600)]
    store.upsert(ids, rows, [{"turn": 0}] * 600)
    wrong: list[BaseException] = []
    done = threading.Event()

    def write() -> None:
        try:
            for turn in range(1, 200):
                store.upsert(ids, rows, [{"turn": turn}] * 600)
                if turn % 5 == 0:
                    store.optimize()
                if done.is_set():
                    return
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for copy in range(6):
            store.backup(tmp_path / f"copy{copy}.mrl")
    finally:
        done.set()
        thread.join(180)
    assert wrong == []
    for copy in range(6):
        with mrlstore.open(tmp_path / f"copy{copy}.mrl", mode="r") as backup:
            turns = {(record.metadata or {})["turn"] for record in backup.scan()}
            assert len(turns) == 1, f"a backup of half a batch: {turns}"
            assert len(backup) == 600
            assert backup.verify().ok


def test_a_closed_store_may_be_copied_by_any_tool(tmp_path: Path, opened: Any) -> None:
    store, oracle = make_layout("mixed", tmp_path / "m.mrl")
    store.close()
    shutil.copytree(tmp_path / "m.mrl", tmp_path / "copied.mrl")
    copy = opened(tmp_path / "copied.mrl")
    assert_same_rows(copy, oracle)
    fill(copy, oracle, 9000, 9100, batch=50)
    copy.optimize()
    assert_same_rows(copy, oracle)


def test_a_store_may_be_moved(tmp_path: Path, opened: Any) -> None:
    store, oracle = opened(dim=8), Oracle()
    fill_small(store, oracle)
    store.close()
    (tmp_path / "store.mrl").rename(tmp_path / "moved.mrl")
    assert_same_rows(opened(tmp_path / "moved.mrl"), oracle)


def test_a_backup_beside_garbage_collection_has_every_file(path: Path, tmp_path: Path) -> None:
    """The folder of a part is emptied file by file: in between it is there, and a list of it is too short."""
    with mrlstore.open(path, dim=8, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(300)], nested_vectors(300, 8))
        store.optimize()
    collecting = RecordingFiles()

    def die(_: Path) -> None:
        raise OSError(5, "the process ends here")

    collecting.before["remove_dir"] = die
    copying = RecordingFiles()

    def collect(folder: Path) -> None:
        if folder.parent.name != "parts":
            return
        copying.before.clear()
        with open_store(path, auto_maintain=False, files=collecting) as other:
            other.delete([f"r{i}" for i in range(200)])
            with pytest.raises(mrlstore.StorageError, match="the process ends here"):
                other.optimize()

    copying.before["make_dir"] = collect
    with open_store(path, auto_maintain=False, files=copying) as store:
        store.backup(tmp_path / "copy.mrl")
    with mrlstore.open(tmp_path / "copy.mrl", mode="r") as copy:
        assert copy.verify().ok
        assert len(copy.query(np.ones(8), k=300)) == len(copy) == 100


def test_a_backup_of_a_store_that_lacks_a_file_says_so(path: Path, tmp_path: Path) -> None:
    with mrlstore.open(path, dim=8, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(300)], nested_vectors(300, 8))
        store.optimize()
        next(path.rglob("codes.npy")).unlink()
        with pytest.raises(mrlstore.CorruptStore, match="codes.npy"):
            store.backup(tmp_path / "copy.mrl")
        assert not (tmp_path / "copy.mrl").exists()
        assert not store.verify().ok
        store.backup(tmp_path / "copy.mrl")
    with mrlstore.open(tmp_path / "copy.mrl") as copy:
        assert copy.repair().ok
        assert len(copy.query(np.ones(8), k=300)) == 300


def _open_at_once(pipe: Pipe, path: str, name: str) -> None:
    pipe.send("ready")
    pipe.receive()
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert([name], np.ones((1, 8)))
    pipe.send("done")


def test_processes_that_open_a_backup_at_once_wait_for_each_other(path: Path, tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(4)]
    with mrlstore.open(path, dim=8, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(50)], nested_vectors(50, 8))
        for turn in range(4):
            store.backup(tmp_path / f"{turn}.mrl")
    for turn in range(4):
        copy = tmp_path / f"{turn}.mrl"
        with children(*(Child(_open_at_once, str(copy), name) for name in names)) as started:
            for child in started:
                child.receive()
            for child in started:
                child.send("go")
            for child in started:
                assert child.receive() == "done"
                child.finish()
        with mrlstore.open(copy, mode="r") as store:
            assert len(store) == 54 and store.verify().ok


def test_a_process_that_opens_a_backup_waits_for_one_that_does_so(path: Path, tmp_path: Path) -> None:
    """SQLite gives up at once where another connection has begun to leave rollback mode."""
    with mrlstore.open(path, dim=8, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(50)], nested_vectors(50, 8))
        store.backup(tmp_path / "copy.mrl")
    begun = threading.Event()

    def other() -> None:
        connection = apsw.Connection(str(tmp_path / "copy.mrl" / "catalogue.db"))
        connection.execute("BEGIN IMMEDIATE")
        begun.set()
        time.sleep(0.3)
        connection.execute("ROLLBACK")
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(30)
    with mrlstore.open(tmp_path / "copy.mrl", auto_maintain=False) as store:
        store.upsert(["a"], np.ones((1, 8)))
        assert len(store) == 51
    thread.join(30)
