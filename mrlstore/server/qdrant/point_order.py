"""Points in the order of their ids: whole numbers by size, then all others by their text."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from mrlstore.api.store import Store
from mrlstore.search.records import encode_cursor
from mrlstore.server.qdrant.filters import PointFilter
from mrlstore.server.qdrant.point_ids import point_id
from mrlstore.types import Include, Record

_ORDERS: Final = 4  # of a store that are kept: pages of one scroll ask for the same
_PIECE: Final = 1_000  # rows read at a time

_kept: WeakKeyDictionary[Store, OrderedDict[tuple[int, str], NDArray[np.uint64]]] = WeakKeyDictionary()
_lock = threading.Lock()


def points_in_order(
    store: Store, chosen: PointFilter, start: str | None, most: int, include: tuple[Include, ...]
) -> list[Record]:
    """Up to so many rows that match, from the id `start` on.

    The first page after a write, or of another filter, reads the ids of all rows that match: half a second
    for a million.
    """
    if chosen.only is not None:
        ids = sorted(chosen.names(chosen.only), key=_place)
        wanted = [id for id in ids if start is None or _place(id) >= _place(start)]
        return store.get(wanted, where=chosen.where, include=include)[:most]
    begin = None if start is None else point_id(start)
    found: list[Record] = []
    if begin is None or isinstance(begin, int):
        numbers = _numbers(store, chosen)
        at = 0 if begin is None else int(np.searchsorted(numbers, np.uint64(begin)))
        while at < len(numbers) and len(found) < most:
            ids = [str(number) for number in numbers[at : at + _PIECE].tolist()]
            found += store.get(
                chosen.names(ids), where=chosen.where, limit=most - len(found), include=include
            )
            at += _PIECE
        start = None
    if len(found) < most:
        found += _others(store, chosen, start, most - len(found), include)
    return found


def _others(
    store: Store, chosen: PointFilter, start: str | None, most: int, include: tuple[Include, ...]
) -> list[Record]:
    """Rows whose ids are not whole numbers, in the order of their texts."""
    found: list[Record] = []
    after = None
    if start is not None:
        after = encode_cursor("", start)
        if start not in chosen.without:
            found = store.get([start], where=chosen.where, include=include)
    while len(found) < most:
        page = list(store.scan(chosen.where, include=include, after=after, limit=_PIECE))
        found += [
            row for row in page if row.id not in chosen.without and not isinstance(point_id(row.id), int)
        ]
        if len(page) < _PIECE:
            break
        after = page[-1].cursor
    return found[:most]


def _numbers(store: Store, chosen: PointFilter) -> NDArray[np.uint64]:
    """The ids that are whole numbers, kept until the next commit."""
    key = (store.generation, json.dumps(chosen.where, sort_keys=True, default=str))
    with _lock:
        orders = _kept.setdefault(store, OrderedDict())
        known = orders.get(key)
    if known is None:
        known = store._whole_number_ids(chosen.where, "")
        with _lock:
            for old in [each for each in orders if each[0] < key[0]]:
                del orders[old]
            orders[key] = known
            while len(orders) > _ORDERS:
                orders.popitem(last=False)
    return known


def _place(id: str) -> tuple[bool, int, str]:
    """Sorts ids as Qdrant does."""
    point = point_id(id)
    return (False, point, "") if isinstance(point, int) else (True, 0, id)
