"""Bodies of child processes that ship."""

from __future__ import annotations

from typing import Any

import mrlstore
from mrlstore.shipping import store_copy


def ship(pipe: Any, path: str, home: str) -> None:
    """Write and ship until killed; tells what has been committed, and which generations are in the copy."""
    store_copy.COLLECT_EVERY = 2  # type: ignore[misc]
    with mrlstore.open(path) as store, store.ship(home, every_s=0) as shipping:
        pipe.send("ships")
        number = max((row.metadata["n"] for row in store.scan(prefix="r") if row.metadata), default=0)
        while True:
            number += 1
            names = [f"r{number}", f"c{number % 7}"]
            written = store.upsert(names, None, [{"n": number}, {"n": number}])
            pipe.send(("committed", written.generation, number))
            if number % 3 == 0:
                pipe.send(("shipped", shipping.now().generation, number))
            if number % 20 == 0:
                store.optimize()
