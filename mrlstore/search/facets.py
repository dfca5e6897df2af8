"""Facets: in how many rows each value of a metadata field stands.

Columns are counted by codes. Rows that they do not decide, rows of the tail and rows without a vector are
counted by their metadata.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.connection import Connection
from mrlstore.search.hydrate import metadata_of_keys
from mrlstore.search.matching import MatchingRows, matching_rows
from mrlstore.storage.segment import Segment
from mrlstore.storage.session import Session, View
from mrlstore.storage.tail import Tail
from mrlstore.types import Facet
from mrlstore.where import Node, Scalar, order_key, scalars_of

_PAGE: Final = 4_096  # rows whose metadata is read at a time


def facets(
    session: Session, field: str, namespace: str | None, node: Node | None, limit: int | None
) -> list[Facet]:
    """The values of the field in the rows that match, the most frequent ones first."""

    def run(view: View) -> list[Facet]:
        count = _ValueCounts(field)
        with view.connection() as connection:
            for some in matching_rows(connection, view.snapshot, namespace, node):
                count.add(connection, view.snapshot.generation, some)
        return count.facets()

    return session.consistently(run)[:limit]


class _ValueCounts:
    """How often each value of a field has been seen; values that filters take for equal are one."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.counts: defaultdict[tuple[int, Any], int] = defaultdict(int)
        self.values: dict[tuple[int, Any], Scalar] = {}

    def add(self, connection: Connection, generation: int, some: MatchingRows) -> None:
        """Count rows of one holder."""
        if isinstance(some.holder, Tail):
            self._read(map(some.holder.buffer.parsed_metadata, some.rows.tolist()))
        elif isinstance(some.holder, Segment):
            counted = some.holder.tally(self.field, some.rows)
            for value, rows in counted.counts:
                self._seen(value, rows)
            self._fetch(connection, generation, some.holder.keys[counted.undecided])
        else:
            self._fetch(connection, generation, some.keys)

    def facets(self) -> list[Facet]:
        """All values, the most frequent first; of equally frequent ones the smaller."""
        found = [Facet(self.values[key], rows) for key, rows in self.counts.items()]
        return sorted(found, key=lambda facet: (-facet.count, order_key(facet.value)))

    def _fetch(self, connection: Connection, generation: int, keys: NDArray[np.int64]) -> None:
        for start in range(0, len(keys), _PAGE):
            self._read(metadata_of_keys(connection, keys[start : start + _PAGE], generation))

    def _read(self, metadata: Iterable[Mapping[str, Any] | None]) -> None:
        for one in metadata:
            for value in scalars_of(one, self.field):
                self._seen(value, 1)

    def _seen(self, value: Scalar, rows: int) -> None:
        key = order_key(value)
        self.counts[key] += rows
        self.values.setdefault(key, value)
