"""What a refusal is about: a file, the key, the model, the account, or a quota; and how long to wait."""

from __future__ import annotations

from typing import Any

import pytest

from mrlstore.embedders.content import Image, Pdf
from mrlstore.embedders.gemini import GeminiEmbedder, GeminiEmbedError
from mrlstore.embedders.gemini.call_failures import parse_duration
from mrlstore.ingest import IngestError, ingest
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Answer, Call, Google, refused
from tests.embedders.gemini.test_requests import vertex

FILE = "https://generativelanguage.googleapis.com/v1beta/files/abc"
ABOUT_A_FILE = {
    "403": refused(
        403, "You do not have permission to access the File abc or it may not exist.", "PERMISSION_DENIED"
    ),
    "404": refused(404, "File abc was not found.", "NOT_FOUND"),
    "403 of Cloud Storage": refused(
        403, "service-1@gcp-sa does not have storage.objects.get access to gs://b/a.png", "PERMISSION_DENIED"
    ),
    "403 without words": refused(403, "The caller does not have permission", "PERMISSION_DENIED"),
    "400 not ready": refused(
        400, "The File abc is not in an ACTIVE state and usage is not allowed.", "FAILED_PRECONDITION"
    ),
}


def has_uri(call: Call) -> bool:
    return any(
        isinstance(part, tuple) and b"/files/" in part[1] for content in call.contents for part in content
    )


@pytest.mark.parametrize("answer", ABOUT_A_FILE.values(), ids=ABOUT_A_FILE)
def test_a_file_that_cannot_be_read_fails_alone(google: Google, embedder: Any, answer: Answer) -> None:
    google.decide = lambda call: answer if has_uri(call) else None
    contents: list[Any] = [f"text {i}" for i in range(20)]
    contents[7] = Image(FILE, mime_type="image/png")
    contents[8] = ["a caption", Image(png())]
    with pytest.raises(GeminiEmbedError, match="1 of 20 items .* item 7: ") as raised:
        embedder(concurrency=1).embed_documents(contents)
    assert list(raised.value.failed) == [7]
    assert "GEMINI_API_KEY" not in str(raised.value) and "no such model" not in str(raised.value)


def test_a_refused_key_is_seen_beside_a_file_too(google: Google, embedder: Any) -> None:
    google.decide = lambda call: refused(403, "API key not valid for this service.", "PERMISSION_DENIED")
    contents: list[Any] = [Image(FILE, mime_type="image/png"), *(f"text {i}" for i in range(300))]
    with pytest.raises(GeminiEmbedError, match="check GEMINI_API_KEY"):
        embedder(concurrency=1).embed_documents(contents)
    assert len(google.calls) == 1


def test_an_unknown_model_is_seen_beside_a_file_too(google: Google, embedder: Any) -> None:
    google.decide = lambda call: refused(404, "models/x is not found for API version v1", "NOT_FOUND")
    with pytest.raises(GeminiEmbedError, match="no such model"):
        embedder(concurrency=1).embed_documents([Image(FILE, mime_type="image/png"), "a", "b"])
    assert len(google.calls) == 1


@pytest.mark.parametrize(
    "words",
    [
        "User location is not supported for the API use.",
        "Gemini API free tier is not available in your country. Please enable billing on your project.",
    ],
)
def test_a_refused_location_costs_one_request(google: Google, embedder: Any, words: str) -> None:
    google.decide = lambda call: refused(400, words, "FAILED_PRECONDITION")
    with pytest.raises(GeminiEmbedError, match="account or location.*" + words[:20]) as raised:
        embedder(concurrency=1).embed_documents([f"text {i}" for i in range(1000)])
    assert len(google.calls) == 1 and len(raised.value.failed) == 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("17.5s", 17.5),
        ("0s", 0),
        ("1m2.5s", 62.5),
        ("14h12m", 51_120),
        ("14h12m3s", 51_123),
        ("640.5ms", 0.6405),
        ("1h", 3600),
        ("2m", 120),
        ("soon", None),
        ("", None),
        ("12", None),
        ("-3s", None),
        ("1.2.3s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    found = parse_duration(text)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "answer",
    [
        refused(429, "Quota exceeded. Please retry in 1m2.5s.", "RESOURCE_EXHAUSTED"),
        refused(429, "Quota exceeded.", "RESOURCE_EXHAUSTED", [{"retryDelay": "1m2.5s"}]),
        refused(429, "Quota exceeded.", "RESOURCE_EXHAUSTED", retry_after="1m2.5s"),
    ],
    ids=["words", "RetryInfo", "Retry-After"],
)
def test_a_wait_in_minutes_is_kept(google: Google, embedder: Any, clock: Any, answer: Answer) -> None:
    google.script = [answer]
    embedder().embed_documents(["a"])
    assert 62.5 <= sum(clock.waits) <= 62.7


def violated(quota: str, delay: str = "30s") -> Answer:
    details: list[Any] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    return refused(429, "You exceeded your current quota.", "RESOURCE_EXHAUSTED", details)


DAILY = {
    "by its name": violated("EmbedContentRequestsPerDayPerUserPerProjectPerModel-FreeTier"),
    "by the wait": refused(429, "Please retry in 14h12m10s.", "RESOURCE_EXHAUSTED"),
    "in words": refused(429, "Quota exceeded for quota 'Embed requests per day'.", "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize("answer", DAILY.values(), ids=DAILY)
def test_a_spent_daily_quota_ends_the_call_at_once(
    google: Google, embedder: Any, clock: Any, answer: Answer
) -> None:
    google.decide = lambda call: answer
    with pytest.raises(GeminiEmbedError, match="daily quota") as raised:
        embedder(concurrency=1).embed_documents([f"text {i}" for i in range(1000)])
    assert len(google.calls) == 1 and clock.waits == [] and len(raised.value.failed) == 1000


def test_a_quota_of_a_minute_is_waited_for(google: Google, embedder: Any, clock: Any) -> None:
    google.script = [violated("EmbedContentRequestsPerMinutePerProjectPerModel")]
    embedder().embed_documents(["a"])
    assert 30 <= sum(clock.waits) <= 30.2


def test_a_spent_daily_quota_ends_an_ingest_that_skips(google: Google, embedder: Any, opened: Any) -> None:
    google.decide = lambda call: DAILY["by its name"]
    one = embedder(concurrency=2)
    store = opened(dim=one.dim, embedder=one)
    with pytest.raises(IngestError, match="daily quota"):
        ingest(store, one, [f"text {i}" for i in range(2000)], on_error="skip")
    assert len(google.calls) <= 4


def test_a_vertex_bucket_that_may_not_be_read(google: Google, client: Any, clock: Any) -> None:
    google.decide = lambda call: (
        refused(403, "Permission denied on gs://bucket/a.pdf", "PERMISSION_DENIED")
        if isinstance(call.contents[0][0], tuple)
        else None
    )
    one = GeminiEmbedder(client=vertex(client), clock=clock, concurrency=1)
    with pytest.raises(GeminiEmbedError, match="cannot read this file URI") as raised:
        one.embed_documents(["a", Pdf("gs://bucket/a.pdf"), "c"])
    assert list(raised.value.failed) == [1]
