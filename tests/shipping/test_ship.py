"""Shipping a store and restoring it: the same rows, only what is new is sent, and what is not needed goes."""

from __future__ import annotations

import errno
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.object_storage import FolderStorage, open_storage
from mrlstore.shipping import restore, restore_points
from mrlstore.shipping.manifest import newest_complete, snapshot_refs, stored_sizes
from mrlstore.shipping.snapshot_reader import restore_snapshot
from tests.oracle import nested_vectors
from tests.seam import FailingFiles

DIM = 16


def content(path: Path) -> dict[Any, Any]:
    with mrlstore.open(path, mode="r") as store:
        assert store.verify().ok
        return {
            (name, row.id): (row.metadata, row.document, None if row.vector is None else row.vector.tobytes())
            for name in store.namespaces()
            for row in store.scan(namespace=name, include=("metadata", "document", "vector"))
        }


def fill(store: mrlstore.Store, start: int = 0, count: int = 3000) -> None:
    names = [f"r{i}" for i in range(start, start + count)]
    documents = [f"document {i} " + "words of it " * 20 for i in range(start, start + count)]
    store.upsert(
        names, nested_vectors(count, DIM, seed=start + 1), [{"n": i} for i in range(count)], documents
    )


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, prefix_dim=8, auto_maintain=False) as store:
        yield store


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_restored_store_is_the_one_that_was_shipped(store, place, tmp_path) -> None:
    fill(store)
    store.optimize()
    store.delete(["r7"])
    store.upsert(["a", "b"], [nested_vectors(1, DIM)[0], None], namespace="tenant ☃")
    with store.ship(place, every_s=60) as shipping:
        shipped = shipping.now()
        assert (shipped.generation, shipped.behind_s, shipped.error) == (store.generation, 0, None)
        assert store.stats().shipping == (shipping.figures(),)
    restored = restore(place, tmp_path / "r.mrl")
    assert restored == restore_points(place)[0] and restored.rows == 3001
    assert content(tmp_path / "r.mrl") == content(store.path)
    query = nested_vectors(1, DIM, seed=9)[0]
    with mrlstore.open(tmp_path / "r.mrl") as again:
        assert again.query(query, 20).ids == store.query(query, 20).ids
        assert again.settings == store.settings
        again.upsert(["new"], nested_vectors(1, DIM))
    assert not list(tmp_path.glob("*.tmp-*")) and not list(tmp_path.glob("*.ship-*"))


def test_only_what_is_new_is_sent(store, place) -> None:
    fill(store)
    store.optimize()
    with store.ship(place, every_s=3600) as shipping:
        first = shipping.now().bytes_sent
        again = shipping.now()
        assert again.bytes_sent == first and again.snapshots == 1, "nothing has changed"
        store.update(["r5"], [{"n": -1}])
        second = shipping.now().bytes_sent - first
        assert second < first / 5
    with store.ship(place, every_s=3600) as shipping:  # another process goes on from what is there
        store.update(["r6"], [{"n": -1}])
        assert shipping.now().bytes_sent < first / 5


def test_it_goes_on_by_itself_and_tells_how_far_behind_it_is(store, place, tmp_path) -> None:
    fill(store, count=10)
    with store.ship(place, every_s=0) as shipping:
        for number in range(5):
            generation = store.upsert([f"n{number}"], None).generation
            deadline = time.monotonic() + 60
            while shipping.figures().generation < generation:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert shipping.figures().behind_s == 0
    restore(place, tmp_path / "r.mrl")
    assert content(tmp_path / "r.mrl") == content(store.path)


def test_a_store_that_cannot_be_shipped_falls_behind_and_says_so(store, place) -> None:
    fill(store, count=10)
    with store.ship(place, every_s=0) as shipping:
        shipping.now()
        place.rename(place.with_name("away"))
        place.write_text("a file is in the way")
        store.upsert(["x"], None)
        with pytest.raises(mrlstore.ObjectStorageError):
            shipping.now(30)
        figures = store.stats().shipping[0]
        assert figures.error and figures.behind_s > 0 and figures.generation == store.generation - 1
        place.unlink()
        place.with_name("away").rename(place)
        assert shipping.now(30).error is None


