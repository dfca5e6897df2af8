"""A cluster answers what one store of all its rows would answer."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrlstore
from mrlstore import cluster
from mrlstore.cluster.only_in_stores import OnlyInStores
from mrlstore.cluster.slots import SLOTS, shard_of, shards_of, slot_of
from mrlstore.exchange.exact import stored_rows
from mrlstore.object_storage import StoredObject
from tests import inside
from tests.cluster.clusters import DIM, connected, made
from tests.object_storage.doubles import Fault, FaultyStorage, MemoryStorage
from tests.oracle import nested_vectors

SHARDS = (1, 2, 4, 7, 8)  # seven cannot be created, but nothing else needs a power of two
IDS = [f"r{number}" for number in range(160)] + ["Z", "é", "日", "\U0001f600", "a b"]


class Built(NamedTuple):
    """One store, and clusters of 1, 2, 4 and 8 shards, with the same rows."""

    one: mrlstore.Store
    many: dict[int, cluster.ShardedStore]


def vectors() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows of which every tenth has 15 equals."""
    found = nested_vectors(len(IDS), DIM, seed=3)
    found[::10] = found[0]
    return found


def fill(store: Any) -> None:
    rows, count = vectors(), len(IDS)
    metadatas: list[Any] = [
        {"n": number % 7, "tags": ["a", "b"][: number % 3], "nested": {"x": number % 2}}
        for number in range(count)
    ]
    metadatas[3] = None
    given: list[Any] = list(rows)
    given[5] = None
    store.upsert(IDS, given, metadatas, [f"document {number}" for number in range(count)])
    for name in ("tenant", "Ω"):
        store.upsert(IDS[:20], rows[20:40], [{"n": number} for number in range(20)], namespace=name)
    store.update(IDS[40:60], [{"n": 100 + number, "tags": None} for number in range(20)])
    store.update(where={"n": 2}, metadatas={"touched": True})
    store.update([IDS[60]], vectors=nested_vectors(1, DIM, seed=9))
    store.delete(IDS[70:75])
    store.delete(prefix="r15")
    store.delete(where={"n": 4, "nested.x": 1})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("clusters")
    one = mrlstore.open(folder / "one.mrl", dim=DIM, auto_maintain=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inside.IS_POWER_OF_TWO, lambda number: True)
        many = {count: connected(made(count), folder / str(count)) for count in SHARDS}
    stores: list[Any] = [one, *many.values()]
    for store in stores:
        fill(store)
    one.optimize()
    many[4].optimize()
    yield Built(one, many)
    for store in stores:
        store.close()


filters = st.sampled_from(
    [
        None,
        {"n": 3},
        {"n": {"$gte": 5}},
        {"tags": "a"},
        {"touched": True},
        {"nested.x": 0, "n": {"$ne": 1}},
        {"n": -1},
    ]
)
spaces: Any = st.sampled_from(["", "tenant", "Ω", "empty", ("", "tenant"), None])
places = st.integers(0, len(IDS) - 1)


def expected(one: mrlstore.Store, vector: Any, k: int, **more: Any) -> list[mrlstore.Hit]:
    """The best k rows of a store, equal scores by id."""
    hits = one.query(vector, 400, exact=True, **more).hits
    return sorted(hits, key=lambda hit: (-hit.score, hit.id, hit.namespace))[:k]


@settings(max_examples=40, deadline=None)
@given(place=places, k=st.integers(1, 60), where=filters, namespace=spaces, offset=st.integers(0, 20))
def test_exact_answers_are_those_of_one_store(
    built: Built, place: int, k: int, where: Any, namespace: Any, offset: int
) -> None:
    vector = vectors()[place]
    wanted = expected(built.one, vector, k + offset, where=where, namespace=namespace)
    for shards, store in built.many.items():
        found = store.query(vector, k + offset, exact=True, where=where, namespace=namespace)
        assert found.hits == wanted, shards
        assert found.coverage.is_whole and len(found.plans) == found.coverage.shards
        page = store.query(vector, k, exact=True, where=where, namespace=namespace, offset=offset)
        assert page.hits == wanted[offset:]
        batch = store.query_batch([vector, -vector], k + offset, exact=True, where=where, namespace=namespace)
        assert batch[0].hits == wanted
        assert batch.ids[1] == [
            hit.id for hit in expected(built.one, -vector, k + offset, where=where, namespace=namespace)
        ]


