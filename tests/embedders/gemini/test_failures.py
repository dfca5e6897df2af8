"""What goes wrong on the way, and that nothing that was done is lost."""

from __future__ import annotations

import pickle
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.content import Image
from mrlstore.embedders.gemini import GeminiEmbedder, GeminiEmbedError, Retry
from mrlstore.embedders.gemini.embed_run import EmbedRun
from mrlstore.errors import EmbedError
from tests import inside
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Answer, Call, Google, refused, vector_of

RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
QUOTA = refused(429, "Quota exceeded.", "RESOURCE_EXHAUSTED")


def document(text: str) -> np.ndarray[Any, Any]:
    return vector_of(f"title: none | text: {text}")


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (refused(429, "Quota exceeded.", "RESOURCE_EXHAUSTED", [{"@type": "other"}, RETRY_INFO]), 17.5),
        (refused(429, "Quota exceeded.", "RESOURCE_EXHAUSTED", retry_after="9"), 9),
        (refused(503, "Overloaded.", "UNAVAILABLE", retry_after="3"), 3),
        (refused(429, "Please retry in 12.25s.", "RESOURCE_EXHAUSTED"), 12.25),
        (refused(429, "Please retry in 640.5ms.", "RESOURCE_EXHAUSTED"), 0.6405),
    ],
)
def test_the_server_is_obeyed(
    google: Google, embedder: Any, clock: Any, answer: Answer, seconds: float
) -> None:
    google.script = [answer]
    np.testing.assert_allclose(embedder().embed_documents(["a"]), [document("a")], atol=1e-6)
    assert len(google.calls) == 2
    assert seconds <= sum(clock.waits) <= seconds + 0.2


def test_retry_after_as_a_date(google: Google, embedder: Any, clock: Any) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    google.script = [refused(429, "m", "RESOURCE_EXHAUSTED", retry_after=date)]
    embedder().embed_documents(["a"])
    assert 20 <= sum(clock.waits) <= 31


def test_a_nonsensical_retry_after_is_ignored(google: Google, embedder: Any, clock: Any) -> None:
    google.script = [refused(429, "m", "RESOURCE_EXHAUSTED", retry_after="soon")]
    embedder().embed_documents(["a"])
    assert 0.5 <= sum(clock.waits) <= 1.0


def test_a_spent_daily_quota_is_not_waited_for(google: Google, embedder: Any, clock: Any) -> None:
    google.script = [refused(429, "m", "RESOURCE_EXHAUSTED", retry_after="7200")]
    with pytest.raises(GeminiEmbedError, match="asks to wait 7,200 s"):
        embedder().embed_documents(["a"])
    assert clock.waits == [] and len(google.calls) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_retried_with_growing_waits(
    google: Google, embedder: Any, clock: Any, code: int
) -> None:
    google.script = [refused(code, "m", "S")] * 3
    np.testing.assert_allclose(embedder().embed_documents(["a"]), [document("a")], atol=1e-6)
    assert [0.5, 1, 2] <= clock.waits <= [1, 2, 4] and len(clock.waits) == 3


@pytest.mark.parametrize(
    "answer",
    [
        Answer(reset=True),
        Answer(raw=b"<html>Sorry</html>", headers={"content-type": "text/html"}),
        Answer(502, raw=b"<html>Bad gateway</html>", headers={"content-type": "text/html"}),
    ],
    ids=["connection reset", "no JSON in a 200", "no JSON in a 502"],
)
def test_a_broken_road_is_tried_again(google: Google, embedder: Any, answer: Answer) -> None:
    google.script = [answer, answer]
    np.testing.assert_allclose(embedder().embed_documents(["a"]), [document("a")], atol=1e-6)
    assert len(google.calls) == 3


def test_a_silent_server_is_tried_again(google: Google, embedder: Any) -> None:
    google.script = [Answer(delay_s=30)]
    np.testing.assert_allclose(embedder(timeout_s=0.2).embed_documents(["a"]), [document("a")], atol=1e-6)
    assert len(google.calls) == 2
    assert google.calls[0].headers["x-server-timeout"] == "1"


def test_nobody_there(client: Any, clock: Any) -> None:
    one = GeminiEmbedder(
        client=client(http_options={"base_url": "http://127.0.0.1:9"}), clock=clock, retry=Retry(attempts=3)
    )
    with pytest.raises(GeminiEmbedError, match=r"ConnectError.*\(after 3 attempts\)"):
        one.embed_documents(["a"])
    assert len(clock.waits) == 2


def test_attempts_are_ours_alone(google: Google, client: Any, clock: Any) -> None:
    """A client that retries by itself would multiply the attempts and ignore Retry-After."""
    own = client(http_options={"retry_options": {"attempts": 5, "initial_delay": 0.001}})
    google.script = [QUOTA] * 10
    with pytest.raises(GeminiEmbedError, match=r"429 .*Quota exceeded.*\(after 3 attempts\)"):
        GeminiEmbedder(client=own, clock=clock, retry=Retry(attempts=3)).embed_documents(["a"])
    assert len(google.calls) == 3


