"""One call of the embedder: look into the cache, batch the rest, send side by side, check every vector."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.embedders.cache import EmbeddingCache
from mrlstore.embedders.gemini.client import CallFailed, Client
from mrlstore.embedders.gemini.contents import Item, Load, cache_key, digest_of, to_content
from mrlstore.embedders.gemini.failures import Failure, ItemTooLarge
from mrlstore.embedders.gemini.models import Model
from mrlstore.embedders.gemini.usage import Meter
from mrlstore.errors import EmbedError

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Means:
    """What a run works with."""

    model: Model
    client: Client
    meter: Meter
    cache: EmbeddingCache | None
    concurrency: int
    gate: AbstractContextManager[Any]  # as many may be within at once, over all calls
    most_items: int | None  # in one request, by the quota
    most_tokens: int | None  # likewise


class Run:
    """The work of one call; `vectors` (full length) and `failed` by item number, once `execute` is done."""

    def __init__(self, means: Means, items: list[Item], stop: threading.Event) -> None:
        self.vectors: dict[int, Vector] = {}
        self.failed: dict[int, Exception] = {}
        self._means = means
        self._items = items
        self._stop = stop
        self._fatal: Exception | None = None
        self._lock = threading.Lock()

    def execute(self) -> None:
        """Get a vector or an error for every item."""
        pending, repeated = self._from_cache()
        batches = list(split_batches(pending, self._means)) if pending else []
        if len(batches) == 1 or self._means.concurrency == 1:
            for batch in batches:
                self._send(batch)
        elif batches:
            self._send_side_by_side(batches)
        for number, first in repeated.items():
            if first in self.vectors:
                self.vectors[number] = self.vectors[first]
            else:
                self.failed[number] = self.failed[first]

    def _from_cache(self) -> tuple[list[Item], dict[int, int]]:
        """Take what the cache has; return the items still to be sent, and repetition -> first of its kind."""
        cache, model = self._means.cache, self._means.model
        if cache is None:
            return self._items, {}
        keys = {
            item.number: cache_key(item, digest_of(item), model) for item in self._items if item.cacheable
        }
        found = cache.get(list(set(keys.values())))
        pending, repeated = [], {}
        first: dict[bytes, int] = {}
        for item in self._items:
            key = keys.get(item.number)
            if key in found and len(found[key]) == model.dim:
                self.vectors[item.number] = found[key]
            elif key in first:
                repeated[item.number] = first[key]
            else:
                pending.append(item)
                if key is not None:
                    first[key] = item.number
        self._means.meter.cached(len(self._items) - len(pending))
        return pending, repeated

    def _send_side_by_side(self, batches: list[list[Item]]) -> None:
        pool = ThreadPoolExecutor(self._means.concurrency, "mrlstore-gemini")
        futures = [pool.submit(self._send, batch) for batch in batches]
        try:
            for future in futures:
                future.result()
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, batch: list[Item]) -> None:
        """Embed a batch. One that is refused as a whole is halved until the item to blame stands alone."""
        todo, refusals = [batch], 0
        while todo:
            part = todo.pop()
            try:
                self._call(part)
            except CallFailed as error:
                refusals += 1
                if error.failure.divisible and len(part) > 1 and refusals <= 2 * len(batch).bit_length() + 2:
                    half = len(part) // 2
                    todo += [part[half:], part[:half]]
                else:
                    self._fail(part, error)

    def _call(self, batch: list[Item]) -> None:
        contents, sent, digests = [], [], []
        for item in batch:
            try:
                content, digest = to_content(item)
            except OSError as error:  # a file that was there when it was checked
                self.failed[item.number] = error
                continue
            contents.append(content)
            sent.append(item)
            digests.append(digest)
        if not sent:
            return
        load = sum((item.load for item in sent), Load())
        means = self._means
        config = _config(means, sent[0])
        with means.gate:
            response = means.client.embed(means.model.name, contents, config, load, self._stop)
        means.meter.sent(len(sent), load.tokens(), response)
        self._keep(sent, digests, response)

    def _keep(self, sent: list[Item], digests: list[str], response: Any) -> None:
        """Check every vector of an answer, and keep the good ones."""
        embeddings = response.embeddings or []
        if len(embeddings) != len(sent):
            raise CallFailed(
                Failure(f"{len(sent)} embeddings were asked for and {len(embeddings)} came back")
            )
        good: dict[bytes, Vector] = {}
        for item, digest, embedding in zip(sent, digests, embeddings, strict=True):
            try:
                vector = check_vector(embedding.values, self._means.model)
                if getattr(response, "truncated", None) or getattr(embedding.statistics, "truncated", None):
                    raise EmbedError("the service has truncated the content; split it")
            except EmbedError as error:
                self.failed[item.number] = error
                continue
            self.vectors[item.number] = vector
            if item.cacheable:
                good[cache_key(item, digest, self._means.model)] = vector
        if self._means.cache is not None and good:
            _remember(self._means.cache, good)

    def _fail(self, part: list[Item], error: CallFailed) -> None:
        with self._lock:
            if error.failure.fatal and self._fatal is None:
                self._fatal = error
                self._stop.set()
            for item in part:
                self.failed[item.number] = self._fatal or error


def count_exactly(means: Means, items: list[Item], limit: int, stop: threading.Event) -> None:
    """Ask the service for the tokens of every text that may be too long; ItemTooLarge for one that is."""
    client, sdk = means.client, means.client.sdk
    config: Any = {"http_options": client.http_options()}
    for item in items:
        if item.load.text_tokens <= limit // 2:
            continue
        content, _ = to_content(item)
        ask = partial(sdk.models.count_tokens, model=means.model.name, contents=[content], config=config)
        answer = client.call(ask, Load(items=1), stop)
        if answer.total_tokens is None or answer.total_tokens > limit:
            reason = f"it has {answer.total_tokens} tokens, {means.model.name} takes {limit:,}; split it: "
            raise ItemTooLarge(item.number, reason + "mrlstore.embedders.split_text")


def split_batches(items: list[Item], means: Means) -> Iterator[list[Item]]:
    """Cut the items into requests, in order.

    The media of one request stay within the limits of ONE embedding: whether Google counts them by
    embedding or by request is not documented. On Vertex AI, embedding 2 takes one content a request.
    """
    model = means.model
    most = (
        1 if model.multimodal and means.client.vertex else min(model.batch, means.most_items or model.batch)
    )
    batch: list[Item] = []
    load = Load()
    for item in items:
        grown = load + item.load
        alike = not batch or (batch[0].task_type, batch[0].title) == (item.task_type, item.title)
        if batch and (not alike or len(batch) == most or not _fits(grown, means)):
            yield batch
            batch, grown = [], item.load
        batch.append(item)
        load = grown
    if batch:
        yield batch


def check_vector(values: Any, model: Model) -> Vector:
    """Return a vector of the service as float32 [model.dim]; EmbedError for one that is none."""
    if values is None:
        raise EmbedError("the service gave no values: it could not read the content (a wrong MIME type?)")
    if len(values) != model.dim:
        raise EmbedError(f"the service gave {len(values)} values where {model.dim} were asked for")
    vector = np.asarray(values, dtype=np.float32)
    if not np.isfinite(vector).all() or not vector.any():
        raise EmbedError("the service gave a vector with NaN or infinite values, or of length zero")
    return vector


def _fits(load: Load, means: Means) -> bool:
    model = means.model
    return (
        (model.images is None or load.images <= model.images)
        and (model.audio_s is None or load.audio_s <= model.audio_s)
        and (model.video_s is None or load.video_s <= model.video_s)
        and (model.pdf_pages is None or load.pdf_pages <= model.pdf_pages)
        and load.media_bytes <= model.batch_bytes
        and (means.most_tokens is None or sum(load.tokens().values()) <= means.most_tokens)
    )


def _config(means: Means, item: Item) -> dict[str, Any]:
    config: dict[str, Any] = {"output_dimensionality": means.model.dim}
    if item.task_type is not None:
        config["task_type"] = item.task_type
    if item.title is not None:
        config["title"] = item.title
    if means.client.vertex and not means.model.multimodal:
        config["auto_truncate"] = False  # an error instead of a vector of half the text
    return config


def _remember(cache: EmbeddingCache, vectors: dict[bytes, Vector]) -> None:
    """Put into the cache; trouble there must not lose vectors that are paid for."""
    import apsw

    try:
        cache.put(vectors)
    except apsw.Error as error:
        warnings.warn(
            f"the embedding cache {cache.path} was not written: {error}", RuntimeWarning, stacklevel=2
        )
