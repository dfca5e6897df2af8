"""A cluster over HTTP against an S3 server behind a faulty proxy: what was acknowledged is there, once."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore import cluster
from mrlstore.object_storage import open_storage
from mrlstore.shared_log import LogObjects
from tests.oracle import nested_vectors
from tests.s3.conftest import BucketServer
from tests.s3.faulty_proxy import FAULTS, faulty_proxy
from tests.scale import figure

DIM, SHARDS = 16, 2


def again(call: Any, tries: int = 50) -> Any:
    """What a call gives at last."""
    for turn in range(tries):
        try:
            return call()
        except (mrlstore.ObjectStorageError, mrlstore.ShardUnavailable, mrlstore.PartialWrite) as error:
            assert turn < tries - 1, error
    raise AssertionError


@pytest.mark.parametrize("rate", [0, 15])
def test_writers_take_over_and_nothing_is_lost(server: BucketServer, quick_path: Path, rate: int) -> None:
    url, chance, rows = f"{server.new_bucket()}/papers", random.Random(rate), dict[str, int]()
    with faulty_proxy(server.port, seed=rate + 1) as proxy:
        options = server.options(proxy.port)
        cluster.create(url, dim=DIM, m=4, ef_construction=20, shards=SHARDS, options=options)
        proxy.rate = rate
        for round in range(figure(40, 4)):
            folder = quick_path / f"disk{chance.randrange(2)}"

            def connected(folder: Path = folder, mode: Any = "a") -> cluster.ShardedStore:
                return cluster.connect(url, folder=folder, mode=mode, auto_maintain=False, options=options)

            with again(connected) as store:
                for number in range(5):
                    ids = [f"r{chance.randrange(40)}" for _ in range(4)]
                    value = 100 * round + number

                    def write(ids: Any = ids, value: int = value, store: Any = store) -> int:
                        written: int = store.upsert(
                            ids, nested_vectors(4, DIM, seed=value), [{"n": value}] * len(ids)
                        )
                        return written

                    assert again(write) == len(set(ids))
                    rows.update(dict.fromkeys(ids, value))
                again(store.snapshot)
                assert {row.id: (row.metadata or {})["n"] for row in store.scan()} == rows
        assert not rate or sum(proxy.met[fault] for fault in FAULTS) > 10
    with cluster.connect(url, mode="r", auto_maintain=False, options=server.options()) as reader:
        assert {row.id: (row.metadata or {})["n"] for row in reader.scan()} == rows
    storage = open_storage(url, server.options())
    for shard in range(SHARDS):
        log, done = LogObjects(storage, f"shards/{shard:04}"), Counter[tuple[str, int]]()
        for place in log.places(0):
            entry = log.read(place.number)
            assert entry is not None
            done.update((operation.client, operation.number) for operation in entry.operations)
        assert set(done.values()) <= {1}
