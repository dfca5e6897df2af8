"""Object storage that fails, stops or answers wrongly at each call: the copy stays whole, a retry heals."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.errors import MrlStoreError
from mrlstore.object_storage import FolderStorage, ObjectStorage
from mrlstore.shipping import page_bundles, snapshot_writer, store_copy
from mrlstore.shipping.manifest import newest_complete, snapshot_refs, stored_sizes
from mrlstore.shipping.snapshot_reader import restore_snapshot
from mrlstore.shipping.store_copy import StoreCopy
from tests import inside
from tests.crash.images import Disk
from tests.object_storage.doubles import Fault, FaultyStorage, MemoryStorage, Stopped
from tests.oracle import nested_vectors
from tests.scale import figure
from tests.seam import RecordingFiles

DIM = 8
Content = dict[str, Any]


def content(store: mrlstore.Store) -> Content:
    return {row.id: row.metadata for row in store.scan()}


def restored(storage: ObjectStorage, folder: Path) -> Content:
    target = folder / "restored.mrl"
    try:
        restore_snapshot(storage, target)
        with mrlstore.open(target, mode="r") as store:
            assert store.verify().ok
            return content(store)
    finally:
        shutil.rmtree(target, ignore_errors=True)


class Scene:
    """A store whose state A is in object storage, and that has gone on to state B."""

    def __init__(self, folder: Path) -> None:
        self.store = mrlstore.open(folder / "s.mrl", dim=DIM, auto_maintain=False)
        self.store.upsert(
            [f"r{i}" for i in range(30)], nested_vectors(30, DIM), [{"n": i} for i in range(30)]
        )
        self.store.optimize()
        self.storage = MemoryStorage()
        copy = StoreCopy(self.session, self.storage, 2)
        copy.update()
        self.store.update(["r1"], [{"n": -1}])
        copy.update()
        self.before = content(self.store)
        self.store.delete(["r2"])
        self.store.upsert(["new"], nested_vectors(1, DIM, seed=2))
        self.store.optimize()
        self.after = content(self.store)

    @property
    def session(self) -> Any:
        return inside.session(self.store)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(store_copy, "COLLECT_EVERY", 1)
    monkeypatch.setattr(page_bundles, "MOST_BYTES", 64 * 1024)
    monkeypatch.setattr(snapshot_writer, "MOST_BYTES", 64 * 1024)  # several bundles of 8 pages
    made = Scene(tmp_path)
    yield made
    made.store.close()


def calls_of(scene: Scene) -> int:
    """How many calls shipping the second state takes."""
    calm = FaultyStorage(scene.storage.copy())
    StoreCopy(scene.session, calm, 2).update()
    return len(calm.calls)


@pytest.mark.parametrize("fault", Fault)
def test_shipping_survives_a_fault_at_each_call(scene: Scene, tmp_path: Path, fault: Fault) -> None:
    count = calls_of(scene)
    assert count > 20
    first, step = 1 + list(Fault).index(fault), figure(1, 8)  # another call for each fault here
    for nth in range(1 if step == 1 else first, count + 1, step):
        storage = scene.storage.copy()
        faulty = FaultyStorage(storage, nth, fault)
        copy, done = None, False
        try:
            with suppress(Stopped):
                copy = StoreCopy(scene.session, faulty, 2)
                copy.update()
                done = True
        except MrlStoreError:
            pass
        found = restored(storage, tmp_path)
        assert found in ((scene.after,) if done else (scene.before, scene.after)), (nth, faulty.calls[-1])
        faulty.nth = 0
        if copy is None or fault in (Fault.STOPPED, Fault.DONE_THEN_STOPPED):
            copy = StoreCopy(scene.session, faulty, 2)  # another process
        copy.update()
        scene.store.update(["r3"], [{"n": nth}])
        copy.update()
        assert restored(storage, tmp_path) == content(scene.store), (nth, faulty.calls)
        newest = newest_complete(storage)
        assert newest is not None and set(newest.objects()) <= set(stored_sizes(storage, ""))
        scene.after = content(scene.store)
    leftovers = [path.name for path in tmp_path.iterdir()]
    assert leftovers == ["s.mrl"], "no draft is left behind"


@pytest.mark.parametrize("fault", Fault)
def test_restoring_survives_a_fault_at_each_call(scene: Scene, tmp_path: Path, fault: Fault) -> None:
    StoreCopy(scene.session, scene.storage, 2).update()
    calm = FaultyStorage(scene.storage)
    assert restored(calm, tmp_path) == scene.after
    for nth in range(1, len(calm.calls) + 1):
        faulty = FaultyStorage(scene.storage, nth, fault)
        try:
            with suppress(Stopped):
                found = restored(faulty, tmp_path)
                assert found in (scene.before, scene.after), "an older snapshot at most, if a listing was cut"
                assert found == scene.after or fault is Fault.WRONG
        except MrlStoreError:
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["s.mrl"], "nothing is left where it failed"
    assert restored(scene.storage, tmp_path) == scene.after


def test_each_object_of_a_snapshot_missing_or_cut(scene: Scene, tmp_path: Path) -> None:
    """A snapshot of which something is missing does not count; the one before it is restored."""
    StoreCopy(scene.session, scene.storage, 2).update()
    newest = newest_complete(scene.storage)
    older = [ref for ref in snapshot_refs(scene.storage, "") if newest is not None and ref < newest.ref]
    assert newest is not None and older
    shared = set()
    for name in newest.objects():
        for damage in ("missing", "cut"):
            storage = scene.storage.copy()
            data = storage.objects.pop(name)
            if damage == "cut":
                storage.objects[name] = data[:-1]
            kept = newest_complete(storage)
            if kept is None:
                shared.add(name)
                with pytest.raises(mrlstore.StoreNotFound):
                    restored(storage, tmp_path)
            else:
                assert kept.ref == older[0] and restored(storage, tmp_path) == scene.before
            copy = StoreCopy(scene.session, storage, 2)  # and the next process makes it whole again
            copy.update()
            assert restored(storage, tmp_path) == scene.after
    assert len(shared) < len(newest.objects())


def test_each_object_of_a_snapshot_damaged(scene: Scene, tmp_path: Path) -> None:
    StoreCopy(scene.session, scene.storage, 2).update()
    newest = newest_complete(scene.storage)
    assert newest is not None
    rng = random.Random(7)
    for name in [*newest.objects(), newest.ref.object_name("")]:
        for _ in range(figure(20, 1)):
            storage = scene.storage.copy()
            data = bytearray(storage.objects[name])
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            storage.objects[name] = bytes(data)
            with pytest.raises((mrlstore.CorruptStore, mrlstore.FormatTooNew)):
                restored(storage, tmp_path)


def test_objects_that_somebody_has_removed_are_sent_anew(scene: Scene, tmp_path: Path) -> None:
    copy = StoreCopy(scene.session, scene.storage, 2)
    copy.update()
    for name in list(scene.storage.objects):
        if name.startswith(("parts/", "catalogue/")):
            del scene.storage.objects[name]
    scene.store.update(["r3"], [{"n": 33}])
    with pytest.raises(mrlstore.ObjectStorageError, match="somebody has removed"):
        copy.update()
    copy.update()
    assert restored(scene.storage, tmp_path) == content(scene.store)


class Sleeper(FaultyStorage):
    """Calls `asleep` once, before its call of a number, which is a deletion."""

    def __init__(self, inner: ObjectStorage, number: int, asleep: Callable[[], None]) -> None:
        super().__init__(inner)
        self.number, self.asleep, self.slept = number, asleep, False

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self.calls) + 1 >= self.number and not self.slept:
                self.slept = True
                self.asleep()
            super().delete([name])


def test_a_process_that_slept_removes_nothing_that_counts(scene: Scene, tmp_path: Path) -> None:
    """It is stopped before each of its deletions, another process ships, and then it goes on."""
    calm = FaultyStorage(scene.storage.copy())
    StoreCopy(scene.session, calm, 2).update()
    deletions = [number for number, call in enumerate(calm.calls, 1) if call.startswith("delete ")]
    assert len(deletions) == 3  # that of the probe, a manifest, a bundle
    for number in deletions[1:]:
        storage = scene.storage.copy()

        def another_ships(storage: ObjectStorage = storage, number: int = number) -> None:
            other = StoreCopy(scene.session, storage, 2)
            other.update()
            scene.store.update(["r4"], [{"n": number}])
            other.update()

        slow = Sleeper(storage, number, another_ships)
        sleeper = StoreCopy(scene.session, slow, 2)
        sleeper.update()
        assert slow.slept
        assert restored(storage, tmp_path) == content(scene.store)
        with pytest.raises(mrlstore.StoreLocked):
            sleeper.update()


def test_a_restore_that_is_overtaken_by_collections_ends_with_the_newest(
    scene: Scene, tmp_path: Path
) -> None:
    copy = StoreCopy(scene.session, scene.storage, 2)
    copy.update()

    class Slow(FaultyStorage):
        def get_range(self, name: str, start: int, length: int) -> bytes:
            if len(self.calls) % 4 == 3 and len(self.calls) < 60:
                for _ in range(2):
                    scene.store.update(["r4", "r5", "r6"], [{"n": len(self.calls)}] * 3)
                    scene.store.optimize()
                    copy.update()
            return super().get_range(name, start, length)

    slow = Slow(scene.storage)
    found = restored(slow, tmp_path)
    assert found == content(scene.store)


def test_a_restored_store_survives_a_power_cut(scene: Scene, tmp_path: Path) -> None:
    disk_root = tmp_path / "disk"
    disk_root.mkdir()
    files = RecordingFiles()
    restore_snapshot(scene.storage, disk_root / "restored.mrl", files=files)
    rng = random.Random(3)
    cuts = sorted({*rng.sample(range(len(files.log)), figure(60, 8)), len(files.log)})
    disk, fed = Disk(disk_root), 0
    for cut in cuts:
        for op in files.log[fed:cut]:
            disk.feed(op)
        fed = cut
        for keep in (0.0, 0.5, 1.0):
            image = tmp_path / f"image-{cut}-{keep}"
            disk.image(image, rng, keep)
            target = image / "restored.mrl"
            assert target.exists() or cut < len(files.log), "what was restored is lost"
            if target.exists():
                with mrlstore.open(target, mode="r") as store:
                    assert content(store) == scene.before and store.verify().ok


def test_what_was_shipped_to_a_folder_survives_a_power_cut(scene: Scene, tmp_path: Path) -> None:
    home = tmp_path / "disk" / "home"
    home.parent.mkdir()
    files = RecordingFiles()
    copy = StoreCopy(scene.session, FolderStorage(home, files), 2)
    copy.update()
    end = len(files.log)
    before = content(scene.store)
    scene.store.update(["r3"], [{"n": 33}])
    copy.update()
    rng = random.Random(5)
    disk, fed = Disk(home.parent), 0
    for cut in sorted({end, *rng.sample(range(end, len(files.log)), figure(30, 6)), len(files.log)}):
        for op in files.log[fed:cut]:
            disk.feed(op)
        fed = cut
        for keep in (0.0, 0.5):
            image = tmp_path / f"image-{cut}-{keep}"
            disk.image(image, rng, keep)
            found = restored(FolderStorage(image / "home"), tmp_path)
            assert found == content(scene.store) or (cut < len(files.log) and found == before)
