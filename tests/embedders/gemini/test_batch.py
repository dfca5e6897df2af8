"""The Batch API: submit, poll, resume after a restart, collect; nothing is paid twice or lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.content import Image
from mrlstore.embedders.gemini import Collected, GeminiBatch, GeminiEmbedder
from mrlstore.errors import EmbedError, InvalidInput
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Answer, Google, refused, vector_of
from tests.embedders.gemini.test_requests import vertex

TEXTS = [f"text {i}" for i in range(25)]


@pytest.fixture
def one(embedder: Callable[..., Any], tmp_path: Path) -> GeminiEmbedder:
    made: GeminiEmbedder = embedder(cache=tmp_path / "cache.db", dim=256)
    return made


def jobs_made(google: Google) -> int:
    return sum("asyncBatchEmbedContent" in call.path for call in google.calls)


def lines_sent(google: Google) -> list[Any]:
    inputs = [data for name, data in google.files.items() if name.startswith("files/in")]
    return [json.loads(line) for data in inputs for line in data.splitlines()]


def test_a_batch_fills_the_cache(google: Google, one: GeminiEmbedder) -> None:
    contents: list[Any] = [*TEXTS, ["a caption", Image(png())]]
    batch = GeminiBatch(one)
    assert batch.submit(contents) == 26
    assert batch.collect() == Collected(kept=0, waiting=26)
    google.finish()
    assert batch.collect() == Collected(kept=26, waiting=0)
    vectors = one.embed_documents(contents)
    assert google.embed_calls == [], "everything is in the cache"
    texts = [vector_of(f"title: none | text: {text}", 256) for text in TEXTS]
    together = vector_of(["a caption", ("image/png", png())], 256)
    np.testing.assert_allclose(vectors, [*texts, together], atol=1e-6)
    usage = one.usage
    assert usage.estimated_usd is not None and usage.items == 26
    full = (usage.tokens["text"] * 0.20 + usage.tokens["image"] * 0.45) / 1e6
    assert usage.estimated_usd == pytest.approx(full / 2), "half the price"


def test_lines_are_as_google_wants_them(google: Google, embedder: Any, tmp_path: Path) -> None:
    GeminiBatch(embedder(cache=tmp_path / "a.db")).submit(["cats"], titles=["Animals"])
    GeminiBatch(embedder("gemini-embedding-001", cache=tmp_path / "b.db")).submit(
        ["cats"], titles=["Animals"]
    )
    two, one = (line["request"] for line in lines_sent(google))
    assert two == {
        "content": {"parts": [{"text": "title: Animals | text: cats"}]},
        "output_dimensionality": 3072,
    }
    assert one == {
        "content": {"parts": [{"text": "cats"}]},
        "output_dimensionality": 3072,
        "task_type": "RETRIEVAL_DOCUMENT",
        "title": "Animals",
    }


def test_what_is_cached_or_waiting_is_not_sent_again(google: Google, one: GeminiEmbedder) -> None:
    one.embed_documents(TEXTS[:5])
    batch = GeminiBatch(one)
    assert batch.submit(TEXTS[:10]) == 5
    assert batch.submit(TEXTS) == 15
    assert batch.submit(TEXTS) == 0 and jobs_made(google) == 2
    assert len(lines_sent(google)) == 20


def test_large_batches_are_several_jobs(google: Google, one: GeminiEmbedder) -> None:
    batch = GeminiBatch(one, most_items=10)
    assert batch.submit(TEXTS) == 25 and jobs_made(google) == 3
    google.finish()
    assert batch.collect().kept == 25


def test_another_process_goes_on(google: Google, one: GeminiEmbedder, embedder: Any, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom mrlstore.embedders.gemini import GeminiBatch, GeminiEmbedder\n"
        "one = GeminiEmbedder(cache=sys.argv[1], api_key='K')\n"
        "GeminiBatch(one).submit([f'text {i}' for i in range(25)])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "cache.db")],
        env=environment | {"GOOGLE_GEMINI_BASE_URL": google.url},
        check=True,
    )
    google.finish()
    assert GeminiBatch(one).collect() == Collected(kept=25)


def test_a_job_whose_creation_was_not_heard_of_is_found(google: Google, one: GeminiEmbedder) -> None:
    """The connection breaks after Google has made the job: asking again would pay twice."""
    batch = GeminiBatch(one)
    google.cut = "asyncBatchEmbedContent"
    with pytest.raises(EmbedError, match="a job that was created is found by its label"):
        batch.submit(TEXTS)
    google.cut = None
    assert GeminiBatch(one).submit(TEXTS) == 0 and jobs_made(google) == 1
    google.finish()
    assert batch.collect().kept == 25


def test_a_job_that_was_never_created_is_sent_again(google: Google, one: GeminiEmbedder) -> None:
    google.refuse = {"asyncBatchEmbedContent": refused(429, "Too many.", "RESOURCE_EXHAUSTED")}
    with pytest.raises(EmbedError, match="429"):
        GeminiBatch(one).submit(TEXTS)
    google.refuse = {}
    assert GeminiBatch(one).submit(TEXTS) == 0, "they wait already: their upload is there"
    assert google.uploads == 1 and len(google.jobs) == 1
    google.finish()
    assert GeminiBatch(one).collect().kept == 25


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_a_failed_job_can_be_sent_again(google: Google, one: GeminiEmbedder, state: str) -> None:
    batch = GeminiBatch(one)
    batch.submit(TEXTS)
    google.finish(state)
    collected = batch.collect()
    assert (collected.kept, collected.waiting, len(collected.failed)) == (0, 0, 25)
    assert f"JOB_STATE_{state}" in collected.failed[0]
    assert batch.submit(TEXTS) == 25


def test_every_result_is_checked(google: Google, one: GeminiEmbedder) -> None:
    def change(lines: list[Any]) -> list[Any]:
        lines[0] = {"key": lines[0]["key"], "error": {"code": 3, "message": "could not be read"}}
        lines[1]["response"]["embedding"]["values"] = None
        lines[2]["response"]["embedding"]["values"][0] = float("nan")
        stranger = {"key": "ab" * 32, "response": lines[4]["response"]}
        return [*lines[:3], "not an object", stranger, *lines[4:]]

    batch = GeminiBatch(one)
    batch.submit(TEXTS)
    google.finish(change=change)
    collected = batch.collect()
    assert collected.kept == 21 and len(collected.failed) == 4
    reasons = " ".join(collected.failed)
    assert all(word in reasons for word in ("could not be read", "no values", "NaN", "no result came back"))
    assert batch.submit(TEXTS) == 4 and len(one.cache or ()) == 21


def test_passing_failures_are_tried_again(google: Google, one: GeminiEmbedder, clock: Any) -> None:
    batch = GeminiBatch(one)
    batch.submit(TEXTS)
    google.finish()
    google.refuse = {
        "download": Answer(503, {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}})
    }
    with pytest.raises(EmbedError, match="503"):
        batch.collect()
    assert len(clock.waits) == 3
    google.refuse = {}
    assert batch.collect().kept == 25


def test_waiting(google: Google, one: GeminiEmbedder, clock: Any) -> None:
    batch = GeminiBatch(one)
    batch.submit(TEXTS)
    with pytest.raises(EmbedError, match="25 contents are still waiting after 600 s; ask again"):
        batch.wait(poll_s=60, timeout_s=600)
    assert clock.waits == [60] * 10
    seen: list[int] = []

    def progress(collected: Collected) -> None:
        seen.append(collected.waiting)
        if len(seen) == 3:
            google.finish()

    assert batch.wait(progress=progress) == Collected(kept=25)
    assert seen == [25, 25, 25, 0]


def test_what_cannot_be_batched(google: Google, embedder: Any, client: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="with a cache"):
        GeminiBatch(embedder())
    with pytest.raises(InvalidInput, match="has a URI"):
        GeminiBatch(embedder(cache=tmp_path / "a.db")).submit([Image("gs://bucket/a.png")])
    with pytest.raises(InvalidInput, match="Vertex AI read and write Cloud Storage"):
        GeminiBatch(GeminiEmbedder(client=vertex(client), cache=tmp_path / "b.db")).submit(["a"])
    assert google.calls == []
