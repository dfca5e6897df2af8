"""When to send: back-off after failures, and a limiter that keeps within a quota.

Time comes from a `Clock`, so that tests need not sleep.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass

from mrlstore.embedders.child_renewal import after_fork

_WINDOW_S = 60.0
_LEAST_WAIT_S = 1e-3  # rounding may give a wait of zero though the minute is not over


class Clock:
    """Real time."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Sleep, but no longer than until `stop` is set."""
        stop.wait(seconds)


@dataclass(frozen=True)
class Retry:
    """How often and how long to try: exponential back-off with jitter.

    Args:
        attempts: calls in all, the first included; 1 means no retry.
        first_s: the wait before the second call; each further one is twice as long.
        most_s: the longest wait that the server has not demanded.
        patience_s: the longest wait that a server may demand; a longer one (a spent daily quota) is an error.
    """

    attempts: int = 7
    first_s: float = 1.0
    most_s: float = 60.0
    patience_s: float = 180.0

    def wait_s(self, attempt: int, demanded_s: float | None) -> float:
        """Return the seconds to wait after the attempt of this number (from 1) has failed."""
        own: float = min(self.first_s * 2 ** (attempt - 1), self.most_s) * random.uniform(0.5, 1.0)
        if demanded_s is None:
            return own
        return (
            demanded_s + random.uniform(0.0, 0.1) * self.first_s
        )  # never earlier, and not all threads at once


class QuotaLimiter:
    """Keeps requests and tokens of any 60 seconds within given limits; None means no limit.

    Every item of a batch counts as a request, as the service counts. Tokens are estimates. After the server
    has demanded a pause, all threads that share the limiter pause.
    """

    def __init__(self, requests: int | None, tokens: int | None, clock: Clock) -> None:
        self.requests = requests
        self.tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._sent: deque[tuple[float, int, int]] = deque()
        self._paused_until = float("-inf")
        after_fork(self, QuotaLimiter._renew)

    def pause(self, seconds: float) -> None:
        """Let no thread send for so many seconds."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock.now() + seconds)

    def acquire(self, requests: int, tokens: int, stop: threading.Event) -> None:
        """Wait until so many requests and tokens may be sent, or until `stop` is set."""
        while not stop.is_set():
            delay = self._try(requests, tokens)
            if delay is None:
                return
            self._clock.wait(stop, max(delay, _LEAST_WAIT_S))

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def _try(self, requests: int, tokens: int) -> float | None:
        """Count the sending and return None, or return the seconds after which to try again."""
        with self._lock:
            now = self._clock.now()
            if now < self._paused_until:
                return self._paused_until - now
            if self.requests is None and self.tokens is None:
                return None
            while self._sent and self._sent[0][0] <= now - _WINDOW_S:
                self._sent.popleft()
            if self._sent and not self._fits(requests, tokens):
                return self._sent[0][0] + _WINDOW_S - now
            self._sent.append((now, requests, tokens))  # alone, even more than the limit is sent
            return None

    def _fits(self, requests: int, tokens: int) -> bool:
        requests += sum(entry[1] for entry in self._sent)
        tokens += sum(entry[2] for entry in self._sent)
        return (self.requests is None or requests <= self.requests) and (
            self.tokens is None or tokens <= self.tokens
        )
