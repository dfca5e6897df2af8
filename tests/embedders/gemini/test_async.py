"""The async twins: off the loop, in any loop, and cancelled for good."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.gemini import GeminiEmbedError
from tests import inside
from tests.embedders.gemini.server import Answer, Call, Google, refused, vector_of


async def test_the_async_twins_give_the_same(google: Google, embedder: Any) -> None:
    one = embedder()
    texts = [f"text {i}" for i in range(250)]
    np.testing.assert_array_equal(await one.aembed_documents(texts), one.embed_documents(texts))
    np.testing.assert_array_equal(await one.aembed_query("a"), one.embed_query("a"))


async def test_the_loop_runs_on(google: Google, embedder: Any) -> None:
    reached = threading.Event()
    google.decide = lambda call: Answer(delay_s=0 if reached.wait(20) else 0)
    task = asyncio.ensure_future(embedder().aembed_query("a"))
    await asyncio.sleep(0.02)
    assert not task.done()
    reached.set()
    await task


async def test_many_calls_at_once(google: Google, embedder: Any) -> None:
    one = embedder()
    found = await asyncio.gather(*(one.aembed_query(f"query {i}") for i in range(100)))
    for i, vector in enumerate(found):
        np.testing.assert_allclose(vector, vector_of(f"task: search result | query: query {i}"), atol=1e-6)


def test_one_embedder_serves_several_loops(google: Google, embedder: Any) -> None:
    """The SDK's own asynchronous client up to 2.x says: Event loop is closed."""
    one = embedder()
    for text in ("a", "b", "c"):
        vector = asyncio.run(one.aembed_query(text))
        np.testing.assert_allclose(vector, vector_of(f"task: search result | query: {text}"), atol=1e-6)

    async def several() -> Any:
        return await asyncio.gather(*(one.aembed_query(str(i)) for i in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(google.calls) == 33


async def test_errors_come_through(google: Google, embedder: Any) -> None:
    google.script = [refused(403, "m", "PERMISSION_DENIED")]
    with pytest.raises(GeminiEmbedError, match="GEMINI_API_KEY"):
        await embedder().aembed_documents(["a"])


async def test_after_a_cancellation_nothing_more_is_sent(google: Google, embedder: Any) -> None:
    """Two of ten requests are under way when the call is cancelled; the other eight are never sent."""
    under_way, go_on = threading.Semaphore(0), threading.Event()

    def decide(call: Call) -> Answer | None:
        under_way.release()
        go_on.wait(20)
        return None

    google.decide = decide
    one = embedder(concurrency=2)
    task = asyncio.ensure_future(one.aembed_documents([f"text {i}" for i in range(1000)]))
    for _ in range(2):
        assert await asyncio.to_thread(under_way.acquire, timeout=20)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 10, "it did not wait for the requests that were under way"
    go_on.set()
    await asyncio.to_thread(inside.embedder_threads(one).shutdown, True)
    assert len(google.calls) == 2


async def test_a_cancellation_ends_a_long_wait(google: Google, client: Any) -> None:
    """Real time: the server asks to wait for two minutes; after the cancellation the thread ends at once."""
    from mrlstore.embedders.gemini import GeminiEmbedder

    google.script = [refused(429, "m", "RESOURCE_EXHAUSTED", retry_after="120")]
    one = GeminiEmbedder(client=client())
    task = asyncio.ensure_future(one.aembed_query("a"))
    while not google.calls:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(inside.embedder_threads(one).shutdown, True)
    assert len(google.calls) == 1
