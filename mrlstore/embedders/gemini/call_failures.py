"""What a failed call means: whether to try again, when, with fewer contents, and what to tell the caller.

The SDK's own retries ignore Retry-After and RetryInfo and do not cover broken connections; its errors come
from three HTTP libraries, depending on its version. All of them are classified here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import EmbedError, InvalidInput, LimitExceeded

_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_ON_SOME_CONTENTS: Final = frozenset({500, 504})  # a content on which the service fails gives these for ever
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s|us|ns))+")  # as Go writes it: "1m2.5s", "14h12m"
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|ns)")
_RETRY_IN: Final = re.compile(rf"retry in ({_DURATION.pattern})", re.IGNORECASE)
_UNIT_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PER_DAY: Final = re.compile(r"per.?day|daily", re.IGNORECASE)
# Words by which the services name a file, an object of Cloud Storage, or an address that they could not read.
_ABOUT_A_FILE: Final = re.compile(
    r"\bfiles?\b|file_uri|\bur[il]s?\b|gs://|https?://|\bbuckets?\b|\bobjects?\b", re.IGNORECASE
)
_ABOUT_THE_KEY: Final = re.compile(r"api.?key|unregistered caller", re.IGNORECASE)
# Words by which the services name the most contents of a request: "at most 100 requests can be in one batch",
# "5 instance(s) is allowed per prediction", "the supported range is from 1 (inclusive) to 251 (exclusive)",
# "takes one input at a time".
_AT_MOST: Final = (
    (re.compile(r"at most (\d+) (?:requests|contents|instances)", re.IGNORECASE), 0),
    (re.compile(r"(\d+) instance\(s\) is allowed", re.IGNORECASE), 0),
    (re.compile(r"range is from \d+ \(inclusive\) to (\d+) \(exclusive\)", re.IGNORECASE), 1),
)
_ONE_ONLY: Final = re.compile(
    r"\b(?:one|a single|1) (?:input|content|text|instance|item)s?(?: text)? "
    r"(?:at a time|per|is (?:allowed|supported))",
    re.IGNORECASE,
)


class GeminiEmbedError(EmbedError):
    """Some items could not be embedded; those that could are not lost.

    Attributes:
        succeeded: item number -> its vector, float32 [dim].
        failed: item number -> why. Items that were no longer sent have the error that stopped the rest.
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


class VectorRefused(EmbedError):
    """The service answered, and its answer for one content cannot be used."""

    of_service = False


@dataclass(frozen=True)
class CallFailure:
    """One failed call, classified."""

    text: str
    retry: bool = False  # the same call may succeed later
    wait_s: float | None = None  # the wait that the service demands
    fatal: bool = False  # no other call would succeed
    divisible: bool = False  # one content, or their number, may be to blame: fewer may succeed
    most_items: int | None = None  # contents that the service takes in a request, where it says so
    code: int | None = None  # HTTP status

    @property
    def teaches_a_limit(self) -> bool:
        """Whether the number of contents may be to blame, rather than their bytes, tokens, or the service."""
        return not (self.retry or self.code == 413 or "token" in self.text.lower())


class CallFailed(EmbedError):
    """One call failed for good; `failure` says how.

    `of_service`: True where other contents would have failed too, False where these were to blame, None where
    that is not known.
    """

    def __init__(self, failure: CallFailure, note: str = "") -> None:
        super().__init__(failure.text + note)
        self.failure = failure
        self.of_service: bool | None = failure.fatal or failure.retry

    def __reduce__(self) -> tuple[type[EmbedError], tuple[str]]:
        return EmbedError, (str(self),)


def understand(error: Exception, *, has_uri: bool = False) -> CallFailure:
    """Classify an error of the SDK or of the network; `has_uri`: a content of the call has a file URI."""
    code = getattr(error, "code", None)
    if isinstance(code, int) and hasattr(error, "details"):
        return _of_status(code, error, has_uri)
    if isinstance(error, json.JSONDecodeError):
        return CallFailure("the answer was no JSON (a proxy's page?)", retry=True)
    if isinstance(error, ConnectionError | TimeoutError) or _is_transport(error):
        return CallFailure(f"{type(error).__name__}: {error}".rstrip(": "), retry=True)
    if any("google.auth" in kind.__module__ for kind in type(error).__mro__):
        return CallFailure(f"Google Cloud credentials: {error}", fatal=True)
    # The SDK could not read the answer (an entry of it was null, say), or refuses the call itself: versions
    # 1.64 to 3.3 send one content a request to embedding 2 on Vertex AI, and say so by a ValueError.
    return CallFailure(f"{type(error).__name__}: {error}", divisible=True, most_items=_most_items(str(error)))


