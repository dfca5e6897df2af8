"""How items are put into requests: the limits of the model, of the quota, and those learned from refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mrlstore.embedders.cache import EmbeddingCache
from mrlstore.embedders.gemini.client import GeminiClient
from mrlstore.embedders.gemini.items import EmbedItem, InputSize
from mrlstore.embedders.gemini.models import Model
from mrlstore.embedders.gemini.usage import UsageMeter


class BatchLimit:
    """How many contents a request may have, as far as refusals have taught; None before the first of them.

    One for each embedder: what one call has learned holds for the next. Threads may write it at the same
    time: the value only falls, and one that is too high costs a refusal.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def learn(self, most: int) -> None:
        """Lower the limit."""
        self.most = most if self.most is None else min(self.most, most)

    def split(self, items: list[EmbedItem]) -> list[list[EmbedItem]]:
        """Cut items into parts that are within the limit."""
        most = self.most or len(items)
        return [items[i : i + most] for i in range(0, len(items), most)]


@dataclass(frozen=True)
class RunContext:
    """What a run works with."""

    model: Model
    client: GeminiClient
    meter: UsageMeter
    cache: EmbeddingCache | None
    concurrency: int
    gate: AbstractContextManager[Any]  # admits `concurrency` requests at once, over all calls
    limit: BatchLimit
    quota_items: int | None  # in one request, by the quota per minute
    quota_tokens: int | None  # likewise

    @property
    def vertex(self) -> bool:
        """Whether the requests go to Vertex AI."""
        return self.client.vertex


def split_batches(items: list[EmbedItem], context: RunContext) -> Iterator[list[EmbedItem]]:
    """Cut the items into requests, in order.

    The media of one request stay within the limits of ONE embedding: whether Google counts them by embedding
    or by request is not documented. On Vertex AI, embedding 2 takes one content a request.
    """
    model = context.model
    most = min(model.batch, context.quota_items or model.batch, context.limit.most or model.batch)
    if model.multimodal and context.vertex:
        most = 1
    batch: list[EmbedItem] = []
    size = InputSize()
    for item in items:
        grown = size + item.size
        if batch and (not _alike(batch[0], item) or len(batch) == most or not _fits(grown, context)):
            yield batch
            batch, grown = [], item.size
        batch.append(item)
        size = grown
    if batch:
        yield batch


def _alike(one: EmbedItem, other: EmbedItem) -> bool:
    """Whether two items may share a request: its task type, title and options are those of all contents."""
    return (one.task_type, one.title, one.options) == (other.task_type, other.title, other.options)


def _fits(size: InputSize, context: RunContext) -> bool:
    model, tokens = context.model, sum(size.tokens().values())
    return (
        (model.images is None or size.images <= model.images)
        and (model.audio_s is None or size.audio_s <= model.audio_s)
        and (model.video_s is None or size.video_s <= model.video_s)
        and (model.pdf_pages is None or size.pdf_pages <= model.pdf_pages)
        and size.media_bytes <= model.batch_bytes
        and (model.batch_tokens is None or tokens <= model.batch_tokens)
        and (context.quota_tokens is None or tokens <= context.quota_tokens)
    )
