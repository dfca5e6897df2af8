"""What was sent, and what it costs by the price table: an estimate, not a bill."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mrlstore.embedders.child_renewal import after_fork
from mrlstore.embedders.gemini.models import PRICES, PRICES_AS_OF


@dataclass(frozen=True)
class Usage:
    """Counts since the embedder was made, failed calls left out.

    `tokens` are the service's own figures where it gives them (SDK 3.1 and later, and Vertex AI), else
    estimates. `estimated_usd` is None for a model without known prices.
    """

    calls: int = 0
    items: int = 0
    cached: int = 0  # items that cost nothing, from the cache or as repetitions within a call
    tokens: Mapping[str, int] = field(default_factory=dict)  # text, image, audio, video
    estimated_usd: float | None = 0.0
    prices_as_of: str = PRICES_AS_OF


class UsageMeter:
    """Counts from many threads."""

    def __init__(self, model: str) -> None:
        self._prices = PRICES.get(model)
        self._lock = threading.Lock()
        self._calls = self._items = self._cached = 0
        self._tokens: dict[str, int] = {}
        self._usd = 0.0
        after_fork(self, UsageMeter._renew)

    def sent(
        self, items: int, estimate: Mapping[str, int], response: Any, *, price_share: float = 1.0
    ) -> None:
        """Count one call that succeeded; a batch job is a call at half the price."""
        with self._lock:
            self._calls += 1
            self._items += items
            for modality, tokens in (counted_tokens(response) or estimate).items():
                self._tokens[modality] = self._tokens.get(modality, 0) + tokens
                self._usd += tokens * self._price(modality) * price_share

    def cached(self, items: int) -> None:
        """Count items that were not sent, because their vectors were known."""
        with self._lock:
            self._cached += items

    def usage(self) -> Usage:
        """Return the counts so far."""
        with self._lock:
            usd = self._usd if self._prices else None
            return Usage(self._calls, self._items, self._cached, dict(self._tokens), usd)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def _price(self, modality: str) -> float:
        """US dollars for one token; of a modality without a price, the highest price."""
        prices = self._prices or {"": 0.0}
        return prices.get(modality, max(prices.values())) / 1e6


def counted_tokens(response: Any) -> dict[str, int]:
    """Tokens by modality as the service counts them; empty where it does not say (SDK 3.0 and before)."""
    usage = getattr(response, "usage_metadata", None)
    counted: dict[str, int] = {}
    for detail in getattr(usage, "prompt_tokens_details", None) or ():
        modality = str(getattr(detail.modality, "value", detail.modality)).lower()
        modality = "image" if modality == "document" else modality
        counted[modality] = counted.get(modality, 0) + (detail.token_count or 0)
    return counted


def counted_in_all(response: Any) -> int:
    """Tokens of a request as the service counts them; 0 where it does not say."""
    usage = getattr(response, "usage_metadata", None)
    return getattr(usage, "prompt_token_count", None) or sum(counted_tokens(response).values())
