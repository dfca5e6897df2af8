"""Google's Batch API: half the price, answers within a day. It fills the embedder's cache.

Submitted contents and unfinished jobs are kept in the cache's file, so that another process can collect
them tomorrow. Once collected, `embed_documents` (or a store's `add`) finds every vector in the cache and
sends nothing. A job's results carry keys, so that pairing does not depend on their order.
"""

from __future__ import annotations

import base64
import json
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mrlstore.embedders.cache import EmbeddingCache
from mrlstore.embedders.content import Content
from mrlstore.embedders.gemini.contents import Item, Load, Side, cache_key, digest_of
from mrlstore.embedders.gemini.failures import understand
from mrlstore.embedders.gemini.run import Vector, check_vector
from mrlstore.errors import EmbedError, InvalidInput

if TYPE_CHECKING:
    from google.genai import types

    from mrlstore.embedders.gemini.embedder import GeminiEmbedder

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch_jobs(label TEXT PRIMARY KEY, name TEXT, tokens TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch_waiting(key BLOB PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;
"""
_ENDED = frozenset({"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"})
_DONE = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"})


@dataclass
class Collected:
    """What a look at the jobs brought."""

    kept: int = 0  # vectors that are in the cache now
    waiting: int = 0  # contents whose jobs are not finished
    failed: list[str] = field(default_factory=list)  # one reason for each content that must be sent again


class GeminiBatch:
    """Submits contents to the Batch API and collects their vectors into the embedder's cache.

    Args:
        embedder: with a cache, on the Developer API (Vertex AI has no batches of embeddings).
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
        self._most_items, self._most_bytes = most_items, most_bytes
        for statement in _SCHEMA.strip().splitlines():
            self._cache.execute(statement)

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
            raise InvalidInput("Vertex AI has no batches of embeddings; use the Developer API with a key")
        self._find_lost_jobs()
        wanted: dict[bytes, Item] = {}
        for item in self._embedder.items(contents, side, titles):
            if not item.cacheable:
                raise InvalidInput(
                    f"item {item.number}: what has a URI is not cached, so it cannot be batched"
                )
            wanted[cache_key(item, digest_of(item), self._embedder.model)] = item
        known = self._cache.get(list(wanted)).keys() | self._waiting().keys()
        new = [(key, item) for key, item in wanted.items() if key not in known]
        for job in self._jobs(new):
            self._submit(job)
        return len(new)

    def collect(self) -> Collected:
        """Look at every job once: take the vectors of finished ones into the cache, forget failed ones."""
        self._find_lost_jobs()
        collected = Collected()
        for label, name, tokens in self._cache.execute("SELECT label, name, tokens FROM batch_jobs"):
            job = self._ask(partial(self._sdk.batches.get, name=name))
            state = getattr(job.state, "value", str(job.state))
            if state in _DONE:
                self._take(label, job, json.loads(tokens), collected)
            elif state in _ENDED:
                reason = f"job {name}: {state}"
                collected.failed += [reason] * self._forget(label)
        collected.waiting = len(self._waiting())
        return collected

    def wait(
        self,
        poll_s: float = 60.0,
        timeout_s: float | None = None,
        progress: Callable[[Collected], None] | None = None,
    ) -> Collected:
        """Collect until nothing is waiting; EmbedError after `timeout_s`, with everything still in place."""
        whole, clock = Collected(), self._embedder.client.clock
        end = None if timeout_s is None else clock.now() + timeout_s
        while True:
            now = self.collect()
            whole = Collected(whole.kept + now.kept, now.waiting, whole.failed + now.failed)
            if progress is not None:
                progress(whole)
            if not now.waiting:
                return whole
            if end is not None and clock.now() + poll_s > end:
                raise EmbedError(
                    f"{now.waiting:,} contents are still waiting after {timeout_s:,.0f} s; ask again"
                )
            clock.wait(threading.Event(), poll_s)

    @property
    def _sdk(self) -> Any:
        return self._embedder.client.sdk

    def _ask(self, send: Callable[[], T]) -> T:
        return self._embedder.client.call(send, Load(), threading.Event())

    def _waiting(self) -> dict[bytes, str]:
        return dict(self._cache.execute("SELECT key, label FROM batch_waiting"))

    def _jobs(self, new: list[tuple[bytes, Item]]) -> Iterator[list[tuple[bytes, Item]]]:
        """Cut what is to be sent into jobs."""
        job: list[tuple[bytes, Item]] = []
        size = 0
        for key, item in new:
            own = item.load.media_bytes * 4 // 3 + sum(
                4 * len(part) for part in item.parts if isinstance(part, str)
            )
            if job and (len(job) == self._most_items or size + own > self._most_bytes):
                yield job
                job, size = [], 0
            job.append((key, item))
            size += own
        if job:
            yield job

    def _submit(self, job: list[tuple[bytes, Item]]) -> None:
        """Upload a job's file and create the job; its label is kept before, so that it cannot be lost."""
        label = f"mrlstore-{uuid.uuid4().hex}"
        load = sum((item.load for _, item in job), Load())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{label}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for key, item in job:
                    file.write(json.dumps({"key": key.hex(), "request": self._request(item)}) + "\n")
            uploaded = self._ask(
                partial(
                    self._sdk.files.upload,
                    file=str(path),
                    config={"mime_type": "jsonl", "display_name": label},
                )
            )
        self._cache.execute("INSERT INTO batch_jobs VALUES(?, NULL, ?)", (label, json.dumps(load.tokens())))
        keys = [(key, label) for key, _ in job]
        self._cache.execute_many("INSERT OR REPLACE INTO batch_waiting VALUES(?, ?)", keys)
        try:
            created = self._create(uploaded, label)
        except Exception as error:  # not tried again here: it may have been created all the same
            text = f"{understand(error).text}; submit again, jobs that were created are found by their label"
            raise EmbedError(text) from error
        self._cache.execute("UPDATE batch_jobs SET name = ? WHERE label = ?", (created.name, label))

    def _create(self, uploaded: types.File, label: str) -> types.BatchJob:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK calls this method experimental
            created: types.BatchJob = self._sdk.batches.create_embeddings(
                model=self._embedder.model.name,
                src={"file_name": uploaded.name},
                config={"display_name": label},
            )
        return created

    def _request(self, item: Item) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        for part in item.parts:
            if isinstance(part, str):
                parts.append({"text": part})
            else:
                data = base64.b64encode(part.read()).decode()
                parts.append({"inline_data": {"mime_type": part.mime_type, "data": data}})
        request = {"content": {"parts": parts}, "output_dimensionality": self._embedder.model.dim}
        optional = {"task_type": item.task_type, "title": item.title}
        return request | {name: value for name, value in optional.items() if value is not None}

    def _find_lost_jobs(self) -> None:
        """Find jobs whose creation was not heard of, by their label; those not there were never created."""
        lost = {label for (label,) in self._cache.execute("SELECT label FROM batch_jobs WHERE name IS NULL")}
        if not lost:
            return
        for job in self._ask(lambda: list(self._sdk.batches.list())):
            if job.display_name in lost:
                lost.discard(job.display_name)
                about = (job.name, job.display_name)
                self._cache.execute("UPDATE batch_jobs SET name = ? WHERE label = ?", about)
        for label in lost:
            self._forget(label)

    def _take(self, label: str, job: types.BatchJob, tokens: dict[str, int], collected: Collected) -> None:
        """Download a finished job's results and keep the good vectors."""
        if job.dest is None or job.dest.file_name is None:
            raise EmbedError(f"job {job.name} is finished, but tells no file of results")
        data: bytes = self._ask(partial(self._sdk.files.download, file=job.dest.file_name))
        waiting = {key for key, owner in self._waiting().items() if owner == label}
        good: dict[bytes, Vector] = {}
        failed: dict[bytes, str] = dict.fromkeys(waiting, f"job {job.name}: no result came back")
        for line in filter(bytes.strip, data.splitlines()):
            try:
                result = json.loads(line)
                key = bytes.fromhex(result["key"])
            except (ValueError, KeyError, TypeError):
                continue  # its content is told as one for which no result came back
            if key in waiting:
                try:
                    good[key] = check_vector(_values(result), self._embedder.model)
                    failed.pop(key, None)
                except EmbedError as error:
                    failed[key] = str(result.get("error") or error)
        self._cache.put(good)
        self._embedder.meter.sent(len(good), tokens, None, price_share=0.5)
        collected.kept += len(good)
        collected.failed += failed.values()
        self._forget(label)

    def _forget(self, label: str) -> int:
        """Forget a job and what waits for it; return how many contents that were."""
        [(count,)] = self._cache.execute("SELECT count(*) FROM batch_waiting WHERE label = ?", (label,))
        self._cache.execute("DELETE FROM batch_waiting WHERE label = ?", (label,))
        self._cache.execute("DELETE FROM batch_jobs WHERE label = ?", (label,))
        return int(count)


def _values(result: dict[str, Any]) -> Any:
    return ((result.get("response") or {}).get("embedding") or {}).get("values")
