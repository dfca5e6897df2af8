"""Which host has which shard: a rule over the hosts, and wishes that object storage keeps.

Nothing here decides what is true. Two processes that follow different orders may let two hosts write a shard;
the epochs of its log let only one of them acknowledge.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from mrlstore.errors import CorruptStore, ObjectNotFound
from mrlstore.object_storage import ObjectStorage

_FOLDER: Final = "placement"
_LONGEST: Final = 16 * 1024 * 1024  # bytes of the wishes: 4,096 moved shards take a small part of it


@dataclass(frozen=True)
class Placement:
    """What was wished of a cluster's hosts, by names of nodes; wishes about gone nodes do nothing."""

    number: int = 0  # of the object that has it; 0 where nothing was wished yet
    drained: tuple[str, ...] = ()  # nodes that are to have no host
    moved: Mapping[int, str] = field(default_factory=dict)  # shards, and the node that is to write each


class ShardState(NamedTuple):
    """A shard as one host has it."""

    writes: bool
    epoch: int
    place: int  # of the log, up to which the copy has come


class HostState(NamedTuple):
    """What a host says of itself."""

    process: int  # its id on its node
    node: str  # the name of its node
    shards: dict[int, ShardState]  # those that are open


class HostView(NamedTuple):
    """A host as the controller sees it."""

    number: int
    actor: str  # Ray's id of the actor
    node: str  # the name of its node; "" before it has answered
    silent: bool  # it did not answer for some seconds, or has not yet
    restarts: int  # since the controller began: other processes or actors in its place
    process: int
    shards: dict[int, ShardState]  # as it said last


class ClusterView(NamedTuple):
    """All hosts of a cluster at one moment."""

    copies: int  # how many hosts answer for a shard
    hosts: tuple[HostView, ...]
    nodes: tuple[str, ...] = ()  # the names of the nodes that may have hosts
    orders: tuple[tuple[int, ...], ...] = ()  # for each shard the hosts as they are to be asked

    def lag(self, host: HostView, shard: int) -> int:
        """How many places of the log the copy of a host is behind the copy that is furthest on."""
        furthest = max(one.shards[shard].place for one in self.hosts if shard in one.shards)
        return furthest - host.shards[shard].place

    def writer(self, shard: int) -> int | None:
        """The host that writes a shard, as far as is known: the one with the newest epoch."""
        writing = [one for one in self.hosts if shard in one.shards and one.shards[shard].writes]
        return max(writing, key=lambda one: one.shards[shard].epoch).number if writing else None

    def ready(self, shard: int) -> int:
        """How many hosts that answer have a copy of a shard."""
        return sum(shard in one.shards and not one.silent for one in self.hosts)


class Order(NamedTuple):
    """The hosts of a shard, the preferred first."""

    wished: tuple[int, ...]  # those that should have it
    serving: tuple[int, ...]  # those that are to be asked now: its writer and who has it open come first


def shard_order(
    shard: int, view: ClusterView, moved: Mapping[int, str], retiring: Container[int] = ()
) -> Order:
    """Which hosts should have a shard, and which are to be asked for it now.

    Silent hosts come last, and before them those that are to end. The node that a shard was moved to comes
    first. The others follow a hash of shard and host, so that few shards change places when a host comes or
    goes. A writer is kept where nothing but that hash stands against it.
    """
    hosts, goal, writer = {host.number: host for host in view.hosts}, moved.get(shard), view.writer(shard)

    def reasons(number: int) -> tuple[bool, bool, bool]:
        host = hosts[number]
        return host.silent, number in retiring, goal is not None and goal != host.node

    def key(number: int) -> tuple[tuple[bool, bool, bool], bytes]:
        return reasons(number), blake2b(f"{shard} {number}".encode(), digest_size=8).digest()

    wished = tuple(sorted(hosts, key=key))
    kept = writer in wished[: view.copies] and reasons(writer) == reasons(wished[0])

    def turn(number: int) -> tuple[bool, bool, bool]:
        return hosts[number].silent, not (kept and number == writer), shard not in hosts[number].shards

    return Order(wished, tuple(sorted(wished, key=turn)))


def read_placement(storage: ObjectStorage) -> Placement:
    """The newest wishes; CorruptStore if they cannot be read."""
    while True:
        numbers = [int(each.name.rpartition("/")[2]) for each in storage.list_objects(_FOLDER)]
        if not numbers:
            return Placement()
        name = _name(max(numbers))
        try:
            found: dict[str, Any] = json.loads(storage.get(name, _LONGEST))
            moved = {int(shard): str(node) for shard, node in found["moved"].items()}
            return Placement(max(numbers), tuple(map(str, found["drained"])), moved)
        except ObjectNotFound:
            continue  # a later one has replaced it
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptStore(f"{storage.url}/{name}", f"not wishes of placement ({error!r})") from error


def change_placement(storage: ObjectStorage, change: Callable[[Placement], Placement]) -> Placement:
    """Put changed wishes in the place of the newest ones; of two changes at once neither is lost."""
    while True:
        known = read_placement(storage)
        changed = change(known)
        number = known.number + 1
        kept = {name: value for name, value in asdict(changed).items() if name != "number"}
        kept["token"] = uuid.uuid4().hex  # tells equal wishes of two processes apart
        if storage.create(_name(number), json.dumps(kept).encode()):
            older = [each.name for each in storage.list_objects(_FOLDER) if each.name < _name(number)]
            storage.delete(older)
            return Placement(number, changed.drained, changed.moved)


def _name(number: int) -> str:
    return f"{_FOLDER}/{number:010}"
