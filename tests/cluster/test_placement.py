"""Which host has which shard: the rule, and the wishes in object storage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from mrlstore.cluster.placement import (
    ClusterView,
    HostView,
    Placement,
    ShardState,
    change_placement,
    read_placement,
    shard_order,
)
from mrlstore.errors import CorruptStore
from tests.object_storage.doubles import MemoryStorage

SHARDS = 64


def host(number: int, *, silent: bool = False, open_: Iterable[int] = (), writes: int = 0) -> HostView:
    """A host on a node of its own, which has shards open and writes shard 0 with an epoch, or 0 for not."""
    shards = {shard: ShardState(writes > 0 and shard == 0, writes, 7) for shard in open_}
    return HostView(number, f"actor-{number}", f"node-{number}", silent, 0, 100 + number, shards)


def view(*hosts: HostView, copies: int = 2) -> ClusterView:
    return ClusterView(copies, hosts)


def test_shards_are_spread_and_few_move_when_a_host_goes() -> None:
    three, two = view(host(0), host(1), host(2)), view(host(0), host(2))
    before = [shard_order(shard, three, {}).wished for shard in range(SHARDS)]
    assert {order[0] for order in before} == {0, 1, 2}
    for shard, order in enumerate(before):
        assert shard_order(shard, two, {}).wished == tuple(number for number in order if number != 1)


def test_silent_hosts_come_last_and_those_that_end_before_them() -> None:
    hosts = view(host(0, silent=True), host(1), host(2))
    for shard in range(SHARDS):
        order = shard_order(shard, hosts, {}, retiring={1})
        assert order.wished == order.serving == (2, 1, 0)


def test_a_moved_shard_goes_to_its_node_and_nowhere_if_that_is_gone() -> None:
    hosts = view(host(0), host(1), host(2))
    for shard in range(SHARDS):
        assert shard_order(shard, hosts, {shard: "node-2"}).wished[0] == 2
        assert shard_order(shard, hosts, {shard: "gone"}) == shard_order(shard, hosts, {})


def test_who_has_a_shard_open_is_asked_before_who_would_have_to_restore_it() -> None:
    for number in range(3):
        hosts = view(*(host(one, open_=[0] if one == number else []) for one in range(3)))
        assert shard_order(0, hosts, {}).serving[0] == number


def test_a_writer_is_kept_until_something_stands_against_it() -> None:
    wished = shard_order(0, view(host(0), host(1), host(2)), {}).wished
    second, third = wished[1], wished[2]

    def first(writer: int, *, silent: bool = False, retiring: Iterable[int] = (), copies: int = 2) -> int:
        hosts = (
            host(one, open_=[0], writes=3 if one == writer else 0, silent=silent and one == writer)
            for one in range(3)
        )
        return shard_order(0, view(*hosts, copies=copies), {}, set(retiring)).serving[0]

    assert first(second) == second
    assert first(second, silent=True) == first(second, retiring=[second]) == wished[0]
    assert first(third) == wished[0]  # it should have no copy at all
    assert first(third, copies=3) == third


def test_the_writer_is_the_one_with_the_newest_epoch_and_lag_is_counted_from_it() -> None:
    ahead = host(2, open_=[0], writes=5)
    ahead = ahead._replace(shards={0: ShardState(True, 5, 12)})
    hosts = view(host(1, open_=[0], writes=3), ahead, host(0))
    assert hosts.writer(0) == 2 and hosts.writer(1) is None
    assert hosts.lag(hosts.hosts[0], 0) == 5 and hosts.lag(ahead, 0) == 0
    assert hosts.ready(0) == 2 and hosts.ready(1) == 0


def test_wishes_are_kept_and_of_two_at_once_none_is_lost() -> None:
    storage = MemoryStorage()
    assert read_placement(storage) == Placement()
    meanwhile = [lambda found: replace(found, drained=("b",))]

    def change(found: Placement) -> Placement:
        if meanwhile:
            change_placement(storage, meanwhile.pop())
        return replace(found, moved={**found.moved, 3: "a"})

    assert change_placement(storage, change) == Placement(2, ("b",), {3: "a"})
    assert read_placement(storage) == Placement(2, ("b",), {3: "a"})
    assert [each.name for each in storage.list_objects("placement")] == ["placement/0000000002"]


def test_wishes_that_cannot_be_read_are_damage() -> None:
    storage = MemoryStorage()
    storage.create("placement/0000000001", b'{"drained": 3}')
    with pytest.raises(CorruptStore, match="placement"):
        read_placement(storage)
