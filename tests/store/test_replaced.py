"""A store that is deleted, moved or replaced while a handle on it is open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mrlstore
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


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("change", [delete, move, replace])
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
    if change is replace:
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
