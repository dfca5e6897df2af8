"""LanceDB: tables of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.arrow import pyarrow
from mrlstore.exchange.input_row import FieldNames
from mrlstore.exchange.migrate.origin import COSINE, Choice, Collection, RowPage, copyable, needed
from mrlstore.exchange.table_rows import read_batches

_LIMIT: Final = 1_000


class LanceOrigin:
    """A column has the ids, one the vectors, perhaps one the documents; the others become metadata."""

    name = "LanceDB"

    def __init__(self, place: str, choice: Choice) -> None:
        """Open the folder."""
        lancedb = needed("lancedb", "lancedb")
        if not Path(place).is_dir():
            raise InvalidInput(f"{place}: no such folder")
        self._database = lancedb.connect(place)
        self._choice = choice
        self.skipped: list[str] = []
        self._tables: dict[str, Any] = {}

    def collections(self) -> list[Collection]:
        """The chosen tables, each at its version of this moment."""
        return copyable(self._names(), self._choice, "table", self._described, self.skipped)

    def _names(self) -> list[str]:
        names: list[str] = []
        token = None
        while True:
            listed = self._database.list_tables(page_token=token)
            names += listed.tables
            token = listed.page_token
            if not token:
                return names

    def _described(self, name: str) -> Collection:
        table = self._tables[name] = self._database.open_table(name)
        types, vector = pyarrow().types, self._vector(name, table)
        for column in (self._choice.id or "id", self._choice.document):
            if column is not None and column not in table.schema.names:
                raise InvalidInput(f"{name!r}: no column {column!r}; it has {', '.join(table.schema.names)}")
        kind = table.schema.field(vector).type
        dim = kind.list_size if types.is_fixed_size_list(kind) else None
        metric = _metric(table, vector)
        remarks = () if metric else ("no index says by which metric it is searched",)
        return Collection(name, table.count_rows(), dim, metric, remarks=remarks)

    def _vector(self, name: str, table: Any) -> str:
        """The column of vectors: the chosen one, or the only one."""
        types = pyarrow().types
        fixed = [field.name for field in table.schema if types.is_fixed_size_list(field.type)]
        column = self._choice.vector or ("vector" if "vector" in table.schema.names else None)
        if column is None and len(fixed) == 1:
            return str(fixed[0])
        if column is None or column not in table.schema.names:
            raise InvalidInput(f"{name!r}: choose the column of vectors; of fixed size are {fixed or 'none'}")
        return column

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Rows in the order in which the table keeps them; `after` is how many to pass over."""
        table, start = self._tables[collection.name], after or 0
        names = {"id": self._choice.id or "id", "vector": self._vector(collection.name, table)}
        if self._choice.document:
            names["document"] = self._choice.document
        fields, pa = FieldNames(names, "metadata", frozenset(self._choice.omit)), pyarrow()
        for batch in table.search().offset(start).to_batches(_LIMIT):
            position = batch.schema.get_field_index(names["id"])
            texts = batch.column(position).cast(pa.string())  # ints become strings
            batch = batch.set_column(position, names["id"], texts)
            first = start + 1
            rows = list(read_batches([batch], batch.schema, collection.name, fields, first=first))
            start += len(rows)
            yield RowPage(rows, start)

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """LanceDB's answer by cosine."""
        table, id = self._tables[collection.name], self._choice.id or "id"
        column = self._vector(collection.name, table)
        found = table.search(vector, vector_column_name=column).distance_type("cosine").limit(k)
        return [str(row[id]) for row in found.select([id]).to_arrow().to_pylist()]

    def close(self) -> None:
        """Do nothing: tables have no connection to close."""


def _metric(table: Any, vector: str) -> str | None:
    """The metric of the index over the vectors; None without one."""
    for index in table.list_indices():
        if vector in index.columns:
            stats = table.index_stats(index.name)
            name = str(getattr(stats, "distance_type", None) or "").lower()
            if name:
                return COSINE if name == "cosine" else name
    return None
