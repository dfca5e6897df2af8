"""Symbolic links in a store, copied carelessly or made on purpose: nothing behind them is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.storage import backup
from tests.oracle import nested_vectors

DIM, ROWS = 8, 300
VECTORS = nested_vectors(5_000, DIM)
OPERATIONS: dict[str, Callable[[Any, Path], object]] = {
    "optimize": lambda store, _: store.optimize(),
    "repair": lambda store, _: store.repair(),
    "backup": lambda store, target: store.backup(target),
    "verify": lambda store, _: store.verify(),
    "upsert": lambda store, _: store.upsert(["new"], VECTORS[:1]),
    "large upsert": lambda store, _: store.upsert([f"n{i}" for i in range(5_000)], VECTORS),
    "query": lambda store, _: store.query(VECTORS[0], k=ROWS),
    "stats": lambda store, _: store.stats(),
    "delete": lambda store, _: store.delete(["r1"]),
}


def filled(path: Path) -> Path:
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(ROWS)], VECTORS[:ROWS], [{"n": i} for i in range(ROWS)])
        store.optimize()
    return path


def content(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith("catalogue.db-")
    }


def use(path: Path, target: Path) -> set[str]:
    """Everything that can be done with a store, each on a handle of its own; what came of it."""
    came = set()
    for mode in ("a", "r"):
        for name, operation in OPERATIONS.items():
            try:
                with mrlstore.open(path, mode=mode, auto_maintain=False) as store:
                    operation(store, target / f"{mode} {name}")
                came.add("ok")
            except mrlstore.InvalidInput:
                assert mode == "r"
            except mrlstore.MrlStoreError as error:
                came.add(type(error).__name__)
    return came


def link_to(path: Path, elsewhere: Path) -> None:
    """Put a link in place of something in a store."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("name", ["parts", "catalogue.db", "LOCK", "catalogue.db-wal", "catalogue.db-shm"])
def test_a_link_to_another_store_is_refused(tmp_path: Path, name: str) -> None:
    ours, other = filled(tmp_path / "ours.mrl"), filled(tmp_path / "other.mrl")
    for suffix in ("-wal", "-shm"):
        (other / f"catalogue.db{suffix}").touch()
    before = content(other)
    link_to(ours / name, other / name)
    came = use(ours, tmp_path)
    assert came == {"CorruptStore"}
    assert content(other) == before
    with pytest.raises(mrlstore.CorruptStore, match=f"{name}.*link"):
        mrlstore.open(ours)


def test_a_link_that_is_put_in_place_while_the_store_is_open(tmp_path: Path) -> None:
    ours, other = filled(tmp_path / "ours.mrl"), filled(tmp_path / "other.mrl")
    before = content(other)
    with mrlstore.open(ours, auto_maintain=False) as store:
        link_to(ours / "parts", other / "parts")
        for name in ("large upsert", "optimize", "repair", "backup"):
            with pytest.raises(mrlstore.CorruptStore, match="parts.*link"):
                OPERATIONS[name](store, tmp_path / "copy.mrl")
    assert content(other) == before


def test_a_catalogue_with_two_names_is_not_written(tmp_path: Path) -> None:
    """As `cp -al` leaves it: each name has a log of its own, and what one writes the other overwrites."""
    path, copy = tmp_path / "s.mrl", tmp_path / "copy.mrl"
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        store.upsert(["a"], VECTORS[:1])
        shutil.copytree(path, copy, copy_function=os.link)
        with pytest.raises(mrlstore.CorruptStore, match="has another name"):
            mrlstore.open(copy)
        store.upsert(["b"], VECTORS[1:2])  # who had it open goes on
    for name in (path, copy):
        with pytest.raises(mrlstore.CorruptStore, match="has another name"):
            mrlstore.open(name)
    with mrlstore.open(path, mode="r") as store:
        assert sorted(record.id for record in store.scan()) == ["a", "b"]
    shutil.rmtree(copy)
    with mrlstore.open(path) as store:
        assert store.upsert(["c"], VECTORS[2:3]) == 1 and store.verify().ok


