"""The one cache of values that can be made again: bounded by entries and by bytes, without a lock.

A signal handler may run a query while its own thread is inside `put`, so a lock could dead-lock here. Instead
every change is one operation that CPython does not interrupt: a dict look-up, a dict store, or the
replacement of the pair of halves. Threads that race can lose an entry, which is then made again.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Half(dict[K, V]):
    """Some entries, and the bytes that they were said to hold."""

    __slots__ = ("nbytes",)

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0


class _Halves(NamedTuple, Generic[K, V]):
    young: _Half[K, V]
    old: _Half[K, V]


class BoundedCache(Generic[K, V]):
    """Values by key, at most `entries` of them and at most `nbytes` bytes; None is not a value.

    Entries are added to the young half. When that holds half of a limit it becomes the old half, and the old
    half before it is dropped. An entry that is found in the old half is added to the young one again, so what
    is used often stays.
    """

    __slots__ = ("_entries", "_halves", "_nbytes")

    def __init__(self, entries: int, nbytes: int | None = None) -> None:
        """`nbytes` None: entries are counted alone. Then give no sizes to `put`."""
        self._entries, self._nbytes = max(1, entries // 2), None if nbytes is None else nbytes // 2
        self._halves: _Halves[K, tuple[V, int]] = _Halves(_Half(), _Half())

    def __len__(self) -> int:
        young, old = self._halves
        return len(young) + sum(key not in young for key in list(old))

    @property
    def nbytes(self) -> int:
        """The bytes of all entries, as `put` was given them."""
        return sum(half.nbytes for half in self._halves)

    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        young, old = self._halves
        found = young.get(key)
        if found is not None:
            return found[0]
        found = old.get(key)
        if found is None:
            return None
        self.put(key, *found)
        return found[0]

    def put(self, key: K, value: V, size: int = 0) -> None:
        """Keep a value that holds `size` bytes. One larger than half of the limit is not kept."""
        if self._nbytes is not None and size > self._nbytes:
            return
        young = self._halves.young
        before = young.get(key)
        growth = size if before is None else size - before[1]
        full = before is None and len(young) >= self._entries
        if full or (self._nbytes is not None and young.nbytes + growth > self._nbytes):
            fresh: _Half[K, tuple[V, int]] = _Half()
            self._halves = _Halves(fresh, young)
            young, growth = fresh, size
        young.nbytes += growth
        young[key] = (value, size)

    def clear(self) -> None:
        """Forget everything."""
        self._halves = _Halves(_Half(), _Half())
