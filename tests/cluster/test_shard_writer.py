"""The writer of a shard: nothing acknowledged is lost or done twice, whatever object storage does."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import mrlstore
from mrlstore.catalogue.marks import Mark
from mrlstore.cluster.shard_writer import ShardWriter
from mrlstore.cluster.write_requests import Clear, Delete, OperationId, ShardWritten, Update, WriteRequest
from mrlstore.object_storage import ObjectStorage
from mrlstore.search.params import Selection
from mrlstore.shared_log import LogEntry, LogObjects
from mrlstore.shipping import epochs
from mrlstore.where import parse
from mrlstore.writing.batch import RowChange
from tests.cluster.clusters import copy_of, first_try, made, one_row, recovered, rows_in, writer_of
from tests.object_storage.doubles import Fault, FaultyStorage, MemoryStorage, Stopped


class Done(NamedTuple):
    """What a run of writes was told, and what it means for the rows."""

    request: WriteRequest
    rows: dict[str, int]  # after it


WRITES = [
    Done(one_row("a", 1), {"a": 1}),
    Done(one_row("b", 2), {"a": 1, "b": 2}),
    Done(Update("", Selection(None, parse({"n": 2})), RowChange({"n": 3})), {"a": 1, "b": 3}),
    Done(Delete("", Selection(["a", "gone"])), {"b": 3}),
    Done(one_row("c", 4), {"b": 3, "c": 4}),
]


class Client:
    """Writes through writers that it starts anew where one has stopped, each on an empty disk."""

    def __init__(self, storage: ObjectStorage, folder: Path) -> None:
        self.storage, self.folder, self.folders = storage, folder, 0
        self.writer: ShardWriter | None = None
        self.acknowledged: dict[str, int] = {}

    def begun(self) -> ShardWriter:
        if self.writer is None or self.writer.stopped is not None:
            self.crash()
            self.folders += 1
            writer = ShardWriter(copy_of(self.storage, self.folder / str(self.folders)))
            self.writer = writer
            writer.start()
        return self.writer

    def crash(self) -> None:
        if self.writer is not None:
            self.writer.copy.close()
        self.writer = None

    def write(self, number: int, storage_after: ObjectStorage) -> ShardWritten:
        """Do a write, again and again until it is acknowledged."""
        for tries in range(6):
            try:
                operation = OperationId("client", number + 1, 0, repeated=tries > 0)
                return self.begun().write(operation, WRITES[number].request)
            except (mrlstore.MrlStoreError, Stopped) as error:
                if isinstance(error, mrlstore.InvalidInput):
                    raise
                self.crash()
                self.storage = storage_after
        raise AssertionError("never acknowledged")


def run(storage: ObjectStorage, inner: MemoryStorage, folder: Path) -> None:
    """All writes; after each what is recovered on an empty disk is what was acknowledged."""
    client = Client(storage, folder)
    for number in range(len(WRITES)):
        written = client.write(number, inner)
        assert written.rows == 1
    client.crash()
    assert recovered(inner, folder / "recovered") == WRITES[-1].rows
    done = [operation for entry in entries_of(inner) for operation in entry.operations]
    assert [operation.number for operation in done] == [1, 2, 3, 4, 5], "each once"


def entries_of(storage: ObjectStorage) -> list[LogEntry]:
    """The entries of the log that count."""
    log, found, epoch = LogObjects(storage, "shards/0000"), [], 0
    for place in log.places(0):
        entry = log.read(place.number)
        assert entry is not None
        if entry.epoch >= epoch:
            epoch = entry.epoch
            found.append(entry)
    return found


def test_writes_are_replayed_on_an_empty_disk(quick_path: Path) -> None:
    storage = FaultyStorage(made())
    run(storage, storage.inner, quick_path)  # type: ignore[arg-type]
    assert len(storage.calls) > 15


CALLS = 22  # of `run` without faults, about: later ones are not reached


@pytest.mark.parametrize("fault", Fault)
def test_whatever_happens_at_any_call_nothing_is_lost_or_done_twice(quick_path: Path, fault: Fault) -> None:
    for nth in range(1, CALLS):
        inner = made()
        run(FaultyStorage(inner, nth, fault), inner, quick_path / str(nth))


def test_a_second_writer_ends_the_first(quick_path: Path) -> None:
    storage = made()
    first = writer_of(storage, quick_path / "first")
    assert first.write(first_try("one"), one_row("a", 1))[:3] == (1, 1, 2)
    second = writer_of(storage, quick_path / "second")
    with pytest.raises(mrlstore.WriterReplaced, match="writes it now"):
        first.write(first_try("two"), one_row("b", 2))
    with pytest.raises(mrlstore.WriterReplaced):
        first.write(first_try("three"), one_row("b", 2))
    assert isinstance(first.stopped, mrlstore.WriterReplaced)
    assert second.write(first_try("two"), one_row("b", 5)).rows == 1
    assert rows_in(second.copy) == {"a": 1, "b": 5} and rows_in(first.copy) == {"a": 1}
    first.copy.close()
    second.copy.close()


def test_a_sleeper_that_wakes_up_after_its_places_were_removed_is_refused(quick_path: Path) -> None:
    storage = made()
    sleeper = writer_of(storage, quick_path / "sleeper")
    sleeper.write(first_try("one"), one_row("a", 1))
    successor = writer_of(storage, quick_path / "successor")
    for number in range(3):
        successor.write(first_try("s", number + 1), one_row(f"s{number}", number))
    storage.delete(LogObjects(storage, "shards/0000").removable(10**9))
    with pytest.raises(mrlstore.WriterReplaced):
        sleeper.write(first_try("two"), one_row("lost", 2))
    assert rows_in(sleeper.copy) == {"a": 1}, "what nobody will read is not applied"
    sleeper.copy.close()
    successor.copy.close()


def test_of_two_that_start_at_once_one_writes(quick_path: Path) -> None:
    for round in range(5):
        storage, outcomes = made(), list[Any]()

        def start(number: int, storage: Any = storage, outcomes: Any = outcomes, round: int = round) -> None:
            writer = ShardWriter(copy_of(storage, quick_path / f"{round}-{number}"))
            try:
                writer.start()
                writer.write(first_try(f"c{number}"), one_row(f"r{number}", number))
                outcomes.append(number)
            except mrlstore.MrlStoreError as error:
                assert isinstance(error, mrlstore.WriterReplaced)
            finally:
                writer.copy.close()

        threads = [threading.Thread(target=start, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        found = recovered(storage, quick_path / f"{round}-all")
        assert outcomes and {f"r{number}" for number in outcomes} <= found.keys()


def test_a_repeated_operation_is_answered_and_not_done_again(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path / "w")
    first = writer.write(OperationId("c", 1), one_row("a", 1))
    writer.write(first_try("other"), one_row("a", 2))
    again = writer.write(OperationId("c", 1, 0, repeated=True), one_row("a", 1))
    assert (again.rows, rows_in(writer.copy)) == (1, {"a": 2}) and again.place >= first.place
    writer.write(OperationId("c", 2), one_row("b", 3))
    with pytest.raises(mrlstore.OperationForgotten):
        writer.write(OperationId("c", 1, 0, repeated=True), one_row("a", 1))
    writer.copy.close()
    successor = writer_of(storage, quick_path / "other disk")
    assert successor.write(OperationId("c", 2, 0, repeated=True), one_row("b", 9)).rows == 1
    assert rows_in(successor.copy) == {"a": 2, "b": 3}
    successor.copy.close()


def test_callers_at_the_same_time_share_an_entry(quick_path: Path) -> None:
    storage = made()
    writer = ShardWriter(copy_of(storage, quick_path), group_ms=50)
    writer.start()
    before = len(LogObjects(storage, "shards/0000").places(0))
    threads = [
        threading.Thread(target=writer.write, args=(first_try(f"c{n}"), one_row(f"r{n}", n)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(rows_in(writer.copy)) == 8
    assert len(LogObjects(storage, "shards/0000").places(0)) - before < 8
    writer.copy.close()
    assert len(recovered(storage, quick_path / "again")) == 8


def test_a_folder_goes_on_where_it_stands_and_a_damaged_one_is_dropped(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path)
    writer.write(first_try("c"), one_row("a", 1))
    mark = writer.copy.mark
    writer.copy.close()
    copy = copy_of(storage, quick_path)
    copy.start()
    assert copy.mark == mark
    path = copy.store.path
    copy.close()
    (path / "catalogue.db").write_bytes(b"damaged" * 1000)
    again = writer_of(storage, quick_path)
    assert rows_in(again.copy) == {"a": 1} and again.copy.store.path != path and not path.exists()
    again.copy.close()


def test_an_entry_of_a_lower_epoch_is_void_and_stepped_over(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path / "w")
    for _ in range(2):
        epochs.claim_epoch(storage, "shards/0000")
    writer.copy.close()
    writer = writer_of(storage, quick_path / "w")
    log = LogObjects(storage, "shards/0000")
    entry = entries_of(storage)[-1]
    place = writer.copy.mark.place + 1
    request = writer.copy.store.resolved(one_row("void", 1))
    assert log.create(LogEntry(place, entry.epoch - 2, "sleeper", (request,)))
    assert writer.write(first_try("c"), one_row("a", 1)).place == place + 1
    assert rows_in(writer.copy) == {"a": 1} == recovered(storage, quick_path / "r")
    assert writer.copy.mark == Mark(writer.epoch, place + 1)
    writer.copy.close()


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other place", "foreign"])
def test_a_damaged_entry_is_told_and_nothing_after_it_applied(quick_path: Path, damage: str) -> None:
    storage = made()
    writer = writer_of(storage, quick_path / "w")
    for number in range(3):
        writer.write(first_try("c", number + 1), one_row(f"r{number}", number))
    writer.copy.close()
    name = "shards/0000/log/0000000000000003"
    data = storage.objects[name]
    storage.objects[name] = {
        "cut": data[:-40],
        "bit": data[:100] + bytes([data[100] ^ 1]) + data[101:],
        "empty": b"",
        "other place": storage.objects["shards/0000/log/0000000000000002"],
        "foreign": b"MRLLARGE1\n{}",
    }[damage]
    with pytest.raises(mrlstore.CorruptStore) as caught:
        recovered(storage, quick_path / "r")
    assert name in caught.value.path
    copy = copy_of(storage, quick_path / "r")
    copy.start()
    assert rows_in(copy).keys() <= {"r0"}
    copy.close()


def test_refused_writes_change_nothing_and_the_writer_goes_on(quick_path: Path) -> None:
    storage = made()
    writer = writer_of(storage, quick_path)
    writer.write(first_try("c"), one_row("a", 1))
    before = dict(storage.objects)
    big = Update("", Selection(["a"]), RowChange({"x": "y" * 70_000}))
    with pytest.raises(mrlstore.LimitExceeded):
        writer.write(OperationId("c", 2), big)
    assert storage.objects == before
    assert writer.write(OperationId("c", 2), Clear("")).rows == 1 and rows_in(writer.copy) == {}
    writer.copy.close()


def test_an_entry_that_is_too_large_is_uploaded_before(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = made()
    copy = copy_of(storage, quick_path / "w")
    copy.log = LogObjects(storage, copy.prefix, entry_bytes=300)
    writer = ShardWriter(copy)
    writer.start()
    for number in range(3):
        writer.write(first_try("c", number + 1), one_row(f"{number}" * 200, number))
    copy.close()
    large = [name for name in storage.objects if "/large/" in name]
    assert len(large) == 3 and len(recovered(storage, quick_path / "r")) == 3
    assert LogObjects(storage, copy.prefix).removable(3)[:2] == large[:2]
    del storage.objects[large[1]]
    with pytest.raises(mrlstore.CorruptStore, match="is missing"):
        recovered(storage, quick_path / "r2")
