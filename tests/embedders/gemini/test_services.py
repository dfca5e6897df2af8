"""What differs between the Developer API and Vertex AI, and models that have ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mrlstore.embedders.content import Audio, Image, Pdf, Video
from mrlstore.embedders.gemini import MODELS, VERTEX_MODELS, GeminiBatch, GeminiEmbedder, GeminiEmbedError
from mrlstore.errors import EmbedError, InvalidInput, LimitExceeded
from mrlstore.ingest import ingest, re_embed
from tests.embedders.gemini.media import film, mp3, pdf, png, wav
from tests.embedders.gemini.server import Google
from tests.embedders.gemini.test_requests import vertex

WEBP, BMP = b"RIFF\0\0\0\0WEBPVP8 " + bytes(20), b"BM" + bytes(30)
HEIC, HEIF, AVIF = (b"\0\0\0\x18ftyp" + brand + bytes(20) for brand in (b"heic", b"mif1", b"avif"))
MPEG = b"\0\0\x01\xba" + bytes(30)
PREVIEW = "gemini-embedding-2-preview"


@pytest.fixture
def on_vertex(client: Any, clock: Any) -> Any:
    return lambda **options: GeminiEmbedder(**{"client": vertex(client), "clock": clock} | options)


# A model that has ended


def test_the_preview_model_is_refused_before_anything_is_sent(google: Google, embedder: Any) -> None:
    one = embedder(PREVIEW)
    with pytest.raises(GeminiEmbedError, match=r"not served any more since 2026-08-10.*mrlstore re-embed"):
        one.embed_documents(["a", "b"])
    with pytest.raises(GeminiEmbedError, match="Use gemini-embedding-2:"):
        one.embed_query("a")
    assert google.calls == []


def test_what_the_preview_model_made_is_still_in_the_cache(
    google: Google, embedder: Any, tmp_path: Any
) -> None:
    cache = tmp_path / "cache.db"
    embedder(replace(MODELS[PREVIEW], ended=None), cache=cache).embed_documents(["a"])
    google.calls.clear()
    one = embedder(PREVIEW, cache=cache)
    assert one.embed_documents(["a"]).shape == (1, 3072)
    with pytest.raises(GeminiEmbedError, match="1 of 2 items .* item 1: ") as raised:
        one.embed_documents(["a", "b"])
    assert list(raised.value.succeeded) == [0] and google.calls == []
    with pytest.raises(EmbedError, match="not served any more"):
        GeminiBatch(one).submit(["b"])


def test_a_store_of_the_preview_model_is_moved(
    google: Google, embedder: Any, opened: Any, tmp_path: Any
) -> None:
    """Its documents are embedded again; to mix the vectors of the two models is refused."""
    texts, ids = ["a", "b", "c"], ["1", "2", "3"]
    past = embedder(replace(MODELS[PREVIEW], ended=None))
    with opened(tmp_path / "old.mrl", dim=3072, embedder=past) as old:
        old.add(texts, ids)
    successor = embedder()
    with pytest.raises(InvalidInput, match=f"model: '{PREVIEW}' is stored.*mrlstore re-embed"):
        opened(tmp_path / "old.mrl", embedder=successor).add(["d"])
    old = opened(tmp_path / "old.mrl", embedder=embedder(PREVIEW))
    assert len(old) == 3, "it can be opened and read with the model that has ended"
    new = opened(tmp_path / "new.mrl", dim=3072, embedder=successor)
    assert re_embed(old, new, successor).embedded == 3
    [hit] = new.query(text="a", k=1)
    assert hit.id in ids


def test_on_vertex_the_preview_model_has_not_ended(google: Google, on_vertex: Any) -> None:
    assert on_vertex(model=PREVIEW).embed_documents(["a"]).shape == (1, 3072)


# Locations


def test_vertex_locations_are_checked(google: Google, client: Any, monkeypatch: Any) -> None:
    with pytest.raises(InvalidInput, match=r"'us-central1': Vertex AI serves .* in global, us, eu only"):
        GeminiEmbedder(project="p", location="us-central1")
    with pytest.raises(InvalidInput, match="europe-west4"):
        GeminiEmbedder(client=vertex(client, "europe-west4"))
    for location in ("global", "us", "eu"):
        GeminiEmbedder(project="p", location=location)
    GeminiEmbedder("gemini-embedding-001", project="p", location="us-central1")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "asia-east1")
    with pytest.raises(InvalidInput, match="asia-east1"):
        GeminiEmbedder()
    GeminiEmbedder(replace(VERTEX_MODELS["gemini-embedding-2"], locations=None))
    assert google.calls == []


def test_the_environment_chooses_the_service(monkeypatch: Any) -> None:
    assert GeminiEmbedder().model.locations is None
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "1")
    assert GeminiEmbedder().model.locations == ("global", "us", "eu")
    monkeypatch.setenv("GOOGLE_GENAI_USE_ENTERPRISE", "false")
    assert GeminiEmbedder().model.locations is None


# Media


@pytest.mark.parametrize("data", [WEBP, BMP, HEIC, HEIF, AVIF], ids=["webp", "bmp", "heic", "heif", "avif"])
def test_images_that_vertex_alone_takes(google: Google, embedder: Any, on_vertex: Any, data: bytes) -> None:
    image = Image(data)
    with pytest.raises(InvalidInput, match=r"on the Developer API takes image/png or image/jpeg: convert"):
        embedder().embed_documents([image])
    assert google.calls == []
    on_vertex().embed_documents([image])
    assert google.contents == [[(image.mime_type, data)]]


def test_films_and_sound_go_by_the_names_of_each_service(
    google: Google, embedder: Any, on_vertex: Any
) -> None:
    with pytest.raises(InvalidInput, match="is video/mpeg"):
        embedder().embed_documents([Video(MPEG)])
    with pytest.raises(
        InvalidInput, match="is video/quicktime; .* on Vertex AI takes video/mp4 or video/mpeg"
    ):
        on_vertex().embed_documents([Video(film(1, b"qt  "))])
    embedder().embed_documents([Audio(mp3(1)), Video(film(1, b"qt  "))])
    one = on_vertex(concurrency=1)
    one.embed_documents([Audio(mp3(1)), Audio(wav(1)), Video(MPEG)])
    kinds = [part[0] for content in google.contents for part in content]
    assert kinds == ["audio/mpeg", "video/quicktime", "audio/mp3", "audio/wav", "video/mpeg"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([Video(film(1)), Video(film(1))], "2 films, gemini-embedding-2 takes 1; embed them apart"),
        ([Audio(wav(1)), Audio(wav(1))], "2 recordings"),
        ([Audio("gs://b/a.mp3"), Audio("gs://b/b.mp3")], "2 recordings"),
        ([Pdf(pdf(1)), Pdf(pdf(1))], "2 documents"),
    ],
    ids=["films", "recordings", "recordings by URI", "PDFs"],
)
def test_vertex_takes_one_film_recording_and_document(
    google: Google, embedder: Any, on_vertex: Any, content: Any, words: str
) -> None:
    with pytest.raises(LimitExceeded, match=words):
        on_vertex().embed_documents([content])
    assert google.calls == []
    assert len(embedder().embed_documents([content])) == 1


def test_large_documents_go_by_uri(google: Google, embedder: Any, on_vertex: Any) -> None:
    large = Pdf(pdf(1) + bytes(51_000_000))
    with pytest.raises(LimitExceeded, match="51,0.* bytes, .* takes 50,000,000; give it by a URI"):
        embedder().embed_documents([large])
    with pytest.raises(LimitExceeded, match="its media is 80,0.* bytes"):
        embedder().embed_documents([[Image(png() + bytes(40_000_000)), Image(png() + bytes(40_000_000))]])
    assert google.calls == []
    signed = "https://bucket.s3.amazonaws.com/paper.pdf?X-Amz-Signature=abc"
    embedder().embed_documents([Pdf(signed), Pdf("gs://bucket/paper.pdf")])
    assert google.contents == [
        [("application/pdf", signed.encode())],
        [("application/pdf", b"gs://bucket/paper.pdf")],
    ]


# OCR and the sound of films


def test_ocr_and_the_sound_of_films(google: Google, on_vertex: Any) -> None:
    one = on_vertex(document_ocr=True, audio_track_extraction=True, concurrency=1)
    one.embed_documents([Pdf(pdf(1)), Video(film(80)), "a text"])
    told = [call.body.get("embedContentConfig", {}) for call in google.calls]
    flags = [(config.get("documentOcr"), config.get("audioTrackExtraction")) for config in told]
    assert flags == [(True, None), (None, True), (None, None)], "each where it makes a difference"
    with pytest.raises(LimitExceeded, match="81 s of film with its sound, gemini-embedding-2 takes 80; cut"):
        one.embed_documents([Video(film(81))])
    on_vertex().embed_documents([Video(film(81))])


def test_ocr_is_of_vertex_alone(embedder: Any, on_vertex: Any) -> None:
    with pytest.raises(InvalidInput, match="document_ocr: only on Vertex AI"):
        embedder(document_ocr=True)
    with pytest.raises(InvalidInput, match="document_ocr and audio_track_extraction: only on Vertex AI"):
        on_vertex(model="gemini-embedding-001", document_ocr=True, audio_track_extraction=True)


def test_vectors_with_and_without_sound_are_apart_in_the_cache(
    google: Google, on_vertex: Any, tmp_path: Any
) -> None:
    cache = tmp_path / "cache.db"
    contents = [Video(film(10)), "a text"]
    on_vertex(cache=cache).embed_documents(contents)
    google.calls.clear()
    with_sound = on_vertex(cache=cache, audio_track_extraction=True)
    with_sound.embed_documents(contents)
    assert len(google.calls) == 1, "the text was there, the film with its sound was not"
    with_sound.embed_documents(contents)
    assert len(google.calls) == 1


def test_a_document_that_vertex_alone_takes_does_not_keep_others_back(
    google: Google, embedder: Any, opened: Any
) -> None:
    one = embedder()
    store = opened(dim=one.dim, embedder=one)
    done = ingest(store, one, ["a", Image(WEBP), "b"], ["1", "2", "3"], on_error="skip")
    assert list(done.failed) == ["2"] and len(store) == 2