@settings(max_examples=20, deadline=None)
@given(
    where=filters,
    namespace=st.sampled_from(["", "tenant", "empty", None]),
    limit=st.integers(0, 50) | st.none(),
)
def test_rows_are_read_as_from_one_store(built: Built, where: Any, namespace: Any, limit: Any) -> None:
    one = built.one
    scans: list[dict[str, Any]] = [
        {},
        {"order_by": "n"},
        {"order_by": "n", "descending": True},
        {"prefix": "r1"},
    ]
    for store in built.many.values():
        assert store.count(where, namespace=namespace) == one.count(where, namespace=namespace)
        for more in scans:
            wanted = list(one.scan(where, namespace=namespace, limit=limit, **more))
            assert list(store.scan(where, namespace=namespace, limit=limit, **more)) == wanted
            if len(wanted) > 2:
                rest = store.scan(
                    where, namespace=namespace, after=wanted[1].cursor, limit=len(wanted) - 2, **more
                )
                assert list(rest) == wanted[2:]
        for field in ("n", "tags", "missing"):
            assert store.facets(field, where=where, namespace=namespace, limit=5) == one.facets(
                field, where=where, namespace=namespace, limit=5
            )
        if namespace is not None and (where is not None or limit is not None):
            assert store.get(where=where, namespace=namespace, limit=limit) == one.get(
                where=where, namespace=namespace, limit=limit
            )


def test_the_rest_is_as_in_one_store(built: Built) -> None:
    one = built.one
    for store in built.many.values():
        assert store.namespaces() == one.namespaces() and len(store) == len(one) and "r0" in store
        names = ["r9", "gone", "r3", "é", "r9"]
        assert [row.id for row in store.get(names)] == [row.id for row in one.get(names)]
        for mine, theirs in zip(
            store.get(names, include=("vector",)), one.get(names, include=("vector",)), strict=True
        ):
            assert mine.vector is not None and theirs.vector is not None
            assert mine.vector.tobytes() == theirs.vector.tobytes()
        drawn = store.sample(10, seed=1)
        assert len({row.id for row in drawn}) == 10 and drawn == store.sample(10, seed=1)
        assert len(store.sample(10**6, where={"n": 3})) == one.count({"n": 3})
        for more in (
            {"id": "r9"},
            {"positive": ["r9", "r20"], "negative": ["r30"]},
            {"positive": [vectors()[2], "é"]},
        ):
            found, wanted = store.query(k=7, exact=True, **more), one.query(k=7, exact=True, **more)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
        found = store.query(vectors()[1], 5, exact=True, include=("document", "vector"))
        assert found[0].document == "document 1" and found[0].metadata is None and found[0].vector is not None
        assert store.verify().ok and store.stats().rows == one.stats().rows
        assert repr(store).endswith("shards>") and f"{one.count(namespace=None)} rows" in repr(store)


def test_groups_and_diverse_hits_are_those_of_one_store(built: Built) -> None:
    vector = vectors()[33]
    for store in built.many.values():
        mine = store.query(vector, 4, exact=True, group_by="n", group_size=3, where={"n": {"$lt": 7}})
        theirs = built.one.query(vector, 4, exact=True, group_by="n", group_size=3, where={"n": {"$lt": 7}})
        assert [group.value for group in mine.groups] == [group.value for group in theirs.groups]
        for own, other in zip(mine.groups, theirs.groups, strict=True):
            assert [hit.score for hit in own.hits] == [hit.score for hit in other.hits]
        diverse = store.query(vector, 6, exact=True, diversity=0.6, candidates=30, offset=1)
        one = built.one.query(vector, 6, exact=True, diversity=0.6, candidates=30, offset=1)
        assert diverse.scores.tolist() == one.scores.tolist()  # ids differ where rows are equal
        assert diverse[0].vector is None


