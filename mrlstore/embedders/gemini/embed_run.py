"""One call of the embedder: look into the cache, batch the rest, send side by side, check every vector."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.embedders.cache import EmbeddingCache
from mrlstore.embedders.gemini.call_failures import (
    CallFailed,
    CallFailure,
    ItemTooLarge,
    VectorRefused,
)
from mrlstore.embedders.gemini.items import EmbedItem, InputSize, cache_key, item_digest, to_content
from mrlstore.embedders.gemini.models import Model
from mrlstore.embedders.gemini.requests import RunContext, split_batches
from mrlstore.embedders.gemini.usage import counted_in_all
from mrlstore.errors import EmbedError

Vector = NDArray[np.float32]

# Refusals in a row, without a success, after which a batch is given up. From 250 contents 8 halvings lead to
# one; twice that finds a bad one among the first two.
MAX_REFUSALS: Final = 18
# The same where the service itself fails (500, 504): a content that makes it fail is found in 8 halvings. The
# parts of such a batch are tried twice each, since the batch has been tried as often as `Retry` says.
MAX_FAILURES: Final = 9
ATTEMPTS_OF_A_PART: Final = 2
# Refusals after which a call is given up of which nothing has been accepted: three batches' worth, so that a
# batch of bad contents does not stop the others.
MAX_REFUSALS_OF_A_RUN: Final = 3 * MAX_REFUSALS
# The tokens that a text has at least, as a share of our estimate: English prose has 0.9 of it.
LEAST_SHARE: Final = 0.75


class EmbedRun:
    """One call: after `execute`, every item number is in `vectors` (full length) or in `failed`."""

    def __init__(self, context: RunContext, items: list[EmbedItem], stop: threading.Event) -> None:
        self.vectors: dict[int, Vector] = {}
        self.failed: dict[int, Exception] = {}
        self._context = context
        self._items = items
        self._stop = stop
        self._fatal: Exception | None = None
        self._refusals = 0  # up to the first success; then they are not counted any more
        self._accepted = False
        self._lock = threading.Lock()

    def execute(self) -> None:
        """Get a vector or an error for every item."""
        pending, first_of = self._from_cache()
        if pending and self._context.model.ended is not None:
            self._fail(pending, CallFailed(CallFailure(ended(self._context.model), fatal=True)))
            pending = []
        batches = list(split_batches(pending, self._context)) if pending else []
        if len(batches) == 1 or self._context.concurrency == 1:
            for batch in batches:
                self._send(batch)
        elif batches:
            self._send_side_by_side(batches)
        for number, first in first_of.items():
            if first in self.vectors:
                self.vectors[number] = self.vectors[first]
            else:
                self.failed[number] = self.failed[first]

    def _from_cache(self) -> tuple[list[EmbedItem], dict[int, int]]:
        """Take what the cache has; return the items to send, and item number -> number of an equal item."""
        cache, model = self._context.cache, self._context.model
        if cache is None:
            return self._items, {}
        keys = {
            item.number: cache_key(item, item_digest(item), model) for item in self._items if item.cacheable
        }
        found = cache.get(list(set(keys.values())))
        pending, first_of = [], {}
        first: dict[bytes, int] = {}
        for item in self._items:
            key = keys.get(item.number)
            if key in found and len(found[key]) == model.dim:
                self.vectors[item.number] = found[key]
            elif key in first:
                first_of[item.number] = first[key]
            else:
                pending.append(item)
                if key is not None:
                    first[key] = item.number
        self._context.meter.cached(len(self._items) - len(pending))
        return pending, first_of

    def _send_side_by_side(self, batches: list[list[EmbedItem]]) -> None:
        pool = ThreadPoolExecutor(self._context.concurrency, "mrlstore-gemini")
        futures = [pool.submit(self._send, batch) for batch in batches]
        try:
            for future in futures:
                future.result()
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, batch: list[EmbedItem]) -> None:
        """Embed a batch. One that is refused is halved, until the content to blame stands alone.

        Where in the end every content was accepted, the batch was refused for their number: the largest part
        that went through is remembered as the limit of a request.
        """
        limit = self._context.limit
        todo, refusals, accepted, too_many, no_batches = [batch], 0, 0, False, False
        attempts: int | None = None
        while todo:
            part = todo.pop()
            if len(parts := limit.split(part)) > 1:
                todo += parts[::-1]
                continue
            try:
                self._call(part, attempts)
            except CallFailed as error:
                refusals += 1
                attempts = ATTEMPTS_OF_A_PART if error.failure.retry else attempts
                smaller = self._smaller(part, error, refusals)
                too_many = too_many or (bool(smaller) and error.failure.teaches_a_limit)
                no_batches = bool(smaller) and error.failure.code == 404
                todo += smaller
                if not smaller:
                    self._fail(part, error)
                if not smaller and len(part) > 1 and error.failure.retry:  # the service is down
                    self._fail([item for rest in todo for item in rest], error)
                    todo = []
            else:
                self._accepted, refusals, accepted = True, 0, max(accepted, len(part))
                if no_batches:
                    limit.learn(1)
        if too_many and accepted and not any(item.number in self.failed for item in batch):
            limit.learn(accepted)

    def _smaller(self, part: list[EmbedItem], error: CallFailed, refusals: int) -> list[list[EmbedItem]]:
        """The parts to try instead of one that was refused, the first one last; none where it has failed."""
        failure = error.failure
        self._count_refusal(error)
        if len(part) == 1 and failure.retry and failure.divisible:
            error.of_service = False if self._accepted else None
        if len(part) == 1 or self._stop.is_set():
            return []
        if failure.code == 404 and failure.fatal and self._context.vertex:
            # Vertex AI has no request for several contents of this model, or has not this model at all.
            return [part[1:], part[:1]]
        if not failure.divisible:
            return []
        if failure.most_items is not None and failure.most_items < len(part):
            self._context.limit.learn(failure.most_items)
            return [part]
        if refusals > (MAX_FAILURES if failure.retry else MAX_REFUSALS):
            error.of_service = failure.retry or None
            return []
        half = len(part) // 2
        return [part[half:], part[:half]]

    def _count_refusal(self, error: CallFailed) -> None:
        """Make an error fatal once so many requests were refused that nothing will be accepted."""
        with self._lock:
            self._refusals += 0 if self._accepted else 1
            if self._refusals > MAX_REFUSALS_OF_A_RUN and not error.failure.fatal:
                error.failure = replace(error.failure, fatal=True)
                error.of_service = None

    def _call(self, batch: list[EmbedItem], attempts: int | None) -> None:
        contents, sent, digests = [], [], []
        context = self._context
        for item in batch:
            try:
                content, digest = to_content(item, vertex=context.vertex)
            except OSError as error:  # a file that was there when it was checked
                self.failed[item.number] = error
                continue
            contents.append(content)
            sent.append(item)
            digests.append(digest)
        if not sent:
            return
        size = sum((item.size for item in sent), InputSize())
        config = _config(context, sent[0])
        has_uri = any(item.has_uri for item in sent)
        with context.gate:
            response = context.client.embed(
                context.model.name,
                contents,
                config,
                size,
                self._stop,
                has_uri=has_uri,
                attempts=attempts,
            )
        context.meter.sent(len(sent), size.tokens(), response)
        self._keep(sent, digests, response)

    def _keep(self, sent: list[EmbedItem], digests: list[str], response: Any) -> None:
        """Check every vector of an answer, and keep the good ones."""
        embeddings = response.embeddings or []
        if len(embeddings) != len(sent):
            text = f"{len(sent)} embeddings were asked for and {len(embeddings)} came back"
            raise CallFailed(CallFailure(text, divisible=True))
        truncated = self._truncated(sent, response)
        good: dict[bytes, Vector] = {}
        for item, digest, embedding in zip(sent, digests, embeddings, strict=True):
            try:
                vector = check_vector(getattr(embedding, "values", None), self._context.model)
                if getattr(getattr(embedding, "statistics", None), "truncated", None):
                    raise VectorRefused("the service has truncated the content; split it")
                if item.number in truncated:
                    raise VectorRefused(truncated[item.number])
            except EmbedError as error:
                self.failed[item.number] = error
                continue
            self.vectors[item.number] = vector
            if item.cacheable:
                good[cache_key(item, digest, self._context.model)] = vector
        if self._context.cache is not None and good:
            _remember(self._context.cache, good)

    def _truncated(self, sent: list[EmbedItem], response: Any) -> dict[int, str]:
        """Item numbers whose text was longer than the model reads, and what to tell of each.

        The Developer API says nothing of it, but counts the tokens of a request: where its count is above our
        estimates, texts that may be too long by it are counted one by one.
        """
        if getattr(response, "truncated", None):
            return {item.number: "the service has truncated the content; split it" for item in sent}
        limit, counted = self._context.model.tokens, counted_in_all(response)
        if limit is None or not counted:
            return {}
        if len(sent) == 1 and counted != limit:  # equal: cut to the limit, perhaps, and counted afterwards
            return {sent[0].number: _too_long(counted, limit)} if counted > limit else {}
        estimated = sum(sum(item.size.tokens().values()) for item in sent)
        suspects = (item for item in sent if _may_exceed(item, counted, estimated, limit))
        return {
            item.number: _too_long(tokens, limit)
            for item in suspects
            if (tokens := self._tokens_of(item)) is not None and tokens > limit
        }

    def _tokens_of(self, item: EmbedItem) -> int | None:
        """The tokens of an item, None where the service cannot be asked: its vector is paid for, and kept."""
        try:
            return count_tokens(self._context, item, self._stop)
        except EmbedError:
            return None

    def _fail(self, part: list[EmbedItem], error: CallFailed) -> None:
        with self._lock:
            if error.failure.fatal and self._fatal is None:
                self._fatal = error
                self._stop.set()
            for item in part:
                self.failed[item.number] = self._fatal or error


def count_exactly(context: RunContext, items: list[EmbedItem], limit: int, stop: threading.Event) -> None:
    """Ask the service for the tokens of every text that may be too long; ItemTooLarge for one that is."""
    for item in items:
        if item.size.text_tokens <= limit // 2:
            continue
        tokens = count_tokens(context, item, stop)
        if tokens is None or tokens > limit:
            reason = f"it has {tokens} tokens, {context.model.name} takes {limit:,}; split it: "
            raise ItemTooLarge(item.number, reason + "mrlstore.embedders.split_text")


def count_tokens(context: RunContext, item: EmbedItem, stop: threading.Event) -> int | None:
    """Ask the service for the tokens of one item, which costs nothing; None where it does not say."""
    content, _ = to_content(item, vertex=context.vertex)
    config: Any = {"http_options": context.client.http_options()}
    models = context.client.sdk.models
    ask = partial(models.count_tokens, model=context.model.name, contents=[content], config=config)
    answer = context.client.call(ask, InputSize(items=1), stop, has_uri=item.has_uri)
    return answer.total_tokens


def check_vector(values: Any, model: Model) -> Vector:
    """Return a vector of the service as float32 [model.dim]; VectorRefused for one that is none."""
    if values is None:
        raise VectorRefused("the service gave no values: it could not read the content (a wrong MIME type?)")
    if len(values) != model.dim:
        raise VectorRefused(f"the service gave {len(values)} values where {model.dim} were asked for")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are refused as such
        vector = np.asarray(values, dtype=np.float32)
    if not np.isfinite(vector).all() or not vector.any():
        raise VectorRefused("the service gave a vector with NaN or infinite values, or of length zero")
    return vector


def _config(context: RunContext, item: EmbedItem) -> dict[str, Any]:
    config: dict[str, Any] = {"output_dimensionality": context.model.dim}
    if item.task_type is not None:
        config["task_type"] = item.task_type
    if item.title is not None:
        config["title"] = item.title
    config |= dict.fromkeys(item.options.given(), True)
    if context.vertex and not context.model.multimodal:
        config["auto_truncate"] = False  # an error instead of a vector of half the text
    return config


def _may_exceed(item: EmbedItem, counted: int, estimated: int, limit: int) -> bool:
    """Whether an item may have more tokens than the model reads, by the service's count of the whole request.

    A text has no more tokens than bytes, and is looked at if its estimate is half of the limit or more. The
    others have at least LEAST_SHARE of their estimates; the rest of the count may be the item's. Where the
    others are so many that this rest always exceeds the limit, the item gets its share of the count instead.
    """
    own = sum(item.size.tokens().values())
    if item.size.text_bytes <= limit or own < limit // 2:
        return False
    others = estimated - own
    if (1 - LEAST_SHARE) * others <= limit:
        return counted - LEAST_SHARE * others >= limit
    return counted > estimated and own * counted >= limit * estimated


def _too_long(tokens: int, limit: int) -> str:
    return (
        f"the service counts {tokens:,} tokens and reads {limit:,}: the vector would be of a truncated text; "
        "split it: mrlstore.embedders.split_text"
    )


def ended(model: Model) -> str:
    """What to tell whoever wants vectors of a model that its service does not serve any more."""
    instead = model.successor or "another model"
    return (
        f"{model.name} is not served any more since {model.ended}; nothing was sent. Use "
        f"{instead}: Google does not say that the vectors of the two may be mixed, so embed a store's "
        "documents again: "
        f"mrlstore re-embed OLD NEW --embedder {instead}"
    )


def _remember(cache: EmbeddingCache, vectors: dict[bytes, Vector]) -> None:
    """Put vectors into the cache; trouble there must not lose what is paid for."""
    import apsw

    try:
        cache.put(vectors)
    except apsw.Error as error:
        warnings.warn(
            f"the embedding cache {cache.path} was not written: {error}", RuntimeWarning, stacklevel=2
        )
