"""Pinecone: an index of the service, through its SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import InputRow
from mrlstore.exchange.migrate.origin import (
    COSINE,
    Choice,
    Collection,
    RowPage,
    chosen,
    needed,
    split_document,
)

_LIMIT: Final = 100  # ids of a page

# All ids of a fetch stand in its URL. Servers commonly take 8 KB of it; an id may have 512 characters.
_URL_BYTES: Final = 6_000
_TOO_LONG: Final = (413, 414, 431)  # HTTP: content, URI, or header too large


class PineconeOrigin:
    """Each namespace is a collection; the one without a name is called "__default__" there and here."""

    name = "Pinecone"

    def __init__(self, place: str, choice: Choice) -> None:
        """Connect to an index by its name, or by its host; the key is in PINECONE_API_KEY."""
        sdk = needed("pinecone", "pinecone")
        key = os.environ.get("PINECONE_API_KEY")
        if not key:
            raise InvalidInput("PINECONE_API_KEY is not set")
        client = sdk.Pinecone(api_key=key)
        by_host = "." in place or ":" in place
        self.skipped: list[str] = []
        self._index = client.Index(host=place) if by_host else client.Index(place)
        self._choice = choice

    def collections(self) -> list[Collection]:
        """The chosen namespaces."""
        stats = self._index.describe_index_stats()
        if stats.vector_type not in (None, "dense"):
            raise InvalidInput(f"an index of {stats.vector_type} vectors, which a store cannot hold")
        counts = {name or "__default__": each.vector_count for name, each in stats.namespaces.items()}
        metric = stats.metric or COSINE
        return [
            Collection(name, counts[name], stats.dimension, COSINE if metric == "cosine" else metric)
            for name in chosen(sorted(counts), self._choice, "namespace")
        ]

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Vectors in the order of listing; `after` is the service's token. Pods can't list, and say so."""
        while True:
            listed = self._index.list_paginated(
                namespace=collection.name, limit=_LIMIT, pagination_token=after
            )
            ids = [item.id for item in listed.vectors]
            found: dict[str, Any] = {}
            for some in _by_length(ids):
                found.update(self._fetch(some, collection.name))
            after = listed.pagination.next if listed.pagination else None
            yield RowPage([self._row(collection, found[id]) for id in ids if id in found], after)
            if not after:
                return

    def _fetch(self, ids: list[str], namespace: str) -> dict[str, Any]:
        """The vectors of these ids; asked for in halves if the service finds the URL too long."""
        try:
            return dict(self._index.fetch(ids=ids, namespace=namespace).vectors)
        except Exception as error:
            status = getattr(error, "status_code", None) or getattr(error, "status", None)
            if status not in _TOO_LONG or len(ids) < 2:
                raise
        middle = len(ids) // 2
        return self._fetch(ids[:middle], namespace) | self._fetch(ids[middle:], namespace)

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """Pinecone's own, approximate answer."""
        answer = self._index.query(vector=vector.tolist(), top_k=k, namespace=collection.name)
        return [match.id for match in answer.matches]

    def close(self) -> None:
        """Close the connections."""
        self._index.close()

    def _row(self, collection: Collection, vector: Any) -> InputRow:
        split = split_document(vector.metadata, self._choice)
        values = np.asarray(vector.values, np.float32) if len(vector.values) else None
        place = f"{collection.name}:{vector.id}"
        return InputRow(place, vector.id, values, split.metadata, split.document)


def _by_length(ids: list[str]) -> Iterator[list[str]]:
    """The ids in pieces that fit into a URL."""
    piece: list[str] = []
    length = 0
    for id in ids:
        added = len(quote(id, safe="")) + len("&ids=")
        if piece and length + added > _URL_BYTES:
            yield piece
            piece, length = [], 0
        piece.append(id)
        length += added
    if piece:
        yield piece
