"""Every public call of a store, as tests of interrupts make it: what it does, and what leads to it and back.

The store has a segment and a tail in two namespaces, and a row without a vector. A call that reads gives an
answer that can be compared, one that writes has its way back, one that maintains finds something to do.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore import shipping
from tests.oracle import nested_vectors

DIM, ROWS = 8, 16
VECTORS = nested_vectors(10 * ROWS, DIM)
SPACES = ("a", "b")

HAS_HNSWLIB = importlib.util.find_spec("hnswlib") is not None

Rows = dict[str, int]  # id -> n of its metadata
Answer = Any  # whatever a call gives, in a form that can be compared


class Words:
    """An embedder: a text's vector is settled by its length."""

    dim = DIM
    fingerprint = "words of a test"

    def embed_documents(self, contents: Any) -> NDArray[np.float32]:
        """One vector for each text."""
        return VECTORS[[len(text) % len(VECTORS) for text in contents]]

    def embed_query(self, content: Any) -> NDArray[np.float32]:
        """The vector of a question."""
        return VECTORS[len(content) % len(VECTORS)]


class Bench:
    """A store that calls are made of, another handle of it, and a folder for what they write beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "store.mrl"
        self.extra: mrlstore.Store | None = None  # a third handle, of calls that open one
        self.store = self.opened(dim=DIM)
        for first, prefix in ((0, "s"), (100, "r")):
            for space in SPACES:
                self.upsert(prefix, first, space)
            if not first:
                self.store.optimize()
        self.store.upsert(["bare"], None, [{"n": 500, "kind": "bare"}], ["a bare word"], namespace="b")
        self.other = self.opened()

    def opened(self, **options: Any) -> mrlstore.Store:
        """The store, opened once more."""
        return mrlstore.open(self.path, embedder=Words(), auto_maintain=False, threads=2, **options)

    def reopen(self) -> None:
        """A fresh handle, whose connections and maps are still to be opened."""
        self.store.close()
        self.store = self.opened()

    def close(self) -> None:
        """Close both handles."""
        self.store.close()
        self.other.close()

    def upsert(self, prefix: str, first: int, namespace: str, count: int = ROWS) -> None:
        """Store rows by the other handle, or by the only one."""
        store = getattr(self, "other", self.store)
        numbers = range(count)
        metadatas = [{"n": first + i, "kind": "even" if i % 2 == 0 else "odd"} for i in numbers]
        documents = [f"word number {first + i}" for i in numbers]
        store.upsert([f"{prefix}{i}" for i in numbers], VECTORS[:count], metadatas, documents,
                     namespace=namespace)  # fmt: skip

    def beside(self, name: str) -> Path:
        """A path beside the store where nothing is."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        return target


def glance(store: mrlstore.Store) -> Rows:
    """The rows of "b", found in two ways that must agree; takes a fifth of the time of `look`."""
    found = {record.id: record.metadata["n"] for record in store.scan(namespace="b") if record.metadata}
    wanted = sorted(id for id, n in found.items() if n >= 108 and not id.startswith("bare"))
    where = {"n": {"$gte": 108}}
    assert sorted(store.query(VECTORS[0], k=500, where=where, namespace="b", include=()).ids) == wanted
    return found


def look(store: mrlstore.Store, namespace: str = "b") -> Rows:
    """The rows of a namespace, found in ways that must agree; those named bare... have no vector."""
    found = {record.id: record.metadata["n"] for record in store.scan(namespace=namespace) if record.metadata}
    assert store.count(namespace=namespace) == len(found)
    hits = store.query(VECTORS[0], k=500, exact=True, namespace=namespace)
    assert {hit.id: hit.metadata["n"] for hit in hits if hit.metadata} == {
        id: n for id, n in found.items() if not id.startswith("bare")
    }
    wanted = sorted(id for id, n in found.items() if n >= 108)
    where = {"n": {"$gte": 108}}
    assert sorted(record.id for record in store.get(where=where, namespace=namespace)) == wanted
    by_filter = store.query(VECTORS[0], k=500, where=where, namespace=namespace, include=())
    assert sorted(by_filter.ids) == [id for id in wanted if not id.startswith("bare")]
    return found


# --- reads -----------------------------------------------------------------------------------------


def _hits(result: mrlstore.Result) -> Answer:
    return [(hit.id, hit.metadata, round(hit.score, 5)) for hit in result]


def _records(records: Any) -> Answer:
    return [(record.id, record.metadata, record.document) for record in records]


