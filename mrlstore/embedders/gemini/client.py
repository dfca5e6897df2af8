"""The SDK's client: made once, kept alive, called in one place with our own retries.

Only the synchronous half of the SDK is used, from threads. Its asynchronous half binds connections to one
event loop (up to 2.x: "Event loop is closed" in the second), and with aiohttp installed it sleeps and
retries on its own. The SDK is imported at the first call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mrlstore.embedders.child_renewal import after_fork, leave
from mrlstore.embedders.gemini.call_failures import CallFailed, CallFailure, understand
from mrlstore.embedders.gemini.items import InputSize
from mrlstore.embedders.gemini.pace import Clock, QuotaLimiter, Retry
from mrlstore.embedders.media import MissingExtra
from mrlstore.errors import EmbedError, InvalidInput

if TYPE_CHECKING:
    from google import genai
    from google.genai import types

T = TypeVar("T")


class GeminiClient:
    """Calls Google with retries, a quota and a timeout; safe to use from any thread and after a fork.

    The SDK closes its connections when its `Client` object is collected, and then every call fails; so the
    object itself is kept here for as long as this one lives.
    """

    def __init__(
        self,
        given: genai.Client | None,
        options: dict[str, Any],
        timeout_s: float,
        retry: Retry,
        limiter: QuotaLimiter,
        clock: Clock,
    ) -> None:
        if given is not None and not (hasattr(given, "models") and hasattr(given, "vertexai")):
            raise InvalidInput(
                f"client= takes a google.genai.Client itself, not {type(given).__name__}: a client of which "
                "only .models is kept is closed by the SDK"
            )
        self._given = given
        self._options = options
        self._made: genai.Client | None = None
        self._lock = threading.Lock()
        after_fork(self, GeminiClient._renew)
        self._timeout_s = timeout_s
        self._retry = retry
        self._limiter = limiter
        self.clock = clock

    @property
    def sdk(self) -> genai.Client:
        """The SDK's client; made at first use. After a fork a new one: connections cannot be shared."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._made is None:
                self._made = _make(self._options)
            return self._made

    @property
    def vertex(self) -> bool:
        """Whether the client talks to Vertex AI."""
        return bool(self.sdk.vertexai)

    def will_be_vertex(self) -> bool:
        """Whether the client talks to Vertex AI, or would once made; the SDK is not imported for this."""
        if self._given is not None or self._made is not None:
            return self.vertex
        if self._options.get("vertexai"):
            return True
        flag = os.environ.get("GOOGLE_GENAI_USE_ENTERPRISE", os.environ.get("GOOGLE_GENAI_USE_VERTEXAI", ""))
        return flag.lower() in ("true", "1")

    def location(self) -> str | None:
        """The location of Vertex AI that was named, by `location` or by the environment; None without one."""
        if self._given is not None:
            found = getattr(getattr(self._given, "_api_client", None), "location", None)
            return found if isinstance(found, str) else None
        return self._options.get("location") or os.environ.get("GOOGLE_CLOUD_LOCATION")

    def embed(
        self,
        model: str,
        contents: list[types.Content],
        config: dict[str, Any],
        size: InputSize,
        stop: threading.Event,
        *,
        has_uri: bool = False,
        attempts: int | None = None,
    ) -> types.EmbedContentResponse:
        """Embed one batch: CallFailed when it has failed for good or `stop` was set."""
        sdk = self.sdk
        config = config | {"http_options": self.http_options()}
        return self.call(
            lambda: sdk.models.embed_content(model=model, contents=contents, config=config),  # type: ignore[arg-type]
            size,
            stop,
            has_uri=has_uri,
            attempts=attempts,
        )

    def http_options(self) -> dict[str, Any]:
        """One attempt: calls are repeated here. The SDK counts its timeout in milliseconds."""
        return {"timeout": round(self._timeout_s * 1000), "retry_options": {"attempts": 1}}

    def call(
        self,
        send: Callable[[], T],
        size: InputSize,
        stop: threading.Event,
        *,
        has_uri: bool = False,
        attempts: int | None = None,
        may_retry: Callable[[CallFailure], bool] = lambda failure: failure.retry,
    ) -> T:
        """Call `send` until it succeeds, within the quota and with back-off; else raise CallFailed."""
        tokens = sum(size.tokens().values())
        most = min(attempts or self._retry.attempts, self._retry.attempts)
        for attempt in range(1, most + 1):
            self._limiter.acquire(size.items, tokens, stop)
            if stop.is_set():
                raise CallFailed(CallFailure("not sent: the call was stopped before"))
            try:
                return send()
            except Exception as error:
                failure = understand(error, has_uri=has_uri)
                left = most - attempt if may_retry(failure) else None
                self._back_off(failure, attempt, stop, error, left)
        raise AssertionError("unreachable: the last attempt either returns or raises")

    def _renew(self) -> None:
        leave(self._made)
        self._lock, self._made = threading.Lock(), None

    def _back_off(
        self, failure: CallFailure, attempt: int, stop: threading.Event, cause: Exception, left: int | None
    ) -> None:
        """Wait before the next attempt; CallFailed where none is `left`, or where none would help (None)."""
        demanded = failure.wait_s
        if demanded is not None and demanded > self._retry.patience_s:
            note = (
                f" (the service asks to wait {demanded:,.0f} s, longer than patience_s: a spent daily quota?)"
            )
            raise CallFailed(replace(failure, fatal=True), note) from cause
        if left is None:
            raise CallFailed(failure) from cause
        if demanded is not None:
            self._limiter.pause(demanded)  # other threads would be refused likewise
        if not left:
            raise CallFailed(failure, f" (after {attempt} attempts)") from cause
        self.clock.wait(stop, self._retry.wait_s(attempt, demanded))


def _make(options: dict[str, Any]) -> genai.Client:
    try:
        from google import genai
    except ImportError as error:
        raise MissingExtra(
            'the Gemini embedder needs google-genai: pip install "mrlstore[gemini]"'
        ) from error
    try:
        return genai.Client(**options)
    except ValueError as error:
        raise EmbedError(
            "no key for Gemini: set GEMINI_API_KEY (from https://aistudio.google.com/apikey) or pass "
            "api_key=. For Vertex AI pass project= and location=. Or pass client=, a google.genai.Client. "
            f"The SDK says: {error}"
        ) from error
