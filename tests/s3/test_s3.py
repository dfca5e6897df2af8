"""Object storage, shipping and restoring over HTTP against real servers, calm and behind a faulty proxy."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.object_storage import open_storage
from mrlstore.shipping import restore, restore_points, store_copy
from tests.oracle import nested_vectors
from tests.s3.conftest import BucketServer
from tests.s3.faulty_proxy import FAULTS, faulty_proxy
from tests.scale import figure

DIM = 32


def content(store: mrlstore.Store) -> dict[str, Any]:
    return {
        row.id: (row.metadata, row.document, row.vector.tobytes() if row.vector is not None else None)
        for row in store.scan(include=("metadata", "document", "vector"))
    }


def test_the_probe_and_every_verb(server: BucketServer) -> None:
    storage = open_storage(f"{server.new_bucket()}/a/prefix", server.options())
    storage.probe()
    data = random.Random(1).randbytes(40_000_000)
    storage.put_pieces("parts/big", [data[:30_000_000], data[30_000_000:]], len(data))
    assert b"".join(storage.get_pieces("parts/big", len(data))) == data
    assert storage.create("log/1", b"one") and storage.create("log/1", b"one")
    assert not storage.create("log/1", b"two")
    assert [each.name for each in storage.list_objects()] == ["log/1", "parts/big"]
    assert storage.size("log/1") == 3 and storage.size("log/2") is None
    with pytest.raises(mrlstore.ObjectNotFound):
        storage.get("log/2")
    storage.delete(["log/1", "log/1"])
    assert storage.size("log/1") is None
    names = [f"many/{i:04}" for i in range(1100)]  # a listing has 1,000 objects a page
    for name in names:
        storage.put(name, b"x")
    assert [each.name for each in storage.list_objects("many")] == names
    assert [each.name for each in storage.list_objects("many", after="many/1050")] == names[1051:]


def test_what_is_wrong_with_the_place_is_said(server: BucketServer) -> None:
    with pytest.raises(mrlstore.ObjectStorageError, match="no such bucket"):
        open_storage(f"{server.new_bucket()}-none/x", server.options()).probe()
    nobody = {**server.options(1), "retry_config": {"max_retries": 0}}
    with pytest.raises(mrlstore.ObjectStorageError) as raised:
        open_storage(f"{server.new_bucket()}/x", nobody).probe()
    assert "a-secret" not in str(raised.value)


def test_of_many_that_create_at_once_one_wins(server: BucketServer) -> None:
    bucket = server.new_bucket()
    winners: list[tuple[int, int]] = []
    start = threading.Barrier(4)

    def race(number: int) -> None:
        storage = open_storage(f"{bucket}/x", server.options())
        start.wait()
        winners.extend((n, number) for n in range(25) if storage.create(f"names/{n}", b"%d" % number))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for n, _ in winners) == list(range(25))


def test_creates_behind_a_faulty_proxy_exclude(server: BucketServer) -> None:
    """Whoever is told True holds the name; an error leaves it open, and a repeat settles it."""
    bucket = server.new_bucket()
    with faulty_proxy(server.port, seed=3) as proxy:
        mine, other = (open_storage(f"{bucket}/x", server.options(proxy.port)) for _ in range(2))
        calm = open_storage(f"{bucket}/x", server.options())
        proxy.rate = 40
        for number in range(figure(2000, 100)):
            answers = {}
            for storage, data in ((mine, b"mine"), (other, b"other")):
                for _ in range(20):
                    try:
                        answers[data] = storage.create(f"log/{number}", data)
                        break
                    except mrlstore.ObjectStorageError:
                        continue
            found = calm.get(f"log/{number}")
            assert answers == {b"mine": found == b"mine", b"other": found == b"other"}
        assert all(proxy.met[fault] for fault in FAULTS), proxy.met


@pytest.mark.parametrize("rate", [0, 15])
def test_a_store_is_shipped_and_restored(
    server: BucketServer, tmp_path: Path, rate: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(store_copy, "COLLECT_EVERY", 2)
    url = f"{server.new_bucket()}/papers"
    rng = random.Random(rate)
    with (
        faulty_proxy(server.port, seed=rate) as proxy,
        mrlstore.open(tmp_path / "s.mrl", dim=DIM, prefix_dim=16, auto_maintain=False) as store,
    ):
        options = server.options(proxy.port)
        store.upsert([f"r{i}" for i in range(5000)], nested_vectors(5000, DIM), documents=["text"] * 5000)
        store.optimize()
        with store.ship(url, every_s=3600, options=options) as shipping:
            proxy.rate = rate
            for number in range(figure(200, 8)):
                store.upsert(
                    [f"n{number}", f"r{rng.randrange(5000)}"], nested_vectors(2, DIM, seed=number + 2)
                )
                for _ in range(50):
                    try:
                        figures = shipping.now(120)
                        break
                    except mrlstore.ObjectStorageError:
                        continue
                assert figures.generation == store.generation
        for turn in range(30):
            try:
                restored = restore(url, tmp_path / "r.mrl", options=options)
                break
            except (mrlstore.ObjectStorageError, mrlstore.StoreNotFound):
                assert turn < 29 and not (tmp_path / "r.mrl").exists()
        proxy.rate = 0
        assert restored == restore_points(url, options=options)[0]
        with mrlstore.open(tmp_path / "r.mrl") as again:
            assert content(again) == content(store) and again.verify().ok
        assert not rate or sum(proxy.met[fault] for fault in FAULTS) > 10
