"""The bounded cache: its limits hold, what is used often stays, and neither threads nor handlers hurt it."""

from __future__ import annotations

import random
import signal
import threading

import pytest

from mrlstore.system.bounded_cache import BoundedCache


def test_it_gives_back_what_was_put() -> None:
    cache = BoundedCache[str, int](10)
    assert cache.get("a") is None
    cache.put("a", 1)
    cache.put("a", 2)
    assert cache.get("a") == 2 and len(cache) == 1
    cache.clear()
    assert cache.get("a") is None and len(cache) == 0


@pytest.mark.parametrize("entries", [1, 2, 3, 10, 101])
def test_it_never_holds_more_entries_than_allowed(entries: int) -> None:
    cache = BoundedCache[int, int](entries)
    for number in range(1, 500):
        cache.put(number, number)
        assert cache.get(number) == number
        assert len(cache) <= max(entries, 2)  # a half holds at least one


def test_it_never_holds_more_bytes_than_allowed() -> None:
    cache, rng = BoundedCache[int, int](1_000_000, 1_000), random.Random(1)
    for number in range(2_000):
        cache.put(rng.randrange(300), number, rng.randrange(1, 400))
        assert cache.nbytes <= 1_000
    assert len(cache) >= 2


def test_replacing_an_entry_counts_its_bytes_once() -> None:
    cache = BoundedCache[str, int](10, 1_000)
    for number in range(50):
        cache.put("a", number, 400)
    assert cache.nbytes == 400


def test_what_is_larger_than_half_of_the_limit_is_not_kept() -> None:
    cache = BoundedCache[str, int](10, 1_000)
    cache.put("small", 1, 10)
    cache.put("large", 2, 501)
    assert cache.get("large") is None and cache.get("small") == 1


def test_what_is_used_stays() -> None:
    cache = BoundedCache[int, int](20)
    cache.put(-1, -1)
    for number in range(1_000):
        cache.put(number, number)
        assert cache.get(-1) == -1


def test_threads_share_it() -> None:
    cache, wrong = BoundedCache[int, int](50, 5_000), list[int]()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(20_000):
            key = rng.randrange(200)
            found = cache.get(key)
            if found is None:
                cache.put(key, key, key)
            elif found != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and len(cache) <= 60


def test_a_signal_handler_may_use_it_at_any_moment() -> None:
    cache, calls, running = BoundedCache[int, int](8, 800), 0, False

    def handler(*_: object) -> None:
        nonlocal calls, running
        if running:  # on a slow machine the next signal comes meanwhile, and would push the key out
            return
        calls, running = calls + 1, True
        for key in range(20):
            cache.put(key, key, 50)
            assert cache.get(key) == key
        running = False

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for number in range(100_000):
            cache.put(number, number, 50)
            found = cache.get(number)
            assert found is None or found == number
            if calls > 50:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls > 1 and cache.nbytes <= 800
