"""The same operations through `Store` and through `RemoteStore`: names, arguments, results and errors."""

from __future__ import annotations

import asyncio
import inspect
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import BatchResult, Progress, RemoteStore, Result, Store
from mrlstore.client.answered_errors import error_of
from mrlstore.embedders import LocalEmbedder
from tests.server.running import RunningServer, running

DIM, ROWS = 16, 700
RNG = np.random.default_rng(7)
VECTORS = RNG.normal(size=(ROWS, DIM)).astype(np.float32)
IDS = [f"row-{n:03}" for n in range(ROWS)]
METADATAS = [{"n": n, "half": n % 2 == 0, "tags": ["a", "b"][: n % 3], "big": 2**70} for n in range(ROWS)]
DOCUMENTS = [f"page {n} of the {'red' if n % 7 == 0 else 'blue'} book" for n in range(ROWS)]
QUERY = VECTORS[3] + 0.1
Call = Callable[[Any], Any]


class _Embedder:
    fingerprint = "test"

    def embed_documents(self, contents: Any) -> Any:
        return np.ones((len(contents), DIM), dtype=np.float32)

    def embed_query(self, content: Any) -> Any:
        return QUERY


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running(tmp_path_factory.mktemp("remote") / "stores") as started:
        yield started


def fill(store: Any) -> None:
    store.upsert(IDS, VECTORS, METADATAS, DOCUMENTS)
    store.upsert(["x", "y"], VECTORS[:2] * 3, [{"n": 1}, None], namespace="other")
    store.upsert(["bare"], None, [{"n": -1}], ["only a red text"])
    store.optimize()


@pytest.fixture(scope="module")
def pair(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, RemoteStore]]:
    """A store, and one with the same rows behind a server."""
    path = tmp_path_factory.mktemp("embedded") / "rows.mrl"
    with (
        mrlstore.open(path, dim=DIM, prefix_dim=8, embedder=_Embedder(), auto_maintain=False) as store,
        mrlstore.connect(server.url, index="rows", dim=DIM, prefix_dim=8, embedder=_Embedder()) as remote,
    ):
        fill(store)
        fill(remote)
        yield store, remote


READS: dict[str, Call] = {
    "vector": lambda s: s.query(QUERY, 5),
    "a list of numbers": lambda s: s.query(QUERY.tolist(), 5, include=()),
    "everything": lambda s: s.query(QUERY, 3, include=("metadata", "document", "vector")),
    "id": lambda s: s.query(id="row-005", k=4),
    "text": lambda s: s.query(text="anything", k=4),
    "where": lambda s: s.query(QUERY, 5, where={"half": True, "n": {"$lt": np.int64(50)}}),
    "all namespaces": lambda s: s.query(QUERY, 5, namespace=None),
    "two namespaces": lambda s: s.query(QUERY, 5, namespace=("", "other")),
    "target recall": lambda s: s.query(QUERY, 5, target_recall=1),
    "exact": lambda s: s.query(QUERY, 5, exact=True, min_score=0.2),
    "prefix": lambda s: s.query(QUERY, 5, dim=4),
    "effort": lambda s: s.query(QUERY, 5, ef=40, shortlist=20),
    "keywords": lambda s: s.query(QUERY, 5, keywords="red book", weights=(1, 2)),
    "keywords alone": lambda s: s.query(keywords='"red book"', k=5),
    "groups": lambda s: s.query(QUERY, 2, group_by="half", group_size=2).groups,
    "examples": lambda s: s.query(positive=["row-001", VECTORS[2]], negative=["row-004"], k=4),
    "diversity": lambda s: s.query(QUERY, 4, diversity=0.5, candidates=30),
    "a page": lambda s: s.query(QUERY, 4, offset=4),
    "explain": lambda s: s.query(QUERY, 4, explain=True).plan.explanation.hits,
    "plan": lambda s: s.query(QUERY, 4).plan.expected,
    "batch": lambda s: s.query_batch(VECTORS[:5] + 0.2, 3),
    "batch scores": lambda s: s.query_batch(VECTORS[:2], 3, where={"n": {"$lt": 2}}).scores,
    "batch of none": lambda s: s.query_batch(np.empty((0, DIM), dtype=np.float32)).ids,
    "get": lambda s: s.get(["row-003", "missing", "row-001"]),
    "get with vectors": lambda s: s.get(("x", "y"), namespace="other", include=("vector", "metadata")),
    "get by filter": lambda s: s.get(where={"n": {"$lte": 2}}, limit=2, include=()),
    "get of an array": lambda s: s.get(np.array(["row-001"])),
    "scan": lambda s: list(s.scan()),
    "scan in pages": lambda s: list(s.scan(include=("vector",), namespace=None, limit=250)),
    "scan a prefix": lambda s: list(s.scan(prefix="row-00", limit=5)),
    "scan by a field": lambda s: [row.id for row in s.scan(order_by="n", descending=True, limit=7)],
    "scan on": lambda s: [row.id for row in s.scan(after=next(s.scan(prefix="row-5")).cursor, limit=3)],
    "scan none": lambda s: list(s.scan(limit=0)),
    "count": lambda s: (s.count(), s.count({"half": True}), s.count(namespace=None), len(s), bool(s)),
    "facets": lambda s: s.facets("tags") + s.facets("n", where={"n": {"$lt": 3}}, limit=2),
    "sample": lambda s: s.sample(5, seed=3, include=("metadata",)),
    "duplicates": lambda s: list(s.duplicates(0.7, where={"half": True})),
    "duplicates of all namespaces": lambda s: list(s.duplicates(namespace=None, include=("vector",))),
    "duplicates limited": lambda s: (list(s.duplicates(0.5, limit=2)), list(s.duplicates(limit=0))),
    "namespaces": lambda s: s.namespaces(),
    "properties": lambda s: (s.dim, s.prefix_dim, s.settings.m, s.settings.tokenizer),
    "stats": lambda s: (s.stats().rows, s.stats().rows_without_vector, s.stats().bytes_by_kind["index"] > 0),
    "verify": lambda s: s.verify().ok,
}

