"""The limiter keeps every window of 60 seconds within the quota, and the back-off grows."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from mrlstore.embedders.gemini.pace import Clock, QuotaLimiter, Retry
from tests.embedders.gemini.conftest import FakeClock


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 500), st.floats(0, 90)), max_size=60),
    st.integers(20, 60),
    st.integers(500, 900),
)
def test_no_window_exceeds_the_quota(
    batches: list[tuple[int, int, float]], requests: int, tokens: int
) -> None:
    clock = FakeClock()
    limiter = QuotaLimiter(requests, tokens, clock)
    sent: list[tuple[float, int, int]] = []
    for items, size, idle_s in batches:
        limiter.acquire(items, size, threading.Event())
        sent.append((clock.now(), items, size))
        clock.time += idle_s
    for begin, _, _ in sent:
        window = [one for one in sent if begin <= one[0] < begin + 60 - 1e-6]  # but for rounding
        assert sum(one[1] for one in window) <= requests
        assert sum(one[2] for one in window) <= tokens


def test_a_quota_is_used_to_the_full() -> None:
    clock = FakeClock()
    limiter = QuotaLimiter(100, None, clock)
    for _ in range(100):
        limiter.acquire(1, 0, threading.Event())
    assert clock.waits == []
    limiter.acquire(1, 0, threading.Event())
    assert clock.waits == [60.0]


def test_threads_share_a_quota() -> None:
    """In real time: twelve threads book at once; only what the quota allows goes through."""
    limiter = QuotaLimiter(5, None, Clock())
    stop, through = threading.Event(), []

    def book() -> None:
        limiter.acquire(1, 0, stop)
        if not stop.is_set():
            through.append(1)

    threads = [threading.Thread(target=book) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.05)
    assert len(through) == 5
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "stop ends the waiting"


def test_what_is_larger_than_the_quota_goes_alone() -> None:
    clock = FakeClock()
    limiter = QuotaLimiter(None, 100, clock)
    limiter.acquire(1, 1000, threading.Event())
    limiter.acquire(1, 1, threading.Event())
    assert clock.waits == [60.0]


def test_back_off_doubles_up_to_a_bound_and_varies() -> None:
    retry = Retry(first_s=1, most_s=60)
    for attempt in range(1, 12):
        whole = min(2 ** (attempt - 1), 60)
        waits = {retry.wait_s(attempt, None) for _ in range(50)}
        assert len(waits) > 1 and all(whole / 2 <= wait <= whole for wait in waits)
    assert all(7 <= retry.wait_s(3, 7.0) <= 7.1 for _ in range(50))
