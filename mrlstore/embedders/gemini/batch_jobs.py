"""Google's Batch API: half the price, answers within a day. It fills the embedder's cache.

What was submitted and which jobs are not finished is kept in the cache's file, so that another process can
collect the vectors tomorrow. Once collected, `embed_documents` (or a store's `add`) finds every vector in the
cache and sends nothing. A job's results carry keys, so their order does not matter.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mrlstore.embedders.cache import EmbeddingCache
from mrlstore.embedders.content import Content
from mrlstore.embedders.gemini.batch_book import BatchBook, BookedJob
from mrlstore.embedders.gemini.batch_lines import read_results, request_bytes, request_line
from mrlstore.embedders.gemini.call_failures import CallFailed
from mrlstore.embedders.gemini.embed_run import ended
from mrlstore.embedders.gemini.items import EmbedItem, InputSize, Side, cache_key, item_digest
from mrlstore.errors import EmbedError, InvalidInput

if TYPE_CHECKING:
    from google.genai import types

    from mrlstore.embedders.gemini.embedder import GeminiEmbedder

T = TypeVar("T")

_FAILED = frozenset({"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"})
_DONE = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"})
_RUNNING = frozenset({"JOB_STATE_PENDING", "JOB_STATE_QUEUED", "JOB_STATE_RUNNING"})
_NOT_CREATED = frozenset({400, 403, 404, 413})  # after these answers no job can be made of this upload
_MAX_PASSING = 2  # jobs that cannot be looked at for now, after which the others are left for later


@dataclass
class Collected:
    """What one look at the jobs brought."""

    kept: int = 0  # vectors that are in the cache now
    waiting: int = 0  # contents whose jobs are not finished
    failed: list[str] = field(default_factory=list)  # a reason for each content that must be submitted again
    troubled: list[str] = field(default_factory=list)  # a reason for each job that could not be looked at


@dataclass(frozen=True)
class GeminiJob:
    """A job that was submitted and is not collected yet.

    `state` is Google's word ("JOB_STATE_PENDING", ...), "NOT_CREATED" for a job whose creation failed or was
    not confirmed, or "UNKNOWN" with the reason where the service could not be asked.
    """

    label: str  # ours; the service shows it as the job's display name
    name: str | None  # the service's: "batches/..."
    state: str
    contents: int


class _KeyedItem(NamedTuple):
    key: bytes  # in the cache
    item: EmbedItem


class GeminiBatch:
    """Submits contents to the Batch API and collects their vectors into the embedder's cache.

    Args:
        embedder: with a cache, on the Developer API. (Vertex AI has batch jobs too, which read and write
            Cloud
            Storage: this class does not submit those.)
        most_items: contents of one job: a job's results are held in memory, about 40 kB for each.
        most_bytes: size of a job's file; Google takes 2 GB.

    One process at a time may use the batches of a cache.
    """

    def __init__(
        self, embedder: GeminiEmbedder, *, most_items: int = 5_000, most_bytes: int = 1_000_000_000
    ) -> None:
        if embedder.cache is None:
            raise InvalidInput("batches need an embedder with a cache: GeminiEmbedder(cache=path)")
        self._embedder = embedder
        self._cache: EmbeddingCache = embedder.cache
        self._book = BatchBook(embedder.cache)
        self._most_items, self._most_bytes = most_items, most_bytes

    def submit(
        self,
        contents: Sequence[Content],
        side: Side = "document",
        *,
        titles: Sequence[str | None] | None = None,
    ) -> int:
        """Send those contents that are neither in the cache nor waiting; return how many were sent.

        Raises as `embed_documents` does; what was submitted before the error is waiting.
        """
        if self._embedder.client.vertex:
            raise InvalidInput(
                "batch jobs of Vertex AI read and write Cloud Storage, which GeminiBatch does not; use the "
                "Developer API with a key, or embed_documents"
            )
        if self._embedder.model.ended is not None:
            raise EmbedError(ended(self._embedder.model))
        settled = Collected()
        self._settle_creations(settled)
        if settled.troubled:
            raise EmbedError(settled.troubled[0])
        given: dict[bytes, EmbedItem] = {}
        for item in self._embedder.items(contents, side, titles):
            if not item.cacheable:
                raise InvalidInput(
                    f"item {item.number}: what has a URI is not cached, so it cannot be batched"
                )
            given[cache_key(item, item_digest(item), self._embedder.model)] = item
        known = self._cache.get(list(given)).keys() | self._book.waiting().keys()
        new = [_KeyedItem(key, item) for key, item in given.items() if key not in known]
        for job in self._job_sized(new):
            self._submit(job)
        return len(new)

    def collect(self) -> Collected:
        """Look at every job once: take the vectors of finished ones into the cache, forget failed ones.

        A job that is not there any more, or whose results are gone, counts as failed. One that cannot be
        looked at (with another key, say) stays, and is told in `.troubled`; the others are collected all the
        same.
        """
        collected = Collected()
        self._settle_creations(collected)
        passing: list[CallFailed] = []
        for job in self._book.jobs():
            if job.name is None or len(passing) >= _MAX_PASSING:
                continue
            try:
                self._collect_job(job, collected)
            except CallFailed as error:
                passing += [error] if error.failure.retry or error.failure.code == 401 else []
                collected.troubled.append(f"job {job.name}: {error}")
        if passing and not collected.kept and not collected.failed:
            raise passing[0]
        collected.waiting = len(self._book.waiting())
        return collected

    def wait(
        self,
        poll_s: float = 60.0,
        timeout_s: float | None = None,
        progress: Callable[[Collected], None] | None = None,
    ) -> Collected:
        """Collect until nothing is waiting.

        Raises:
            EmbedError: `timeout_s` has passed, or only jobs are left that cannot be looked at. Nothing is
                lost.
        """
        whole, clock = Collected(), self._embedder.client.clock
        end = None if timeout_s is None else clock.now() + timeout_s
        while True:
            now = self.collect()
            whole = Collected(whole.kept + now.kept, now.waiting, whole.failed + now.failed, now.troubled)
            if progress is not None:
                progress(whole)
            if not now.waiting:
                return whole
            if len(now.troubled) >= len(self._book.jobs()):
                raise EmbedError(
                    f"{now.waiting:,} contents wait for jobs that cannot be looked at ({now.troubled[0]}); "
                    "list them with jobs(), give them up with drop(label)"
                )
            if end is not None and clock.now() + poll_s > end:
                raise EmbedError(
                    f"{now.waiting:,} contents are still waiting after {timeout_s:,.0f} s; ask again"
                )
            clock.wait(threading.Event(), poll_s)

    def jobs(self) -> list[GeminiJob]:
        """List the jobs that are not collected yet, oldest first, with the service's word for their state."""
        return [
            GeminiJob(job.label, job.name, self._state_now(job), self._book.count(job.label))
            for job in self._book.jobs()
        ]

    def drop(self, label: str) -> int:
        """Give up a job: cancel it, delete its upload, forget it; return how many contents it had.

        They can be submitted again afterwards. A job that the service does not know any more is forgotten
        alike.
        """
        job = self._booked(label)
        if job.name is not None:
            self._try(partial(self._sdk.batches.cancel, name=job.name))
        self._delete_upload(job)
        return self._book.forget(job.label)

    def resubmit(self, label: str) -> str:
        """Create a job again from its upload, for one that failed or got lost; return its new name.

        Raises:
            EmbedError: the upload is gone too (Google keeps it for 48 hours): `drop` the job and submit its
                contents again.
        """
        job = self._booked(label)
        state = self._state_now(job)
        if state in _DONE or state in _RUNNING:
            raise InvalidInput(f"job {label} is {state}: collect it, or drop it first")
        if job.upload is None:
            raise EmbedError(f"job {label}: its upload is not known; drop it and submit its contents again")
        return self._create(job)

    @property
    def _sdk(self) -> Any:
        return self._embedder.client.sdk

    def _ask(self, send: Callable[[], T]) -> T:
        return self._embedder.client.call(send, InputSize(), threading.Event())

    def _try(self, send: Callable[[], object]) -> None:
        """Call the service for a courtesy to it; whether it succeeds does not matter."""
        with contextlib.suppress(CallFailed):
            self._embedder.client.call(send, InputSize(), threading.Event(), may_retry=lambda failure: False)

    def _booked(self, label: str) -> BookedJob:
        for job in self._book.jobs():
            if label in (job.label, job.name):
                return job
        raise InvalidInput(f"there is no job {label!r}; jobs() lists them")

    def _state_now(self, job: BookedJob) -> str:
        if job.name is None:
            return "NOT_CREATED"
        try:
            return _state(self._ask(partial(self._sdk.batches.get, name=job.name)))
        except CallFailed as error:
            return f"UNKNOWN: {error}"

    def _job_sized(self, new: list[_KeyedItem]) -> Iterator[list[_KeyedItem]]:
        """Cut what is to be sent into jobs."""
        job: list[_KeyedItem] = []
        nbytes = 0
        for keyed in new:
            own = request_bytes(keyed.item)
            if job and (len(job) == self._most_items or nbytes + own > self._most_bytes):
                yield job
                job, nbytes = [], 0
            job.append(keyed)
            nbytes += own
        if job:
            yield job

    def _submit(self, items: list[_KeyedItem]) -> None:
        """Upload a job's file and create the job. Its label is noted first, so that it cannot get lost."""
        size = sum((item.size for _, item in items), InputSize())
        job = self._book.begin([key for key, _ in items], size.tokens())
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{job.label}.jsonl"
                with path.open("w", encoding="utf-8") as file:
                    for key, item in items:
                        file.write(request_line(key, item, self._embedder.model.dim))
                about = {"mime_type": "jsonl", "display_name": job.label}
                uploaded = self._ask(partial(self._sdk.files.upload, file=str(path), config=about))
        except BaseException:
            self._book.forget(job.label)
            raise
        self._create(self._book.uploaded(job, uploaded.name))

    def _create(self, job: BookedJob) -> str:
        """Create a job from its upload, and note its name.

        A 429 is tried again: no job was made. After another failure the job may exist all the same; it is
            looked
        for by its label before anything is sent the next time.
        """
        try:
            created: types.BatchJob = self._embedder.client.call(
                partial(self._create_once, job),
                InputSize(),
                threading.Event(),
                has_uri=True,
                may_retry=lambda failure: failure.code == 429 and failure.retry,
            )
        except CallFailed as error:
            later = "submit again: the upload is kept, and a job that was created is found by its label"
            failure = error.failure
            if failure.code == 404 or (failure.code in _NOT_CREATED and not failure.fatal):
                self._delete_upload(job)
                self._book.forget(job.label)
                later = "no job was created, and its contents can be submitted again"
            raise EmbedError(f"{error}; {later}") from error
        assert created.name is not None
        self._book.created(job, created.name)
        return created.name

    def _create_once(self, job: BookedJob) -> types.BatchJob:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK calls this method experimental
            created: types.BatchJob = self._sdk.batches.create_embeddings(
                model=self._embedder.model.name,
                src={"file_name": job.upload},
                config={"display_name": job.label},
            )
        return created

    def _settle_creations(self, collected: Collected) -> None:
        """Find jobs whose creation was not confirmed, by their label; create those that do not exist."""
        open_jobs = {job.label: job for job in self._book.jobs() if job.name is None}
        if not open_jobs:
            return
        try:
            found_jobs = self._ask(lambda: list(self._sdk.batches.list()))
        except CallFailed as error:
            collected.troubled.append(f"jobs cannot be listed: {error}")
            return
        for found in found_jobs:
            job = open_jobs.pop(found.display_name or "", None)
            if job is not None:
                self._book.created(job, found.name)
        for job in open_jobs.values():
            if job.upload is None:  # the upload was not finished, or an older version did not note its name
                self._book.forget(job.label)
                continue
            count = self._book.count(job.label)
            try:
                self._create(job)
            except EmbedError as error:
                if any(other.label == job.label for other in self._book.jobs()):
                    collected.troubled.append(f"job {job.label}: {error}")
                else:
                    collected.failed += [str(error)] * count

    def _collect_job(self, job: BookedJob, collected: Collected) -> None:
        try:
            found = self._ask(partial(self._sdk.batches.get, name=job.name))
        except CallFailed as error:
            if error.failure.code != 404:
                raise
            self._give_up(job, f"job {job.name} is not there any more", collected)
            return
        state = _state(found)
        if state in _DONE:
            self._take(job, found, collected)
        elif state in _FAILED:
            self._give_up(job, f"job {job.name}: {state}", collected)

    def _take(self, job: BookedJob, found: types.BatchJob, collected: Collected) -> None:
        """Download a finished job's results and keep the good vectors."""
        source = found.dest.file_name if found.dest is not None else None
        if source is None:
            self._give_up(job, f"job {job.name} is finished, but names no file of results", collected)
            return
        try:
            data: bytes = self._ask(partial(self._sdk.files.download, file=source))
        except CallFailed as error:
            if error.failure.code not in (400, 403, 404, 410):
                raise
            self._give_up(job, f"job {job.name}: its results are gone ({error.failure.code})", collected)
            return
        waiting = {key for key, owner in self._book.waiting().items() if owner == job.label}
        results = read_results(data, waiting, self._embedder.model)
        self._cache.put(results.vectors)
        tokens = json.loads(job.tokens)
        self._embedder.meter.sent(len(results.vectors), tokens, None, price_share=0.5)
        collected.kept += len(results.vectors)
        missing = waiting - results.vectors.keys()
        nothing = f"job {job.name}: no result came back"
        collected.failed += [results.failed.get(key, nothing) for key in sorted(missing)]
        self._delete_upload(job)
        self._book.forget(job.label)

    def _give_up(self, job: BookedJob, reason: str, collected: Collected) -> None:
        """Forget a job that brings nothing any more; its contents can be submitted again."""
        self._delete_upload(job)
        collected.failed += [reason] * self._book.forget(job.label)

    def _delete_upload(self, job: BookedJob) -> None:
        if job.upload is not None:
            self._try(partial(self._sdk.files.delete, name=job.upload))


def _state(job: types.BatchJob) -> str:
    return str(getattr(job.state, "value", job.state))