WRONG: dict[str, Call] = {
    "another dim": lambda s: s.query([1.0, 2.0], 3),
    "a zero vector": lambda s: s.query(np.zeros(DIM)),
    "not a number": lambda s: s.query(np.full(DIM, np.nan)),
    "words for numbers": lambda s: s.query(["a"] * DIM),
    "a matrix": lambda s: s.query(VECTORS[:2]),
    "two sources": lambda s: s.query(QUERY, id="row-001"),
    "no source": lambda s: s.query(),
    "k": lambda s: s.query(QUERY, 0),
    "k of a type": lambda s: s.query(QUERY, "5"),
    "many": lambda s: s.query(QUERY, 10_001),
    "an operator": lambda s: s.query(QUERY, where={"n": {"$near": 1}}),
    "include": lambda s: s.query(QUERY, include=("all",)),
    "target": lambda s: s.query(QUERY, target_recall=2),
    "an id that is missing": lambda s: s.query(id="missing"),
    "get nothing": lambda s: s.get(),
    "delete nothing": lambda s: s.delete(),
    "update nothing": lambda s: s.update(["row-001"]),
    "an empty id": lambda s: s.upsert([""], [QUERY]),
    "an id twice as an error": lambda s: s.upsert(["row-001"], [QUERY], on_conflict="error"),
    "a choice": lambda s: s.upsert(["a"], [QUERY], on_conflict="maybe"),
    "lengths": lambda s: s.upsert(["a", "b"], [QUERY]),
    "metadata": lambda s: s.upsert(["a"], [QUERY], [{"x": object()}]),
    "long metadata": lambda s: s.upsert(["a"], [QUERY], [{"x": "y" * 70_000}]),
    "a namespace": lambda s: s.count(namespace="n" * 300),
    "a cursor": lambda s: list(s.scan(after="nonsense")),
    "a limit": lambda s: list(s.scan(limit=-1)),
    "descending": lambda s: list(s.scan(descending=True)),
    "weights": lambda s: s.query(keywords="a", weights=(0, 0)),
    "a field": lambda s: s.facets(3),
    "a threshold": lambda s: list(s.duplicates(1.5)),
    "a limit of groups": lambda s: list(s.duplicates(limit=-1)),
    "prefix_dim": lambda s: s.set_prefix_dim(DIM + 1),
    "an audit": lambda s: s.audit(rate=2),
    "progress": lambda s: s.optimize(progress=3),
    "a wait": lambda s: s.optimize(timeout_s=-1),
}


