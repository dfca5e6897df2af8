"""A store with durability="shared": what is acknowledged is in the log, and comes back from it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore import cluster
from mrlstore.cluster.shared_store import SharedStore, open_shared
from mrlstore.object_storage import ObjectStorage
from mrlstore.shipping import restore, restore_points
from mrlstore.shipping.log_restore import restore_with_log
from mrlstore.storage.create import new_settings
from mrlstore.system.files import Files
from tests import inside
from tests.children import Child, ChildFailed, children
from tests.cluster.clusters import DIM, home_of
from tests.cluster.logging_child import REPLACED, ROWS, log_on
from tests.object_storage.doubles import Fault, FaultyStorage, MemoryStorage, Stopped
from tests.oracle import nested_vectors
from tests.scale import figure

ROUNDS = figure(200, 12)
LONGEST_S = 120.0


def opened(path: Path, url: Path, **more: Any) -> mrlstore.Store:
    return mrlstore.open(path, dim=DIM, durability="shared", ship_to=url, auto_maintain=False, **more)


def in_memory(storage: ObjectStorage, path: Path) -> SharedStore:
    return open_shared(
        path,
        "memory:",
        None,
        new_settings(DIM, DIM, 4, 20, None, None),
        Files(),
        mode="a",
        embedder=None,
        auto_maintain=False,
        threads=1,
        storage=storage,
    )


def content(store: mrlstore.Store) -> dict[str, Any]:
    include: Any = ("metadata", "document", "vector")
    return {
        row.id: (row.metadata, row.document, None if row.vector is None else row.vector.tobytes())
        for row in store.scan(include=include)
    }


def test_what_is_acknowledged_survives_the_loss_of_the_disk(quick_path: Path) -> None:
    path, url = quick_path / "a.mrl", quick_path / "log"
    with opened(path, url) as store:
        written = store.upsert(
            ["a", "b", "c"], nested_vectors(3, DIM, seed=1), [{"n": 1}] * 3, ["x", "y", "z"]
        )
        assert written == 3 and written.generation == store.generation
        assert store.update(where={"n": 1}, metadatas={"m": 2}) == 3
        assert store.update(["a"], vectors=nested_vectors(1, DIM, seed=2)) == 1
        assert store.delete(prefix="b") == 1 and store.clear("nothing") == 0
        with pytest.raises(mrlstore.IdExists):
            store.upsert(["a"], None, on_conflict="error")
        with pytest.raises(mrlstore.InvalidInput):
            store.upsert(["d"], [[1.0]])
        wanted = content(store)
        (told,) = store.stats().shipping
        assert (told.epoch, told.behind_s, told.error, told.generation) == (1, 0.0, None, store.generation)
        assert store.query(nested_vectors(1, DIM, seed=2)[0], 1).ids == ["a"] and store.verify().ok
        shutil.copytree(url, quick_path / "as it was")
    shutil.rmtree(path)
    with opened(path, quick_path / "as it was") as again:
        assert content(again) == wanted
        again.upsert(["more"], None)
    restored = restore(quick_path / "as it was", quick_path / "plain.mrl")
    assert restored.rows == 3
    with mrlstore.open(quick_path / "plain.mrl") as plain:
        assert content(plain).keys() == wanted.keys() | {"more"}
        plain.upsert(["no log"], None)
    with cluster.connect(quick_path / "as it was", mode="r") as reader:
        assert reader.count() == 3


def test_every_place_of_the_log_can_be_restored(quick_path: Path) -> None:
    path, url = quick_path / "a.mrl", quick_path / "log"
    moments = []
    with opened(path, url) as store:
        for number in range(6):
            store.upsert([f"r{number}"], None, [{"n": number}])
            moments.append(content(store))
            if number == 3:
                store.set_graph("mrlstore")
    (newest, first) = restore_points(url)
    assert (newest.rows, first.rows) == (4, 0)
    with pytest.raises(mrlstore.StoreNotFound, match="no place 99"):
        restore(url, quick_path / "never.mrl", "1-99")
    assert not (quick_path / "never.mrl").exists()
    for number, wanted in enumerate(moments):
        place = 2 + number  # place 1 is the claim of the writer
        told = restore(url, quick_path / f"{number}.mrl", f"1-{place}")
        assert (told.name, told.rows) == (f"1-{place}", number + 1)
        with mrlstore.open(quick_path / f"{number}.mrl", mode="r") as restored:
            assert content(restored) == wanted


def test_another_process_is_told_who_writes(quick_path: Path) -> None:
    path, url = quick_path / "a.mrl", quick_path / "log"
    with opened(path, url) as store:
        store.upsert(["a"], None)
        program = f"import mrlstore\nmrlstore.open({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert f"StoreLocked: {path}: process {os.getpid()} on " in done.stderr
        with pytest.raises(mrlstore.StoreLocked, match="writes this store"):
            opened(path, url)
        with mrlstore.open(path, mode="r") as reader:
            store.upsert(["b"], None)
            assert reader.count() == 2
    with mrlstore.open(path, auto_maintain=False) as again:  # the folder says where its log is
        assert isinstance(again, SharedStore) and again.upsert(["c"], None) == 1
    with mrlstore.open(path, mode="r") as reader:
        assert reader.count() == 3


def test_who_opens_it_elsewhere_takes_over_and_the_first_is_told_who(quick_path: Path) -> None:
    url = quick_path / "log"
    with opened(quick_path / "a.mrl", url) as first:
        first.upsert(["a"], None)
        with opened(quick_path / "b.mrl", url) as second:
            assert second.count() == 1 and second.upsert(["b"], None) == 1
            for _ in range(2):
                with pytest.raises(mrlstore.StoreLocked, match=f"process {os.getpid()} on .* writes it now"):
                    first.upsert(["c"], None)
            assert first.count() == 1  # what it had acknowledged can still be read
            assert "writes it now" in str(first.stats().shipping[0].error)
            second.set_graph("mrlstore")
    with opened(quick_path / "a.mrl", url) as first:
        assert first.count() == 2


def test_a_folder_that_is_behind_the_newest_snapshot_is_restored(quick_path: Path) -> None:
    url = quick_path / "log"
    with opened(quick_path / "a.mrl", url) as first:
        first.upsert(["a"], None)
    with opened(quick_path / "b.mrl", url) as second:
        for number in range(4):
            second.upsert([f"b{number}"], None)
            second.set_graph("mrlstore")
        wanted = content(second)
    shutil.rmtree(url / "shards" / "0000" / "log")  # all of it is below the snapshots
    with opened(quick_path / "a.mrl", url) as first:
        assert content(first) == wanted and first.upsert(["c"], None) == 1
    assert sorted(path.name for path in quick_path.glob("a.mrl*")) == ["a.mrl", "a.mrl.writer"]


def test_what_a_killed_process_left_is_removed_and_nothing_of_other_stores(quick_path: Path) -> None:
    path, url = quick_path / "a*[1].mrl", quick_path / "log"
    left = [f"{path.name}.restored-00", f"{path.name}.replaced-00"]
    others = ["ab1.mrl.restored-00", f"{path.name}.restored"]
    for name in (*left, *others):
        (quick_path / name / "parts").mkdir(parents=True)
    with opened(path, url) as store:
        store.upsert(["a"], None)
    there = {one.name for one in quick_path.iterdir()}
    assert there == {path.name, f"{path.name}.writer", "log", *others}


def test_what_does_not_belong_together_is_refused(quick_path: Path) -> None:
    path, url = quick_path / "a.mrl", quick_path / "log"
    refused: list[tuple[str, dict[str, Any]]] = [
        ("ship_to: durability", {"durability": "shared"}),
        ("ship_to: goes with", {"ship_to": url}),
        ("goes with writing", {"durability": "shared", "ship_to": url, "mode": "r"}),
        ("dim: needed", {"durability": "shared", "ship_to": url}),
        ("durability", {"durability": "most"}),
    ]
    for words, arguments in refused:
        with pytest.raises(mrlstore.InvalidInput, match=words):
            mrlstore.open(path, **arguments)
    assert not path.exists()
    with opened(path, url) as store:
        store.upsert(["a"], None)
        with pytest.raises(mrlstore.InvalidInput, match="restored"):
            store.repair()
        with pytest.raises(mrlstore.InvalidInput, match="take another place"):
            store.ship(url)
        store.backup(quick_path / "backup.mrl")
    with pytest.raises(mrlstore.InvalidInput, match="are in the log"):
        mrlstore.open(path, durability="local")
    with pytest.raises(mrlstore.InvalidInput, match="dim: 9"):
        mrlstore.open(path, dim=9)
    with pytest.raises(mrlstore.StoreExists):
        opened(path, url, mode="x")
    with pytest.raises(mrlstore.InvalidInput, match="not a copy of the log"):
        opened(quick_path / "backup.mrl", url)
    with pytest.raises(mrlstore.InvalidInput, match="belongs to another log"):
        opened(path, quick_path / "other log")
    cluster.create(quick_path / "two", dim=DIM, shards=2)
    with pytest.raises(mrlstore.InvalidInput, match="cluster of 2 shards"):
        opened(quick_path / "b.mrl", quick_path / "two")
    with pytest.raises(mrlstore.InvalidInput, match="several shards"):
        restore(quick_path / "two", quick_path / "c.mrl")
    with mrlstore.open(quick_path / "backup.mrl") as plain, plain.ship(quick_path / "copies") as shipping:
        shipping.now()
    with pytest.raises(mrlstore.InvalidInput, match="a store is shipped"):
        opened(quick_path / "d.mrl", quick_path / "copies")


def test_the_rows_of_a_store_become_a_log_by_an_import(quick_path: Path) -> None:
    with mrlstore.open(quick_path / "one.mrl", dim=DIM) as one:
        one.upsert(["a", "b"], nested_vectors(2, DIM, seed=3))
    assert cluster.import_store(quick_path / "one.mrl", quick_path / "log") == 2
    with opened(quick_path / "two.mrl", quick_path / "log") as two:
        assert two.count() == 2 and two.upsert(["c"], None) == 1


def test_the_embedder_is_in_the_log_too(quick_path: Path) -> None:
    path, url = quick_path / "a.mrl", quick_path / "log"
    with opened(path, url) as store:
        store.record_embedder("first")
        with pytest.raises(mrlstore.InvalidInput, match="another"):
            store.record_embedder("another")
    shutil.rmtree(path)
    with opened(path, url) as store:
        assert store.embedder_fingerprint == "first"


def test_a_forked_child_reads_and_does_not_write(quick_path: Path) -> None:
    with opened(quick_path / "a.mrl", quick_path / "log") as store:
        store.upsert(["a"], None)
        child = os.fork()
        if not child:
            code = 1
            try:
                assert store.count() == 1
                store.upsert(["b"], None)
            except mrlstore.StoreLocked:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert store.upsert(["c"], None) == 1 and store.count() == 2


def write_some(storage: ObjectStorage, path: Path, known: list[str]) -> None:
    """Open, write, ship and write; notes which ids were acknowledged."""
    store = in_memory(storage, path)
    with store:
        for number in range(3):
            store.upsert([f"r{number}", f"s{number}"], None)
            known += [f"r{number}", f"s{number}"]
            if number == 1:
                store.snapshot()


@pytest.mark.parametrize("fault", Fault)
def test_whatever_happens_at_any_call_nothing_acknowledged_is_lost(
    quick_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.SHARED_STORE_PAUSE_S, 0.0001)
    monkeypatch.setattr(inside.WRITER_PAUSE_S, 0.0001)
    whole = FaultyStorage(MemoryStorage())
    write_some(whole, quick_path / "whole.mrl", [])
    for nth in range(1, len(whole.calls) + 1, figure(1, 4)):
        inner = MemoryStorage()
        path = quick_path / f"{nth}.mrl"
        known: list[str] = []
        with suppress(mrlstore.MrlStoreError, Stopped):
            write_some(FaultyStorage(inner, nth, fault), path, known)
        if fault is not Fault.WRONG and known:
            done = restore_with_log(inner, home_of().prefix(0), quick_path / f"{nth}.back", None, _ignore)
            assert done.rows >= len(known)
        for again in (path, quick_path / f"{nth}.new"):
            with in_memory(inner, again) as store:
                found = content(store)
                assert found.keys() >= set(known), nth
                assert all((f"r{number}" in found) == (f"s{number}" in found) for number in range(3))
                store.upsert([again.name], None)


def _ignore(done: int, total: int) -> None:
    pass


class Logging:
    """One process that writes, and how many of its writes are known to be in."""

    def __init__(self, url: Path, path: Path, name: str) -> None:
        self.child, self.name, self.path = Child(log_on, url, path, name), name, path
        self.acknowledged, self.replaced = 0, False

    def read(self) -> None:
        for message in self.child.heard():
            self.replaced |= message == REPLACED
            self.acknowledged = max(self.acknowledged, int(message) + 1)

    def wait(self, more: int) -> None:
        wanted, deadline = self.acknowledged + more, time.monotonic() + LONGEST_S
        while self.acknowledged < wanted and not self.replaced:
            self.read()
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self.name} acknowledges nothing")
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        assert self.child.process.pid is not None
        os.kill(self.child.process.pid, number)


def test_no_kill_no_sleep_and_no_lost_disk_loses_an_acknowledged_write(quick_path: Path) -> None:
    url, chance = quick_path / "log", random.Random(figure(0, 1))
    asleep: list[Logging] = []
    every: list[Logging] = []
    try:
        for number in range(ROUNDS):
            used = {one.path for one in asleep}
            free = [path for n in range(3) if (path := quick_path / f"disk{n}.mrl") not in used]
            path = chance.choice(free)
            if chance.random() < 0.3:
                shutil.rmtree(path, ignore_errors=True)
            writing = Logging(url, path, f"w{number}")
            every.append(writing)
            writing.wait(chance.randint(1, 6))
            time.sleep(chance.uniform(0, 0.02))
            if chance.random() < 0.6 or len(asleep) == 2:
                writing.signal(signal.SIGKILL)
                writing.child.join()
            else:
                writing.signal(signal.SIGSTOP)
                asleep.append(writing)
            writing.read()
            if asleep and asleep[0] is not writing and chance.random() < 0.5:
                woken = asleep.pop(0)
                woken.signal(signal.SIGCONT)
                assert not woken.child.join()
                woken.read()
                assert woken.replaced, "who wakes up after another has begun writes nothing"
    finally:
        with children(*(one.child for one in every)):
            pass
    restore(url, quick_path / "restored.mrl")
    with mrlstore.open(quick_path / "restored.mrl", mode="r") as store:
        rows = {row.id: (row.metadata or {})["n"] for row in store.scan()}
        assert store.verify().ok
    for one in every:
        for number in range(one.acknowledged):
            assert [rows[f"{one.name}-{number}-{row}"] for row in range(ROWS)] == [number] * ROWS
    assert sum(one.acknowledged for one in every) >= ROUNDS