def test_usual_answers_have_the_recall(built: Built) -> None:
    for store in built.many.values():
        for place in range(0, len(IDS), 25):
            usual, exact = store.query(vectors()[place], 5), store.query(vectors()[place], 5, exact=True)
            np.testing.assert_array_equal(usual.scores, exact.scores)


def test_what_only_one_store_can_do_is_refused_or_lies_in_one_shard(built: Built) -> None:
    with pytest.raises(mrlstore.InvalidInput, match="keywords"):
        built.many[8].query(keywords="document")
    with pytest.raises(mrlstore.InvalidInput, match="keywords and explain"):
        built.many[2].query(vectors()[0], explain=True)
    assert built.many[1].query(keywords="document", k=3).ids == built.one.query(keywords="document", k=3).ids
    assert (
        built.many[8].query(vectors()[25], 2, namespace="tenant", explain=True).plan.explanation is not None
    )


def test_writes_are_those_of_one_store(tmp_path: Path) -> None:
    one = mrlstore.open(tmp_path / "one.mrl", dim=DIM, auto_maintain=False)
    with one, connected(made(4), tmp_path / "many") as many:
        for store in (one, many):
            some: Any = store
            assert some.upsert(IDS[:30], vectors()[:30]) == 30
            assert some.upsert(IDS[:40], vectors()[:40], on_conflict="skip") == 10
            with pytest.raises(mrlstore.IdExists):
                some.upsert(["new", *IDS[38:45]], vectors()[:8], on_conflict="error")
            assert some.count() == 40
            assert some.update(["r1", "r1", "gone"], [{"a": 1}, {"b": 2}, {"c": 3}]) == 1
            assert some.get(["r1"])[0].metadata == {"a": 1, "b": 2}
            assert some.delete(["r1", "r1", "gone"]) == 1
            assert some.upsert([], None) == 0 and some.delete([]) == 0
            assert some.clear("nothing") == 0 and some.clear() == 39 and some.count() == 0
            for wrong in (
                lambda some=some: some.upsert(["a"], [[1.0]]),
                lambda some=some: some.upsert(["a", ""], None),
                lambda some=some: some.delete(),
                lambda some=some: some.update(["a"]),
                lambda some=some: some.get(),
                lambda some=some: some.query(vectors()[0], 0),
                lambda some=some: some.query(),
                lambda some=some: some.query(id="gone"),
                lambda some=some: some.scan(after="x"),
                lambda some=some: some.scan(descending=True),
            ):
                with pytest.raises(mrlstore.InvalidInput):
                    wrong()


def test_what_a_cluster_refuses_says_why(built: Built) -> None:
    store = built.many[4]
    for name in (name for name in vars(OnlyInStores) if not name.startswith("_")):
        with pytest.raises(mrlstore.InvalidInput, match=f"^{name}: not for a cluster: "):
            getattr(store, name)("argument")
    assert store.settings.dim == DIM and store.settings.store_uuid == store.home.uuid


def test_optimize_and_verify_tell_how_far_they_are(tmp_path: Path) -> None:
    with connected(made(2), tmp_path) as store:
        store.upsert(IDS[:20], vectors()[:20])
        told: list[tuple[str, int, int]] = []

        def note(at: mrlstore.Progress) -> None:
            told.append((at.phase, at.done, at.total))

        store.optimize(note, timeout_s=60)
        assert store.verify(note).ok
        assert told == [("optimizing", 1, 2), ("optimizing", 2, 2), ("verifying", 1, 2), ("verifying", 2, 2)]
        with pytest.raises(mrlstore.InvalidInput, match="timeout_s"):
            store.optimize(timeout_s=-1)
        with pytest.raises(mrlstore.InvalidInput, match="explain"):
            store.query_batch(vectors()[:2], explain=True)
        store.upsert(IDS[:5], vectors()[:5], namespace="tenant")
        (answer,) = store.query_batch(vectors()[:1], 2, namespace="tenant", explain=True)
        assert answer.plan.explanation is not None