def _query(**options: Any) -> Callable[[Bench], Answer]:
    return lambda bench: _hits(bench.store.query(namespace=options.pop("namespace", "b"), **options))


_Q = VECTORS[3]
_LOW: dict[str, Any] = {"n": {"$lt": 105}}

READS: dict[str, Callable[[Bench], Answer]] = {
    "query": lambda b: _hits(b.store.query(_Q, k=5, namespace="b")),
    "query for ids": lambda b: b.store.query(_Q, k=5, namespace="b", include=()).ids,
    "query for documents": lambda b: [
        hit.document for hit in b.store.query(_Q, k=5, namespace="b", include=("document",))
    ],
    "query for vectors": lambda b: [
        np.round(hit.vector, 3).tolist()
        for hit in b.store.query(_Q, k=5, namespace="b", include=("vector",))
        if hit.vector is not None
    ],
    "query by id": lambda b: _hits(b.store.query(id="r3", k=5, namespace="b")),
    "query by text": lambda b: _hits(b.store.query(text="word", k=5, namespace="b")),
    "query by examples": lambda b: _hits(
        b.store.query(positive=["r1", VECTORS[2]], negative=["s5"], k=5, namespace="b")
    ),
    "query filtered": lambda b: _hits(b.store.query(_Q, k=5, namespace="b", where={"kind": "odd"})),
    "query of namespaces": lambda b: _hits(b.store.query(_Q, k=5, namespace=("a", "b"))),
    "query of all": lambda b: _hits(b.store.query(_Q, k=5, namespace=None)),
    "query exact": lambda b: _hits(b.store.query(_Q, k=5, namespace="b", exact=True)),
    "query by dim": lambda b: _hits(b.store.query(_Q, k=5, namespace="b", dim=4, explain=True)),
    "query by effort": lambda b: _hits(b.store.query(_Q, k=5, namespace="b", ef=50, shortlist=20)),
    "query by recall": lambda b: _hits(
        b.store.query(_Q, k=5, namespace="b", target_recall=0.9, min_score=0.1)
    ),
    "query keywords": lambda b: _hits(b.store.query(k=5, keywords='num* "word number"', namespace="b")),
    "query hybrid": lambda b: _hits(
        b.store.query(_Q, k=5, keywords="word", weights=(1.0, 2.0), where={"kind": "odd"}, namespace="b")
    ),
    "query groups": lambda b: _hits(b.store.query(_Q, k=2, group_by="kind", group_size=2, namespace="b")),
    "query diverse": lambda b: _hits(b.store.query(_Q, k=3, diversity=0.5, candidates=9, namespace="b")),
    "query page": lambda b: _hits(b.store.query(_Q, k=3, offset=3, namespace="b")),
    "query ties": lambda b: _hits(b.store.query(_Q, k=3, ties="id", exact=True, namespace="b")),
    "query_batch": lambda b: b.store.query_batch(VECTORS[:70], k=5, namespace="b", include=()).ids,
    "query_batch filtered": lambda b: [
        _hits(one) for one in b.store.query_batch(VECTORS[:3], k=5, namespace="b", where=_LOW)
    ],
    "get by id": lambda b: _records(b.store.get(["r1", "missing", "s2", "bare"], namespace="b")),
    "get vectors": lambda b: [
        np.round(record.vector, 3).tolist()
        for record in b.store.get(["r1", "s2"], namespace="b", include=("vector",))
        if record.vector is not None
    ],
    "get by filter": lambda b: _records(b.store.get(where=_LOW, limit=5, namespace="b")),
    "get both": lambda b: _records(b.store.get(["r1", "r9"], where=_LOW, namespace="b")),
    "scan": lambda b: _records(b.store.scan(namespace=None)),
    "scan filtered": lambda b: _records(b.store.scan(_LOW, namespace="b", prefix="r")),
    "scan in order": lambda b: _records(b.store.scan(order_by="n", descending=True, namespace="b", limit=12)),
    "scan page": lambda b: _records(
        b.store.scan(namespace="b", after=next(iter(b.store.scan(namespace="b"))).cursor)
    ),
    "count": lambda b: b.store.count(namespace="b"),
    "count filtered": lambda b: b.store.count({"n": {"$gte": 110}}, namespace=None),
    "facets": lambda b: b.store.facets("kind", where=_LOW, namespace=None),
    "sample": lambda b: _records(b.store.sample(5, seed=1, namespace="b", where={"kind": "odd"})),
    "duplicates": lambda b: sorted(
        len(group.duplicates) for group in b.store.duplicates(0.99, namespace=None)
    ),
    "namespaces": lambda b: {name: count for name, count in b.store.namespaces().items() if name in SPACES},
    "stats": lambda b: b.store.stats().segments,
    "settings": lambda b: b.store.settings.dim,
    "dim": lambda b: b.store.dim,
    "generation": lambda b: b.store.generation > 0,
    "prefix_dim": lambda b: b.store.prefix_dim,
    "path": lambda b: b.store.path,
    "embedder_fingerprint": lambda b: b.store.embedder_fingerprint,
    "tier_report": lambda b: b.store.tier_report(VECTORS[:10], 3, (4,), namespace="b", sample=100).dim,
}
"""What a call answers; nothing changes."""


