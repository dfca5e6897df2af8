"""The five traps of the SDK and the service, each with the trap itself shown where the SDK has it."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.gemini import GeminiEmbedder, GeminiEmbedError
from mrlstore.errors import InvalidInput
from tests.embedders.gemini.server import Answer, Google, refused, vector_of


def document(text: str) -> str:
    return f"title: none | text: {text}"


def test_trap_1_a_list_of_texts_gets_a_vector_each(google: Google, embedder: Any, client: Any) -> None:
    """The SDK alone collapses a list of texts to ONE vector; the adapter does not."""
    answer = client().models.embed_content(model="gemini-embedding-2", contents=["a", "b", "c"])
    assert len(answer.embeddings) == 1, "the trap is gone from this SDK: say so in docs/gemini.md"
    google.calls.clear()
    vectors = embedder().embed_documents(["a", "b", "c"])
    assert google.contents == [[document("a")], [document("b")], [document("c")]]
    np.testing.assert_allclose(vectors, [vector_of(document(text)) for text in "abc"], atol=1e-6)


@pytest.mark.parametrize("model", ["gemini-embedding-2", "gemini-embedding-001"])
def test_trap_1_count_is_checked(google: Google, embedder: Any, model: str) -> None:
    """Two embeddings for each request, one content or two: whose they are is unknown, so none is kept."""
    google.decide = lambda call: Answer(change=lambda good: [good[0]] * (1 if len(good) == 2 else 2))
    with pytest.raises(GeminiEmbedError, match="1 embeddings were asked for and 2 came back"):
        embedder(model).embed_documents(["a", "b"])


def test_trap_2_task_goes_into_the_text_and_not_into_task_type(google: Google, embedder: Any) -> None:
    embedder().embed_query("cats")
    [call] = google.embed_calls
    assert call.contents == [["task: search result | query: cats"]]
    assert "taskType" not in call.body["requests"][0]


def test_trap_3_failures_are_retried(google: Google, embedder: Any, client: Any) -> None:
    """The SDK alone raises at the first 503."""
    google.script = [refused(503, "m", "UNAVAILABLE")] * 2
    with pytest.raises(Exception, match="503"):
        client().models.embed_content(model="gemini-embedding-2", contents=["a"])
    assert len(google.calls) == 1
    np.testing.assert_allclose(embedder().embed_documents(["a"]), [vector_of(document("a"))], atol=1e-6)
    assert len(google.calls) == 3


def test_trap_4_the_client_is_kept_alive(google: Google, client: Any, clock: Any) -> None:
    def make() -> GeminiEmbedder:
        return GeminiEmbedder(client=client(), clock=clock)

    one = make()
    gc.collect()
    one.embed_query("a")


def test_trap_4_a_client_made_here_is_kept_alive(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", google.url)
    monkeypatch.setenv("GEMINI_API_KEY", "from the environment")
    one = GeminiEmbedder()
    one.embed_query("a")
    gc.collect()
    one.embed_query("b")
    assert [call.headers["x-goog-api-key"] for call in google.calls] == ["from the environment"] * 2
    one.client.sdk.close()


def test_trap_4_half_a_client_is_refused(client: Any) -> None:
    with pytest.raises(InvalidInput, match=r"\.models"):
        GeminiEmbedder(client=client().models)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda good: [], "came back"),
        (lambda good: None, "came back"),
        (lambda good: [*good, *good], "came back"),
        (lambda good: [{}], "no values"),
        (lambda good: [{"values": []}], "0 values|no values"),
        (lambda good: [{"values": good[0]["values"][:768]}], "768 values where 3072"),
        (lambda good: [{"values": [0.0] * 3072}], "length zero"),
        (lambda good: [{"values": ["NaN", *good[0]["values"][1:]]}], "NaN"),
        (lambda good: [{"values": [1e400, *good[0]["values"][1:]]}], "infinite"),
    ],
)
def test_trap_5_every_vector_is_checked(google: Google, embedder: Any, change: Any, reason: str) -> None:
    google.script = [Answer(change=change)]
    with pytest.raises(GeminiEmbedError, match=reason) as raised:
        embedder().embed_documents(["a"])
    assert list(raised.value.failed) == [0]


def test_trap_5_one_empty_vector_does_not_spoil_the_others(google: Google, embedder: Any) -> None:
    google.script = [Answer(change=lambda good: [good[0], {}, good[2]])]
    with pytest.raises(GeminiEmbedError, match="1 of 3 items") as raised:
        embedder().embed_documents(["a", "b", "c"])
    assert sorted(raised.value.succeeded) == [0, 2] and list(raised.value.failed) == [1]
    np.testing.assert_allclose(raised.value.succeeded[2], vector_of(document("c")), atol=1e-6)
