"""durability="local": a write is on the writer's disk when it returns, and in the log a moment later."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import mrlstore
from mrlstore import cluster
from mrlstore.cluster import ShardedStore
from mrlstore.object_storage import ObjectStorage
from mrlstore.types import ShippingStats
from tests import inside
from tests.children import Child, children
from tests.cluster.clusters import DIM, connected, made
from tests.cluster.writing_child import ids_of, write_on
from tests.object_storage.doubles import Fault, FaultyStorage, Stopped
from tests.scale import figure

ROUNDS = figure(200, 6)
LONGEST_S = 60.0


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def told(store: ShardedStore, shard: int = 0) -> ShippingStats:
    (figures,) = store.stats().shards[shard].store.shipping
    return figures


def ids(store: ShardedStore) -> set[str]:
    return {row.id for row in store.scan()}


class Away(FaultyStorage):
    """Object storage that can be away for a while."""

    def leave(self) -> None:
        self.nth, self.fault = len(self.calls) + 1, Fault.AWAY

    def come_back(self) -> None:
        self.nth = 0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.CLUSTER_PAUSE_S, 0.001)
    monkeypatch.setattr(inside.WRITER_PAUSE_S, 0.001)
    monkeypatch.setattr(inside.CLOSING_DRAIN_S, 0.05)
    monkeypatch.setattr(inside.WRITER_LOG_S, 0.5)


def test_writes_go_on_while_object_storage_is_away(quick_path: Path) -> None:
    storage = Away(made(2, "local"))
    with connected(storage, quick_path / "a") as store:
        store.upsert(["a", "b", "c", "d"], None)
        storage.leave()
        for number in range(5):
            assert store.upsert([f"r{number}", f"s{number}", f"t{number}"], None, [{"n": number}] * 3) == 3
            assert store.count({"n": number}) == 3
        until(lambda: told(store).error is not None)
        assert told(store).behind_s > 0
        storage.come_back()
        until(lambda: told(store).behind_s == told(store, 1).behind_s == 0)
        assert told(store).error is None
        with connected(storage, quick_path / "a", mode="r", poll_s=0) as reader:
            assert ids(reader) == ids(store) and len(ids(store)) == 19
        store.snapshot()
        assert store.delete(["a", "b"]) == 2
    with connected(storage, quick_path / "b", mode="r") as reader:
        assert len(ids(reader)) == 17


def test_what_is_behind_is_bounded(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.OUTBOX_MOST_BYTES, 1_000)
    monkeypatch.setattr(inside.OUTBOX_ROOM_S, 0.01)
    storage = Away(made(1, "local"))
    with connected(storage, quick_path) as store:
        storage.leave()
        written = 0
        with pytest.raises(mrlstore.ShardUnavailable, match="is behind by"):
            for number in range(100):
                store.upsert([f"r{number}"], None)
                written += 1
        assert 1 < written < 20 and store.count() == written
        storage.come_back()
        until(lambda: told(store).behind_s == 0)
        assert store.upsert(["more"], None) == 1


def killed(storage: Away, folder: Path, rows: list[str]) -> Path:
    """What a process leaves on the disk that is killed while object storage is away."""
    with connected(storage, folder) as store:
        store.upsert(["first"], None)
        until(lambda: told(store).behind_s == 0)
        storage.leave()
        for row in rows:
            store.upsert([row], None)
        left = folder.with_name(f"{folder.name}-left")
        shutil.copytree(folder, left)
    shutil.rmtree(folder)
    storage.come_back()
    return left


def test_a_killed_process_loses_nothing_and_a_lost_disk_what_was_not_uploaded(quick_path: Path) -> None:
    storage = Away(made(1, "local"))
    left = killed(storage, quick_path / "a", ["x", "y", "z"])
    with connected(storage, quick_path / "elsewhere", mode="r") as reader:
        assert ids(reader) == {"first"}
    with connected(storage, left) as store:
        assert ids(store) == {"first", "x", "y", "z"} and store.upsert(["more"], None) == 1
        until(lambda: told(store).behind_s == 0)
        with connected(storage, quick_path / "reader", mode="r", poll_s=0) as reader:
            assert ids(reader) == {"first", "x", "y", "z", "more"}


@pytest.mark.parametrize("snapshots", [False, True])
def test_what_another_writer_has_passed_over_is_thrown_away(quick_path: Path, snapshots: bool) -> None:
    storage = Away(made(1, "local"))
    left = killed(storage, quick_path / "a", ["x", "y", "z"])
    with connected(storage, quick_path / "b") as second:
        assert ids(second) == {"first"}
        for row in ("p", "q", "r", "s", "t"):
            second.upsert([row], None)
            if snapshots:
                second.snapshot()
        wanted = ids(second)
    with connected(storage, left) as again:
        assert ids(again) == wanted and again.upsert(["u"], None) == 1
    with connected(storage, quick_path / "c", mode="r") as reader:
        assert ids(reader) == wanted | {"u"}


def test_a_writer_that_is_replaced_drops_what_it_has_not_uploaded(quick_path: Path) -> None:
    inner = made(1, "local")
    storage = Away(inner)
    with connected(storage, quick_path / "a", poll_s=0) as first:
        first.upsert(["a"], None)
        until(lambda: told(first).behind_s == 0)
        storage.leave()
        first.upsert(["lost"], None)
        with connected(inner, quick_path / "b") as second:
            second.upsert(["b"], None)
            until(lambda: told(second).behind_s == 0)
            storage.come_back()

            def replaced() -> bool:
                with suppress(mrlstore.WriterReplaced):
                    first.upsert(["lost too"], None)
                    return False
                return True

            until(replaced)
            assert ids(first) == ids(second) == {"a", "b"}
            second.upsert(["c"], None)
            until(lambda: told(second).behind_s == 0)
            assert ids(first) == {"a", "b", "c"}


def write_some(storage: ObjectStorage, folder: Path, known: list[str]) -> None:
    """Write, ship and write; notes what was acknowledged."""
    store = connected(storage, folder)
    with store:
        for number in range(3):
            store.upsert([f"r{number}", f"s{number}"], None)
            known += [f"r{number}", f"s{number}"]
            if number == 1:
                store.snapshot()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of Stopped
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.DONE_THEN_ERROR, Fault.AWAY, Fault.STOPPED])
def test_whatever_happens_at_any_call_the_disk_has_what_was_acknowledged(
    quick_path: Path, fault: Fault
) -> None:
    whole = FaultyStorage(made(1, "local"))
    write_some(whole, quick_path / "whole", [])
    for nth in range(1, len(whole.calls) + 1, figure(1, 5)):
        inner = made(1, "local")
        folder, known = quick_path / str(nth), list[str]()
        with suppress(mrlstore.MrlStoreError, Stopped):
            write_some(FaultyStorage(inner, nth, fault), folder, known)
        with connected(inner, folder) as store:
            assert ids(store) >= set(known), nth
            store.upsert(["more"], None)
            wanted = ids(store)
        with connected(inner, quick_path / f"{nth}-new", mode="r") as reader:
            assert ids(reader) == wanted
        shutil.rmtree(folder)


def test_what_local_does_not_go_with_is_refused(quick_path: Path) -> None:
    cluster.create(quick_path / "home", dim=DIM, durability="local")
    with pytest.raises(mrlstore.InvalidInput, match='needs durability="shared"'):
        cluster.connect(quick_path / "home", engine="ray")
    with pytest.raises(mrlstore.InvalidInput, match="durability local"):
        mrlstore.open(quick_path / "a.mrl", durability="shared", ship_to=quick_path / "home")
    assert cluster.status(quick_path / "home").durability == "local"


def _has_done(child: Child, done: list[int], wanted: int) -> bool:
    done += [int(message) for message in child.heard()]
    return len(done) >= wanted


def test_no_killed_process_loses_an_acknowledged_write(quick_path: Path) -> None:
    home, chance = quick_path / "home", random.Random(figure(0, 1))
    cluster.create(home, dim=DIM, m=4, ef_construction=20, shards=2, durability="local")
    every: dict[str, list[int]] = {}
    for number in range(ROUNDS):
        done = every.setdefault(f"w{number}", [])
        child = Child(write_on, home, quick_path / "here", f"w{number}")
        with children(child):
            until(partial(_has_done, child, done, chance.randint(1, 6)))
            time.sleep(chance.uniform(0, 0.01))
            assert child.process.pid is not None
            os.kill(child.process.pid, signal.SIGKILL)
            child.join()
            _has_done(child, done, 0)
    with cluster.connect(home, folder=quick_path / "here", auto_maintain=False) as store:
        for name, numbers in every.items():
            for one in numbers:
                found = store.get(ids_of(name, one))
                assert [(row.metadata or {})["number"] for row in found] == [one] * len(ids_of("", 0))
        wanted = ids(store)
    with cluster.connect(home, mode="r") as reader:
        assert ids(reader) == wanted
    assert cluster.verify(home).ok