# --- writes ----------------------------------------------------------------------------------------


class Write(NamedTuple):
    """A call that changes rows of the namespace "b", and the calls that undo it."""

    run: Callable[[Bench], object]
    back: Callable[[Bench], object]


def _restored(bench: Bench) -> None:
    """All rows of "b" as they were, whatever a call has done to them; segments may have dead rows."""
    bench.other.delete(["new1", "new2", "bare2"], namespace="b")
    for first, prefix in ((0, "s"), (100, "r")):
        bench.upsert(prefix, first, "b")
    bench.other.upsert(["bare"], None, [{"n": 500, "kind": "bare"}], ["a bare word"], namespace="b")


_NEW: dict[str, Any] = {"metadatas": [{"n": 1}, {"n": 2}, {"n": 3}], "namespace": "b"}


def _with_n(bench: Bench, records: list[str]) -> None:
    bench.store.update(records, [{"n": 7}] * len(records), namespace="b")


WRITES: dict[str, Write] = {
    "upsert": Write(
        lambda b: b.store.upsert(["new1", "r1", "new2"], VECTORS[:3], documents=["a", None, "b"], **_NEW),
        lambda b: (b.other.delete(["new1", "new2"], namespace="b"), b.upsert("r", 100, "b", 2)),
    ),
    "upsert without vectors": Write(
        lambda b: b.store.upsert(["new1", "r1", "bare2"], [VECTORS[0], VECTORS[1], None], **_NEW),
        lambda b: (b.other.delete(["new1", "bare2"], namespace="b"), b.upsert("r", 100, "b", 2)),
    ),
    "upsert skipping": Write(
        lambda b: b.store.upsert(["new1", "r1", "new2"], VECTORS[:3], on_conflict="skip", **_NEW),
        lambda b: b.other.delete(["new1", "new2"], namespace="b"),
    ),
    "update metadata": Write(lambda b: _with_n(b, ["r1", "s1", "bare", "missing"]), _restored),
    "update vectors": Write(
        lambda b: b.store.update(["r1", "s1"], [{"n": 7}] * 2, ["x", "y"], vectors=VECTORS[8:10],
                                 namespace="b"),
        _restored,
    ),
    "update by filter": Write(
        lambda b: b.store.update(metadatas={"n": 9}, where={"n": {"$gte": 112, "$lt": 200}}, namespace="b"),
        lambda b: b.upsert("r", 100, "b"),
    ),
    "delete by id": Write(
        lambda b: b.store.delete(["r1", "r2", "s1", "missing"], namespace="b"),
        lambda b: (b.upsert("r", 100, "b", 3), b.upsert("s", 0, "b", 2)),
    ),
    "delete by filter": Write(
        lambda b: b.store.delete(where={"n": {"$gte": 112, "$lt": 200}}, namespace="b"),
        lambda b: b.upsert("r", 100, "b"),
    ),
    "delete by prefix": Write(
        lambda b: b.store.delete(prefix="r", namespace="b"), lambda b: b.upsert("r", 100, "b")
    ),
    "clear": Write(lambda b: b.store.clear("b"), _restored),
    "add": Write(
        lambda b: b.store.add(["one text", "another"], ["new1", "new2"], [{"n": 1}, {"n": 2}], namespace="b"),
        lambda b: b.other.delete(["new1", "new2"], namespace="b"),
    ),
}  # fmt: skip


# --- the rest --------------------------------------------------------------------------------------


class Care(NamedTuple):
    """A call that changes no row: what it needs to have something to do, and what must hold after it."""

    run: Callable[[Bench], object]
    begin: Callable[[Bench], object] = lambda _: None
    judge: Callable[[Bench], object] = lambda _: None


def _rewrite(bench: Bench) -> None:
    """Rows go from the segment to the tail: something to flush and to merge."""
    bench.upsert("s", 0, "b", 4)