EXPIRED = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    "answer",
    [
        refused(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED"),
        refused(403, "The caller does not have permission", "PERMISSION_DENIED"),
        refused(400, "API key expired. Please renew the API key.", "INVALID_ARGUMENT", [EXPIRED]),
    ],
    ids=["401", "403", "400 expired"],
)
def test_a_refused_key_is_said_clearly_and_not_tried_again(
    google: Google, embedder: Any, clock: Any, answer: Answer
) -> None:
    google.decide = lambda call: answer
    with pytest.raises(GeminiEmbedError, match="check GEMINI_API_KEY") as raised:
        embedder(concurrency=1).embed_documents([f"text {i}" for i in range(1000)])
    assert len(google.calls) == 1 and clock.waits == [], "one refusal is enough for all batches"
    assert len(raised.value.failed) == 1000 and not raised.value.succeeded


def test_an_unknown_model_is_said_clearly(google: Google, embedder: Any) -> None:
    google.script = [refused(404, "models/x is not found for API version v1", "NOT_FOUND")]
    with pytest.raises(GeminiEmbedError, match="no such model for this key, region and API version"):
        embedder().embed_documents(["a"])
    assert len(google.calls) == 1


def test_half_a_batch_failing_loses_nothing(google: Google, embedder: Any) -> None:
    """Of three batches the second fails for good; the others' vectors are handed over."""
    second = {f"title: none | text: text {i}" for i in range(100, 200)}
    google.decide = lambda call: (
        refused(500, "m", "INTERNAL") if any(str(content[0]) in second for content in call.contents) else None
    )
    texts = [f"text {i}" for i in range(250)]
    with pytest.raises(GeminiEmbedError, match="100 of 250 items .* item 100: 500 INTERNAL") as raised:
        embedder(dim=768).embed_documents(texts)
    error = raised.value
    assert sorted(error.failed) == list(range(100, 200))
    assert sorted(error.succeeded) == [*range(100), *range(200, 250)]
    for number in (0, 99, 200, 249):
        wanted = vector_of(f"title: none | text: text {number}", 768)
        np.testing.assert_allclose(error.succeeded[number], wanted, atol=1e-6)
    assert isinstance(error, EmbedError) and "500" in str(error.__cause__)
    copy = pickle.loads(pickle.dumps(error))
    assert sorted(copy.failed) == sorted(error.failed) and str(copy) == str(error)


def poison(*bad: str) -> Any:
    def decide(call: Call) -> Answer | None:
        texts = {str(content[0]).rsplit(": ", 1)[-1] for content in call.contents}
        return refused(400, "The content is bad.", "INVALID_ARGUMENT") if texts & set(bad) else None

    return decide


def test_one_bad_item_is_found_and_the_rest_embedded(google: Google, embedder: Any, clock: Any) -> None:
    """A 400 refuses the whole request; halving finds the item to blame in about 2 log2(100) requests."""
    google.decide = poison("text 37")
    with pytest.raises(GeminiEmbedError, match="1 of 100 items .* item 37: 400") as raised:
        embedder().embed_documents([f"text {i}" for i in range(100)])
    assert list(raised.value.failed) == [37] and len(raised.value.succeeded) == 99
    np.testing.assert_allclose(raised.value.succeeded[38], document("text 38"), atol=1e-6)
    assert len(google.calls) <= 16 and clock.waits == []


def test_a_batch_that_is_bad_throughout_is_not_halved_for_ever(google: Google, embedder: Any) -> None:
    google.decide = lambda call: refused(400, "Nothing pleases me.", "INVALID_ARGUMENT")
    with pytest.raises(GeminiEmbedError, match="100 of 100") as raised:
        embedder().embed_documents([f"text {i}" for i in range(100)])
    assert len(raised.value.failed) == 100
    assert len(google.calls) <= 40


def test_a_file_that_vanishes_fails_alone(google: Google, embedder: Any, tmp_path: Any) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    medium = Image(path)
    one = embedder()
    items = one.items(["a", medium])
    path.unlink()
    with pytest.raises(FileNotFoundError):
        one.embed_documents(["a", medium])
    assert google.calls == [], "found out before anything was sent"
    run = EmbedRun(inside.gemini_context(one, "document"), items, threading.Event())
    run.execute()
    assert list(run.vectors) == [0] and isinstance(run.failed[1], FileNotFoundError)


def test_after_a_pause_everybody_pauses(google: Google, embedder: Any, clock: Any) -> None:
    """A 429 with a wait is news for other calls too: they do not run into it one by one."""
    google.script = [refused(429, "m", "RESOURCE_EXHAUSTED", retry_after="30")]
    one = embedder(retry=Retry(attempts=1))
    with pytest.raises(GeminiEmbedError, match=r"\(after 1 attempts\)"):
        one.embed_documents(["a"])
    assert clock.waits == []
    one.embed_query("b")
    assert clock.waits == [30.0]


def test_the_service_says_that_it_truncated(google: Google, client: Any, clock: Any) -> None:
    from tests.embedders.gemini.test_requests import vertex

    body = {"embedding": {"values": document("a").tolist()}, "truncated": True}
    google.script = [Answer(body=body)]
    one = GeminiEmbedder(client=vertex(client), clock=clock)
    with pytest.raises(GeminiEmbedError, match="truncated the content; split it"):
        one.embed_documents(["a"])
