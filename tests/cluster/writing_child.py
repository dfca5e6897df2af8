"""A process that writes to a cluster until it is killed or replaced, and tells what was acknowledged."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import mrlstore
from mrlstore import cluster
from tests.children import Pipe
from tests.cluster.clusters import DIM
from tests.oracle import nested_vectors

ROWS: Final = 3  # of each write
SNAPSHOT_EVERY: Final = 3  # writes
REPLACED: Final = -1


def ids_of(name: str, number: int) -> list[str]:
    """The ids of the rows of a write."""
    return [f"{name}-{number}-{row}" for row in range(ROWS)]


def write_on(pipe: Pipe, home: Path, folder: Path, name: str) -> None:
    """Send the number of each acknowledged write, and in the end REPLACED."""
    number = 0
    try:
        with cluster.connect(home, folder=folder, auto_maintain=False, threads=1) as store:
            while True:
                if number % SNAPSHOT_EVERY == 1:
                    store.snapshot()
                vectors = nested_vectors(ROWS, DIM, seed=number)
                store.upsert(ids_of(name, number), vectors, [{"number": number}] * ROWS)
                pipe.send(number)
                number += 1
    except mrlstore.PartialWrite as error:
        if not any(isinstance(one, mrlstore.WriterReplaced) for one in error.errors.values()):
            raise
    except mrlstore.WriterReplaced:
        pass
    pipe.send(REPLACED)
