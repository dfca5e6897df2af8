"""The store's thresholds made small, so that a short workload goes through every mechanism."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mrlstore.catalogue import catalogue
from mrlstore.index import build
from mrlstore.maintenance import policy
from mrlstore.writing import writer

THRESHOLDS = (
    (writer, "BIG_BATCH", 60),
    (build, "MIN_GRAPH_ROWS", 50),
    (policy, "TAIL_ROWS", 40),
    (catalogue, "CHECKPOINT_BYTES", 48 * 1024),
)


@contextmanager
def small_thresholds() -> Iterator[None]:
    """Parts from 60 rows, graphs from 50, a tail of 40, a checkpoint every 48 KiB."""
    before = [getattr(module, name) for module, name, _ in THRESHOLDS]
    for module, name, value in THRESHOLDS:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(THRESHOLDS, before, strict=True):
            setattr(module, name, value)
