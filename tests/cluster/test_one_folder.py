"""Several processes of one machine on one folder of copies: one keeps them, the others read them there."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import mrlstore
from mrlstore import cluster
from tests import inside
from tests.children import Child, children
from tests.cluster.clusters import DIM, connected, made
from tests.cluster.writing_child import ids_of, write_on
from tests.oracle import nested_vectors
from tests.scale import figure

ROUNDS = figure(50, 4)
LONGEST_S = 60.0


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def copies(folder: Path) -> int:
    """How many stores lie below a folder."""
    return sum(1 for _ in folder.rglob("catalogue.db"))


def test_readers_see_each_write_of_the_writer_when_it_returns(quick_path: Path) -> None:
    storage = made(2)
    with connected(storage, quick_path) as writer:
        writer.upsert(["a", "b"], nested_vectors(2, DIM, seed=1))
        with (
            connected(storage, quick_path, mode="r", poll_s=30) as first,
            connected(storage, quick_path, mode="r", poll_s=0) as second,
        ):
            for number in range(5):
                written = writer.upsert([f"r{number}", f"s{number}"], None, [{"n": number}] * 2)
                for reader in (first, second):
                    assert reader.count({"n": number}) == 2
                    assert reader.count({"n": number}, after=written.token) == 2
            assert first.query(nested_vectors(2, DIM, seed=1)[0], 1, exact=True).ids == ["a"]
            assert copies(quick_path) == 2
            with pytest.raises(mrlstore.StoreLocked, match=f"process {os.getpid()} on "):
                connected(storage, quick_path)
            with pytest.raises(mrlstore.InvalidInput, match='mode="a"'):
                first.upsert(["c"], None)
            writer.snapshot()
            assert first.count() == second.count() == writer.count() == 12


def test_a_reader_gives_the_folder_to_a_writer_and_takes_it_when_that_ends(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.CLUSTER_LOOK_S, 0.05)
    storage = made(2)
    with connected(storage, quick_path / "elsewhere") as writer:
        writer.upsert(["a", "b", "c"], None)
        writer.snapshot()
    with connected(storage, quick_path / "here", mode="r", poll_s=0) as reader:
        assert reader.count() == 3
        with connected(storage, quick_path / "here") as writer:
            writer.upsert(["d"], None)
            assert reader.count() == 4 and copies(quick_path / "here") == 2
        with connected(storage, quick_path / "elsewhere") as writer:  # nobody keeps "here" but the reader
            writer.upsert(["e"], None)
            assert reader.count() == 5
            for number in range(2):
                writer.upsert(["f"], None, [{"n": number}])
                writer.snapshot()
                assert reader.count({"n": number}) == 1


def test_a_copy_that_is_replaced_under_its_readers_is_opened_anew(quick_path: Path) -> None:
    storage = made(1)
    with (
        connected(storage, quick_path / "here", mode="r", poll_s=0) as keeper,
        connected(storage, quick_path / "here", mode="r", poll_s=0) as neighbour,
        connected(storage, quick_path / "elsewhere") as writer,
    ):
        for number in range(3):
            writer.upsert(["a"], None, [{"n": number}])
            writer.snapshot()
            writer.upsert(["b"], None, [{"n": number}])
            writer.snapshot()
            writer.upsert(["c"], None, [{"n": number}])
            writer.snapshot()  # the log behind the keeper's copy has gone: it restores
            assert keeper.count({"n": number}) == 3
            assert neighbour.count({"n": number}) == 3


def test_readers_go_on_while_writers_on_their_folder_are_killed(quick_path: Path) -> None:
    home, here, chance = quick_path / "home", quick_path / "here", random.Random(figure(0, 1))
    cluster.create(home, dim=DIM, m=4, ef_construction=20, shards=2)
    with cluster.connect(home, folder=here, mode="r", poll_s=0.05, auto_maintain=False) as reader:
        for number in range(ROUNDS):
            child = Child(write_on, home, here, f"w{number}")
            done = list[int]()
            with children(child):
                until(partial(_has_done, child, done, chance.randint(1, 5)))
                assert child.process.pid is not None
                os.kill(child.process.pid, signal.SIGKILL)
                child.join()
            for one in done:
                assert len(reader.get(ids_of(f"w{number}", one))) == len(ids_of("", 0))
        assert reader.verify().ok


def _has_done(child: Child, done: list[int], wanted: int) -> bool:
    """Note which writes the child has done, and whether those are enough."""
    done += [int(message) for message in child.heard()]
    return len(done) >= wanted
