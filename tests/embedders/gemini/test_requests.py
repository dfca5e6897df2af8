"""Batches, order, concurrency, quotas, Vertex AI: what is sent, and that every vector finds its content."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.content import Image, Video
from mrlstore.embedders.gemini import MODELS, GeminiEmbedder
from tests.embedders.gemini.media import film, png
from tests.embedders.gemini.server import Answer, Call, Google, vector_of


def wanted(texts: list[str]) -> np.ndarray[Any, Any]:
    return np.array([vector_of(f"title: none | text: {text}") for text in texts])


def test_250_texts_go_in_3_requests(google: Google, embedder: Any) -> None:
    texts = [f"text {i}" for i in range(250)]
    vectors = embedder().embed_documents(texts)
    assert sorted(len(call.contents) for call in google.calls) == [50, 100, 100]
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous
    np.testing.assert_allclose(vectors, wanted(texts), atol=1e-6)


def test_order_is_kept_when_answers_come_in_another(google: Google, embedder: Any) -> None:
    """The first batch is answered last."""
    others = threading.Semaphore(0)

    def decide(call: Call) -> Answer | None:
        if call.contents[0] == ["title: none | text: text 0"]:
            for _ in range(5):
                assert others.acquire(timeout=20)
        else:
            others.release()
        return None

    google.decide = decide
    texts = [f"text {i}" for i in range(550)]
    vectors = embedder(concurrency=6).embed_documents(texts)
    np.testing.assert_allclose(vectors, wanted(texts), atol=1e-6)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_is_bounded(google: Google, embedder: Any, concurrency: int) -> None:
    """Requests wait until as many are there as may be, and then a moment, so that more would be seen."""
    full = threading.Event()

    def decide(call: Call) -> Answer:
        if google.most_at_once >= concurrency:
            full.set()
        assert full.wait(30)
        return Answer(delay_s=0.05)

    google.decide = decide
    short = replace(MODELS["gemini-embedding-2"], dim=128)
    embedder(short, concurrency=concurrency).embed_documents([f"text {i}" for i in range(1000)])
    assert google.most_at_once == concurrency


def test_concurrency_is_bounded_over_all_calls_but_not_for_queries(google: Google, embedder: Any) -> None:
    """While two requests for documents are under way, a query goes through, and no third request."""
    go_on, under_way = threading.Event(), threading.Semaphore(0)

    def decide(call: Call) -> None:
        if str(call.contents[0][0]).startswith("title"):
            under_way.release()
            assert go_on.wait(20)

    google.decide = decide
    one = embedder(concurrency=2)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(one.embed_documents, [f"text {i}" for i in range(300)]) for _ in range(3)]
        for _ in range(2):
            assert under_way.acquire(timeout=20)
        assert one.embed_query("at once").shape == (3072,)
        assert not under_way.acquire(timeout=0.1)
        go_on.set()
        for future in futures:
            assert future.result().shape == (300, 3072)
    assert len(google.calls) == 10 and google.most_at_once <= 3


def test_nothing_to_embed_sends_nothing(google: Google, embedder: Any) -> None:
    assert embedder(dim=768).embed_documents([]).shape == (0, 768)
    assert google.calls == []


def test_one_embedder_serves_many_threads(google: Google, embedder: Any) -> None:
    one = embedder()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one.embed_query, [f"query {i}" for i in range(80)]))
    for i, vector in enumerate(found):
        np.testing.assert_allclose(vector, vector_of(f"task: search result | query: query {i}"), atol=1e-6)


def test_media_of_one_request_stay_within_the_limits_of_one_embedding(google: Google, embedder: Any) -> None:
    contents: list[Any] = [[Image(png(i)), Image(png(i + 100))] for i in range(4)]
    contents += [Video(film(70)), Video(film(70, b"mp42")), "a text"]
    vectors = embedder(concurrency=1).embed_documents(contents)
    assert [len(call.contents) for call in google.calls] == [3, 2, 2]
    for i in range(4):
        parts = [("image/png", png(i)), ("image/png", png(i + 100))]
        np.testing.assert_allclose(vectors[i], vector_of(parts), atol=1e-6)
    np.testing.assert_allclose(vectors[5], vector_of(("video/mp4", film(70, b"mp42"))), atol=1e-6)


def test_large_media_are_not_sent_together(google: Google, embedder: Any) -> None:
    large = [png(i) + bytes(6_000_000) for i in range(3)]
    embedder().embed_documents([Image(data) for data in large])
    assert sorted(len(call.contents) for call in google.calls) == [1, 2]


def test_the_quota_of_requests_counts_items(google: Google, embedder: Any, clock: Any) -> None:
    """A batch is no larger than the quota, and in no 60 seconds more than the quota is sent."""
    sent: list[tuple[float, int]] = []
    google.decide = lambda call: sent.append((clock.now(), len(call.contents)))
    embedder(requests_per_minute=60, concurrency=1).embed_documents([f"text {i}" for i in range(170)])
    assert sorted(count for _, count in sent) == [50, 60, 60]
    times = [time for time, _ in sent]
    assert times[1] >= times[0] + 60 and times[2] >= times[1] + 60


def test_the_quota_of_tokens(google: Google, embedder: Any, clock: Any) -> None:
    sent: list[float] = []
    google.decide = lambda call: sent.append(clock.now())
    text = "word " * 400  # 506 tokens with the prefix, by the estimate
    embedder(tokens_per_minute=1100, concurrency=1).embed_documents([text + str(i) for i in range(6)])
    assert [len(call.contents) for call in google.calls] == [2, 2, 2]
    assert max(sent) - min(sent) >= 120


def test_no_quota_no_waiting(google: Google, embedder: Any, clock: Any) -> None:
    embedder().embed_documents([f"text {i}" for i in range(500)])
    assert clock.waits == []


def test_usage_as_the_service_tells_it(google: Google, embedder: Any) -> None:
    import google.genai as sdk

    one = embedder()
    one.embed_documents(["a b", "c"])
    one.embed_query("d")
    usage = one.usage
    assert (usage.calls, usage.items, usage.cached) == (2, 3, 0)
    told = {"text": 6 + 5 + 6}  # the server counts words, the prefix included
    estimated = {"text": 6 + 6 + 8}
    assert usage.tokens == (told if sdk.__version__ >= "3.1" else estimated)
    assert usage.estimated_usd == pytest.approx(usage.tokens["text"] * 0.20 / 1e6)


def test_usage_is_estimated_by_modality_where_it_is_not_told(google: Google, embedder: Any) -> None:
    google.tell_usage = False
    one = embedder()
    one.embed_documents(["x" * 379, Image(png()), Video(film(50)), Video(film(10))])
    tokens = {"text": 100, "image": 258, "video": (32 + 10) * 66}
    assert one.usage.tokens == tokens
    dollars = (100 * 0.20 + 258 * 0.45 + 42 * 66 * 12.00) / 1e6
    assert one.usage.estimated_usd == pytest.approx(dollars)


def vertex(client: Any, location: str = "global") -> Any:
    """A client of Vertex AI with a token that needs no refreshing."""
    from google.oauth2.credentials import Credentials

    own = Credentials(token="T")
    return client(api_key=None, vertexai=True, project="p", location=location, credentials=own)


def test_vertex_takes_one_content_a_request(google: Google, client: Any, clock: Any) -> None:
    """Up to SDK 3.3 more than one is a ValueError."""
    one = GeminiEmbedder(client=vertex(client), clock=clock, concurrency=2)
    contents: list[Any] = ["a", ["b", Image(png())], "c"]
    vectors = one.embed_documents(contents)
    assert [call.path.rsplit(":")[-1] for call in google.calls] == ["embedContent"] * 3
    parts: list[Any] = [["title: none | text: a"], ["b", ("image/png", png())], ["title: none | text: c"]]
    np.testing.assert_allclose(vectors, [vector_of(one) for one in parts], atol=1e-6)


def test_vertex_001_is_never_truncated_silently(google: Google, client: Any, clock: Any) -> None:
    one = GeminiEmbedder("gemini-embedding-001", client=vertex(client), clock=clock)
    vectors = one.embed_documents(["a", "b", "c"])
    np.testing.assert_allclose(vectors, [vector_of(text) for text in "abc"], atol=1e-6)
    [call] = google.calls
    told = call.body.get("parameters") or call.body["requests"][0]["embedContentConfig"]
    assert told["autoTruncate"] is False
