"""Jobs of the Batch API that are lost, refused or given up: the others go on, nothing is uploaded twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrlstore.embedders.gemini import Collected, GeminiBatch, GeminiEmbedder, GeminiJob
from mrlstore.errors import EmbedError, InvalidInput
from tests.embedders.gemini.server import Answer, Call, Google, refused

TEXTS = [f"text {i}" for i in range(25)]
TOO_MANY = refused(429, "Too many requests.", "RESOURCE_EXHAUSTED")


@pytest.fixture
def one(embedder: Callable[..., Any], tmp_path: Path) -> GeminiEmbedder:
    made: GeminiEmbedder = embedder(cache=tmp_path / "cache.db", dim=256)
    return made


@pytest.fixture
def batch(google: Google, one: GeminiEmbedder) -> GeminiBatch:
    """25 contents in three jobs."""
    made = GeminiBatch(one, most_items=10)
    assert made.submit(TEXTS) == 25 and len(google.jobs) == 3
    return made


def test_a_lost_job_does_not_block_the_others(google: Google, batch: GeminiBatch) -> None:
    google.finish()
    del google.jobs["batches/job1"]
    collected = batch.collect()
    assert (collected.kept, collected.waiting, len(collected.failed)) == (15, 0, 10)
    assert collected.failed[0] == "job batches/job1 is not there any more" and not collected.troubled
    assert batch.submit(TEXTS) == 10, "what it had is sent again"
    google.finish()
    assert batch.wait() == Collected(kept=10)


def test_results_that_have_expired_do_not_block_the_others(google: Google, batch: GeminiBatch) -> None:
    """Google keeps a file for 48 hours."""
    google.finish()
    del google.files["files/out-job0"]
    collected = batch.collect()
    assert (collected.kept, len(collected.failed)) == (15, 10)
    assert "its results are gone (403)" in collected.failed[0] and "KEY" not in collected.failed[0]
    assert batch.submit(TEXTS) == 10


def test_a_job_of_another_key_stays_and_is_told(google: Google, batch: GeminiBatch) -> None:
    """It may be the key that is wrong: a paid job is not thrown away, and waiting for it is an error."""
    google.finish()
    google.refuse_paths = {
        "batches/job2": refused(403, "Permission denied on the batch.", "PERMISSION_DENIED")
    }
    collected = batch.collect()
    assert (collected.kept, collected.waiting, collected.failed) == (20, 5, [])
    assert len(collected.troubled) == 1 and "batches/job2" in collected.troubled[0]
    with pytest.raises(
        EmbedError, match=r"5 contents wait for jobs that cannot be looked at .*drop\(label\)"
    ):
        batch.wait()
    google.refuse_paths = {}
    assert batch.wait() == Collected(kept=5)


def test_a_429_at_creation_is_tried_again_without_another_upload(
    google: Google, one: GeminiEmbedder, clock: Any
) -> None:
    google.refuse_times = {"asyncBatchEmbedContent": [TOO_MANY, TOO_MANY]}
    batch = GeminiBatch(one)
    assert batch.submit(TEXTS) == 25
    assert google.uploads == 1 and len(google.jobs) == 1 and len(clock.waits) == 2


def test_after_many_429s_the_upload_is_used_later(google: Google, one: GeminiEmbedder) -> None:
    google.refuse = {"asyncBatchEmbedContent": TOO_MANY}
    batch = GeminiBatch(one)
    for _ in range(2):
        with pytest.raises(EmbedError, match="429.*the upload is kept"):
            batch.submit(TEXTS)
    [job] = batch.jobs()
    assert job == GeminiJob(job.label, None, "NOT_CREATED", 25)
    google.refuse = {}
    assert batch.submit([*TEXTS, "one more"]) == 1
    assert google.uploads == 2 and len(google.jobs) == 2, "one upload for the 25, one for the new content"
    google.finish()
    assert batch.wait() == Collected(kept=26)


def test_collecting_goes_on_beside_a_job_that_cannot_be_created(google: Google, one: GeminiEmbedder) -> None:
    batch = GeminiBatch(one)
    batch.submit(TEXTS[:10])
    google.refuse = {"asyncBatchEmbedContent": TOO_MANY}
    with pytest.raises(EmbedError):
        batch.submit(TEXTS)
    google.finish()
    collected = batch.collect()
    assert (collected.kept, collected.waiting) == (10, 15) and "429" in collected.troubled[0]


def test_an_upload_that_is_gone_is_made_again(google: Google, one: GeminiEmbedder) -> None:
    """Days later the upload has expired: its contents are free to be submitted again."""
    google.refuse = {"asyncBatchEmbedContent": TOO_MANY}
    batch = GeminiBatch(one)
    with pytest.raises(EmbedError):
        batch.submit(TEXTS)
    google.refuse = {}
    google.files.clear()
    assert batch.submit(TEXTS) == 25 and google.uploads == 2
    google.finish()
    assert batch.wait().kept == 25


def test_uploads_are_deleted(google: Google, batch: GeminiBatch) -> None:
    assert google.deleted == []
    google.finish(change=lambda lines: lines)
    batch.collect()
    assert sorted(google.deleted) == ["files/in0", "files/in1", "files/in2"]


@pytest.mark.parametrize("state", ["FAILED", "EXPIRED", "CANCELLED"])
def test_uploads_of_failed_jobs_are_deleted(google: Google, batch: GeminiBatch, state: str) -> None:
    google.finish(state)
    assert len(batch.collect().failed) == 25 and len(google.deleted) == 3


def test_uploads_that_no_job_can_be_made_of_are_deleted(google: Google, one: GeminiEmbedder) -> None:
    google.refuse = {"asyncBatchEmbedContent": refused(400, "A line is wrong.", "INVALID_ARGUMENT")}
    batch = GeminiBatch(one)
    with pytest.raises(EmbedError, match="400.*no job was created"):
        batch.submit(TEXTS)
    assert google.deleted == ["files/in0"] and batch.jobs() == []


def test_a_deletion_that_fails_loses_nothing(google: Google, batch: GeminiBatch) -> None:
    google.decide_all = lambda call: refused(500, "m", "INTERNAL") if call.method == "DELETE" else None
    google.finish()
    assert batch.collect() == Collected(kept=25)


def test_jobs_are_listed_and_dropped(google: Google, one: GeminiEmbedder, batch: GeminiBatch) -> None:
    first, second, third = GeminiBatch(one).jobs()
    assert [job.name for job in (first, second, third)] == [f"batches/job{i}" for i in range(3)]
    assert [job.contents for job in (first, second, third)] == [10, 10, 5]
    assert {job.state for job in (first, second, third)} == {"JOB_STATE_PENDING"}
    assert batch.drop(second.label) == 10
    assert google.jobs["batches/job1"]["metadata"]["state"] == "BATCH_STATE_CANCELLED"
    assert google.deleted == ["files/in1"] and len(batch.jobs()) == 2
    assert batch.submit(TEXTS) == 10
    assert batch.drop("batches/job0") == 10, "by the service's name too"
    with pytest.raises(InvalidInput, match=r"no job 'nothing'; jobs\(\) lists them"):
        batch.drop("nothing")


def test_a_job_that_the_service_does_not_know_is_dropped(google: Google, batch: GeminiBatch) -> None:
    del google.jobs["batches/job0"]
    label = batch.jobs()[0].label
    assert batch.jobs()[0].state.startswith("UNKNOWN") and batch.drop(label) == 10
    assert len(batch.jobs()) == 2


def test_a_lost_job_is_created_again_from_its_upload(google: Google, batch: GeminiBatch) -> None:
    with pytest.raises(InvalidInput, match="is JOB_STATE_PENDING: collect it, or drop it first"):
        batch.resubmit(batch.jobs()[0].label)
    del google.jobs["batches/job0"]
    google.jobs_made = 10
    name = batch.resubmit(batch.jobs()[0].label)
    assert name == "batches/job10" and google.uploads == 3
    google.finish()
    assert batch.wait() == Collected(kept=25)


def test_a_book_of_an_earlier_version(google: Google, one: GeminiEmbedder) -> None:
    """Without the names of uploads: the jobs in it are collected all the same."""
    assert one.cache is not None
    one.cache.execute("CREATE TABLE batch_jobs(label TEXT PRIMARY KEY, name TEXT, tokens TEXT NOT NULL)")
    one.cache.execute("CREATE TABLE batch_waiting(key BLOB PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID")
    one.cache.execute("INSERT INTO batch_jobs VALUES('lost', NULL, '{}')")
    one.cache.execute("INSERT INTO batch_waiting VALUES(x'00', 'lost')")
    batch = GeminiBatch(one)
    assert batch.submit(TEXTS) == 25 and len(batch.jobs()) == 1
    google.finish()
    assert batch.wait() == Collected(kept=25)


def test_a_refused_key_says_so(google: Google, batch: GeminiBatch) -> None:
    google.decide_all = lambda call: refused(401, "Bad credentials.", "UNAUTHENTICATED")
    with pytest.raises(EmbedError, match="check GEMINI_API_KEY"):
        batch.collect()
    google.decide_all = None
    google.finish()
    assert batch.collect() == Collected(kept=25)


def test_a_service_that_is_down_is_not_tried_for_every_job(google: Google, batch: GeminiBatch) -> None:
    calls: list[Call] = []

    def decide(call: Call) -> Answer:
        calls.append(call)
        return refused(503, "m", "UNAVAILABLE")

    google.decide_all = decide
    with pytest.raises(EmbedError, match="503"):
        batch.collect()
    assert len(calls) == 8, "two jobs, four attempts each; the third is left for later"
