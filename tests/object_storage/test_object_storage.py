"""Every kind of object storage keeps the same promises: folders, buckets (obstore in memory), doubles."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mrlstore.errors import (
    InvalidInput,
    ObjectNotFound,
    ObjectStorageDenied,
    ObjectStorageError,
    StoreClosed,
)
from mrlstore.object_storage import FolderStorage, ObjectStorage, StoredObject, open_storage
from tests.crash.images import Disk
from tests.object_storage.doubles import Fault, FaultyStorage, MemoryStorage
from tests.seam import FailingFiles, RecordingFiles


def bucket_in_memory() -> Any:
    """The store in memory of obstore, behind the class that serves all buckets."""
    obstore_store = pytest.importorskip("obstore.store")
    from mrlstore.object_storage.bucket import BucketStorage

    return BucketStorage("s3://bucket/prefix", {}, obstore_store.MemoryStore())


@pytest.fixture(params=["folder", "bucket", "memory"])
def storage(request, tmp_path) -> ObjectStorage:
    made: ObjectStorage
    if request.param == "folder":
        made = open_storage(tmp_path / "home" / "deep")
    elif request.param == "bucket":
        made = bucket_in_memory()
    else:
        made = MemoryStorage()
    return made


def test_the_probe_is_content_and_leaves_nothing(storage) -> None:
    storage.probe()
    assert storage.list_objects() == []


def test_create_excludes_and_repeats(storage) -> None:
    assert storage.create("log/0001", b"first")
    assert storage.create("log/0001", b"first"), "one's own first try is success"
    assert not storage.create("log/0001", b"other")
    assert not storage.create("log/0001", b"longer than the first")
    assert storage.get("log/0001") == b"first"


def test_of_many_that_create_at_once_one_wins(storage) -> None:
    winners: list[tuple[int, int]] = []
    start = threading.Barrier(8)

    def race(number: int) -> None:
        start.wait()
        for name in range(50):
            if storage.create(f"names/{name}", b"%d" % number):
                winners.append((name, number))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, _ in winners) == list(range(50))
    assert all(storage.get(f"names/{name}") == b"%d" % number for name, number in winners)


def test_objects_are_read_whole_and_in_part(storage) -> None:
    data = random.Random(1).randbytes(20_000_000)
    storage.put_pieces("parts/big", [data[:7_000_000], memoryview(data)[7_000_000:]], len(data))
    assert storage.get("parts/big") == data
    assert storage.get_range("parts/big", 5, 100) == data[5:105]
    assert storage.get_range("parts/big", 5, 0) == b""
    assert b"".join(storage.get_pieces("parts/big", len(data))) == data
    storage.put("parts/big", b"again")
    assert storage.get("parts/big") == b"again" and storage.size("parts/big") == 5
    with pytest.raises(ObjectStorageError):
        storage.get_range("parts/big", 3, 10)
    with pytest.raises(ObjectStorageError, match="4 bytes"):
        storage.get("parts/big", limit=4)


def test_pieces_that_fail_or_have_another_length_write_nothing(storage) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 1000
        raise StoreClosed("test")

    for size in (2000, 40_000_000):
        with pytest.raises(StoreClosed):
            storage.put_pieces("parts/a", failing(), size)
    for pieces in ([b"x" * 30_000_000], [b"x"], [b"x" * 10_000_000] * 4):
        with pytest.raises(ObjectStorageError, match="expected 39000000"):
            storage.put_pieces("parts/a", pieces, 39_000_000)
    assert storage.size("parts/a") is None and storage.list_objects() == []


def test_listings_are_sorted_and_stay_in_their_folder(storage) -> None:
    for name in ("a/3", "a/1", "ab/1", "a/b/2", "a/20", "c"):
        storage.put(name, b"x" * len(name))
    assert storage.list_objects("a") == [
        StoredObject("a/1", 3),
        StoredObject("a/20", 4),
        StoredObject("a/3", 3),
        StoredObject("a/b/2", 5),
    ]
    assert [each.name for each in storage.list_objects("a", after="a/2")] == ["a/20", "a/3", "a/b/2"]
    assert [each.name for each in storage.list_objects()] == ["a/1", "a/20", "a/3", "a/b/2", "ab/1", "c"]
    assert storage.list_objects("nothing") == []


def test_what_is_missing_is_said(storage) -> None:
    assert storage.size("nothing") is None
    with pytest.raises(ObjectNotFound):
        storage.get("nothing")
    with pytest.raises(ObjectNotFound):
        storage.get_range("nothing", 0, 1)
    storage.put("a/1", b"")
    storage.delete(["a/1", "a/1", "nothing"])
    assert storage.list_objects() == []


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "../a", "a/../b", ".hidden", "a//b", "a b", "x" * 701, "a/.draft-1"]
)
def test_names_lead_nowhere_else(storage, name: str) -> None:
    for call in (
        lambda: storage.put(name, b""),
        lambda: storage.create(name, b""),
        lambda: storage.get(name),
        lambda: storage.delete([name]),
    ):
        with pytest.raises(ObjectStorageError, match="not a name"):
            call()


@pytest.mark.parametrize(
    "url, message",
    [
        ("", "expected a path"),
        ("http://host/x", "s3://, gs:// or az://"),
        ("s3://", "no bucket"),
        ("s3://key:secret@bucket/x", "do not belong in the URL"),
        ("s3://bucket/x?secret=1", "do not belong in the URL"),
        ("file://host/x", "file:///an/absolute/path"),
    ],
)
def test_a_wrong_url_is_refused_and_no_secret_is_repeated(url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        open_storage(url)
    assert "secret" not in str(raised.value)


def test_options_are_checked(tmp_path) -> None:
    with pytest.raises(InvalidInput, match="a folder takes none"):
        open_storage(tmp_path, {"region": "x"})
    assert open_storage(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    pytest.importorskip("obstore")
    with pytest.raises(InvalidInput, match="nonsense"):
        open_storage("s3://bucket/x", {"nonsense": "x"})


class Careless(MemoryStorage):
    """Object storage that does not know the condition of a write."""

    def create(self, name: str, data: bytes) -> bool:
        self.put(name, data)
        return True


def test_storage_whose_create_replaces_is_found_out() -> None:
    with pytest.raises(ObjectStorageError, match="If-None-Match"):
        Careless().probe()


class LosesAnswers:
    """Stands for obstore: the first `lost` puts are done, and answered by an error."""

    def __init__(self, obstore: Any, lost: int, *, done: bool) -> None:
        self.obstore, self.lost, self.done = obstore, lost, done
        self.exceptions = obstore.exceptions

    def put(self, *arguments: Any, **options: Any) -> None:
        if self.lost:
            self.lost -= 1
            if self.done:
                self.obstore.put(*arguments, **options)
            raise self.obstore.exceptions.GenericError("Generic S3 error: 500")
        self.obstore.put(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.obstore, name)


def test_a_create_whose_answer_was_lost_is_found_by_reading_it_back(monkeypatch) -> None:
    storage = bucket_in_memory()
    from mrlstore.object_storage import bucket

    real: Any = vars(bucket)["obstore"]
    monkeypatch.setattr(bucket, "obstore", LosesAnswers(real, 1, done=True))
    assert storage.create("log/1", b"mine")
    monkeypatch.setattr(bucket, "obstore", LosesAnswers(real, 1, done=False))
    with pytest.raises(ObjectStorageError, match="500"):
        storage.create("log/2", b"mine")
    assert storage.create("log/2", b"mine")
    monkeypatch.setattr(bucket, "obstore", LosesAnswers(real, 1, done=False))
    assert not storage.create("log/1", b"another's")


def test_errors_of_the_system_are_typed(tmp_path) -> None:
    storage = FolderStorage(tmp_path / "home", FailingFiles(3, errno.ENOSPC, for_ever=True))
    with pytest.raises(ObjectStorageError, match="No space left"):
        storage.put("a", b"1")
    if os.geteuid():
        (tmp_path / "mine").mkdir(mode=0o500)
        with pytest.raises(ObjectStorageDenied):
            open_storage(tmp_path / "mine").put("a", b"1")


@pytest.mark.parametrize("verb", ["create", "put"])
def test_what_a_folder_acknowledged_survives_a_power_cut(tmp_path, verb: str) -> None:
    home = tmp_path / "disk" / "home"
    home.parent.mkdir()
    files = RecordingFiles()
    storage = FolderStorage(home, files)
    ends: list[int] = []
    for number in range(3):
        getattr(storage, verb)(f"log/{number}", b"%d" % number * 2000)
        ends.append(len(files.log))
    rng = random.Random(5)
    for cut in range(len(files.log) + 1):
        disk = Disk(home.parent)
        for op in files.log[:cut]:
            disk.feed(op)
        for attempt in range(4):
            image = tmp_path / f"image-{cut}-{attempt}"
            disk.image(image, rng, keep=attempt / 3)
            found = open_storage(image / "home")
            for number, end in enumerate(ends):
                size = found.size(f"log/{number}")
                assert size is not None or cut < end, "an acknowledged object is lost"
                if size is not None:
                    assert found.get(f"log/{number}") == b"%d" % number * 2000, "an object is there in part"


def test_drafts_of_dead_processes_are_removed_and_never_listed(tmp_path) -> None:
    storage = open_storage(tmp_path)
    storage.put("a/1", b"x")
    old, young = tmp_path / "a" / ".draft-old", tmp_path / "a" / ".draft-young"
    for draft in (old, young):
        draft.write_bytes(b"half")
    os.utime(old, (1, 1))
    storage.probe()
    assert not old.exists() and young.exists()
    assert [each.name for each in storage.list_objects()] == ["a/1"]


def test_a_double_fails_at_its_nth_call_and_at_no_other() -> None:
    faulty = FaultyStorage(MemoryStorage(), 2, Fault.DONE_THEN_ERROR)
    faulty.put("a", b"1")
    with pytest.raises(ObjectStorageError):
        faulty.put("b", b"2")
    assert faulty.get("b") == b"2"
    faulty = FaultyStorage(faulty.inner, 1, Fault.WRONG)
    assert faulty.get("a") != b"1" and faulty.get("a") == b"1"


def test_a_forked_child_is_told_that_it_cannot_use_a_bucket() -> None:
    storage = bucket_in_memory()
    storage.put("a", b"1")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            storage.get("a")
        except ObjectStorageError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(reading, 1000)
    os.close(reading)
    os.close(writing)


def test_nothing_is_loaded_for_a_folder(tmp_path: Path) -> None:
    from tests.test_imports import loaded_after

    program = f"import mrlstore.object_storage as o\no.open_storage({str(tmp_path)!r}).put('a', b'1')"
    assert loaded_after(program, "obstore") == set()
