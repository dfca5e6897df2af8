"""A store that is deleted, moved or replaced while a handle on it is open."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests import inside
from tests.oracle import nested_vectors

DIM, ROWS = 8, 300
VECTORS = nested_vectors(5_000, DIM)


def filled(path: Path, name: str, *, indexed: bool) -> Any:
    store = mrlstore.open(path, dim=DIM, auto_maintain=False)
    store.upsert([f"{name}{i}" for i in range(ROWS)], VECTORS[:ROWS])
    if indexed:
        store.optimize()
    return store


def delete(path: Path) -> None:
    shutil.rmtree(path)


def move(path: Path) -> None:
    path.rename(path.with_name("moved.mrl"))


def replace(path: Path) -> None:
    filled(path.with_name("successor.mrl"), "new", indexed=True).close()
    shutil.rmtree(path)
    path.with_name("successor.mrl").rename(path)


def put_over(source: Path, target: Path) -> None:
    """As `cp -r source/. target` does it; hard links of the same files are left out."""
    for file in source.rglob("*"):
        to = target / file.relative_to(source)
        if file.is_dir():
            to.mkdir(exist_ok=True)
        elif not (to.exists() and to.samefile(file)):
            shutil.copyfile(file, to)
    time.sleep(0.01)  # readers look every 2 ms


def copy_over(path: Path) -> None:
    """File by file, so that every file keeps its inode."""
    filled(path.with_name("successor.mrl"), "new", indexed=True).close()
    with mrlstore.open(path.with_name("successor.mrl"), mode="r") as source:
        source.backup(path.with_name("backup.mrl"))
    put_over(path.with_name("backup.mrl"), path)


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("change", [delete, move, replace, copy_over])
def test_nothing_is_written_through_an_old_handle(
    path: Path, tmp_path: Path, change: Callable[[Path], None], indexed: bool
) -> None:
    store = filled(path, "old", indexed=indexed)
    store.query(VECTORS[0])
    change(path)
    writes: list[Callable[[], object]] = [
        lambda: store.upsert(["a"], VECTORS[:1]),
        lambda: store.upsert([f"b{i}" for i in range(5_000)], VECTORS),
        lambda: store.update(["old1"], [{"x": 1}]),
        lambda: store.delete(["old1"]),
        lambda: store.clear(),
        lambda: store.optimize(),
        lambda: store.repair(),
        lambda: store.verify(),
        lambda: store.backup(tmp_path / "copy.mrl"),
    ]
    for write in writes:
        with pytest.raises((mrlstore.StorePoisoned, mrlstore.StorageError)):
            write()
    store.close()
    if change in (replace, copy_over):
        for log in path.glob("catalogue.db-*"):  # of the store that was there before
            log.unlink()
        with mrlstore.open(path, auto_maintain=False) as successor:
            assert successor.verify().ok
            assert sorted(r.id for r in successor.scan()) == sorted(f"new{i}" for i in range(ROWS))
            assert len(successor.query(VECTORS[0], k=ROWS)) == ROWS
    assert not (tmp_path / "copy.mrl").exists()


def test_the_error_says_what_to_do(path: Path) -> None:
    store = filled(path, "old", indexed=False)
    replace(path)
    with pytest.raises(mrlstore.StorePoisoned, match=r"replaced while it was open; open the path again"):
        store.upsert(["a"], VECTORS[:1])
    with pytest.raises(mrlstore.StorePoisoned):
        store.query(VECTORS[0])
    store.close()
    with mrlstore.open(path) as again:
        assert again.upsert(["a"], VECTORS[:1]) == 1


def backed_up(path: Path, name: str, rows: int) -> Path:
    """An older state of a store, that goes on."""
    with mrlstore.open(path, auto_maintain=False) as store:
        store.backup(path.with_name(name))
        store.upsert([f"later{i}" for i in range(rows)], VECTORS[:rows], [{"later": True}] * rows)
    return path.with_name(name)


@pytest.mark.parametrize("ask", ["query", "get", "scan", "count", "where", "stats", "upsert", "optimize"])
def test_a_backup_that_is_copied_over_an_open_store_is_noticed(path: Path, ask: str) -> None:
    filled(path, "old", indexed=True).close()
    backup = backed_up(path, "backup.mrl", 50)
    store = mrlstore.open(path, auto_maintain=False)
    asks: dict[str, Callable[[], object]] = {
        "query": lambda: store.query(VECTORS[0], k=5),
        "get": lambda: store.get(["old1", "later1"]),
        "scan": lambda: list(store.scan()),
        "count": lambda: store.count({"later": True}),
        "where": lambda: store.query(VECTORS[0], k=5, where={"later": True}, exact=True),
        "stats": lambda: store.stats(),
        "upsert": lambda: store.upsert(["a"], VECTORS[:1]),
        "optimize": lambda: store.optimize(),
    }
    asks[ask]()
    store.upsert(["in the log"], VECTORS[:1])
    put_over(backup, path)
    with pytest.raises(mrlstore.StorePoisoned, match="replaced"):
        asks[ask]()
    store.close()


@pytest.mark.parametrize("close", [False, True])
def test_an_older_catalogue_does_not_make_a_query_wait_for_ever(path: Path, close: bool) -> None:
    """Only catalogue.db was replaced, by one of the same store, in place; nothing of it is in the log."""
    filled(path, "old", indexed=True).close()
    backup = backed_up(path, "backup.mrl", 50)
    store = mrlstore.open(path, auto_maintain=False)
    store.upsert(["a"], VECTORS[:1])
    store.query(VECTORS[0])
    inside.session(store).catalogue.checkpoint(whole=True)
    if close:
        inside.close_connections(store)
    shutil.copyfile(backup / "catalogue.db", path / "catalogue.db")
    inside.close_connections(store)
    for ask in (
        lambda: store.query(VECTORS[0]),
        lambda: list(store.scan({"later": True})),
        lambda: store.upsert(["b"], VECTORS[:1]),
        lambda: store.optimize(),
    ):
        with pytest.raises(mrlstore.StorePoisoned, match="replaced"):
            ask()
    store.close()


def test_another_stores_catalogue_is_not_written_to(path: Path) -> None:
    """In place, so that neither inode nor LOCK shows it: the store's own number does."""
    other = filled(path.with_name("other.mrl"), "new", indexed=False)
    for turn in range(20):
        other.upsert([f"t{turn}"], VECTORS[:1])
    other.close()
    store = filled(path, "old", indexed=True)
    inside.session(store).catalogue.checkpoint(whole=True)
    inside.close_connections(store)
    shutil.copyfile(path.with_name("other.mrl") / "catalogue.db", path / "catalogue.db")
    with pytest.raises(mrlstore.StorePoisoned, match="replaced"):
        store.upsert(["a"], VECTORS[:1])
    store.close()


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_backup_that_was_copied_over_a_store_with_a_log_is_refused(path: Path, mode: Any) -> None:
    """The log of the store before would be applied to the backup's pages."""
    filled(path, "old", indexed=True).close()
    backup = backed_up(path, "backup.mrl", 50)
    store = mrlstore.open(path, auto_maintain=False)
    store.upsert(["in the log"], VECTORS[:1])
    shutil.copyfile(backup / "catalogue.db", path / "catalogue.db")
    with pytest.raises(mrlstore.CorruptStore, match="copied over"):
        mrlstore.open(path, mode=mode)
    with pytest.raises(mrlstore.StorePoisoned, match="replaced"):
        store.upsert(["a"], VECTORS[:1])
    before = (path / "catalogue.db").read_bytes()
    put_over(backup, path)
    store.close()
    assert (path / "catalogue.db").read_bytes() == before, (
        "what the log holds is not put into another database"
    )
    for log in path.glob("catalogue.db-*"):
        log.unlink()
    with mrlstore.open(path, mode=mode) as restored:
        assert "later1" not in restored and restored.verify().ok