def test_any_number_of_places_can_be_kept_and_restored(store, place, tmp_path) -> None:
    wanted = {}
    with store.ship(place, every_s=3600, keep=4) as shipping:
        for number in range(20):
            store.upsert([f"r{number}", "always"], nested_vectors(2, DIM, seed=number + 1))
            shipping.now()
            wanted[shipping.figures().generation] = content(store.path)
    kept = restore_points(place)
    assert kept == sorted(kept, key=lambda each: -each.generation) and 4 <= len(kept) <= 4 + 8
    for number, each in enumerate(kept):
        assert restore(place, tmp_path / f"r{number}.mrl", each.name) == each
        assert content(tmp_path / f"r{number}.mrl") == wanted[each.generation]
    with pytest.raises(mrlstore.StoreNotFound):
        restore(place, tmp_path / "none.mrl", "1-1")
    with pytest.raises(mrlstore.InvalidInput):
        restore(place, tmp_path / "none.mrl", "yesterday")


def test_object_storage_stays_bounded(store, place, monkeypatch) -> None:
    """Twice the live data, once a collection is over: of the catalogue, which changes, and of the parts."""
    from mrlstore.shipping import store_copy

    monkeypatch.setattr(store_copy, "COLLECT_EVERY", 1)
    fill(store)
    rng = np.random.default_rng(3)
    with store.ship(place, every_s=3600) as shipping:
        for _ in range(45):
            names = [f"r{i}" for i in rng.choice(3000, 40, replace=False)]
            store.update(names, [{"n": int(rng.integers(1000))} for _ in names])
            shipping.now()
    storage = open_storage(place)
    newest = newest_complete(storage)
    assert newest is not None
    live = newest.pages * newest.page_bytes + sum(part.size for part in newest.parts)
    total = sum(stored_sizes(storage, "").values())
    assert total < 2.2 * live, (total, live)
    assert len(newest.bundles) <= 40
    assert len(snapshot_refs(storage, "")) == 2


def test_another_store_and_an_older_copy_are_refused(store, place, tmp_path) -> None:
    fill(store, count=10)
    store.backup(tmp_path / "old.mrl")
    store.upsert(["x"], None)
    with store.ship(place) as shipping:
        shipping.now()
    with (
        mrlstore.open(tmp_path / "other.mrl", dim=DIM) as other,
        pytest.raises(mrlstore.InvalidInput, match="another store"),
    ):
        other.ship(place)
    with (
        mrlstore.open(tmp_path / "old.mrl") as old,
        pytest.raises(mrlstore.InvalidInput, match="older copy would replace a newer"),
    ):
        old.ship(place)
    restore(place, tmp_path / "r.mrl")
    with mrlstore.open(tmp_path / "r.mrl") as restored, restored.ship(place) as shipping:
        assert shipping.now().generation == restored.generation


def test_who_begins_later_goes_on_and_the_other_stops(store, place) -> None:
    fill(store, count=10)
    with store.ship(place, every_s=3600) as first:
        first.now()
        with store.ship(place, every_s=3600) as second:
            store.upsert(["x"], None)
            with pytest.raises(mrlstore.StoreLocked, match="later"):
                first.now(30)
            assert second.now(30).generation == store.generation
            with pytest.raises(mrlstore.StoreLocked, match="later"):
                first.now(30)


@pytest.mark.parametrize("arguments", [{"every_s": -1}, {"keep": 1}, {"every_s": "x"}, {"keep": 2.5}])
def test_wrong_arguments_are_refused(store, place, arguments) -> None:
    with pytest.raises(mrlstore.InvalidInput):
        store.ship(place, **arguments)
    assert not place.exists()


def test_nothing_is_restored_over_something_or_from_nothing(store, place, tmp_path) -> None:
    with pytest.raises(mrlstore.StoreNotFound):
        restore(place, tmp_path / "r.mrl")
    with pytest.raises(mrlstore.StoreNotFound):
        restore_points(place)
    with store.ship(place) as shipping:
        shipping.now()
    with pytest.raises(mrlstore.StoreExists):
        restore(place, store.path)
    with pytest.raises(mrlstore.InvalidInput, match="stopped"):
        shipping.now()


