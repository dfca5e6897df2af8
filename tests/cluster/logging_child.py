"""A process that writes to a store with a log until it is killed or replaced, and tells what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import mrlstore
from tests.children import Pipe
from tests.cluster.clusters import DIM
from tests.oracle import nested_vectors

ROWS: Final = 3  # of each write
REPLACED: Final = -1


def log_on(pipe: Pipe, url: Path, path: Path, name: str) -> None:
    """Send the number of each acknowledged write, and in the end REPLACED."""
    number = 0
    try:
        with mrlstore.open(
            path, dim=DIM, durability="shared", ship_to=url, auto_maintain=False, threads=1
        ) as store:
            while True:
                vectors = nested_vectors(ROWS, DIM, seed=number)
                store.upsert(
                    [f"{name}-{number}-{row}" for row in range(ROWS)], vectors, [{"n": number}] * ROWS
                )
                pipe.send(number)
                number += 1
                if number % 4 == 0:
                    store.set_graph("mrlstore")  # ships a snapshot
    except mrlstore.WriterReplaced:
        pass
    pipe.send(REPLACED)
