"""Tasks, titles, modalities, and the limits that are held before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.content import Audio, Image, Pdf, Video
from mrlstore.embedders.gemini import MODELS
from mrlstore.errors import InvalidInput, LimitExceeded
from tests.embedders.gemini.media import film, jpeg, mp3, pdf, png, wav
from tests.embedders.gemini.server import Google, vector_of

ASYMMETRIC = {
    "retrieval": ("search result", "RETRIEVAL_QUERY"),
    "question answering": ("question answering", "QUESTION_ANSWERING"),
    "fact checking": ("fact checking", "FACT_VERIFICATION"),
    "code retrieval": ("code retrieval", "CODE_RETRIEVAL_QUERY"),
}
SYMMETRIC = {
    "classification": ("classification", "CLASSIFICATION"),
    "clustering": ("clustering", "CLUSTERING"),
    "similarity": ("sentence similarity", "SEMANTIC_SIMILARITY"),
}


@pytest.mark.parametrize("task", ASYMMETRIC | SYMMETRIC)
def test_tasks_of_embedding_2_are_prefixes(google: Google, embedder: Any, task: str) -> None:
    one = embedder(task=task)
    one.embed_query("cats")
    one.embed_documents(["cats"])
    query = f"task: {(ASYMMETRIC | SYMMETRIC)[task][0]} | query: cats"
    assert google.contents == [[query], [query if task in SYMMETRIC else "title: none | text: cats"]]
    assert not any("taskType" in call.body["requests"][0] for call in google.calls)


@pytest.mark.parametrize("task", ASYMMETRIC | SYMMETRIC)
def test_tasks_of_001_are_task_types(google: Google, embedder: Any, task: str) -> None:
    one = embedder("gemini-embedding-001", task=task)
    one.embed_query("cats")
    one.embed_documents(["cats"])
    wanted = (ASYMMETRIC | SYMMETRIC)[task][1]
    told = [call.body["requests"][0]["taskType"] for call in google.calls]
    assert told == [wanted, wanted if task in SYMMETRIC else "RETRIEVAL_DOCUMENT"]
    assert google.contents == [["cats"], ["cats"]]


def test_titles_of_embedding_2(google: Google, embedder: Any) -> None:
    embedder().embed_documents(["cats", "dogs"], titles=["Animals", None])
    assert google.contents == [["title: Animals | text: cats"], ["title: none | text: dogs"]]


def test_titles_of_001_are_never_shared(google: Google, embedder: Any) -> None:
    """The SDK takes one title for a whole call: contents of other titles must go in other calls."""
    texts = ["cats", "dogs", "trees", "grass", "stones"]
    titles = ["Animals", "Animals", "Plants", None, None]
    vectors = embedder("gemini-embedding-001").embed_documents(texts, titles=titles)
    requests = [request for call in google.calls for request in call.body["requests"]]
    told = {request["content"]["parts"][0]["text"]: request.get("title") for request in requests}
    assert told == dict(zip(texts, titles, strict=True))
    np.testing.assert_allclose(vectors, [vector_of(text) for text in texts], atol=1e-6)


def test_fingerprints_tell_what_may_be_mixed(embedder: Any) -> None:
    prints = [embedder(task=task).fingerprint for task in (*ASYMMETRIC, *SYMMETRIC)]
    assert prints[0] == prints[1] == prints[2] == prints[3], "they store documents alike"
    others = [embedder(model).fingerprint for model in MODELS] + [embedder(dim=768).fingerprint]
    distinct = [*prints[3:], *others[1:]]
    assert all(a != b for i, a in enumerate(distinct) for b in distinct[:i])


MEDIA = [
    (Image, png(), "image/png"),
    (Image, jpeg(), "image/jpeg"),
    (Audio, mp3(2), "audio/mpeg"),
    (Audio, wav(2), "audio/wav"),
    (Video, film(2), "video/mp4"),
    (Video, film(2, b"qt  "), "video/quicktime"),
    (Pdf, pdf(2), "application/pdf"),
]


@pytest.mark.parametrize(("kind", "data", "mime_type"), MEDIA)
def test_every_modality(
    google: Google, embedder: Any, kind: Any, data: bytes, mime_type: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    one = embedder()
    wanted = vector_of((mime_type, data))
    np.testing.assert_allclose(one.embed_documents([kind(data), kind(path)]), [wanted, wanted], atol=1e-6)
    np.testing.assert_allclose(one.embed_query(kind(data)), wanted, atol=1e-6)


def test_a_uri_is_sent_as_it_is(google: Google, embedder: Any) -> None:
    vectors = embedder().embed_documents([Image("gs://bucket/cat.png")])
    np.testing.assert_allclose(vectors, [vector_of(("image/png", b"gs://bucket/cat.png"))], atol=1e-6)


def test_an_interleaved_list_is_one_vector_without_a_prefix(google: Google, embedder: Any) -> None:
    together = ["a caption", Image(png()), "and", Audio(wav(1))]
    vectors = embedder().embed_documents([together, "alone", ["two", "texts"]])
    parts = ["a caption", ("image/png", png()), "and", ("audio/wav", wav(1))]
    wanted: list[Any] = [parts, ["title: none | text: alone"], ["title: none | text: two", "texts"]]
    assert google.contents == wanted
    np.testing.assert_allclose(vectors, [vector_of(one) for one in wanted], atol=1e-6)
    embedder().embed_query(["like", Image(png())])
    assert google.contents[-1] == ["like", ("image/png", png())]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("word " * 8000, r"item 1: its text is 10,0\d\d tokens \(estimated\), .* takes 8,192; split it"),
        ([Image(png())] * 7, "item 1: its images is 7 images, gemini-embedding-2 takes 6; embed them apart"),
        (Audio(wav(181)), "item 1: its audio is 181 s of sound, gemini-embedding-2 takes 180; cut it"),
        ([Audio(wav(100)), Audio(wav(100))], "its audio is 200 s"),
        (Video(film(121)), "item 1: its video is 121 s of film, gemini-embedding-2 takes 120; cut it"),
        (Pdf(pdf(7)), "item 1: its PDF is 7 pages, gemini-embedding-2 takes 6; split the document"),
    ],
)
def test_limits_are_held_before_anything_is_sent(
    google: Google, embedder: Any, content: Any, words: str
) -> None:
    with pytest.raises(LimitExceeded, match=words):
        embedder().embed_documents(["fine", content])
    assert google.calls == []


def test_limits_of_other_models(google: Google, embedder: Any) -> None:
    with pytest.raises(LimitExceeded, match="preview takes 80;"):
        embedder("gemini-embedding-2-preview").embed_documents([Audio(wav(81))])
    with pytest.raises(LimitExceeded, match="takes 2,048; split"):
        embedder("gemini-embedding-001").embed_documents(["word " * 1700])
    with pytest.raises(InvalidInput, match="takes text only; gemini-embedding-2 takes media"):
        embedder("gemini-embedding-001").embed_documents([Image(png())])
    assert google.calls == []


def test_limits_can_be_changed(google: Google, embedder: Any) -> None:
    longer = replace(MODELS["gemini-embedding-2"], audio_s=200.0, pdf_pages=None)
    embedder(longer).embed_documents([Audio(wav(190)), Pdf(b"%PDF-1.7 that nobody can count")])
    assert len(google.contents) == 2


@pytest.mark.parametrize("empty", ["", "  \n", ["", "a"], []])
def test_empty_contents_are_refused(google: Google, embedder: Any, empty: Any) -> None:
    with pytest.raises(InvalidInput, match="item 1: .*empty"):
        embedder().embed_documents(["a", empty])
    assert google.calls == []


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", {"a": 1}, ["a", None], ["a", ["b"]], "\ud800"])
def test_wrong_types_are_refused(google: Google, embedder: Any, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="item 0"):
        embedder().embed_documents([wrong])
    assert google.calls == []


def test_wrong_arguments_are_refused(embedder: Any) -> None:
    one = embedder()
    for call, words in [
        (lambda: one.embed_documents("text"), "a list of contents"),
        (lambda: one.embed_documents(["a"], titles=["x", "y"]), "2 titles for 1"),
        (lambda: embedder("text-embedding-004"), "gemini-embedding-2, "),
        (lambda: embedder(task="cooking"), "'retrieval', 'question answering'"),
        (lambda: embedder(dim=4096), "from 2 to 3072"),
        (lambda: embedder(concurrency=0), "concurrency=0"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            call()


def test_counting_tokens_when_asked(google: Google, embedder: Any) -> None:
    """The estimate errs; the service's count decides where it is asked for."""
    one = embedder(count_tokens=True)
    one.embed_documents(
        ["short", "a-very-long-word-of-many-letters " * 1200]
    )  # 10,000 estimated, 1,200 counted
    assert [call.path.rsplit(":")[-1] for call in google.calls] == ["countTokens", "batchEmbedContents"]
    google.calls.clear()
    with pytest.raises(LimitExceeded, match=r"item 0: it has 8\d\d\d tokens, .* takes 8,192"):
        one.embed_documents(["a b c " * 2900])
    assert google.embed_calls == []


@pytest.mark.parametrize("model", [name for name, model in MODELS.items() if not model.ended])
@pytest.mark.parametrize("dim", [2, 768, 1536, 3072])
def test_every_tier_is_cut_from_the_full_vector_and_renormalised(
    google: Google, embedder: Any, model: str, dim: int
) -> None:
    [vector] = embedder(model, dim=dim).embed_documents(["a"])
    [call] = google.calls
    assert call.body["requests"][0]["outputDimensionality"] == 3072
    text = "a" if model.endswith("001") else "title: none | text: a"
    np.testing.assert_allclose(vector, vector_of(text, dim), atol=1e-6)
    assert vector.dtype == np.float32 and abs(np.linalg.norm(vector.astype(float)) - 1) < 1e-6
