"""hnswlib: an index file, and a file of ids beside it.

The rows are read here, without hnswlib. Only where hnswlib is installed its answers are compared, and these
are given by a process of its own: hnswlib ends the process that loads a file with wrong links.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import InputRow
from mrlstore.exchange.migrate.hnswlib_process import HnswlibProcess
from mrlstore.exchange.migrate.origin import COSINE, Choice, Collection, RowPage, each_id
from mrlstore.index.hnsw_file import open_hnsw_file

_LIMIT: Final = 1_000  # rows of a page


class HnswlibOrigin:
    """Vectors and nothing else; ids come from a file whose line i, counted from 0, is that of label i."""

    name = "hnswlib"

    def __init__(self, place: str, choice: Choice) -> None:
        """Map the file and check it."""
        if not Path(place).is_file():
            raise InvalidInput(f"{place}: no such file")
        self.skipped: list[str] = []
        self._file = open_hnsw_file(Path(place))
        self._labels = self._file.records["label"]
        self._deleted = self._file.deleted
        self._names = None if choice.ids is None else self._named(choice.ids)
        self._process: HnswlibProcess | None = None

    def collections(self) -> list[Collection]:
        """The one there is."""
        first = self._file.records["vector"][:_LIMIT]
        unit = len(first) > 0 and np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-3)
        metric = COSINE if unit else "inner product or Euclidean distance"
        count = int(np.count_nonzero(self._deleted))
        remarks = (f"{count:,} rows that are marked as deleted are left out",) if count else ()
        rows = len(self._labels) - count
        return [Collection(self._file.path.name, rows, self._file.dim, metric, remarks=remarks)]

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Vectors in the order of the file; `after` is how many to pass over."""
        for start in range(after or 0, len(self._labels), _LIMIT):
            vectors = np.array(self._file.records["vector"][start : start + _LIMIT])
            rows = [
                InputRow(f"{collection.name}:{row}", self._id_of(int(self._labels[row])), vector, None, None)
                for row, vector in enumerate(vectors, start)
                if not self._deleted[row]
            ]
            yield RowPage([*rows], start + len(vectors))

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """Hnswlib's answer, if it is installed; asked for unit vectors only, see `collections`."""
        count = min(k, collection.rows or 0)
        if not count or importlib.util.find_spec("hnswlib") is None:
            return None
        if self._process is None:
            self._process = HnswlibProcess(self._file)
        unit = vector / np.linalg.norm(vector)
        return [self._id_of(label) for label in self._process.search(unit, count)]

    def close(self) -> None:
        """End the process that answers."""
        if self._process is not None:
            self._process.close()

    def _id_of(self, label: int) -> str:
        return str(label) if self._names is None else self._names[label]

    def _named(self, file: Path) -> list[str]:
        """The ids by label; InvalidInput if there are too few, or too many for labels without gaps."""
        names, last = list(each_id(file)), int(self._labels.max(initial=0))
        rows = len(self._labels)
        if rows and (len(names) <= last or (last == rows - 1 and len(names) > rows)):
            raise InvalidInput(f"{file}: {len(names):,} ids for labels up to {last:,}")
        return names