@pytest.mark.filterwarnings("ignore::mrlstore.DamagedPartWarning")
def test_links_within_a_part(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    for name in ("folder", "vectors.npy", "part.json", "codes.npy"):
        ours = filled(tmp_path / f"{name}.mrl")
        found = next(ours.rglob("vectors.npy")).parent if name == "folder" else next(ours.rglob(name))
        kept = precious / f"{name}-kept"
        found.rename(kept)
        found.symlink_to(kept)
        before = content(precious)
        came = use(ours, tmp_path / f"{name}-copies")
        assert came <= {"CorruptStore", "ok"}
        assert content(precious) == before
        for copy in (tmp_path / f"{name}-copies").glob("*"):
            assert not any(file.is_symlink() for file in copy.rglob("*")), copy


@pytest.mark.parametrize("entry", [False, True])
def test_repair_puts_nothing_behind_a_link(tmp_path: Path, entry: bool) -> None:
    ours, elsewhere = filled(tmp_path / "ours.mrl"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    vectors = next(ours.rglob("vectors.npy"))
    raw = bytearray(vectors.read_bytes())
    raw[-20:] = bytes(20)
    vectors.write_bytes(raw)
    if entry:
        (ours / "damaged").mkdir()
        (ours / "damaged" / vectors.parent.name).symlink_to(elsewhere)
    else:
        (ours / "damaged").symlink_to(elsewhere)
    with mrlstore.open(ours, auto_maintain=False) as store:
        with pytest.raises(mrlstore.CorruptStore, match="damaged.*link"):
            store.repair()
        assert list(elsewhere.iterdir()) == []
        (ours / "damaged" / vectors.parent.name if entry else ours / "damaged").unlink()
        assert store.repair().ok


def test_repair_replaces_nothing_in_damaged(tmp_path: Path) -> None:
    ours = filled(tmp_path / "ours.mrl")
    vectors = next(ours.rglob("vectors.npy"))
    raw = bytearray(vectors.read_bytes())
    raw[-20:] = bytes(20)
    vectors.write_bytes(raw)
    taken = ours / "damaged" / vectors.parent.name / "vectors.npy"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"kept")
    with mrlstore.open(ours, auto_maintain=False) as store:
        with pytest.raises(mrlstore.CorruptStore, match="in the way"):
            store.repair()
        assert taken.read_bytes() == b"kept" and vectors.read_bytes() == bytes(raw)
        taken.unlink()
        assert store.repair().ok
    assert taken.read_bytes() == bytes(raw)


def test_files_of_others_do_not_enter_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, secret = filled(tmp_path / "ours.mrl"), tmp_path / "secret"
    secret.write_text("secret")
    for part in (ours / "parts").iterdir():
        (part / "notes.json").write_text("{}")
        (part / "stranger.npy").write_bytes(b"x")
        (part / "leak.npy").symlink_to(secret)
    with mrlstore.open(ours, auto_maintain=False) as store:
        store.backup(tmp_path / "linked.mrl")
        monkeypatch.setattr(backup, "CANNOT_LINK", {1})

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        store.backup(tmp_path / "copied.mrl")
    for copy in ("linked.mrl", "copied.mrl"):
        names = {file.name for file in (tmp_path / copy).rglob("*")}
        assert not names & {"notes.json", "stranger.npy", "leak.npy"}
        with mrlstore.open(tmp_path / copy, mode="r") as store:
            assert store.verify().ok


def test_a_store_may_be_opened_by_a_link(tmp_path: Path) -> None:
    """Links above a store are the user's own, and followed."""
    (tmp_path / "disk").mkdir()
    filled(tmp_path / "disk" / "ours.mrl")
    (tmp_path / "parts").symlink_to(tmp_path / "disk")
    (tmp_path / "link.mrl").symlink_to(tmp_path / "parts" / "ours.mrl")
    for path in (tmp_path / "link.mrl", tmp_path / "parts" / "ours.mrl"):
        with mrlstore.open(path, auto_maintain=False) as store:
            store.upsert([f"n{i}" for i in range(5_000)], VECTORS)
            store.optimize()
            assert store.verify().ok
            assert np.isclose(store.query(VECTORS[0], k=1).scores[0], 1, atol=1e-3)
