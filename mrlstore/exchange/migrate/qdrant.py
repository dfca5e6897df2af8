"""Qdrant: a server, or the folder of its client's local mode."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import InputRow
from mrlstore.exchange.migrate.origin import (
    COSINE,
    Choice,
    Collection,
    RowPage,
    copyable,
    folder_of,
    needed,
    split_document,
)

_LIMIT: Final = 1_000


class QdrantOrigin:
    """Points are rows: ids, ints and UUIDs, as strings; the payload as metadata."""

    name = "Qdrant"

    def __init__(self, place: str, choice: Choice) -> None:
        """Open a URL, with the key in QDRANT_API_KEY if there is one, or a folder of the local mode."""
        client = needed("qdrant_client", "qdrant-client")
        if place.startswith(("http://", "https://")):
            self._client = client.QdrantClient(url=place, api_key=os.environ.get("QDRANT_API_KEY"))
        else:
            folder = folder_of(place, "meta.json", "Qdrant local store")
            try:
                self._client = client.QdrantClient(path=str(folder))
            except RuntimeError as error:  # another process has it open
                raise InvalidInput(f"{place}: {error}") from error
        self._choice = choice
        self.skipped: list[str] = []

    def collections(self) -> list[Collection]:
        """The chosen collections, with the chosen vector or the only one."""
        there = [each.name for each in self._client.get_collections().collections]
        return copyable(there, self._choice, "collection", self._described, self.skipped)

    def _described(self, name: str) -> Collection:
        params = self._client.get_collection(name).config.params
        remarks: tuple[str, ...] = ("sparse vectors are not copied",) if params.sparse_vectors else ()
        named, vectors = self._choice.vector, params.vectors or {}
        if isinstance(vectors, dict):
            names = list(vectors)
            if (named is None and len(names) != 1) or (named is not None and named not in names):
                raise InvalidInput(f"{name!r}: choose one vector of {', '.join(map(repr, names)) or 'none'}")
            using = named or names[0]
            remarks += (f"of the vectors only {using!r} is copied",) if len(names) > 1 else ()
            vectors = vectors[using]
        elif named is not None:
            raise InvalidInput(f"{name!r}: has one vector without a name, none called {named!r}")
        if vectors.multivector_config is not None:
            raise InvalidInput(f"{name!r}: has several vectors in each point, and a store holds one")
        rows = self._client.count(name, exact=True).count
        metric = str(vectors.distance.value).lower()
        return Collection(name, rows, vectors.size, COSINE if metric == "cosine" else metric, remarks=remarks)

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Points in the order of their ids; `after` is the next id."""
        while True:
            points, after = self._client.scroll(
                collection.name, limit=_LIMIT, offset=after, with_payload=True, with_vectors=True
            )
            after = after if isinstance(after, int | str | None) else str(after)
            yield RowPage([self._row(collection, point) for point in points], after)
            if after is None:
                return

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """Qdrant's answer."""
        using = self._using(collection)
        found = self._client.query_points(collection.name, query=vector.tolist(), limit=k, using=using)
        return [str(point.id) for point in found.points]

    def close(self) -> None:
        """Close the client, which unlocks a local store."""
        self._client.close()

    def _using(self, collection: Collection) -> str | None:
        vectors = self._client.get_collection(collection.name).config.params.vectors
        return (self._choice.vector or next(iter(vectors))) if isinstance(vectors, dict) else None

    def _row(self, collection: Collection, point: Any) -> InputRow:
        vector = point.vector
        if isinstance(vector, dict):
            vector = vector.get(self._choice.vector) if self._choice.vector else _dense(vector)
        split = split_document(point.payload, self._choice)
        return InputRow(
            f"{collection.name}:{point.id}",
            str(point.id),
            None if vector is None else np.asarray(vector, np.float32),
            split.metadata,
            split.document,
        )


def _dense(vectors: dict[str, Any]) -> Any:
    return next((vector for vector in vectors.values() if isinstance(vector, list)), None)