@pytest.mark.parametrize("changed", [False, True])
def test_an_import_that_was_interrupted_goes_on(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    monkeypatch.setattr(inside.IMPORT_ROWS, 16)
    with mrlstore.open(quick_path / "one.mrl", dim=DIM, auto_maintain=False) as one:
        fill(one)

    def stop(at: mrlstore.Progress) -> None:
        if at.done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster.import_store(quick_path / "one.mrl", quick_path / "home", shards=2, progress=stop)
    with pytest.raises(mrlstore.InvalidInput, match="shards: 4 were given"):
        cluster.import_store(quick_path / "one.mrl", quick_path / "home", shards=4)
    with mrlstore.open(quick_path / "other.mrl", dim=DIM) as other:
        other.upsert(["a"], vectors()[:1])
    with pytest.raises(mrlstore.StoreExists):
        cluster.import_store(quick_path / "other.mrl", quick_path / "home", shards=2)
    with mrlstore.open(quick_path / "one.mrl", auto_maintain=False) as one:
        if changed:
            first = [row.id for row in one.scan(limit=10)]
            one.delete(first[:5])
            one.upsert(["0 before all", first[6]], vectors()[:2])
        wanted = list(one.scan(namespace=None))
    told: list[int] = []
    rows = cluster.import_store(
        quick_path / "one.mrl", quick_path / "home", shards=2, progress=lambda at: told.append(at.done)
    )
    assert rows == len(wanted) and (told[0] > 60) is not changed
    with cluster.connect(quick_path / "home", mode="r") as many:
        assert list(many.scan(namespace=None)) == wanted
    with pytest.raises(mrlstore.StoreExists):
        cluster.import_store(quick_path / "one.mrl", quick_path / "home", shards=2)


def test_async_twins_and_embedders(tmp_path: Path) -> None:
    class Counting:
        fingerprint = "counting"

        def embed_documents(self, texts: Any) -> Any:
            return [[float(len(text)) + 1.0, *[1.0] * (DIM - 1)] for text in texts]

        def embed_query(self, text: Any) -> Any:
            return self.embed_documents([text])[0]

    storage = made(2)

    async def work(store: cluster.ShardedStore) -> None:
        assert await store.aupsert(["a"], vectors()[:1]) == 1
        assert (await store.aquery(vectors()[0], 1)).ids == ["a"]
        assert await store.acount() == 1 and len(await store.aget(["a"])) == 1
        assert await store.adelete(["a"]) == 1

    with connected(storage, tmp_path / "a", embedder=Counting()) as store:
        asyncio.run(work(store))
        before = store.embedder_fingerprint
        ids = store.add(["one", "three", "seventeen"])
        assert (before, store.embedder_fingerprint) == (None, "counting")
        store.record_embedder("counting")
        with pytest.raises(mrlstore.InvalidInput, match="another"):
            store.record_embedder("another")
        assert store.query(text="three", k=1).ids == [ids[1]]
    other: Any = Counting()
    other.fingerprint = "another"
    store = connected(storage, tmp_path / "b", embedder=other)
    with store, pytest.raises(mrlstore.InvalidInput, match="another"):
        store.add(["more"])


def test_slots_are_a_rule_that_never_changes() -> None:
    assert [slot_of("", id) for id in ("", "a", "é")] == [slot_of("", id) for id in ("", "a", "é")]
    assert slot_of("", "a") == GOLDEN_SLOT and slot_of("tenant", "a") == slot_of("tenant", "b")
    assert 0 <= min(slot_of("", str(number)) for number in range(5000)) < SLOTS
    for shards in SHARDS:
        found = [shard_of("", str(number), shards) for number in range(4000)]
        counts = np.bincount(found, minlength=shards)
        assert len(counts) == shards and counts.min() > 0.8 * 4000 / shards
        assert list(shards_of("tenant", shards)) == [shard_of("tenant", "any", shards)]


GOLDEN_SLOT = 3104


def test_bad_homes_are_refused(tmp_path: Path) -> None:
    for wrong in (
        {"shards": 3},
        {"shards": 0},
        {"shards": 8192},
        {"dim": 0},
        {"durability": "none"},
        {"tokenizer": "x"},
    ):
        with pytest.raises(mrlstore.InvalidInput):
            arguments: dict[str, Any] = {"dim": DIM, **wrong}
            cluster.create(tmp_path / "home", **arguments)
    with pytest.raises(mrlstore.StoreNotFound):
        cluster.connect(tmp_path / "home")
    cluster.create(tmp_path / "home", dim=DIM, shards=2)
    with pytest.raises(mrlstore.StoreExists):
        cluster.create(tmp_path / "home", dim=DIM)
    with cluster.connect(tmp_path / "home", folder=tmp_path / "copies") as store:
        store.upsert(["a"], vectors()[:1])
        with pytest.raises(mrlstore.StoreLocked, match="uses this copy"):
            cluster.connect(tmp_path / "home", folder=tmp_path / "copies")
    with cluster.connect(tmp_path / "home", mode="r") as reader:
        assert reader.query(vectors()[0], 1).ids == ["a"]
        with pytest.raises(mrlstore.InvalidInput, match='mode="r"'):
            reader.upsert(["b"], None)
    with pytest.raises(mrlstore.StoreClosed):
        reader.count()
    document = tmp_path / "home" / "cluster.json"
    whole = document.read_text(encoding="utf-8")
    for text, error in (
        (whole.replace('"format": 1', '"format": 2'), mrlstore.FormatTooNew),
        (whole[:40], mrlstore.CorruptStore),
        (whole.replace('"shards": 2', '"shards": 3'), mrlstore.CorruptStore),
        (whole.replace('"dim": 8', '"dim": "8"'), mrlstore.CorruptStore),
    ):
        document.write_text(text, encoding="utf-8")
        with pytest.raises(error):
            cluster.connect(tmp_path / "home")


def test_followers_see_what_a_token_says(tmp_path: Path) -> None:
    storage = made(2)
    with connected(storage, tmp_path / "a") as store, connected(storage, tmp_path / "b", mode="r") as reader:
        for number in range(5):
            written = store.upsert([f"x{number}", f"y{number}"], vectors()[:2])
            assert reader.count(after=written.token) == 2 * (number + 1)
        with pytest.raises(mrlstore.InvalidInput, match="not a token"):
            reader.count(after="x")
        ahead = cluster_token({0: 10**6})
        before = time.monotonic()
        with pytest.raises(mrlstore.StaleRead):
            store.query(vectors()[0], after=ahead)
        found = store.query(vectors()[0], after=ahead, on_missing="partial")
        assert found.coverage.missing == (0,) and not found.coverage.is_whole and before > 0


def cluster_token(places: dict[int, int]) -> str:
    from mrlstore.cluster.tokens import token_of

    return token_of(places)


class Refusing(MemoryStorage):
    """Refuses to create the log objects of some shards."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.refused: tuple[str, ...] = ()

    def create(self, name: str, data: bytes) -> bool:
        if name.startswith(self.refused) and "/log/" in name and self.refused:
            raise mrlstore.ObjectStorageError("test: refused")
        return super().create(name, data)


def test_a_write_that_is_in_some_shards_says_which(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.CLUSTER_PAUSE_S, 0.001)
    storage = Refusing(made(2).objects)
    with connected(storage, quick_path) as store:
        storage.refused = ("shards/0001",)
        ids = [f"r{number}" for number in range(10)]
        with pytest.raises(mrlstore.PartialWrite, match="1 of 2 shards") as caught:
            store.upsert(ids, None, [{"n": number} for number in range(10)])
        error = caught.value
        assert sorted(error.written + error.unknown) == sorted(ids) and list(error.errors) == [1]
        assert [shard_of("", id, 2) for id in error.written] == [0] * len(error.written)
        assert sorted(row.id for row in store.scan()) == sorted(error.written)
        again = pickle.loads(pickle.dumps(error))
        assert (again.written, str(again)) == (error.written, str(error))
        with pytest.raises(mrlstore.MrlStoreError):
            store.upsert([error.unknown[0]], None)
        storage.refused = ()
        assert store.upsert(ids, None, [{"n": number} for number in range(10)]) == 10
        assert store.count() == 10


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.DONE_THEN_ERROR])
def test_one_fault_of_object_storage_is_ridden_out(
    quick_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.CLUSTER_PAUSE_S, 0.001)
    inner = made(2)
    storage = FaultyStorage(inner)
    with connected(storage, quick_path) as store:
        for number in range(12):
            storage.nth, storage.fault = len(storage.calls) + 1 + number % 6, fault
            assert store.upsert([f"a{number}", f"b{number}", f"c{number}"], None) == 3
            assert store.update([f"a{number}"], [{"n": number}]) == 1
            storage.nth = 0
        assert store.count() == 36
    with connected(inner, quick_path / "r", mode="r") as reader:
        assert reader.count() == 36 and reader.get(["a11"])[0].metadata == {"n": 11}


def test_a_replaced_process_goes_on_as_a_reader(quick_path: Path) -> None:
    storage = made(2)
    with connected(storage, quick_path / "a", poll_s=0) as first:
        first.upsert(["a", "b", "c", "d"], None)
        with connected(storage, quick_path / "b") as second:
            second.upsert(["e", "f", "g", "h"], None)
            for _ in range(2):
                with pytest.raises(mrlstore.WriterReplaced):
                    first.upsert(["i", "j", "k", "l"], None)
            second.upsert(["m", "n"], None)
            assert first.count() == second.count() == 10
            with pytest.raises(mrlstore.WriterReplaced):
                first.snapshot()
            second.snapshot()
            assert second.upsert(["o"], None) == 1


def test_snapshots_are_shipped_by_themselves(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.CLUSTER_LOOK_S, 0.02)
    storage = made(1)
    with connected(storage, quick_path, snapshot_bytes=1) as store:
        store.upsert(["a"], None)
        deadline = time.monotonic() + 60
        while not any("/snapshots/" in name for name in storage.objects):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with connected(storage, quick_path / "r", mode="r") as reader:
        assert reader.count() == 1
        with pytest.raises(mrlstore.InvalidInput, match="ships snapshots"):
            reader.snapshot()


def test_a_store_becomes_a_cluster_and_a_store_again(quick_path: Path) -> None:
    with mrlstore.open(quick_path / "one.mrl", dim=DIM, m=5, tokenizer="porter", auto_maintain=False) as one:
        fill(one)
        told: list[int] = []
        rows = cluster.import_store(
            quick_path / "one.mrl", quick_path / "home", shards=4, progress=lambda at: told.append(at.done)
        )
        assert rows == one.count(namespace=None) == told[-1]
        with cluster.connect(quick_path / "home", mode="r") as many:
            assert (many.home.m, many.home.tokenizer, many.home.shards) == (5, "porter", 4)
            assert cluster.export_store(many, quick_path / "again.mrl") == rows
            include: Any = ("metadata", "document", "vector")
            with mrlstore.open(quick_path / "again.mrl", mode="r") as again:
                for before, between, after in zip(
                    *(store.scan(namespace=None, include=include) for store in (one, many, again)),
                    strict=True,
                ):
                    assert (before.vector is None) == (after.vector is None)
                    if before.vector is not None and between.vector is not None and after.vector is not None:
                        stored = [
                            stored_rows(one.vector[None])[0].tobytes() for one in (before, between, after)
                        ]
                        assert stored[0] == stored[1] == stored[2]
                        np.testing.assert_allclose(after.vector, before.vector, rtol=1e-6)
                    plain = [replace(record, vector=None) for record in (before, between, after)]
                    assert plain[0] == plain[1] == plain[2]
            with pytest.raises(mrlstore.StoreExists):
                cluster.export_store(many, quick_path / "again.mrl")
        with pytest.raises(mrlstore.StoreExists):
            cluster.import_store(quick_path / "one.mrl", quick_path / "home")
    mrlstore.open(quick_path / "empty.mrl").close()
    with pytest.raises(mrlstore.InvalidInput, match="without a vector"):
        cluster.import_store(quick_path / "empty.mrl", quick_path / "other")


def test_a_forked_child_is_told_to_connect_by_itself(quick_path: Path) -> None:
    with connected(made(2), quick_path) as store:
        store.upsert(["a", "b"], None)
        child = os.fork()
        if not child:
            told = 1
            try:
                store.count()
            except mrlstore.StoreClosed as error:
                told = 0 if "forked" in str(error) else 2
            finally:
                store.close()
                os._exit(told)
        assert os.waitpid(child, 0)[1] == 0
        assert store.upsert(["c"], None) == 1 and store.count() == 3


class SlowAndRefusing(MemoryStorage):
    """Refuses to list one shard at once, and lists another late."""

    def list_objects(self, prefix: str = "", after: str = "") -> list[StoredObject]:
        if prefix.startswith("shards/0000"):
            raise mrlstore.ObjectStorageError("test: refused")
        time.sleep(0.1)
        return super().list_objects(prefix, after)


def test_a_connection_that_fails_leaves_nothing_behind(quick_path: Path) -> None:
    storage = made(2)
    with pytest.raises(mrlstore.ObjectStorageError, match="test: refused"):
        connected(SlowAndRefusing(storage.objects), quick_path)
    with connected(storage, quick_path) as store:
        assert store.upsert(["a", "b", "c"], None) == 3


@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_copy_that_is_removed_while_it_is_open_is_made_anew(quick_path: Path, mode: Any) -> None:
    storage = made(2)
    with connected(storage, quick_path / "first") as store:
        store.upsert(IDS[:20], vectors()[:20])
    with connected(storage, quick_path / "copies", mode=mode, poll_s=0) as store:
        assert store.count() == 20
        shutil.rmtree(quick_path / "copies", ignore_errors=True)
        assert store.query(vectors()[3], 1, exact=True).ids == ["r3"] and store.count() == 20
        if mode == "a":
            shutil.rmtree(quick_path / "copies", ignore_errors=True)
            assert store.update(["r3", "r4"], [{"n": 1}, {"n": 1}]) == 2
            assert store.count({"n": 1}) == 2 and store.verify().ok


def test_readers_are_served_while_writers_stop_and_begin_again(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside.CLUSTER_PAUSE_S, 0.001)
    storage = Refusing(made(2).objects)
    failures = list[BaseException]()
    with connected(storage, quick_path) as store:
        store.upsert(IDS[:20], vectors()[:20])
        end = threading.Event()

        def read() -> None:
            try:
                while not end.is_set():
                    assert store.query(vectors()[3], 1, exact=True).ids == ["r3"]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(5):
            storage.refused = ("shards/0000", "shards/0001")
            with pytest.raises(mrlstore.MrlStoreError):
                store.upsert([f"new{number}", f"more{number}"], None)
            storage.refused = ()
            assert store.upsert([f"new{number}", f"more{number}"], None) == 2
        end.set()
        for thread in threads:
            thread.join(60)
    assert not failures, failures


def test_the_methods_are_those_of_a_store() -> None:
    """Each has the arguments and defaults of `Store`; what is there beside is listed."""
    refused = {name for name in vars(OnlyInStores) if not name.startswith("_")}
    more = {"home", "hosts", "snapshot", "url"}
    arguments = {"after", "on_missing"}  # a token, and what to do where a shard does not answer
    differ = {
        "query": {"ties"},  # shards know no order of row keys in common
        "aquery": {"ties"},
    }
    public = {name for name in dir(cluster.ShardedStore) if not name.startswith("_")}
    assert public == {name for name in dir(mrlstore.Store) if not name.startswith("_")} | more
    for name in public - more - refused:
        ours, theirs = getattr(cluster.ShardedStore, name), getattr(mrlstore.Store, name)
        if not callable(theirs):
            continue
        first, second = (
            {each.name: (each.kind, each.default) for each in inspect.signature(method).parameters.values()}
            for method in (ours, theirs)
        )
        changed = {argument for argument in second if first.get(argument) != second[argument]}
        assert changed == differ.get(name, set()), name
        assert set(first) - set(second) <= arguments - set(second), name
