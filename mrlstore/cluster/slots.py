"""Which shard a row belongs to: 4,096 slots, each of one of the shards, by a rule and without a map."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

SLOTS: Final = 4_096
_BITS: Final = 12


def slot_of(namespace: str, id: str) -> int:
    """The slot of a row: those of a named namespace have one together, those of the unnamed one each its own.

    The first 12 bits of blake2b over namespace, a zero byte and id, all in UTF-8.
    """
    own = id.encode() if not namespace else b""
    digest = blake2b(b"\0".join((namespace.encode(), own)), digest_size=8).digest()
    return int.from_bytes(digest[:2], "big") >> (16 - _BITS)


def shard_of(namespace: str, id: str, shards: int) -> int:
    """The shard, counted from 0, of a row; `shards` is a power of two."""
    return slot_of(namespace, id) * shards // SLOTS


def shards_of(namespace: str, shards: int) -> range:
    """All shards that rows of a namespace may lie in."""
    if not namespace:
        return range(shards)
    only = shard_of(namespace, "", shards)
    return range(only, only + 1)


def divided(namespace: str, ids: Iterable[str], shards: int) -> dict[int, list[int]]:
    """The positions of the ids by their shards, in order."""
    found: dict[int, list[int]] = {}
    for position, id in enumerate(ids):
        found.setdefault(shard_of(namespace, id, shards), []).append(position)
    return dict(sorted(found.items()))
