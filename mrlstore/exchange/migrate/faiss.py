"""FAISS: an index file, and a file of ids beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import InputRow
from mrlstore.exchange.migrate.origin import COSINE, Choice, Collection, RowPage, each_id, needed

_LIMIT: Final = 1_000
_METRICS: Final = {0: "inner product", 1: "Euclidean distance"}


class FaissOrigin:
    """Vectors without anything else; ids come from a text file (one a line), else from the index.

    The whole index is in memory, as FAISS wants it. Vectors that it keeps compressed come out as it
    rebuilds them.
    """

    name = "FAISS"

    def __init__(self, place: str, choice: Choice) -> None:
        """Read the index."""
        faiss = needed("faiss", "faiss-cpu")
        if not Path(place).is_file():
            raise InvalidInput(f"{place}: no such file")
        try:
            self._index = faiss.read_index(place)
        except RuntimeError as error:
            raise InvalidInput(f"{place}: no FAISS index that can be read: {error}") from error
        self._path = Path(place)
        inner, numbers = self._index, None
        if isinstance(self._index, faiss.IndexIDMap | faiss.IndexIDMap2):
            numbers = faiss.vector_to_array(self._index.id_map)
            inner = faiss.downcast_index(self._index.index)
        ivf = faiss.try_extract_index_ivf(inner)
        if ivf is not None:
            ivf.make_direct_map()
        self._vectors = inner
        self._exact = isinstance(inner, faiss.IndexFlat)
        self._ids = self._named(choice.ids, numbers)

    def collections(self) -> list[Collection]:
        """The one there is."""
        first = self._rebuilt(0, min(self._index.ntotal, 1000))
        unit = len(first) > 0 and np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-3)
        metric = COSINE if unit else _METRICS.get(self._index.metric_type, "another metric")
        remarks = () if self._exact else ("vectors come as the index rebuilds them, perhaps compressed",)
        return [Collection(self._path.name, self._index.ntotal, self._index.d, metric, remarks=remarks)]

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Vectors in their order; `after` is how many came before."""
        for start in range(after or 0, self._index.ntotal, _LIMIT):
            vectors = self._rebuilt(start, min(_LIMIT, self._index.ntotal - start))
            ids = self._ids[start : start + len(vectors)]
            rows = [
                InputRow(f"{collection.name}:{start + number}", id, vector, None, None)
                for number, (id, vector) in enumerate(zip(ids, vectors, strict=True))
            ]
            yield RowPage([*rows], start + len(rows))

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """FAISS's answer; only for unit vectors, see `collections`."""
        unit = vector / np.linalg.norm(vector)
        _, found = self._vectors.search(unit[None], min(k, self._index.ntotal))
        return [self._ids[place] for place in found[0].tolist() if place >= 0]

    def close(self) -> None:
        """Nothing is held open."""

    def _rebuilt(self, start: int, count: int) -> NDArray[np.float32]:
        try:
            vectors: NDArray[np.float32] = self._vectors.reconstruct_n(start, count)
        except RuntimeError as error:
            raise InvalidInput(f"{self._path}: this kind of index does not give its vectors back") from error
        return vectors

    def _named(self, file: Path | None, numbers: Any) -> list[str]:
        total = self._index.ntotal
        if file is None:
            return [str(number) for number in (range(total) if numbers is None else numbers.tolist())]
        names = list(each_id(file))
        if len(names) != total:
            raise InvalidInput(f"{file}: {len(names):,} ids for {total:,} vectors")
        return names
