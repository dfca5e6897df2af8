"""What a collection may remove: nothing that a later process, or the newest snapshot, counts on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.object_storage import ObjectStorage, StoredObject
from mrlstore.shipping import restore_points, store_copy
from mrlstore.shipping.collection import collect
from mrlstore.shipping.manifest import (
    SnapshotRef,
    is_complete,
    newest_complete,
    snapshot_refs,
    stored_sizes,
)
from mrlstore.shipping.snapshot_reader import restore_snapshot
from mrlstore.shipping.snapshot_writer import SnapshotWriter
from mrlstore.shipping.store_copy import StoreCopy
from tests import inside
from tests.object_storage.doubles import MemoryStorage
from tests.oracle import nested_vectors

DIM = 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[mrlstore.Store]:
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, auto_maintain=False) as store:
        store.upsert([f"r{i}" for i in range(30)], nested_vectors(30, DIM))
        store.optimize()
        yield store


def shipped(store: Any, storage: MemoryStorage, count: int) -> StoreCopy:
    """A copy with so many snapshots, each with parts of its own."""
    copy = StoreCopy(inside.session(store), storage, 2)
    for number in range(count):
        store.delete([f"r{number}", f"r{10 + number}", f"r{20 + number}"])
        store.upsert([f"n{number}"], nested_vectors(1, DIM, seed=number + 2))
        store.optimize()
        copy.update()
    return copy


def test_nothing_is_removed_once_a_later_epoch_has_begun(store: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(store_copy, "COLLECT_EVERY", 100)
    storage = MemoryStorage()
    copy = shipped(store, storage, 4)
    before = dict(storage.objects)
    assert collect(storage, copy.epoch, lambda: False).removed == 0
    assert collect(storage, copy.epoch + 1, lambda: True).removed == 0, "the newest is of another epoch"
    assert storage.objects == before
    assert collect(storage, copy.epoch, lambda: True).removed > 4


def test_a_removal_that_comes_late_hits_no_bundle_that_was_put_since(store: Any) -> None:
    storage = MemoryStorage()
    writer = SnapshotWriter(storage, 1, None)
    writer.ship(inside.session(store), lambda moment: moment.generation)
    late = [name for name in storage.objects if name.startswith("catalogue/")]
    writer.forget()
    again = writer.ship(inside.session(store), lambda moment: moment.generation)
    storage.delete(late)
    assert late and is_complete(again, stored_sizes(storage, ""))


def test_points_that_are_removed_while_they_are_listed(store: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(store_copy, "COLLECT_EVERY", 1)
    home, is_first = tmp_path / "home", True

    def ship() -> None:
        with store.ship(home, every_s=3600) as shipping:
            shipping.now()

    ship()

    def then_replaced(storage: ObjectStorage, prefix: str) -> list[SnapshotRef]:
        nonlocal is_first
        found = snapshot_refs(storage, prefix)
        if is_first:
            is_first = False
            for number in range(2):  # the newest two stay
                store.upsert([f"more{number}"], None)
                ship()
        return found

    monkeypatch.setattr(import_module("mrlstore.shipping.restore_points"), "snapshot_refs", then_replaced)
    assert [point.rows for point in restore_points(home)] == [32, 31] and not is_first


class Forgetful(MemoryStorage):
    """Its listings lack the last object of one folder."""

    forgets = ""

    def list_objects(self, prefix: str = "", after: str = "") -> list[StoredObject]:
        found = super().list_objects(prefix, after)
        return found[:-1] if prefix == self.forgets else found


def test_a_listing_without_the_newest_snapshot_is_not_relied_on(store: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(store_copy, "COLLECT_EVERY", 100)
    storage = Forgetful()
    copy = shipped(store, storage, 4)
    assert copy.newest is not None
    storage.forgets = "snapshots"
    assert collect(storage, copy.epoch, lambda: True, newest=copy.newest.ref).removed == 0
    assert is_complete(copy.newest, stored_sizes(storage, ""))


class Sleeper(MemoryStorage):
    """Before it removes the first part it sleeps, once."""

    def __init__(self, objects: dict[str, bytes], asleep: Callable[[], None]) -> None:
        super().__init__()
        self.objects, self.asleep, self.slept = objects, asleep, False

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            if name.startswith("parts/") and not self.slept:
                self.slept = True
                self.asleep()
            super().delete([name])


def test_a_part_that_was_put_again_meanwhile_is_another_object(
    store: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A copy of the store as it was goes on elsewhere, and ships parts that a sleeper is about to remove."""
    monkeypatch.setattr(store_copy, "COLLECT_EVERY", 100)
    storage = MemoryStorage()
    first = StoreCopy(inside.session(store), storage, 2)
    first.update()
    store.backup(tmp_path / "other.mrl")
    with mrlstore.open(tmp_path / "other.mrl", auto_maintain=False) as other:

        def other_ships() -> None:
            for number in range(40):
                other.upsert([f"o{number}"], None)
            StoreCopy(inside.session(other), storage, 2).update()

        sleeper = Sleeper(storage.objects, other_ships)
        monkeypatch.setattr(store_copy, "COLLECT_EVERY", 3)
        copy = shipped(store, sleeper, 4)
        assert sleeper.slept and copy.snapshots == 4
        newest = newest_complete(storage)
        assert newest is not None and newest.generation == other.generation
        restore_snapshot(storage, tmp_path / "restored.mrl")
        with mrlstore.open(tmp_path / "restored.mrl", mode="r") as restored:
            assert restored.count() == other.count() and restored.verify().ok
