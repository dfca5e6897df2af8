"""The tail's views: an exception or a signal handler at any bytecode leaves every view as it was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mrlstore.catalogue.tail_rows import TailRow
from mrlstore.errors import CorruptStore
from mrlstore.storage.tail import Tail
from mrlstore.where import parse
from tests.oracle import nested_vectors, stored_row
from tests.pressure.opcodes import AtOpcode, interrupt, places

DIM, PREFIX = 8, 4
VECTORS = nested_vectors(400, DIM)


def row(key: int) -> TailRow:
    vector = stored_row(VECTORS[key % 400])
    return TailRow(key, f"ns{key % 3}", f"id{key}", f'{{"n":{key}}}', vector.tobytes(), 1.0 + key)


def judge(tail: Tail, keys: Sequence[int]) -> None:
    """Every column of every row is that of its key."""
    alive = np.flatnonzero(tail.live)
    assert tail.keys[alive].tolist() == list(keys)
    buffer = tail.buffer
    for at, key in zip(alive.tolist(), keys, strict=True):
        wanted = row(key)
        assert tail.ids([at]) == [wanted.id]
        assert buffer.metadata[at] == wanted.metadata
        assert buffer.parsed_metadata(at) == {"n": key}
        assert tail.stored(at) == (wanted.vector, wanted.norm)
        assert tail.namespaces()[buffer.spaces[at]] == wanted.namespace
    for space in ("ns0", "ns1", "ns2"):
        mask = tail.mask(space, parse({"n": {"$gte": 5}}))
        assert tail.keys[mask].tolist() == [key for key in keys if f"ns{key % 3}" == space and key >= 5]
    assert len(tail.group.keys) == tail.length


def test_views_grow_and_shrink() -> None:
    tail, keys = Tail.empty(DIM, PREFIX), list[int]()
    views = []
    for start in range(0, 300, 7):
        fresh = list(range(start, start + 7))
        tail = tail.extended([row(key) for key in fresh])
        gone = np.array([key for key in keys if key % 5 == start % 5], dtype=np.int64)
        tail = tail.without(gone)
        keys = [key for key in [*keys, *fresh] if key not in gone]
        views.append((tail, list(keys)))
    for view, held in views[:: len(views) // 5]:
        judge(view, held)
    judge(tail.coded(2), keys)
    assert tail.coded(2).buffer.prefix_dim == 2


def test_keys_out_of_order_are_removed_too() -> None:
    """As where two processes write, each with a range of keys of its own."""
    tail = Tail.empty(DIM, PREFIX).extended([row(9), row(10)]).extended([row(3), row(4), row(5)])
    judge(tail.without(np.array([4, 9, 77], dtype=np.int64)), [10, 3, 5])
    assert tail.without(np.array([1, 77], dtype=np.int64)) is tail


def test_a_vector_without_direction_is_refused_by_name() -> None:
    bad = row(5)._replace(vector=np.zeros(DIM, np.float16).tobytes())
    with pytest.raises(CorruptStore, match="key 5 has no direction"):
        Tail.empty(DIM, PREFIX).extended([row(4), bad])


def test_two_views_that_grow_from_one_do_not_share_rows() -> None:
    base = Tail.empty(DIM, PREFIX).extended([row(0), row(1)])
    first, second = base.extended([row(2)]), base.extended([row(3), row(4)])
    judge(base, [0, 1])
    judge(first, [0, 1, 2])
    judge(second, [0, 1, 3, 4])
    judge(first.extended([row(5)]), [0, 1, 2, 5])


@pytest.mark.parametrize("by", ["an exception", "a handler"])
@pytest.mark.parametrize("held", [3, 63, 64])  # the third has no capacity left
def test_growing_is_interrupted_at_every_bytecode(by: str, held: int) -> None:
    before = list(range(held))

    def fresh() -> Tail:
        return Tail.empty(DIM, PREFIX).extended([row(key) for key in before])

    with AtOpcode(0, interrupt) as counted:
        fresh().extended([row(100), row(101)])
    start = fresh()
    with AtOpcode(0, interrupt) as counted:
        start.extended([row(100), row(101)])
    for nth in places(counted.seen, f"{by} {held}"):
        start = fresh()
        inner: list[Tail] = []

        def act(start: Tail = start, inner: list[Tail] = inner) -> None:
            inner.append(start.extended([row(200), row(201), row(202)]))
            if by == "an exception":
                interrupt()

        grown: Tail | None = None
        trap = AtOpcode(nth, act)
        try:
            with trap:
                grown = start.extended([row(100), row(101)])
        except KeyboardInterrupt:
            pass
        judge(start, before)
        judge(inner[0], [*before, 200, 201, 202])
        if grown is not None:
            judge(grown, [*before, 100, 101])
        judge(start.extended([row(300)]), [*before, 300])
        judge(inner[0], [*before, 200, 201, 202])
