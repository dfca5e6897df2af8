"""Properties that are computed once, without a lock."""

from __future__ import annotations

import threading

from mrlstore.system.lazy import lazy


class Slow:
    """One that computes `value` only once it is let."""

    def __init__(self, free: bool) -> None:
        self.computed, self.begun, self.go = 0, threading.Event(), threading.Event()
        if free:
            self.go.set()

    @lazy
    def value(self) -> int:
        """What is computed."""
        self.begun.set()
        assert self.go.wait(60)
        self.computed += 1
        return 7


def test_it_is_computed_once() -> None:
    one = Slow(free=True)
    assert one.value == one.value == 7
    assert one.computed == 1
    assert Slow.value.__doc__ == "What is computed."


def test_nobody_waits_for_another_objects_value() -> None:
    """A lock for all objects would also stay locked for ever in a process that is forked meanwhile."""
    slow, other, got = Slow(free=False), Slow(free=True), list[int]()
    first = threading.Thread(target=lambda: got.append(slow.value))
    first.start()
    assert slow.begun.wait(60)
    second = threading.Thread(target=lambda: got.append(other.value))
    second.start()
    second.join(10)
    assert got == [7], "it waits for the first thread"
    slow.go.set()
    first.join(60)
    assert got == [7, 7]
