"""A batch that is refused, or answered wrongly, is halved: what is good is kept, and limits are learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.gemini import GeminiEmbedder, GeminiEmbedError
from tests.embedders.gemini.server import Answer, Call, Google, refused, vector_of
from tests.embedders.gemini.test_requests import vertex

TEXTS = [f"text {i}" for i in range(100)]


def texts_of(call: Call) -> list[str]:
    return [str(content[0]).rsplit(": ", 1)[-1] for content in call.contents]


def document(text: str) -> np.ndarray[Any, Any]:
    return vector_of(f"title: none | text: {text}")


def answering(change: Callable[[list[Any], list[str]], Any]) -> Callable[[Call], Answer]:
    """Change each answer, knowing the texts that it is for."""
    return lambda call: Answer(change=lambda good: change(good, texts_of(call)))


WRONG_ANSWERS: dict[str, Callable[[list[Any], list[str]], Any]] = {
    "left out": lambda good, texts: [v for v, text in zip(good, texts, strict=True) if text != "text 37"],
    "null": lambda good, texts: [
        None if text == "text 37" else v for v, text in zip(good, texts, strict=True)
    ],
    "empty": lambda good, texts: [
        {} if text == "text 37" else v for v, text in zip(good, texts, strict=True)
    ],
    "a text instead": lambda good, texts: [
        "none" if text == "text 37" else v for v, text in zip(good, texts, strict=True)
    ],
    "one too many": lambda good, texts: good + good[:1] if "text 37" in texts else good,
    "no embeddings at all": lambda good, texts: None if "text 37" in texts else good,
}


@pytest.mark.parametrize("change", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_one_content_without_an_embedding_fails_alone(google: Google, embedder: Any, change: Any) -> None:
    google.decide = answering(change)
    with pytest.raises(GeminiEmbedError, match="1 of 100 items .* item 37: ") as raised:
        embedder().embed_documents(TEXTS)
    assert list(raised.value.failed) == [37] and len(raised.value.succeeded) == 99
    for i in (0, 36, 38, 99):
        np.testing.assert_allclose(raised.value.succeeded[i], document(f"text {i}"), atol=1e-6)
    assert len(google.calls) <= 16


def test_vectors_around_the_bad_one_are_cached(google: Google, embedder: Any, tmp_path: Any) -> None:
    """A second run sends the bad content and nothing else."""
    google.decide = answering(WRONG_ANSWERS["left out"])
    one = embedder(cache=tmp_path / "cache.db")
    for sent in (100, 1):
        google.calls.clear()
        with pytest.raises(GeminiEmbedError, match="item 37"):
            one.embed_documents(TEXTS)
        assert len({text for call in google.calls for text in texts_of(call)}) == sent


def test_many_bad_contents_are_all_found(google: Google, embedder: Any) -> None:
    """More refusals than one bad content needs: as long as something succeeds, the halving goes on."""
    bad = {f"text {i}" for i in (3, 21, 37, 38, 55, 70, 88, 99)}
    google.decide = lambda call: (
        refused(400, "Bad.", "INVALID_ARGUMENT") if bad & set(texts_of(call)) else None
    )
    with pytest.raises(GeminiEmbedError) as raised:
        embedder().embed_documents(TEXTS)
    assert {f"text {i}" for i in raised.value.failed} == bad


@pytest.mark.parametrize(("code", "status"), [(500, "INTERNAL"), (504, "DEADLINE_EXCEEDED")])
@pytest.mark.parametrize("bad", [0, 37, 99])
def test_a_content_that_makes_the_service_fail_is_found(
    google: Google, embedder: Any, code: int, status: str, bad: int
) -> None:
    """Every attempt with it fails; without it the batch is embedded."""
    google.decide = lambda call: refused(code, "m", status) if f"text {bad}" in texts_of(call) else None
    one = embedder(concurrency=1)
    with pytest.raises(GeminiEmbedError, match=f"1 of 100 items .* item {bad}: {code} {status}") as raised:
        one.embed_documents(TEXTS)
    assert list(raised.value.failed) == [bad] and len(google.calls) <= 4 + 2 * 8 + 8
    google.decide = None
    google.calls.clear()
    one.embed_documents(TEXTS[1:37])
    assert len(google.calls) == 1, "nothing is learned of the number of contents"


def test_a_service_that_is_down_is_not_asked_for_every_content(google: Google, embedder: Any) -> None:
    google.decide = lambda call: refused(500, "m", "INTERNAL")
    with pytest.raises(GeminiEmbedError, match="100 of 100"):
        embedder().embed_documents(TEXTS)
    assert len(google.calls) <= 4 + 2 * 10
    google.calls.clear()
    google.decide = lambda call: refused(503, "m", "UNAVAILABLE")
    with pytest.raises(GeminiEmbedError, match="100 of 100"):
        embedder().embed_documents(TEXTS)
    assert len(google.calls) == 4


def test_a_request_that_is_too_large_is_halved(google: Google, embedder: Any) -> None:
    google.decide = lambda call: (
        Answer(413, raw=b"<html>Request Entity Too Large</html>", headers={"content-type": "text/html"})
        if len(call.data) > 5_000
        else None
    )
    one = embedder(concurrency=1)
    np.testing.assert_allclose(one.embed_documents(TEXTS), [document(text) for text in TEXTS], atol=1e-6)
    google.calls.clear()
    one.embed_documents([f"t{i}" for i in range(20)])
    assert len(google.calls) == 1, "bytes were too many: nothing is learned of the number of contents"


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_the_limit_of_a_request_is_learned(google: Google, embedder: Any, limit: int) -> None:
    """The refusal does not say the limit: halving finds one that works, and it is kept for later calls."""
    google.decide = lambda call: (
        refused(400, "Request contains an invalid argument.", "INVALID_ARGUMENT")
        if len(call.contents) > limit
        else None
    )
    one = embedder(concurrency=1)
    texts = [f"text {i}" for i in range(min(120, 40 * limit))]
    np.testing.assert_allclose(one.embed_documents(texts), [document(text) for text in texts], atol=1e-6)
    google.calls.clear()
    one.embed_documents([f"other {i}" for i in range(20)])
    sizes = [len(call.contents) for call in google.calls]
    assert sum(sizes) == 20 and max(sizes) <= limit, "no request was refused any more"


WORDS_OF_A_LIMIT = {
    "instances": "{} instance(s) is allowed per prediction. Actual: 100",
    "a range": "Unable to submit request because it included too many instances. The batchSize value is 100 "
    "but the supported range is from 1 (inclusive) to {next} (exclusive).",
    "requests": "* BatchEmbedContentsRequest.requests: at most {} requests can be in one batch",
}


@pytest.mark.parametrize("words", WORDS_OF_A_LIMIT.values(), ids=WORDS_OF_A_LIMIT)
def test_a_limit_that_is_named_costs_one_refusal(google: Google, embedder: Any, words: str) -> None:
    text = words.format(25, next=26)
    google.decide = lambda call: refused(400, text, "INVALID_ARGUMENT") if len(call.contents) > 25 else None
    assert len(embedder(concurrency=1).embed_documents(TEXTS)) == 100
    assert [len(call.contents) for call in google.calls] == [100, 25, 25, 25, 25]


@pytest.mark.parametrize("most", [1, 250])
def test_vertex_001_with_one_text_or_250_a_request(
    google: Google, client: Any, clock: Any, most: int
) -> None:
    google.decide = lambda call: (
        refused(400, f"{most} instance(s) is allowed per prediction", "INVALID_ARGUMENT")
        if len(call.contents) > most
        else None
    )
    one = GeminiEmbedder("gemini-embedding-001", client=vertex(client), clock=clock, concurrency=1)
    texts = [f"text {i}" for i in range(250)]
    vectors = one.embed_documents(texts)
    np.testing.assert_allclose(vectors, [vector_of(text) for text in texts], atol=1e-6)
    assert len(google.calls) <= {1: 251, 250: 4}[most], "the batchEmbedContents of SDK 3.4 takes 100 here"


def test_vertex_without_a_request_for_several_contents(google: Google, client: Any, clock: Any) -> None:
    """A 404 for several contents, and one content is embedded: the request is missing, not the model."""
    google.decide = lambda call: (
        refused(404, "Requested entity was not found.", "NOT_FOUND") if len(call.contents) > 1 else None
    )
    one = GeminiEmbedder("gemini-embedding-001", client=vertex(client), clock=clock, concurrency=1)
    assert len(one.embed_documents([f"text {i}" for i in range(30)])) == 30
    assert len(google.calls) <= 32


def test_vertex_without_the_model(google: Google, client: Any, clock: Any) -> None:
    google.decide = lambda call: refused(404, "Publisher Model was not found.", "NOT_FOUND")
    one = GeminiEmbedder("gemini-embedding-001", client=vertex(client), clock=clock, concurrency=1)
    with pytest.raises(GeminiEmbedError, match="no such model"):
        one.embed_documents([f"text {i}" for i in range(1000)])
    assert len(google.calls) == 2


def test_vertex_001_stays_within_the_tokens_of_a_request(google: Google, client: Any, clock: Any) -> None:
    one = GeminiEmbedder("gemini-embedding-001", client=vertex(client), clock=clock, concurrency=1)
    one.embed_documents(["word " * 1500 + str(i) for i in range(25)])  # 1,876 tokens each, by the estimate
    assert max(len(call.contents) for call in google.calls) == 10


def test_nothing_is_accepted(google: Google, embedder: Any) -> None:
    """A refusal whose words say nothing, for everything: the call ends after the halving of three batches."""
    google.decide = lambda call: refused(400, "No.", "INVALID_ARGUMENT")
    with pytest.raises(GeminiEmbedError, match="1,000 of 1,000"):
        embedder(concurrency=1).embed_documents([f"text {i}" for i in range(1000)])
    assert len(google.calls) <= 60


def test_a_bad_batch_does_not_stop_the_others(google: Google, embedder: Any) -> None:
    google.decide = lambda call: (
        refused(400, "Bad.", "INVALID_ARGUMENT") if any("bad" in text for text in texts_of(call)) else None
    )
    texts = [*(f"bad {i}" for i in range(100)), *TEXTS]
    with pytest.raises(GeminiEmbedError) as raised:
        embedder(concurrency=1).embed_documents(texts)
    assert sorted(raised.value.succeeded) == list(range(100, 200))
