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

_LIMIT: Final = 1_000  # rows of a page
_METRICS: Final = {0: "inner product", 1: "Euclidean distance"}


class FaissOrigin:
    """Vectors and nothing else; ids come from a text file (one a line), else from the index.

    FAISS reads the whole index into memory. Vectors that it keeps compressed come out as it rebuilds them.
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
        self.skipped: list[str] = []
        self._path = Path(place)
        inner, numbers = self._index, None
        if isinstance(self._index, faiss.IndexIDMap | faiss.IndexIDMap2):
            numbers = faiss.vector_to_array(self._index.id_map)
            inner = faiss.downcast_index(self._index.index)
        self._vectors = inner
        self._exact = isinstance(inner, faiss.IndexFlat)
        self._labels = self._labels_of(inner)
        if numbers is None:
            numbers = self._labels
        elif (self._labels != np.arange(len(numbers))).any():
            raise InvalidInput(f"{place}: an IndexIDMap over an index that has lost its count of vectors")
        self._ids = self._named(choice.ids, numbers)
        self._id_of = dict(zip(self._labels.tolist(), self._ids, strict=True))

    def _labels_of(self, index: Any) -> NDArray[np.int64]:
        """The index's own number of each vector, ascending: 0, 1, 2 ..., but IVF keeps what it was given."""
        faiss = needed("faiss", "faiss-cpu")
        ivf = faiss.try_extract_index_ivf(index)
        if ivf is None:
            return np.arange(index.ntotal, dtype=np.int64)
        lists = ivf.invlists
        found = [
            faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
            for number in range(ivf.nlist)
            if lists.list_size(number)
        ]
        labels = np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)
        ivf.set_direct_map_type(faiss.DirectMap.Hashtable)  # numbers with gaps, or beyond the count
        return labels

    def collections(self) -> list[Collection]:
        """The one there is."""
        first = self._rebuilt(self._labels[:_LIMIT])
        unit = len(first) > 0 and np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-3)
        metric = COSINE if unit else _METRICS.get(self._index.metric_type, "another metric")
        remarks = () if self._exact else ("vectors come as the index rebuilds them, perhaps compressed",)
        return [Collection(self._path.name, len(self._labels), self._index.d, metric, remarks=remarks)]

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Vectors in the order of their numbers; `after` is how many to pass over."""
        for start in range(after or 0, len(self._labels), _LIMIT):
            vectors = self._rebuilt(self._labels[start : start + _LIMIT])
            ids = self._ids[start : start + len(vectors)]
            rows = [
                InputRow(f"{collection.name}:{start + number}", id, vector, None, None)
                for number, (id, vector) in enumerate(zip(ids, vectors, strict=True))
            ]
            yield RowPage([*rows], start + len(rows))

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """FAISS's answer; asked for unit vectors only, see `collections`."""
        unit = vector / np.linalg.norm(vector)
        _, found = self._vectors.search(unit[None], min(k, len(self._labels)))
        return [self._id_of[label] for label in found[0].tolist() if label in self._id_of]

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _rebuilt(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors = np.empty((len(labels), self._index.d), np.float32)
        try:
            for row, label in enumerate(labels.tolist()):
                vectors[row] = self._vectors.reconstruct(label)
        except RuntimeError as error:
            raise InvalidInput(f"{self._path}: this kind of index does not give its vectors back") from error
        return vectors

    def _named(self, file: Path | None, numbers: NDArray[np.int64]) -> list[str]:
        if file is None:
            return [str(number) for number in numbers.tolist()]
        names = list(each_id(file))
        if len(names) != len(numbers):
            raise InvalidInput(f"{file}: {len(names):,} ids for {len(numbers):,} vectors")
        return names
