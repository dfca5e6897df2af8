"""Snapshots of a shard: what they make needless is removed, and whatever happens nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

import mrlstore
from mrlstore.cluster.shard_writer import ShardWriter
from mrlstore.cluster.snapshots import ShardSnapshots
from mrlstore.cluster.write_requests import OperationId, Upsert
from mrlstore.shared_log import LogEntry, LogObjects
from mrlstore.shipping.manifest import newest_complete, snapshot_refs
from mrlstore.writing.batch import make_batch
from tests.cluster.clusters import DIM, copy_of, first_try, made, one_row, recovered, rows_in, writer_of
from tests.object_storage.doubles import Fault, FaultyStorage, MemoryStorage, Stopped
from tests.oracle import nested_vectors
from tests.scale import figure

PREFIX = "shards/0000"
ALL = {f"r{number}": number for number in range(5)}


def places(storage: MemoryStorage) -> list[int]:
    """The places that the log has."""
    return [place.number for place in LogObjects(storage, PREFIX).places(0)]


def write(writer: ShardWriter, *numbers: int) -> None:
    for number in numbers:
        writer.write(first_try(f"client {number}"), one_row(f"r{number}", number))


def test_the_log_ends_at_the_older_of_two_snapshots(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path / "w")
    write(writer, 0, 1)
    assert writer.snapshot() == 3 and places(storage) == [1, 2, 3]
    write(writer, 2)
    assert writer.snapshot() == 4 and places(storage) == [4]
    write(writer, 3)
    assert writer.snapshot() == 5 and places(storage) == [5]
    assert writer.snapshot() == 6, "an entry without writes moves the place"
    write(writer, 4)
    writer.copy.close()
    assert len(snapshot_refs(storage, PREFIX)) == 2 and places(storage) == [6, 7]
    assert recovered(storage, quick_path / "r") == ALL
    again = writer_of(storage, quick_path / "other disk")
    assert rows_in(again.copy) == ALL
    known = again.write(OperationId("client 1", 1, 0, repeated=True), one_row("r1", 77))
    assert known.rows == 1 and rows_in(again.copy) == ALL, "operations travel with snapshots"
    again.copy.close()


def test_storage_stays_bounded(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path)
    sizes = []
    for round in range(6):
        for number in range(10):
            writer.write(first_try("c", 10 * round + number + 1), one_row(f"r{number}", round))
        writer.snapshot()
        sizes.append(sum(map(len, storage.objects.values())))
    writer.copy.close()
    assert max(sizes[2:]) < 1.3 * sizes[2]


def test_a_fault_at_any_call_loses_nothing(quick_path: Path) -> None:
    whole = made()
    counting = FaultyStorage(whole)
    _run(counting, whole, quick_path / "count")
    calls, step = len(counting.calls), figure(1, 7)
    assert calls > 40
    for kind, fault in enumerate(Fault):
        for nth in range(1 + kind, calls + 1, step):
            inner = made()
            _run(FaultyStorage(inner, nth, fault), inner, quick_path / f"{kind}-{nth}")


def _run(storage: MemoryStorage | FaultyStorage, inner: MemoryStorage, folder: Path) -> None:
    """Write, ship and collect; who stops is followed by another, on the same disk or an empty one."""
    writer, disks = None, 0
    used: MemoryStorage | FaultyStorage = storage
    for number in (0, 1, None, 2, None, 3, None, 4):
        for tries in range(8):
            try:
                if writer is None or writer.stopped is not None:
                    if writer is not None:
                        writer.copy.close()
                    disks += tries % 2
                    writer = ShardWriter(copy_of(used, folder / str(disks)))
                    writer.start()
                if number is None:
                    writer.snapshot()
                else:
                    operation = OperationId(f"client {number}", 1, 0, repeated=tries > 0)
                    assert writer.write(operation, one_row(f"r{number}", number)).rows == 1
                break
            except (mrlstore.MrlStoreError, Stopped) as error:
                if writer is not None and (isinstance(error, Stopped) or writer.stopped is not None):
                    writer.copy.close()
                    writer = None
                used = inner
                if isinstance(storage, FaultyStorage) and storage.fault is Fault.AWAY:
                    storage.nth = 0  # it is there again
        else:
            raise AssertionError("never done")
    assert writer is not None
    writer.copy.close()
    assert recovered(inner, folder / "recovered") == ALL
    manifest = newest_complete(inner, PREFIX)
    assert manifest is not None and manifest.rows >= 3


def test_each_object_of_the_newest_snapshot_may_be_missing(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path / "w")
    write(writer, 0, 1)
    writer.snapshot()
    write(writer, 2)
    writer.snapshot()
    write(writer, 3, 4)
    writer.copy.close()
    newest = newest_complete(storage, PREFIX)
    assert newest is not None
    own = [*newest.objects(), newest.ref.object_name("")]
    older = snapshot_refs(storage, PREFIX)[1]
    before = storage.copy()
    before.delete([newest.ref.object_name(PREFIX)])
    first = newest_complete(before, PREFIX)
    assert first is not None and first.ref == older
    for number, name in enumerate(own):
        lacking = storage.copy()
        del lacking.objects[f"{PREFIX}/{name}"]
        if name in first.objects():
            with pytest.raises(mrlstore.MrlStoreError):  # both need it, and the log has been removed
                recovered(lacking, quick_path / f"r{number}")
        else:
            assert recovered(lacking, quick_path / f"r{number}") == ALL


def test_a_folder_that_returns_after_weeks_is_dropped(quick_path: Path) -> None:
    storage = made()
    old = writer_of(storage, quick_path / "old")
    write(old, 0)
    old.copy.close()
    new = writer_of(storage, quick_path / "new")
    for number in (1, 2):
        write(new, number)
        new.snapshot()
    new.copy.close()
    storage.delete(LogObjects(storage, PREFIX).removable(10**9))
    assert places(storage) == []
    returned = writer_of(storage, quick_path / "old")
    assert rows_in(returned.copy) == {"r0": 0, "r1": 1, "r2": 2}
    write(returned, 3)
    assert places(storage) == [returned.copy.mark.place - 1, returned.copy.mark.place]
    returned.copy.close()
    assert recovered(storage, quick_path / "r").keys() == {"r0", "r1", "r2", "r3"}


def test_a_slow_follower_does_not_read_what_a_sleeper_left(quick_path: Path) -> None:
    storage = made()
    sleeper = writer_of(storage, quick_path / "sleeper")
    write(sleeper, 0)
    follower = copy_of(storage, quick_path / "follower")
    follower.start()
    follower.follow()
    late = LogEntry(
        sleeper.copy.mark.place + 1,
        sleeper.epoch,
        "s" * 32,
        (sleeper.copy.store.resolved(one_row("late", 9)),),
    )
    new = writer_of(storage, quick_path / "new")
    for number in (1, 2):
        write(new, number)
        new.snapshot()
    assert LogObjects(storage, PREFIX).create(late), "its put arrives after the collection"
    follower.follow()
    assert rows_in(follower) == {"r0": 0, "r1": 1, "r2": 2} == rows_in(new.copy)
    with pytest.raises(mrlstore.WriterReplaced):
        write(sleeper, 3)
    for copy in (sleeper.copy, new.copy, follower):
        copy.close()
    assert recovered(storage, quick_path / "r") == {"r0": 0, "r1": 1, "r2": 2}


def test_readers_keep_what_they_read_while_a_snapshot_is_adopted(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path / "w")
    follower = copy_of(storage, quick_path / "f")
    write(writer, 0)
    follower.start()
    follower.follow()
    for number in (1, 2, 3):
        write(writer, number)
        writer.snapshot()
    with follower.reading() as store:
        scan = store.scan()
        follower.follow()
        assert follower.store is not store and [row.id for row in scan] == ["r0"]
        path = store.path
        assert path.exists()
    assert not path.exists() and rows_in(follower) == rows_in(writer.copy)
    writer.copy.close()
    follower.close()


def test_a_collector_that_was_overtaken_removes_nothing(quick_path: Path) -> None:
    storage = made()
    old = writer_of(storage, quick_path / "old")
    write(old, 0)
    old.snapshot()
    write(old, 1)
    new = writer_of(storage, quick_path / "new")
    before = dict(storage.objects)
    old.snapshot()  # of what it has, which is in the log too; it counts as older
    assert before.items() <= storage.objects.items()
    write(new, 2)
    new.snapshot()
    assert recovered(storage, quick_path / "r") == {"r0": 0, "r1": 1, "r2": 2}
    for writer in (old, new):
        writer.copy.close()


def test_a_follower_takes_the_graphs_of_a_newer_snapshot(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path / "w")
    follower = copy_of(storage, quick_path / "f")
    follower.start()
    rows = Upsert(
        make_batch([f"n{i}" for i in range(300)], nested_vectors(300, DIM), [{"n": 0}] * 300, None, "", DIM),
        "replace",
    )
    writer.write(first_try("many"), rows)
    follower.follow()
    assert not follower.adopt(), "there is no snapshot"
    writer.copy.store.optimize()
    writer.snapshot()
    write(writer, 1, 2)
    follower.follow()
    assert follower.store.stats().indexed_rows == 0
    with follower.reading() as before:
        assert follower.adopt() and follower.store is not before
        assert before.count() == follower.store.count() == 302
    assert follower.mark == writer.copy.mark and rows_in(follower) == rows_in(writer.copy)
    assert follower.store.stats().indexed_rows == 300 and follower.store.verify().ok
    assert not follower.adopt(), "it has this one"
    parts = sorted(path.name for path in (follower.store.path / "parts").iterdir())
    write(writer, 3)
    writer.snapshot()
    reads = FaultyStorage(storage)
    follower.snapshots = ShardSnapshots(reads, PREFIX)
    assert follower.adopt() and follower.mark.place <= writer.copy.mark.place
    assert not [call for call in reads.calls if call.startswith("get_range") and "/parts/" in call], "linked"
    assert set(parts) & {path.name for path in (follower.store.path / "parts").iterdir()}
    follower.follow()
    assert rows_in(follower) == rows_in(writer.copy)
    for copy in (writer.copy, follower):
        copy.close()


class Collected(MemoryStorage):
    """Has no bundle of a catalogue any more."""

    gone = False

    def get_range(self, name: str, start: int, length: int) -> bytes:
        if self.gone and "/catalogue/" in name:
            raise mrlstore.ObjectNotFound(f"test: {name}")
        return super().get_range(name, start, length)


def test_who_sleeps_until_the_newest_snapshot_is_collected_is_told_that_it_was_replaced(
    quick_path: Path,
) -> None:
    storage = Collected(made().objects)
    first = writer_of(storage, quick_path / "first")
    first.write(first_try("one"), one_row("a", 1))
    second = writer_of(storage, quick_path / "second")
    second.snapshot()
    storage.gone = True
    with pytest.raises(mrlstore.WriterReplaced):
        first.snapshot()
    assert isinstance(first.stopped, mrlstore.WriterReplaced)
    second.copy.close()
    first.copy.close()
