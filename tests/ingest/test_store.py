"""A store with an embedder: add, query by text and content, and the fingerprint that keeps vectors apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mrlstore.embedders import Image, Pdf, Video
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.errors import InvalidInput
from mrlstore.ingest import Split
from tests.embedders.gemini.media import film, pdf, png
from tests.embedders.gemini.server import Google, vector_of

CONTENTS = ["a text", Image(png()), Video(film(2)), Pdf(pdf(2)), ["a caption", Image(png(5))]]
IDS = ["text", "image", "film", "pdf", "both"]


def test_every_modality_is_stored_and_found(
    google: Google, embedder: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    store = opened(embedder=embedder())
    assert store.add(CONTENTS, IDS) == IDS and store.dim == 3072
    assert store.add(CONTENTS, IDS) == IDS
    assert len(google.contents) == 5, "the second time nothing was sent"
    for content, id in zip(CONTENTS[1:], IDS[1:], strict=True):
        [hit] = store.query(content=content, k=1)
        assert hit.id == id and hit.score > 0.999
    by_text = store.query(text="a text", k=5)
    assert google.contents[-1] == ["task: search result | query: a text"]
    wanted = vector_of("task: search result | query: a text") @ vector_of("title: none | text: a text")
    assert dict(zip(by_text.ids, by_text.scores, strict=True))["text"] == pytest.approx(wanted, abs=1e-3)


def test_vectors_of_another_embedder_are_refused(
    google: Google, embedder: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    opened(embedder=embedder()).add(["a text"])
    for other, words in [
        (
            embedder("gemini-embedding-001"),
            "model: 'gemini-embedding-2' is stored, 'gemini-embedding-001' given",
        ),
        (embedder(task="clustering"), "task: 'retrieval documents' is stored, 'clustering' given"),
        (embedder(dim=768), "dim: 3072 is stored, 768 given"),
        (LocalEmbedder.fit(["alpha beta", "beta gamma", "gamma delta", "delta alpha"], dim=2), "re-embed"),
    ]:
        sent = len(google.calls)
        with pytest.raises(InvalidInput, match=words):
            opened(embedder=other).add(["another"])
        with pytest.raises(InvalidInput, match=words):
            opened(embedder=other).query(text="another")
        assert len(google.calls) == sent
    questions = opened(embedder=embedder(task="question answering"))
    assert questions.query(text="which?", k=1).ids
    assert str(google.contents[-1][0]).startswith("task: question")


async def test_the_async_twins(
    google: Google, embedder: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    store = opened(embedder=embedder())
    assert await store.aadd(["one", "two"], ["1", "2"]) == ["1", "2"]
    assert len(await store.aquery(text="one", k=2)) == 2


def test_progress_and_chunks(embedder: Callable[..., Any], opened: Callable[..., Any]) -> None:
    store = opened(embedder=embedder(dim=128))
    told: list[Any] = []
    ids = store.add(["word " * 300, "short"], ["long", "short"], split=Split(100, 20), progress=told.append)
    assert ids[-1] == "short#0" and len(ids) == len(store) > 4
    assert [(one.done, one.total) for one in told] == [(2, 2)]
