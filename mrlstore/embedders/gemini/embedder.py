"""The public embedder: checks contents and arguments, and hands each call to a run of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.embedders.cache import EmbeddingCache
from mrlstore.embedders.child_renewal import after_fork, leave
from mrlstore.embedders.content import Content
from mrlstore.embedders.gemini.call_failures import GeminiEmbedError, VectorRefused
from mrlstore.embedders.gemini.client import GeminiClient
from mrlstore.embedders.gemini.embed_run import EmbedRun, count_exactly
from mrlstore.embedders.gemini.items import EmbedItem, Side, VertexOptions, Wording
from mrlstore.embedders.gemini.models import Model, find_model, find_task
from mrlstore.embedders.gemini.pace import Clock, QuotaLimiter, Retry
from mrlstore.embedders.gemini.requests import BatchLimit, RunContext
from mrlstore.embedders.gemini.usage import Usage, UsageMeter
from mrlstore.errors import InvalidInput

if TYPE_CHECKING:
    from google import genai

Vectors = NDArray[np.float32]
_ASYNC_THREADS = 64  # async calls at once; each thread spends its time waiting for the network


class GeminiEmbedder:
    """Embeds texts, images, recordings, films and PDFs with Google's Gemini models.

    Args:
        model: "gemini-embedding-2", "gemini-embedding-001", or a `Model`. ("gemini-embedding-2-preview" is
            known too, for its stores; the Developer API has not served it since 2026-08-10.)
        task: what the vectors are for: "retrieval", "question answering", "fact checking", "code retrieval",
            "classification", "clustering" or "similarity". The first four store documents alike.
        dim: length of the vectors. The full length is requested and cached; a shorter vector is cut from it
            and renormalised here, as the model's Matryoshka training allows. Default: the full length, 3,072.
        client: a ready `google.genai.Client`; else one is made at the first call, from `api_key` or the
            environment (GEMINI_API_KEY, GOOGLE_API_KEY), or for Vertex AI from `project` and `location`.
        cache: a path or an `EmbeddingCache`: contents that are in it are not sent. Contents with a URI are
            never cached, since what a URI leads to may change.
        timeout_s: how long the server may be silent in one call.
        retry: how failed calls are repeated.
        requests_per_minute, tokens_per_minute: the quota to stay within; every item counts as a request,
            tokens are estimates. Default: no limit but the server's own.
        concurrency: requests for documents that this embedder sends at once; queries do not wait for them.
        count_tokens: ask the service for the token count of every text whose estimate is over half the
            model's limit, instead of trusting the estimate.
        document_ocr: embed the text of PDFs' pages too, read by OCR. Vertex AI and embedding 2 only, as the
            next.
        audio_track_extraction: embed the sound of films too; films may then have 80 s.
        clock: time, for tests.

    One embedder may be used from many threads, from several event loops, and after a fork.
    """

    def __init__(
        self,
        model: str | Model = "gemini-embedding-2",
        *,
        task: str = "retrieval",
        dim: int | None = None,
        client: genai.Client | None = None,
        api_key: str | None = None,
        project: str | None = None,
        location: str | None = None,
        cache: EmbeddingCache | str | os.PathLike[str] | None = None,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrency: int = 4,
        count_tokens: bool = False,
        document_ocr: bool = False,
        audio_track_extraction: bool = False,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or Clock()
        self._limiter = QuotaLimiter(requests_per_minute, tokens_per_minute, clock)
        client_options = _client_options(api_key, project, location)
        self.client = GeminiClient(client, client_options, timeout_s, retry or Retry(), self._limiter, clock)
        self.model = find_model(model, vertex=self.client.will_be_vertex())
        self._options = VertexOptions(document_ocr, audio_track_extraction)
        self._check_service()
        self.task_name, self._task = task, find_task(task)
        self.dim = self.model.dim if dim is None else dim
        if not 2 <= self.dim <= self.model.dim:
            raise InvalidInput(f"dim={dim}: from 2 to {self.model.dim} for {self.model.name}")
        for name, value in (("requests_per_minute", requests_per_minute), ("concurrency", concurrency),
                            ("tokens_per_minute", tokens_per_minute)):  # fmt: skip
            if value is not None and value < 1:
                raise InvalidInput(f"{name}={value}: at least 1")
        self.cache = cache if isinstance(cache, EmbeddingCache | None) else EmbeddingCache(cache)
        self.concurrency = concurrency
        self._count_tokens = count_tokens
        self.meter = UsageMeter(self.model.name)
        self._batch_limit = BatchLimit()
        self._gate = threading.Semaphore(concurrency)
        self._under_way: set[threading.Event] = set()  # one for each call for documents that is running
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        after_fork(self, GeminiEmbedder._renew)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What vectors must share to be comparable. The tasks that embed documents alike share it."""
        documents = self.task_name if self._task.symmetric else "retrieval documents"
        return {
            "embedder": "gemini",
            "model": self.model.name,
            "dim": self.dim,
            "task": documents,
            "convention": "text prefixes 1" if self.model.prefixes else "task_type",
            "normalised": True,
        }

    @property
    def usage(self) -> Usage:
        """What was sent so far, and its price by the table of prices: an estimate."""
        return self.meter.usage()

    def embed_documents(
        self, contents: Sequence[Content], *, titles: Sequence[str | None] | None = None
    ) -> Vectors:
        """Embed documents; a list among the contents is one content of several parts.

        Args:
            contents: texts, media, or lists of both.
            titles: one title or None for each; the models weigh it.

        Returns:
            float32 [len(contents), dim], unit rows, in the order of `contents`.

        Raises:
            InvalidInput: a content was refused; nothing was sent.
            GeminiEmbedError: some could not be embedded; `.succeeded` holds the vectors of the others.
        """
        return self._embed(contents, "document", titles, threading.Event())

    def embed_query(self, content: Content) -> Vectors:
        """Embed a query: float32 [dim], of length 1. Raises as `embed_documents` does."""
        row: Vectors = self._embed([content], "query", None, threading.Event())[0]
        return row

    async def aembed_documents(
        self, contents: Sequence[Content], *, titles: Sequence[str | None] | None = None
    ) -> Vectors:
        """As `embed_documents`, off the event loop. Once cancelled, nothing more is sent."""
        return await self._off_loop(contents, "document", titles)

    async def aembed_query(self, content: Content) -> Vectors:
        """As `embed_query`, off the event loop."""
        row: Vectors = (await self._off_loop([content], "query", None))[0]
        return row

    def items(
        self, contents: Sequence[Content], side: Side = "document", titles: Sequence[str | None] | None = None
    ) -> list[EmbedItem]:
        """Check contents and put them into the model's form; raises as `embed_documents` does beforehand."""
        if isinstance(contents, str) or not isinstance(contents, Sequence):
            raise InvalidInput("a list of contents is needed; for one content give a list of one")
        if titles is not None and len(titles) != len(contents):
            raise InvalidInput(f"{len(titles)} titles for {len(contents)} contents")
        model = replace(self.model, tokens=None) if self._count_tokens else self.model
        wording = Wording(model, self._task, side, self._options)
        return [wording.item(i, content, titles[i] if titles else None) for i, content in enumerate(contents)]

    def cancel(self) -> None:
        """Make all calls for documents that are under way, in any thread, send nothing more and fail."""
        with self._lock:
            for stop in self._under_way:
                stop.set()

    def finish(self, vector: Vectors) -> Vectors:
        """Cut a full vector to `dim` and give it length 1: float32 [dim].

        Raises:
            VectorRefused: its first `dim` values are all zero.
        """
        cut = vector[: self.dim].astype(np.float64)
        length = np.linalg.norm(cut)
        if not length:
            raise VectorRefused(f"the first {self.dim} values of its vector are zero: give another dim")
        return (cut / length).astype(np.float32)

    async def _off_loop(
        self, contents: Sequence[Content], side: Side, titles: Sequence[str | None] | None
    ) -> Vectors:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_ASYNC_THREADS, "mrlstore-gemini")
        stop = threading.Event()
        embed = partial(self._embed, contents, side, titles, stop)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, embed)
        except asyncio.CancelledError:
            stop.set()
            raise

    def _embed(
        self,
        contents: Sequence[Content],
        side: Side,
        titles: Sequence[str | None] | None,
        stop: threading.Event,
    ) -> Vectors:
        items = self.items(contents, side, titles)
        if not items:
            return np.empty((0, self.dim), dtype=np.float32)
        context = self._context(side)
        if self._count_tokens and self.model.tokens is not None:
            count_exactly(context, items, self.model.tokens, stop)
        run = EmbedRun(context, items, stop)
        with self._cancelable(side, stop):
            run.execute()
        finished: dict[int, Vectors] = {}
        for number, vector in run.vectors.items():
            try:
                finished[number] = self.finish(vector)
            except VectorRefused as error:
                run.failed[number] = error
        if run.failed:
            raise _embed_error(finished, run.failed)
        return np.stack([finished[item.number] for item in items])

    def _check_service(self) -> None:
        """Refuse what the service of the client does not have, before anything is sent."""
        model, vertex = self.model, self.client.will_be_vertex()
        names = self._options.given()
        if names and not (vertex and model.multimodal):
            raise InvalidInput(f"{' and '.join(names)}: only on Vertex AI, with gemini-embedding-2")
        location = self.client.location() if vertex else None
        if location is not None and model.locations is not None and location not in model.locations:
            raise InvalidInput(
                f"location {location!r}: Vertex AI serves {model.name} in {', '.join(model.locations)} only"
            )

    @contextmanager
    def _cancelable(self, side: Side, stop: threading.Event) -> Iterator[None]:
        with self._lock:
            self._under_way.update([stop] if side == "document" else [])
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(stop)

    def _renew(self) -> None:
        leave(self._threads)
        self._lock, self._under_way = threading.Lock(), set()
        self._gate, self._threads = threading.Semaphore(self.concurrency), None

    def _context(self, side: Side) -> RunContext:
        limiter = self._limiter
        return RunContext(
            self.model,
            self.client,
            self.meter,
            self.cache,
            self.concurrency,
            self._gate if side == "document" else nullcontext(),
            self._batch_limit,
            limiter.requests,
            limiter.tokens,
        )


def _embed_error(succeeded: dict[int, Vectors], failed: dict[int, Exception]) -> GeminiEmbedError:
    number, first = min(failed.items())
    error = GeminiEmbedError(
        f"{len(failed):,} of {len(failed) + len(succeeded):,} items could not be embedded "
        f"(errors in .failed; the vectors of the others in .succeeded); item {number}: {first}",
        succeeded,
        failed,
    )
    error.__cause__ = first
    return error


def _client_options(api_key: str | None, project: str | None, location: str | None) -> dict[str, Any]:
    """Arguments of the SDK's client; what is not given is left to its environment variables."""
    given = {"api_key": api_key, "project": project, "location": location}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if project is not None or location is not None:
        options["vertexai"] = True
    return options
