"""Many queries at once, and the async twins."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import numpy as np
import pytest

from mrlstore import BatchResult, InvalidInput, Store, StoreClosed
from tests import inside
from tests.layouts import DIM, LAYOUTS, queries
from tests.oracle import nested_vectors


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options", [{}, {"exact": True}, {"where": {"colour": "red"}}, {"dim": 8}, {"ef": 50}]
)
def test_a_batch_is_its_queries(library: Any, layout: str, options: dict[str, Any]) -> None:
    store, _ = library(layout)
    asked = queries(7)
    batch = store.query_batch(asked, k=7, **options)
    assert isinstance(batch, BatchResult)
    assert len(batch) == 7
    single = [store.query(query, k=7, **options) for query in asked]
    assert batch.ids == [result.ids for result in single]
    assert batch.scores.shape == (7, 7)
    assert batch.scores.dtype == np.float32
    for row, result in zip(batch.scores, single, strict=True):
        assert row[: len(result)].tolist() == result.scores.tolist()
    assert [hit.metadata for hit in batch[3]] == [hit.metadata for hit in single[3]]


def test_scores_are_padded_with_nan(store: Any) -> None:
    store.upsert(["a", "b"], nested_vectors(2, 8), [{"x": 1}, {"x": 2}])
    batch = store.query_batch(nested_vectors(3, 8), k=5, where={"x": 1})
    assert batch.ids == [["a"]] * 3
    assert np.isnan(batch.scores[:, 1:]).all()
    assert not np.isnan(batch.scores[:, 0]).any()


@pytest.mark.parametrize("nothing", [np.empty((0, 8), dtype=np.float32), np.empty((0, 8)), [], ()])
def test_an_empty_batch(store: Any, nothing: Any) -> None:
    assert store.query_batch(nothing, k=5).ids == []
    store.upsert(["a"], np.ones((1, 8)))
    batch = store.query_batch(nothing, k=5)
    assert len(batch) == 0
    assert batch.ids == []
    assert batch.scores.shape == (0, 5)


def test_one_bad_row_of_a_batch_is_named(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    asked = nested_vectors(20, 8)
    asked[13, 2] = np.nan
    with pytest.raises(InvalidInput, match="13"):
        store.query_batch(asked)


@pytest.mark.parametrize("bad", [np.ones(8), np.ones((2, 9)), np.ones((2, 2, 8)), "text", None, 3])
def test_bad_batches(store: Any, bad: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(InvalidInput, match="vector"):
        store.query_batch(bad)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_answers(opened: Any, threads: int) -> None:
    store = opened(dim=16, threads=threads)
    store.upsert([f"r{i}" for i in range(3000)], nested_vectors(3000, 16))
    store.optimize()
    asked = queries(50, 16)
    batch = store.query_batch(asked, k=5, exact=True)
    assert batch.ids == [store.query(query, k=5, exact=True).ids for query in asked]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("first", ["ids", "scores", "results"])
def test_a_batch_of_many_runs(opened: Any, threads: int, first: str) -> None:
    """More queries than a thread takes at a time; whatever is asked for first, all of it fits together."""
    store = opened(dim=16, threads=threads)
    store.upsert([f"r{i}" for i in range(3000)], nested_vectors(3000, 16), [{"i": i} for i in range(3000)])
    store.optimize()
    asked = queries(301, 16)
    expected = [store.query(query, k=5, include=()) for query in asked]
    for include in ((), ("metadata",)):
        batch = store.query_batch(asked, k=5, include=include)
        getattr(batch, first)
        assert batch.ids == [result.ids for result in expected] == [result.ids for result in batch]
        assert batch.scores.tobytes() == np.stack([result.scores for result in expected]).tobytes()
        assert [result.scores.tolist() for result in batch] == [one.scores.tolist() for one in expected]
        assert [result.plan for result in batch[-3:]] == [result.plan for result in expected[-3:]]
        if include:
            assert all(hit.id == f"r{hit.metadata['i']}" for result in batch for hit in result)
    assert asked.tobytes() == queries(301, 16).tobytes()


def test_scores_do_not_depend_on_the_company(opened: Any) -> None:
    store = opened(dim=16, threads=2)
    store.upsert([f"r{i}" for i in range(3000)], nested_vectors(3000, 16))
    store.optimize()
    asked = queries(200, 16)
    alone = [store.query(query, k=5, include=()).scores.tobytes() for query in asked]
    asked[[7, 150]] *= np.array([[1e30], [1e-30]], np.float32)
    batch = store.query_batch(asked, k=5, include=())
    assert [result.scores.tobytes() for result in batch[:7]] == alone[:7]
    assert [result.scores.tobytes() for result in batch[8:150]] == alone[8:150]
    assert batch.ids[7] == store.query(asked[7], k=5, include=()).ids
    assert batch.ids[150] == store.query(asked[150], k=5, include=()).ids


def test_a_batch_where_no_thread_can_be_started(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def refuse(*_: Any) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    store = opened(dim=16, threads=4)
    store.upsert([f"r{i}" for i in range(100)], nested_vectors(100, 16))
    expected = store.query_batch(queries(300, 16), k=5).ids
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert store.query_batch(queries(300, 16), k=5).ids == expected


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_while_threads_start_ends_a_batch(
    opened: Any, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    module = inside.module("mrlstore.search.query")

    store = opened(dim=16, threads=3)
    store.upsert([f"r{i}" for i in range(100)], nested_vectors(100, 16))
    begun, started = [], []
    real, start = module.prepare, threading.Thread.start

    def first_alone(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) > 1:
            raise error
        start(thread)

    monkeypatch.setattr(module, "prepare", lambda *arguments: begun.append(1) or real(*arguments))
    monkeypatch.setattr(threading.Thread, "start", first_alone)
    with pytest.raises(error):
        store.query_batch(queries(20_000, 16), k=5, include=())
    assert len(begun) < 50, "the thread that had started went on"


@pytest.mark.parametrize("at", [0, 150, 300])
def test_a_batch_ends_at_its_first_error(opened: Any, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    module = inside.module("mrlstore.search.query")

    store = opened(dim=16, threads=2)
    store.upsert([f"r{i}" for i in range(100)], nested_vectors(100, 16))
    asked, begun = queries(10_000, 16), []
    asked[at] = 0
    real = module.prepare
    monkeypatch.setattr(module, "prepare", lambda *arguments: begun.append(1) or real(*arguments))
    with pytest.raises(InvalidInput, match=str(at)):
        store.query_batch(asked, k=5, include=())
    assert len(begun) < 50, "the other thread went on"


def test_async_twins_do_what_the_verbs_do(opened: Any) -> None:
    store = opened(dim=8)
    vectors = nested_vectors(3, 8)

    async def work() -> None:
        assert (
            await store.aupsert(["a", "b", "c"], vectors, [{"x": 1}, {"x": 2}, {"x": 3}], ["d", "e", "f"])
            == 3
        )
        assert await store.acount() == 3
        assert await store.acount({"x": {"$gt": 1}}) == 2
        assert [record.document for record in await store.aget(["b"])] == ["e"]
        assert (await store.aquery(vectors[0], k=2)).ids == store.query(vectors[0], k=2).ids
        assert (await store.aquery(id="a", k=1, where={"x": 2})).ids == ["b"]
        assert (await store.aquery_batch(vectors, k=1)).ids == [["a"], ["b"], ["c"]]
        assert await store.aupdate(["a"], [{"x": 9}]) == 1
        assert await store.adelete(where={"x": 9}) == 1
        assert await store.acount() == 2

    asyncio.run(work())


def test_async_twins_raise_the_same_errors(opened: Any) -> None:
    store = opened(dim=8)

    async def work() -> None:
        with pytest.raises(InvalidInput, match="k"):
            await store.aquery(np.ones(8), k=0)
        with pytest.raises(InvalidInput):
            await store.aupsert(["a"], [[float("nan")] * 8])
        with pytest.raises(InvalidInput):
            await store.adelete()
        store.close()
        with pytest.raises(StoreClosed):
            await store.aget(["a"])
        with pytest.raises(StoreClosed):
            await store.aquery(np.ones(8))

    asyncio.run(work())


def test_many_async_calls_at_once(opened: Any) -> None:
    store = opened(dim=8)
    vectors = nested_vectors(200, 8)

    async def work() -> None:
        await asyncio.gather(
            *(store.aupsert([f"r{i}"], vectors[i : i + 1], [{"i": i}]) for i in range(200)),
            *(store.aquery(vectors[i]) for i in range(50)),
        )
        found = await asyncio.gather(*(store.aquery(vectors[i], k=1, exact=True) for i in range(200)))
        assert [result.ids for result in found] == [[f"r{i}"] for i in range(200)]

    asyncio.run(work())
    assert len(store) == 200


def test_the_event_loop_runs_while_a_twin_works(opened: Any) -> None:
    store = opened(dim=8)
    off_loop: list[bool] = []
    loop_thread = threading.get_ident()
    real = store.count

    def watched(*arguments: Any, **options: Any) -> int:
        off_loop.append(threading.get_ident() != loop_thread)
        return int(real(*arguments, **options))

    store.count = watched
    asyncio.run(store.acount())
    assert off_loop in ([True], []), "the work ran on the event loop's own thread"


def test_a_cancelled_call_leaves_the_store_whole(opened: Any) -> None:
    store = opened(dim=8)

    async def work() -> None:
        task = asyncio.create_task(store.aupsert([f"r{i}" for i in range(500)], nested_vectors(500, 8)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert len(store) in (0, 500)
    assert store.upsert(["x"], np.ones((1, 8))) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_query_at_once(library: Any, layout: str) -> None:
    store, _ = library(layout)
    asked = queries(30, DIM)
    expected = [store.query(query, k=5).ids for query in asked]
    wrong: list[object] = []

    def work(start: int) -> None:
        try:
            for i in range(start, start + 60):
                if store.query(asked[i % 30], k=5).ids != expected[i % 30]:
                    wrong.append(i)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i * 7,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []


def test_threads_write_at_once(opened: Any) -> None:
    store = opened(dim=4, auto_maintain=True)
    wrong: list[BaseException] = []

    def work(part: int) -> None:
        try:
            rows = nested_vectors(300, 4, seed=part)
            for low in range(0, 300, 30):
                ids = [f"{part}-{i}" for i in range(low, low + 30)]
                store.upsert(ids, rows[low : low + 30], [{"part": part}] * 30)
                assert store.count({"part": part}) == low + 30, "own writes are read at once"
                assert [record.id for record in store.get(ids)] == ids
            store.delete([f"{part}-{i}" for i in range(0, 300, 3)])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert len(store) == 6 * 200


def test_closing_while_threads_query_gives_answers_or_store_closed(opened: Any) -> None:
    store = opened(dim=8)
    store.upsert([f"r{i}" for i in range(3000)], nested_vectors(3000, 8))
    store.optimize()
    started = threading.Barrier(5)
    wrong: list[object] = []

    def work() -> None:
        started.wait(60)
        try:
            for _ in range(100_000):
                if len(store.query(np.ones(8), k=10)) != 10:
                    wrong.append("short answer")
        except StoreClosed:
            return
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait(60)
    store.close()
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)


TWINS = ["query", "query_batch", "upsert", "add", "update", "delete", "get", "count"]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_signature_of_its_method(name: str) -> None:
    plain, twin = getattr(Store, name), getattr(Store, f"a{name}")
    assert inspect.signature(twin) == inspect.signature(plain)
    assert inspect.iscoroutinefunction(twin) and not inspect.iscoroutinefunction(plain)