def parse_duration(text: str) -> float | None:
    """Seconds of a duration such as "17.5s", "1m2.5s" or "14h12m"; None where it is none."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))


def _of_status(code: int, error: Any, has_uri: bool) -> CallFailure:
    """Classify an answer that is an error, by its HTTP status."""
    message = str(error.message or error)
    text = f"{code} {error.status or ''}: {message}"
    if code == 401 or "API_KEY_INVALID" in json.dumps(error.details, default=str):
        return _refused_key(code, text)
    if code in (403, 404) and not _ABOUT_THE_KEY.search(message):
        if has_uri and (_ABOUT_A_FILE.search(message) or "model" not in message.lower()):
            hint = "the service cannot read this file URI (files of the Files API end after 48 hours)"
            return CallFailure(f"{hint}; the service says {text}", divisible=True, code=code)
        if code == 404:
            hint = "there is no such model for this key, region and API version"
            return CallFailure(f"{hint}; the service says {text}", fatal=True, code=code)
    if code == 403:
        return _refused_key(code, text)
    if code == 429 and _is_daily(error):
        hint = "a daily quota is spent, so waiting does not help"
        return CallFailure(f"{hint}; the service says {text}", fatal=True, code=code)
    if code in _RETRIED:
        wait_s = _demanded_wait_s(error)
        return CallFailure(text, retry=True, wait_s=wait_s, divisible=code in _ON_SOME_CONTENTS, code=code)
    if code == 400 and error.status == "FAILED_PRECONDITION" and not _ABOUT_A_FILE.search(message):
        hint = "the service refuses this account or location"
        return CallFailure(f"{hint}; it says {text}", fatal=True, code=code)
    return CallFailure(text, divisible=code in (400, 413), most_items=_most_items(message), code=code)


def _refused_key(code: int, text: str) -> CallFailure:
    hint = "the key or the credentials were refused: check GEMINI_API_KEY (or GOOGLE_API_KEY), or api_key="
    return CallFailure(f"{hint}; the service says {text}", fatal=True, code=code)


def _is_transport(error: Exception) -> bool:
    """Whether an HTTP library says the network failed; httpx and httpx2 are not imported for the test."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "TransportError" in kinds and "UnsupportedProtocol" not in kinds


def _is_daily(error: Any) -> bool:
    """Whether a quota for a day is spent, by its name ("EmbedContentRequestsPerDay...") or the message."""
    names = [str(v.get("quotaId", v.get("quotaMetric", ""))) for v in _violations(error.details)]
    return any(map(_PER_DAY.search, names)) or (not names and bool(_PER_DAY.search(error.message or "")))


def _most_items(message: str) -> int | None:
    """The contents that a request may have, where the message of a refusal says it."""
    for pattern, excess in _AT_MOST:
        if found := pattern.search(message):
            return max(int(found[1]) - excess, 1)
    return 1 if _ONE_ONLY.search(message) else None


def _demanded_wait_s(error: Any) -> float | None:
    """Seconds that the service demands: by RetryInfo, by Retry-After, or in the words of the message."""
    for detail in _details(error.details):
        delay = parse_duration(str(detail.get("retryDelay", "")))
        if delay is not None:
            return delay
    header = (getattr(error.response, "headers", None) or {}).get("retry-after")
    if header is not None:
        return _after(header)
    found = _RETRY_IN.search(error.message or "")
    return parse_duration(found[1]) if found else None


def _violations(body: Any) -> Iterable[dict[str, Any]]:
    for detail in _details(body):
        found = detail.get("violations")
        yield from (violation for violation in found or () if isinstance(violation, dict))


def _details(body: Any) -> list[dict[str, Any]]:
    inner = body.get("error") if isinstance(body, dict) else None
    details = inner.get("details") if isinstance(inner, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _after(header: str) -> float | None:
    """Seconds of a Retry-After header: a number, a date, or (by some proxies) a duration with units."""
    try:
        seconds = float(header)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return parse_duration(header)
