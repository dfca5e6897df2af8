"""Chroma: the folder of a persistent client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.exchange.input_row import InputRow
from mrlstore.exchange.migrate.origin import COSINE, Choice, Collection, RowPage, chosen, folder_of, needed

_LIMIT: Final = 1_000
_METRICS: Final = {"cosine": COSINE, "l2": "squared Euclidean distance", "ip": "inner product"}


class ChromaOrigin:
    """Ids, metadata and documents are the same in both. URIs go into the metadata under "uri"."""

    name = "Chroma"

    def __init__(self, place: str, choice: Choice) -> None:
        """Open the folder; reading changes nothing in it."""
        chromadb = needed("chromadb", "chromadb")
        folder = folder_of(place, "chroma.sqlite3", "Chroma folder")
        settings = chromadb.config.Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(path=str(folder), settings=settings)
        self._choice = choice
        self.skipped: list[str] = []

    def collections(self) -> list[Collection]:
        """The chosen collections."""
        there = [each.name for each in self._client.list_collections()]
        return [self._described(name) for name in chosen(there, self._choice, "collection")]

    def _described(self, name: str) -> Collection:
        found = self._open(name)
        settings = found.configuration_json
        space = (settings.get("hnsw") or settings.get("spann") or {}).get("space", "l2")
        first = found.get(limit=1, include=["embeddings"])["embeddings"]
        dim = len(first[0]) if first is not None and len(first) else None
        return Collection(name, found.count(), dim, _METRICS.get(space, space))

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Rows in the order in which Chroma keeps them; `after` is how many rows to pass over."""
        found, start = self._open(collection.name), after or 0
        while True:
            include = ["embeddings", "metadatas", "documents", "uris"]
            page = found.get(limit=_LIMIT, offset=start, include=include)
            start += len(page["ids"])
            if page["ids"]:
                rows = [self._row(collection, page, number) for number in range(len(page["ids"]))]
                yield RowPage([*rows], start)
            if len(page["ids"]) < _LIMIT:
                return

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """Chroma's own, approximate answer."""
        found = self._open(collection.name)
        answer = found.query(query_embeddings=vector[None], n_results=min(k, found.count()), include=[])
        return list(answer["ids"][0])

    def close(self) -> None:
        """Stop the client."""
        self._client.close()

    def _open(self, name: str) -> Any:
        return self._client.get_collection(name, embedding_function=None)

    def _row(self, collection: Collection, page: Any, number: int) -> InputRow:
        metadata = dict(page["metadatas"][number] or {})
        uri = page["uris"][number] if page["uris"] else None
        if uri is not None:
            metadata.setdefault("uri", uri)
        kept = {name: value for name, value in metadata.items() if name not in self._choice.omit}
        return InputRow(
            f"{collection.name}:{page['ids'][number]}",
            page["ids"][number],
            np.asarray(page["embeddings"][number], np.float32),
            kept or None,
            page["documents"][number],
        )
