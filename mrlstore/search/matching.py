"""The rows that match a filter, with a vector or without: where they lie, and their keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue import rows
from mrlstore.catalogue.connection import Connection
from mrlstore.catalogue.rows import metadata_of
from mrlstore.search.hydrate import metadata_of_keys
from mrlstore.storage.segment import Segment
from mrlstore.storage.snapshot import Snapshot
from mrlstore.storage.tail import Tail
from mrlstore.types import Namespaces
from mrlstore.where import Node


class MatchingRows(NamedTuple):
    """Rows of one segment, of the tail, or those that only the catalogue has."""

    holder: Segment | Tail | None  # None: rows of the catalogue
    rows: NDArray[np.int64]  # [n], ascending, of the holder; empty without one
    keys: NDArray[np.int64]  # [n]


def matching_rows(
    connection: Connection, snapshot: Snapshot, namespace: Namespaces, node: Node | None
) -> Iterator[MatchingRows]:
    """All rows of these namespaces that match (node None: all rows).

    `connection` is inside a transaction of the snapshot's generation.
    """

    def fetch(keys: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        return metadata_of_keys(connection, keys, snapshot.generation)

    if any(part.segment.row.base.damaged for part in snapshot.segments):  # its keys and names may be wrong
        yield _of_catalogue(connection, namespace, node, without_vector_only=False)
        return
    for part in snapshot.segments:
        segment = part.segment
        for start, stop in _bounds(segment, namespace):
            chosen = np.ones(stop - start, np.bool_) if part.live is None else part.live[start:stop]
            if node is not None:
                chosen = chosen & segment.mask(node, start, stop, fetch, snapshot.generation)
            found = start + np.flatnonzero(chosen)
            yield MatchingRows(segment, found, segment.keys[found])
    if snapshot.tail is not None:
        found = np.flatnonzero(snapshot.tail.mask(namespace, node))
        yield MatchingRows(snapshot.tail, found, snapshot.tail.keys[found])
    yield _of_catalogue(connection, namespace, node, without_vector_only=True)


def matching_keys(
    connection: Connection, snapshot: Snapshot, namespace: Namespaces, node: Node | None
) -> NDArray[np.int64]:
    """The keys of the same rows, in no order; int64 [n]."""
    found = [some.keys for some in matching_rows(connection, snapshot, namespace, node)]
    return np.concatenate(found)


def _of_catalogue(
    connection: Connection, namespace: Namespaces, node: Node | None, *, without_vector_only: bool
) -> MatchingRows:
    """Rows by the catalogue alone, all or those without a vector: slow, and right whatever is damaged."""
    names = namespace if isinstance(namespace, tuple) else (namespace,)
    places = (rows.in_order(connection, name, without_vector_only=without_vector_only) for name in names)
    keys = [key for of_namespace in places for key, _, _ in of_namespace]
    if node is not None:
        held = rows.by_key(connection, keys)
        keys = [row.key for row in held if node.matches(metadata_of(row.metadata))]
    return MatchingRows(None, np.empty(0, np.int64), np.array(keys, dtype=np.int64))


def _bounds(segment: Segment, namespace: Namespaces) -> list[tuple[int, int]]:
    """Where each namespace's rows begin and end. Those that are given are looked up."""
    if namespace is None:
        return [(run.start, run.stop) for run in segment.runs()]
    spans = [segment.run(name) for name in segment.names_among(namespace)]
    return [(span.start, span.stop) for span in spans if span is not None]