def _whole_or_absent(name: str) -> Callable[[Bench], None]:
    """A store at that path is whole, or there is none and nothing beside it is left."""

    def judge(bench: Bench) -> None:
        target = bench.folder / name
        if target.exists():
            with mrlstore.open(target, auto_maintain=False) as copy:
                assert look(copy) == look(bench.other) and copy.verify().ok
        shutil.rmtree(target, ignore_errors=True)
        known = {"store.mrl", "shipped", "fresh.mrl"}
        assert {entry.name for entry in bench.folder.iterdir()} <= known

    return judge


def _ship(bench: Bench) -> None:
    with bench.store.ship(bench.folder / "shipped", every_s=3600.0) as shipped:
        shipped.now(60.0)


def _judge_shipped(bench: Bench) -> None:
    if bench.store.stats().shipping:  # interrupted before the caller had it; the store ends it
        bench.reopen()
    for thread in threading.enumerate():  # one that has just been told to end
        if thread.name == "mrlstore-shipping":
            thread.join(10.0)
            assert not thread.is_alive()
    with contextlib.suppress(mrlstore.InvalidInput):  # nothing was shipped yet
        target = bench.beside("restored.mrl")
        shipping.restore(bench.folder / "shipped", target)
        with mrlstore.open(target, auto_maintain=False) as copy:
            assert copy.verify().ok
        shutil.rmtree(target)


def _export(bench: Bench) -> None:
    if HAS_HNSWLIB:
        bench.store.export_hnswlib(bench.folder / "graph.bin", namespace="b")


def _exported(bench: Bench) -> None:
    """Both files, or neither."""
    files = {path.name: path for path in bench.folder.iterdir() if path.name.startswith("graph")}
    assert set(files) in (set(), {"graph.bin", "graph.ids.txt"})
    for path in files.values():
        path.unlink()
    assert {path.name for path in bench.folder.iterdir()} == {"store.mrl"}


def _audit(bench: Bench) -> None:
    bench.store.audit(1.0, learn=True)
    bench.store.query(_Q, k=5, namespace="b")
    bench.store.audit(0.0)


def _no_audit(bench: Bench) -> None:
    bench.store.audit(0.0)
    for thread in threading.enumerate():
        if thread.name == "mrlstore-audit":
            thread.join(10.0)
            assert not thread.is_alive()


def _open(bench: Bench) -> None:
    bench.extra = mrlstore.open(bench.path, auto_maintain=True)
    bench.extra.upsert(["probe"], VECTORS[:1], namespace="c")
    bench.extra.close()


def _no_background(bench: Bench) -> None:
    if bench.extra is not None:
        bench.extra.close()
    for thread in threading.enumerate():
        if thread.name == "mrlstore-maintenance":
            thread.join(10.0)
            assert not thread.is_alive()


def _create(bench: Bench) -> None:
    with mrlstore.open(bench.folder / "fresh.mrl", dim=DIM, auto_maintain=False) as opened:
        opened.count()


def _judge_created(bench: Bench) -> None:
    with mrlstore.open(bench.folder / "fresh.mrl", dim=DIM, auto_maintain=False) as opened:
        opened.upsert(["x"], VECTORS[:1])
        assert opened.verify().ok
    bench.beside("fresh.mrl")


CARE: dict[str, Care] = {
    "optimize": Care(lambda b: b.store.optimize(), _rewrite),
    "verify": Care(lambda b: b.store.verify()),
    "repair": Care(lambda b: b.store.repair(), _rewrite),
    "backup": Care(lambda b: b.store.backup(b.beside("copy.mrl")), judge=_whole_or_absent("copy.mrl")),
    "ship": Care(_ship, _rewrite, _judge_shipped),
    "export_hnswlib": Care(_export, _exported, _exported),
    "warm": Care(lambda b: b.store.warm()),
    "calibrate": Care(lambda b: b.store.calibrate(VECTORS[:10], 3, namespace="b", count=10)),
    "audit": Care(_audit, judge=_no_audit),
    "drop_questions": Care(lambda b: b.store.drop_questions()),
    "record_embedder": Care(lambda b: b.store.record_embedder(Words.fingerprint)),
    "set_prefix_dim": Care(
        lambda b: b.store.set_prefix_dim(12 - (b.store.prefix_dim or 0)), lambda b: b.other.set_prefix_dim(8)
    ),
    "set_graph": Care(lambda b: b.store.set_graph("mrlstore"), _rewrite),
    "close": Care(lambda b: b.store.close(), judge=Bench.reopen),
    "open": Care(_open, judge=_no_background),
    "open for the first time": Care(_create, judge=_judge_created),
}
"""Calls that change no row."""