def plain(value: Any) -> Any:
    """Results as values that compare: rounded only where two runs of one kernel may differ."""
    if isinstance(value, Result):
        return [plain(tuple(hit)) for hit in value], plain(value.groups), value.plan.effort
    if isinstance(value, BatchResult):
        return [plain(result) for result in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, plain(list(asdict(value).values()))
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else pytest.approx(value, abs=1e-6)
    return value


@pytest.mark.parametrize("name", READS)
def test_reads_give_the_same(pair: tuple[Store, RemoteStore], name: str) -> None:
    embedded, remote = (READS[name](store) for store in pair)
    assert type(embedded) is type(remote)
    assert plain(embedded) == plain(remote)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_the_same_error(pair: tuple[Store, RemoteStore], name: str) -> None:
    found = []
    for store in pair:
        with pytest.raises(mrlstore.MrlStoreError) as caught:
            WRONG[name](store)
        found.append(type(caught.value))
    assert found[0] is found[1], found


def test_writes_do_the_same(server: RunningServer, tmp_path: Path) -> None:
    steps: list[Call] = [
        lambda s: s.upsert(["a", "b", "c"], VECTORS[:3], [{"x": 1}, None, {"y": [1, {"z": None}]}]),
        lambda s: s.upsert(["a", "d"], VECTORS[3:5] * 7, on_conflict="skip"),
        lambda s: s.upsert(["e", "f"], [VECTORS[5], None], documents=["e", None]),
        lambda s: s.upsert((), ()),
        lambda s: s.update(["a", "missing"], [{"x": None, "w": 2}, {}], vectors=[None, None]),
        lambda s: s.update(where={"w": 2}, metadatas={"v": True}),
        lambda s: s.update(["b"], documents=["b"], vectors=VECTORS[9:10]),
        lambda s: s.delete(["c", "nobody"]),
        lambda s: s.delete(where={"x": {"$exists": True}}),
        lambda s: s.upsert(["n-1", "n-2"], VECTORS[:2], namespace="n"),
        lambda s: s.delete(prefix="n-1", namespace="n"),
        lambda s: s.clear("n"),
        lambda s: list(s.scan(namespace=None, include=("metadata", "document", "vector"))),
    ]
    with (
        mrlstore.open(tmp_path / "w.mrl") as store,
        mrlstore.connect(server.url, index="written") as remote,
    ):
        for step in steps:
            assert plain(step(store)) == plain(step(remote))


def test_the_async_methods_send_on_the_loop(pair: tuple[Store, RemoteStore]) -> None:
    store, remote = pair

    async def both(each: Any) -> list[Any]:
        found = await asyncio.gather(
            each.aquery(QUERY, 3), each.aquery_batch(VECTORS[:2], 2), each.aget(["row-001"]),
            each.acount({"half": True}), each.afacets("tags"), each.asample(2, seed=1),
            each.aupsert(["async"], VECTORS[:1], namespace="loop"),
        )  # fmt: skip
        written = [await each.aupdate(["async"], [{"a": 1}], namespace="loop")]
        return [*found, *written, await each.adelete(["async"], namespace="loop")]

    async def closed_afterwards() -> list[Any]:
        try:
            return await both(remote)
        finally:
            for client in remote.transport.of_loop():
                await client.aclose()

    assert plain(asyncio.run(both(store))) == plain(asyncio.run(closed_afterwards()))


def test_the_methods_are_those_of_a_store() -> None:
    """Each has the arguments and defaults of `Store`; what a server cannot do is listed."""
    absent = {"export_hnswlib", "ship", "path"}
    more = {"url", "transport", "aclose", "backups", "restore", "drop_backup"}
    public = {name for name in dir(RemoteStore) if not name.startswith("_")} | {"transport"}
    assert public == {name for name in dir(Store) if not name.startswith("_")} - absent | more
    for name in public - more:
        ours, theirs = getattr(RemoteStore, name), getattr(Store, name)
        if not callable(ours):
            continue
        first = {each.name: (each.kind, each.default) for each in inspect.signature(ours).parameters.values()}
        second = {
            each.name: (each.kind, each.default) for each in inspect.signature(theirs).parameters.values()
        }
        assert first == second, name


def test_long_work_reports_its_progress(server: RunningServer) -> None:
    seen: list[Progress] = []
    with mrlstore.connect(server.url, index="care") as remote:
        remote.upsert(IDS, VECTORS)
        remote.optimize(seen.append)
        assert remote.stats().segments == 1
        learned = remote.calibrate(VECTORS[:50] + 0.1, k=[5, 10], progress=seen.append)
        assert {curve.k for curve in learned.curves} <= {5, 10} and learned.source == "queries"
        report = remote.tier_report(k=5, dims=[4, 8], count=20, sample=100, progress=seen.append)
        assert report.tiers[0].rows and report.path == "" and set(report.curves) == {4, 8}
        remote.set_prefix_dim(4, seen.append)
        assert remote.prefix_dim == 4
        checked = remote.repair(seen.append)
        assert checked.ok and checked.report.rows == ROWS
    assert seen and all(isinstance(each, Progress) and each.total > 0 for each in seen)


def test_an_error_of_the_callback_stops_the_work(server: RunningServer) -> None:
    def refuse(progress: Progress) -> None:
        raise KeyboardInterrupt

    with mrlstore.connect(server.url, index="stopped") as remote:
        remote.upsert(IDS, VECTORS)
        with pytest.raises(KeyboardInterrupt):
            remote.optimize(refuse)
        assert remote.count() == ROWS and remote.verify().ok


def test_backups_are_kept_and_restored_by_the_server(server: RunningServer) -> None:
    with mrlstore.connect(server.url, index="kept") as remote:
        remote.upsert(["a"], [QUERY])
        remote.backup("monday")
        with pytest.raises(mrlstore.StoreExists):
            remote.backup("monday")
        remote.upsert(["b"], [QUERY])
        assert remote.backups() == ["monday"]
        remote.restore("monday", "kept-2")
        with pytest.raises(mrlstore.StoreExists):
            remote.restore("monday", "kept")
        with pytest.raises(mrlstore.StoreNotFound):
            remote.restore("tuesday", "kept-3")
        with mrlstore.connect(server.url, index="kept-2", mode="r") as restored:
            assert [row.id for row in restored.scan()] == ["a"]
        for name in ("../x", "a/b", ".hidden", ""):
            with pytest.raises(mrlstore.MrlStoreError):
                remote.backup(name)
        remote.drop_backup("monday")
        assert remote.backups() == []


def test_modes(server: RunningServer) -> None:
    with pytest.raises(mrlstore.StoreNotFound):
        mrlstore.connect(server.url, index="nowhere", mode="r")
    with mrlstore.connect(server.url, index="new", mode="x", dim=4) as made:
        assert (made.dim, made.generation) == (4, 1)
        assert "new" in repr(made) and "0 rows" in repr(made)
    with pytest.raises(mrlstore.StoreExists):
        mrlstore.connect(server.url, index="new", mode="x")
    with pytest.raises(mrlstore.InvalidInput, match="dim: 8 was given, but this index has 4"):
        mrlstore.connect(server.url, index="new", dim=8)
    with (
        mrlstore.connect(server.url, index="new", mode="r") as reader,
        pytest.raises(mrlstore.InvalidInput, match='mode="r"'),
    ):
        reader.upsert(["a"], [[1, 2, 3, 4]])
    with pytest.raises(mrlstore.StoreClosed):
        reader.count()


def test_a_text_is_embedded_by_the_server_where_the_client_has_no_embedder(server: RunningServer) -> None:
    root = Path(str(server.process.args[3]))  # type: ignore[index]
    texts = [
        f"{color} {thing} {n}" for n in range(4) for color in ("red", "blue") for thing in ("cat", "car")
    ]
    model = LocalEmbedder.fit(texts, dim=4)
    model.save(root / "texts.lsa.npz")
    with mrlstore.open(root / "texts.mrl", embedder=model) as store:
        store.add(texts)
        expected = store.query(text="a blue car", k=3).ids
    with mrlstore.connect(server.url, index="texts", mode="r") as remote:
        assert remote.query(text="a blue car", k=3).ids == expected
        with pytest.raises(mrlstore.InvalidInput, match="no embedder"):
            remote.query(content="a blue car")
    with (
        mrlstore.connect(server.url, index="no-texts", dim=4) as remote,
        pytest.raises(mrlstore.InvalidInput, match="no model that embeds them"),
    ):
        remote.query(text="a blue car")


def test_a_server_that_is_not_there() -> None:
    for url in ("localhost:5080", "ftp://localhost", 3):
        with pytest.raises(mrlstore.InvalidInput, match="url"):
            mrlstore.connect(url, index="rows")  # type: ignore[arg-type]
    with pytest.raises(mrlstore.ServerError) as caught:
        mrlstore.connect("http://127.0.0.1:1", index="rows", timeout_s=5)
    assert caught.value.status == 0


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (401, {"code": "UNAUTHENTICATED", "type": "", "message": "m"}, mrlstore.AccessDenied),
        (403, {"code": "PERMISSION_DENIED", "type": "", "message": "m"}, mrlstore.AccessDenied),
        (404, {"code": "NOT_FOUND", "type": "", "message": "m"}, mrlstore.StoreNotFound),
        (400, {"code": "INVALID_ARGUMENT", "type": "IdExists", "message": "m"}, mrlstore.IdExists),
        (400, {"code": "INVALID_ARGUMENT", "type": "", "message": "m"}, mrlstore.InvalidInput),
        (413, {"code": "PAYLOAD_TOO_LARGE", "type": "", "message": "m"}, mrlstore.LimitExceeded),
        (500, {"code": "DATA_LOSS", "type": "CorruptStore", "message": "m"}, mrlstore.CorruptStore),
        (503, {"code": "UNAVAILABLE", "type": "StoreLocked", "message": "m"}, mrlstore.StoreLocked),
        (507, {"code": "RESOURCE_EXHAUSTED", "type": "StorageFull", "message": "m"}, mrlstore.StorageFull),
        (500, {"code": "INTERNAL", "type": "Path", "message": "m"}, mrlstore.ServerError),
        (502, "a proxy's page", mrlstore.ServerError),
    ],
)
def test_the_errors_of_a_server_are_those_of_the_library(status: int, told: Any, kind: type) -> None:
    error = error_of(status, {"error": told}, "http://localhost")
    assert type(error) is kind
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error)


