"""Shards run by Ray: the answers of one store, and nothing lost when hosts die or hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import mrlstore
from mrlstore import cluster
from mrlstore.cli import main
from tests.oracle import nested_vectors
from tests.ray.conftest import DIM
from tests.ray.hosts import connected, host_of, state_of

HOSTS = 3

pytestmark = [pytest.mark.usefixtures("nodes"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def writing_host(store: cluster.ShardedStore) -> Any:
    """A host that writes a shard."""
    hosts = [host_of(store, number) for number in range(HOSTS)]
    return next(host for host in hosts if any(one.writes for one in state_of(host).shards.values()))


def test_answers_are_those_of_one_store(home: Path) -> None:
    ids, vectors = [f"r{number}" for number in range(200)], nested_vectors(200, DIM)
    metadatas = [{"n": number % 5} for number in range(200)]
    with mrlstore.open(home.parent / "one.mrl", dim=DIM, auto_maintain=False) as one, connected(home) as many:
        stores: list[Any] = [one, many]
        for store in stores:
            assert store.upsert(ids, vectors, metadatas) == 200
            assert store.update(where={"n": 1}, metadatas={"touched": True}) == 40
            assert store.delete(["r3", "gone"]) == 1
            with pytest.raises(mrlstore.IdExists):
                store.upsert(["r1"], vectors[:1], on_conflict="error")
        for number in range(0, 200, 20):
            theirs, mine = (
                store.query(
                    vectors[number], 10, exact=True, where={"n": {"$gt": 0}}, include=("metadata", "vector")
                )
                for store in stores
            )
            assert mine.ids == theirs.ids and mine.scores.tolist() == theirs.scores.tolist()
            np.testing.assert_array_equal(mine[0].vector, theirs[0].vector)
        assert many.count() == 199 and many.count({"touched": True}) == 40
        assert list(many.scan(limit=5)) == list(one.scan(limit=5))
        batch = many.query_batch(vectors[:3], 5, exact=True)
        assert batch.ids == one.query_batch(vectors[:3], 5, exact=True).ids
        many.snapshot()
        assert many.stats().rows == 199 and many.verify().ok
        with connected(home, mode="r") as other:
            assert other.count() == 199
            assert other.query(vectors[0], 3).ids == many.query(vectors[0], 3).ids
        again = home.parent / "again.mrl"
        assert main(["cluster", "export", str(home), str(again), "--engine", "ray"]) == 0
        with mrlstore.open(again, mode="r") as exported:
            assert list(exported.scan()) == list(one.scan())
    assert main(["cluster", "verify", str(home)]) == 0


@pytest.mark.parametrize("how", ["killed", "killed for good", "frozen"])
def test_a_host_that_is_gone_loses_nothing(home: Path, how: str) -> None:
    acknowledged: dict[str, int] = {}
    end = threading.Event()
    with connected(home, poll_s=0) as store:

        def write() -> None:
            number = 0
            while not end.is_set():
                ids = [f"r{number}-{row}" for row in range(4)]
                try:
                    store.upsert(ids, nested_vectors(4, DIM, seed=number), [{"n": number}] * 4)
                    acknowledged.update(dict.fromkeys(ids, number))
                except mrlstore.MrlStoreError:
                    pass  # what it had is not counted; other writes go on
                number += 1

        thread = threading.Thread(target=write)
        thread.start()
        frozen = []
        try:
            deadline = time.monotonic() + 120
            for number in range(HOSTS - 1):
                before = len(acknowledged)
                while len(acknowledged) < before + 20:
                    assert time.monotonic() < deadline, "writes do not go on"
                    time.sleep(0.02)
                if how == "frozen":
                    frozen.append(state_of(writing_host(store)).process)
                    os.kill(frozen[-1], signal.SIGSTOP)
                    break
                host = host_of(store, number)
                ray.kill(host, no_restart=how == "killed for good")
            before = len(acknowledged)
            while len(acknowledged) < before + 20:
                assert time.monotonic() < deadline + 120, "writes do not go on"
                time.sleep(0.02)
            found = {row.id: (row.metadata or {})["n"] for row in store.scan()}
            assert len(found) >= before
        finally:
            end.set()
            thread.join(120)
            for process in frozen:
                os.kill(process, signal.SIGCONT)
        assert not thread.is_alive()
    with cluster.connect(home, mode="r", auto_maintain=False) as reader:
        found = {row.id: (row.metadata or {})["n"] for row in reader.scan()}
    assert acknowledged.items() <= found.items()


def test_without_a_running_ray_it_says_so(home: Path) -> None:
    with pytest.raises(mrlstore.InvalidInput):
        cluster.connect(home, engine="ray", copies=0)
    with pytest.raises(mrlstore.InvalidInput):
        cluster.connect(home, engine="other")  # type: ignore[arg-type]


def test_a_lost_node_changes_no_answer_and_loses_no_write() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.cluster_demo", "--documents", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers are the same" in done.stdout and " 0 are missing" in done.stdout