def test_a_store_without_rows_and_one_that_is_only_read_can_be_shipped(store, place, tmp_path) -> None:
    with mrlstore.open(store.path, mode="r") as reader, reader.ship(place, every_s=0) as shipping:
        shipping.now()
        restore(place, tmp_path / "empty.mrl")
        assert content(tmp_path / "empty.mrl") == {}
        fill(store, count=100)
        assert shipping.now().generation == store.generation
    restore(place, tmp_path / "r.mrl")
    assert content(tmp_path / "r.mrl") == content(store.path)


def test_a_damaged_part_is_not_shipped(store, place) -> None:
    fill(store)
    store.optimize()
    (vectors,) = store.path.glob("parts/*/vectors.npy")
    data = bytearray(vectors.read_bytes())
    data[len(data) // 2] ^= 1
    vectors.chmod(0o644)
    vectors.write_bytes(data)
    with store.ship(place) as shipping:
        with pytest.raises(mrlstore.CorruptStore, match="run verify"):
            shipping.now()
        assert "vectors.npy" in store.stats().shipping[0].error


def test_stopping_gives_up_what_is_under_way(store, place, monkeypatch) -> None:
    """Whoever waits for it is told; `stats` lists it no more."""
    fill(store)
    store.optimize()
    under_way, go_on = threading.Event(), threading.Event()
    real = FolderStorage.put_pieces

    def slow(self: Any, name: str, pieces: Any, size: int) -> None:
        under_way.set()
        go_on.wait(30)
        real(self, name, pieces, size)

    monkeypatch.setattr(FolderStorage, "put_pieces", slow)
    shipping = store.ship(place, every_s=3600)
    told: list[str] = []

    def wait() -> None:
        try:
            shipping.now()
        except mrlstore.InvalidInput as error:
            told.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert under_way.wait(30)
    stopping = threading.Thread(target=shipping.stop)
    stopping.start()
    time.sleep(0.05)
    go_on.set()
    for thread in (waiting, stopping):
        thread.join(30)
    assert told and "stopped" in told[0]
    assert store.stats().shipping == () and not list(place.parent.glob("*.ship-*"))
    monkeypatch.undo()
    with store.ship(place) as again:
        assert again.now().generation == store.generation


def test_one_that_was_taken_over_goes_on_to_tell_how_far_it_is_behind(store, place) -> None:
    first = store.ship(place, every_s=3600)
    first.now()
    with store.ship(place, every_s=3600) as second:
        second.now()
        with pytest.raises(mrlstore.StoreLocked):
            store.upsert(["x"], None)
            first.now(30)
        assert second.now().behind_s == 0
        figures = next(one for one in store.stats().shipping if one.epoch == 1)
        assert figures.error and "later" in figures.error and figures.behind_s >= 0
        store.upsert(["y"], None)
        first.figures()
        time.sleep(0.01)
        assert first.figures().behind_s > 0


def test_a_full_disk_is_a_typed_error_and_leaves_nothing(store, place, tmp_path) -> None:
    fill(store)
    store.optimize()
    with store.ship(place) as shipping:
        shipping.now()
    for nth in (3, 8, 9, 10, 11, 20):
        with pytest.raises(mrlstore.StorageError):
            restore_snapshot(
                open_storage(place), tmp_path / "r.mrl", files=FailingFiles(nth, errno.ENOSPC, for_ever=True)
            )
        assert not (tmp_path / "r.mrl").exists()


def test_closing_the_store_ends_it(store, place) -> None:
    shipping = store.ship(place, every_s=3600)
    shipping.now()
    store.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "mrlstore-shipping"]
    with pytest.raises(mrlstore.InvalidInput, match="stopped"):
        shipping.now()


def test_a_forked_child_does_not_ship(store, place) -> None:
    import os

    fill(store, count=10)
    with store.ship(place, every_s=3600) as shipping:
        shipping.now()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            answer = {"shipping": len(store.stats().shipping), "rows": store.count()}
            try:
                shipping.now(1)
            except mrlstore.StorePoisoned as error:
                answer["error"] = str(error)
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
        os.waitpid(child, 0)
        answer = json.loads(os.read(reading, 10_000))
        assert (answer["shipping"], answer["rows"]) == (0, 10) and "forked" in answer["error"]
        store.upsert(["x"], None)
        assert shipping.now(30).generation == store.generation
    os.close(reading)
    os.close(writing)