class _Counting(_Embedder):
    """Counts what it embeds."""

    def __init__(self, fingerprint: Any = "counting") -> None:
        self.fingerprint, self.embedded = fingerprint, 0

    def embed_documents(self, contents: Any) -> Any:
        self.embedded += len(contents)
        return np.array([[len(text), *range(1, DIM)] for text in contents], dtype=np.float32)


def test_add_embeds_here_and_goes_on_where_it_stopped(server: RunningServer, tmp_path: Path) -> None:
    texts, embedder = [f"text {n}" * (n + 1) for n in range(12)], _Counting({"model": "m", "dim": DIM})
    with (
        mrlstore.open(tmp_path / "added.mrl", embedder=embedder) as store,
        mrlstore.connect(server.url, index="added", embedder=embedder) as remote,
    ):
        for one in (store, remote):
            embedder.embedded = 0
            assert one.embedder_fingerprint is None
            added = one.add(texts[:8], metadatas=[{"n": n} for n in range(8)])
            assert one.add(texts) == [*added, *one.add(texts[8:])] and embedder.embedded == len(texts)
            assert one.embedder_fingerprint == {"model": "m", "dim": DIM}
        rows, served = (list(one.scan(include=("document", "vector"))) for one in (store, remote))
        assert plain(rows) == plain(served) and plain(store.get(limit=99)) == plain(remote.get(limit=99))
        assert asyncio.run(remote.aadd(texts[:2], ids=["a", "b"], namespace="other")) == ["a", "b"]
        assert remote.namespaces() == {"": 12, "other": 2}
        remote.record_embedder({"dim": DIM, "model": "m"})
    with mrlstore.connect(server.url, index="added", embedder=_Counting("else")) as other:
        for call in (lambda: other.add(["new"]), lambda: other.record_embedder("else")):
            with pytest.raises(mrlstore.InvalidInput, match="another embedder"):
                call()
        with pytest.raises(mrlstore.InvalidInput, match="fingerprint"):
            other.record_embedder(5)  # type: ignore[arg-type]
        assert other.count() == 12
