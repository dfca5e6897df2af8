"""Plain files: JSONL, Parquet, Arrow, and .npy with ids beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import FieldNames, InputRow, Refusal
from mrlstore.exchange.migrate.origin import Choice, Collection, RowPage, each_id
from mrlstore.exchange.npy import open_vectors
from mrlstore.exchange.row_source import RowSource, format_of, open_rows

_LIMIT: Final = 1_000  # rows of a page


class FileOrigin:
    """The rows of a file, as `import_rows` reads them; fields that are not part of a row become metadata."""

    name = "file"

    def __init__(self, place: str, choice: Choice) -> None:
        """Find out what kind of file it is."""
        self.skipped: list[str] = []
        self._path, self._choice = Path(place), choice
        if not self._path.is_file():
            raise InvalidInput(f"{place}: no such file")
        self._vectors = open_vectors(self._path) if self._path.suffix == ".npy" else None
        if self._vectors is None:
            format_of(self._path, None)
        names = {"id": choice.id, "vector": choice.vector, "document": choice.document}
        chosen = {part: name for part, name in names.items() if name}
        self._fields = FieldNames(chosen, "metadata", frozenset(choice.omit), id_as_text=True)

    def collections(self) -> list[Collection]:
        """The file."""
        with ExitStack() as opened:
            source = self._open(opened)
            first = next((row for row in itertools.islice(source.rows, 100) if _has_vector(row)), None)
        dim = len(first.vector) if isinstance(first, InputRow) and first.vector is not None else None
        return [Collection(self._path.name, source.total, dim)]

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Rows in their order; `after` is how many to pass over, which are read again."""
        start = after or 0
        with ExitStack() as opened:
            rows = itertools.islice(self._open(opened).rows, start, None)
            while page := list(itertools.islice(rows, _LIMIT)):
                start += len(page)
                yield RowPage([_without_namespace(row) for row in page], start)

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """None: a file answers no queries."""
        return None

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _open(self, opened: ExitStack) -> RowSource:
        if self._vectors is None:
            return open_rows(self._path, None, None, self._fields, opened)
        ids = self._choice.ids
        names = map(str, itertools.count()) if ids is None else each_id(ids)
        return RowSource(self._of_array(self._vectors, names), len(self._vectors))

    def _of_array(self, vectors: NDArray[Any], names: Iterator[str]) -> Iterator[InputRow]:
        for number, vector in enumerate(vectors):
            name = next(names, None)
            if name is None:
                raise InvalidInput(f"{self._choice.ids}: {number:,} ids for {len(vectors):,} vectors")
            yield InputRow(f"{self._path.name}:{number}", name, np.array(vector), None, None)


def _without_namespace(row: InputRow | Refusal) -> InputRow | Refusal:
    if isinstance(row, InputRow) and row.namespace:
        return Refusal(row.place, "names a namespace; `mrlstore import` puts such rows there")
    return row


def _has_vector(row: InputRow | Refusal) -> bool:
    return isinstance(row, InputRow) and row.vector is not None
