"""What a failed call means: whether to try again, when, and what to tell the caller.

The SDK's own retries ignore Retry-After and RetryInfo and do not cover broken connections; its errors come
from three HTTP libraries, depending on its version. Everything is told apart here, in one place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import EmbedError, InvalidInput, LimitExceeded

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_ASKED = re.compile(r"retry in ([0-9.]+)\s*(ms|s)")


class GeminiEmbedError(EmbedError):
    """Some items could not be embedded; those that could are not lost.

    Attributes:
        succeeded: item number -> its vector, float32 [dim].
        failed: item number -> why; an item that was not sent any more has the error that stopped the rest.
    """

    def __init__(
        self,
        message: str,
        succeeded: Mapping[int, NDArray[np.float32]] | None = None,
        failed: Mapping[int, Exception] | None = None,
    ) -> None:
        super().__init__(message)
        self.succeeded = dict(succeeded or {})
        self.failed = dict(failed or {})

    def __reduce__(self) -> tuple[type[GeminiEmbedError], tuple[Any, ...]]:
        plain = {number: EmbedError(str(error)) for number, error in self.failed.items()}
        return type(self), (str(self), self.succeeded, plain)


class ItemRefused(InvalidInput):
    """A content was refused before anything was sent; `item` is its number."""

    def __init__(self, item: int, reason: str) -> None:
        super().__init__(f"item {item}: {reason}")
        self.item = item
        self.reason = reason

    def __reduce__(self) -> tuple[type[ItemRefused], tuple[int, str]]:
        return type(self), (self.item, self.reason)


class ItemTooLarge(LimitExceeded):
    """A content holds more than the model takes; `item` is its number."""

    def __init__(self, item: int, reason: str) -> None:
        super().__init__(f"item {item}: {reason}")
        self.item = item
        self.reason = reason

    def __reduce__(self) -> tuple[type[ItemTooLarge], tuple[int, str]]:
        return type(self), (self.item, self.reason)


@dataclass(frozen=True)
class Failure:
    """One failed call, understood."""

    text: str
    retry: bool = False
    wait_s: float | None = None  # asked for by the server
    fatal: bool = False  # nothing else that is sent will fare better
    divisible: bool = False  # perhaps one item of the batch is to blame


def understand(error: Exception) -> Failure:
    """Tell what an error of the SDK or of the network means."""
    code = getattr(error, "code", None)
    if isinstance(code, int) and hasattr(error, "details"):
        return _answered(code, error)
    if isinstance(error, json.JSONDecodeError):
        return Failure("the answer was no JSON (a proxy's page?)", retry=True)
    if isinstance(error, ConnectionError | TimeoutError) or _is_transport(error):
        return Failure(f"{type(error).__name__}: {error}".rstrip(": "), retry=True)
    if any("google.auth" in kind.__module__ for kind in type(error).__mro__):
        return Failure(f"Google Cloud credentials: {error}", fatal=True)
    return Failure(f"{type(error).__name__}: {error}")


def _answered(code: int, error: Any) -> Failure:
    text = f"{code} {error.status or ''}: {error.message or error}"
    if code in (401, 403) or "API_KEY_INVALID" in json.dumps(error.details, default=str):
        hint = (
            "the key or the credentials were refused: check GEMINI_API_KEY (or GOOGLE_API_KEY), or api_key="
        )
        return Failure(f"{hint}; the service says {text}", fatal=True)
    if code == 404:
        hint = "there is no such model for this key, region and API version"
        return Failure(f"{hint}; the service says {text}", fatal=True)
    if code in _RETRIED:
        return Failure(text, retry=True, wait_s=_asked_wait(error))
    return Failure(text, divisible=code == 400)


def _is_transport(error: Exception) -> bool:
    """Whether an HTTP library says the network failed: httpx and httpx2 are not imported to ask."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "TransportError" in kinds and "UnsupportedProtocol" not in kinds


def _asked_wait(error: Any) -> float | None:
    """Seconds that the server asks to wait: RetryInfo, Retry-After, or in the words of the message."""
    for detail in _details(error.details):
        delay = str(detail.get("retryDelay", ""))
        if re.fullmatch(r"[0-9.]+s", delay):
            return float(delay[:-1])
    header = (getattr(error.response, "headers", None) or {}).get("retry-after")
    if header is not None:
        return _after(header)
    found = _ASKED.search(error.message or "")
    return float(found[1]) / (1000 if found[2] == "ms" else 1) if found else None


def _details(body: Any) -> list[dict[str, Any]]:
    inner = body.get("error") if isinstance(body, dict) else None
    details = inner.get("details") if isinstance(inner, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _after(header: str) -> float | None:
    """A Retry-After header: seconds, or a date."""
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
