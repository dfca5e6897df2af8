"""A store with durability="shared" over HTTP behind a faulty proxy: it comes back with every write."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore import cluster
from mrlstore.shipping import restore
from tests.oracle import nested_vectors
from tests.s3.conftest import BucketServer
from tests.s3.faulty_proxy import FAULTS, faulty_proxy
from tests.s3.test_cluster_on_s3 import DIM, again
from tests.scale import figure


@pytest.mark.parametrize("rate", [0, 15])
def test_a_store_comes_back_from_its_log(server: BucketServer, quick_path: Path, rate: int) -> None:
    url, path, rows = f"{server.new_bucket()}/notes", quick_path / "notes.mrl", dict[str, int]()
    with faulty_proxy(server.port, seed=rate + 1) as proxy:
        options, proxy.rate = server.options(proxy.port), rate

        def opened() -> mrlstore.Store:
            return mrlstore.open(
                path, dim=DIM, durability="shared", ship_to=url, options=options, auto_maintain=False
            )

        for round in range(figure(20, 3)):
            store = again(opened)
            with store:
                for number in range(5):
                    ids = [f"r{round}-{number}-{row}" for row in range(3)]
                    value = 100 * round + number

                    def write(ids: Any = ids, value: int = value, store: Any = store) -> int:
                        vectors = nested_vectors(3, DIM, seed=value)
                        written: int = store.upsert(ids, vectors, [{"n": value}] * 3)
                        return written

                    assert again(write) == 3
                    rows.update(dict.fromkeys(ids, value))
                if round % 2:
                    again(store.snapshot)
                assert {row.id: (row.metadata or {})["n"] for row in store.scan()} == rows
            shutil.rmtree(path)
        assert not rate or sum(proxy.met[fault] for fault in FAULTS) > 5
    restored = restore(url, quick_path / "restored.mrl", options=server.options())
    assert restored.rows == len(rows)
    with mrlstore.open(quick_path / "restored.mrl", mode="r") as store:
        assert {row.id: (row.metadata or {})["n"] for row in store.scan()} == rows and store.verify().ok
    assert cluster.verify(url, options=server.options()).ok
