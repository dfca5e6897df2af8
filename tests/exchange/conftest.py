"""A store whose rows have all that rows may have, or lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mrlstore
from tests import inside

DIM = 6
Held = dict[tuple[str, str], tuple[Any, Any, bytes | None]]


def fill(store: mrlstore.Store, rows: int = 300) -> None:
    """Rows in two namespaces, odd ids, long and short vectors, and every fourth without one."""
    rng = np.random.default_rng(3)
    for space in ("", "zweite/„ns“"):
        vectors = (rng.standard_normal((rows, DIM)) * rng.uniform(1e-3, 1e3, (rows, 1))).astype(np.float32)
        store.upsert(
            [f'row {n:05}\t"ü"' for n in range(rows)],
            [None if n % 4 == 3 else vectors[n] for n in range(rows)],
            [
                None if n % 5 == 0 else {"n": n, "big": 2**70, "deep": {"a": [1.5, None, "x\n"]}}
                for n in range(rows)
            ],
            [None if n % 3 == 0 else f"Text {n}\n\u2028 \x00 🦒" for n in range(rows)],
            namespace=space,
        )


def held(store: mrlstore.Store) -> Held:
    """What a store holds, vectors as their stored float16 bytes."""
    session = inside.session(store)
    found: Held = {}
    for record in store.scan(namespace=None, include=("metadata", "document")):
        found[record.namespace, record.id] = (record.metadata, record.document, None)
    snapshot = session.snapshots.latest()
    with session.catalogue.read() as connection:
        from mrlstore.catalogue import rows

        for space in store.namespaces():
            ids = [id for there, id in found if there == space]
            stored = [row for row in rows.by_id(connection, space, ids) if not row.without_vector]
            keys = np.array([row.key for row in stored], dtype=np.int64)
            for position, part, row in snapshot.locate(keys):
                place = space, stored[position].id
                found[place] = (*found[place][:2], part.stored(row)[0])
    return found


@pytest.fixture
def full(opened: Callable[..., Any], tmp_path: Any) -> mrlstore.Store:
    store: mrlstore.Store = opened(tmp_path / "full.mrl")
    fill(store)
    return store
