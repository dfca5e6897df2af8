"""`TextModels`: the embedders of indexes that take texts: Gemini where there is a key, else a local model.

A local model is fitted on the index's own texts once there are enough of them, and kept beside the store,
where `mrlstore query` finds it too. Until then rows have no vectors, and are searched by their words.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.embedders.local import FINGERPRINT, LocalEmbedder
from mrlstore.embedders.protocol import Embedder
from mrlstore.embedders.split import split_text
from mrlstore.errors import EmbedError, InvalidInput
from mrlstore.server.indexes import IndexRoot, ServedIndex
from mrlstore.server.refusals import invalid
from mrlstore.server.served_cluster import cluster_of
from mrlstore.system.bounded_cache import BoundedCache

Kind = Literal["gemini", "local"]

FEW_TEXTS: Final = 300  # a local model that was fitted on fewer hardly knows which words belong together
_MOST_TEXTS: Final = 4_000  # that a model is fitted on; the time grows with their cube, to half a minute here
_PASSAGE_TOKENS: Final = 512
LOCAL_DIM: Final = 1_024
_GEMINI: Final = "gemini-embedding-2"
_GEMINI_DIM: Final = 3_072
_BLOCK: Final = 500  # rows that are given vectors at a time
_LOG: Final = logging.getLogger("mrlstore.server")


def kind_of_new() -> Kind:
    """What embeds the texts of a new index: Gemini where the environment has its key, else a local model.

    Raises:
        HttpRefusal: 400, neither can be had.
    """
    if os.environ.get("GEMINI_API_KEY") or os.environ.get("GOOGLE_API_KEY"):
        if find_spec("google") is None or find_spec("google.genai") is None:
            raise invalid("texts: there is a key for Gemini, and the server lacks mrlstore[gemini]")
        return "gemini"
    if find_spec("sklearn") is None:
        raise invalid(
            "texts: the server has no embedder: set GEMINI_API_KEY there, or install mrlstore[local]"
        )
    return "local"


def dim_of_new(kind: Kind, wanted: int | None) -> int | None:
    """The dimension of a new index's store; a local model decides when it is fitted."""
    if kind == "local":
        return None
    if wanted is not None and not 2 <= wanted <= _GEMINI_DIM:
        raise invalid(f"dimension: expected 2 to {_GEMINI_DIM:,}, got {wanted}")
    return wanted or _GEMINI_DIM


class TextModels:
    """The embedders of the indexes of a server."""

    def __init__(self, root: IndexRoot) -> None:
        self._root = root
        self._known: BoundedCache[tuple[str, tuple[int, ...]], Embedder] = BoundedCache(64)

    def embedder(self, index: ServedIndex, kind: Kind | None) -> Embedder | None:
        """The embedder of an index; None where its local model has not been fitted yet.

        Args:
            index: the index.
            kind: what it was created with; None takes what has filled its store.

        Raises:
            HttpRefusal: 400, nothing that embeds texts belongs to the index.
        """
        known = self._known.get((index.name, index.stamp))
        if known is not None:
            return known
        recorded = index.store.embedder_fingerprint
        if isinstance(recorded, dict) and recorded.get("embedder") == "gemini":
            made: Embedder | None = gemini_of(recorded)
        elif (isinstance(recorded, str) and recorded.startswith(FINGERPRINT)) or kind == "local":
            path = _model_file(index)
            made = LocalEmbedder.load(path) if path.exists() else None
        elif kind == "gemini":
            made = gemini_of({"model": _GEMINI, "dim": index.store.dim})
        else:
            raise invalid(
                "texts: the index has no model that embeds them; send vectors, or create an index for a model"
            )
        if made is not None:
            self._settle(index, made)
            self._known.put((index.name, index.stamp), made)
        return made

    def vectors(
        self, index: ServedIndex, kind: Kind | None, texts: Sequence[str]
    ) -> list[NDArray[np.float32] | None]:
        """A vector for each text; None for those that a local model cannot embed, or where there is no model.

        Raises:
            EmbedError: the service failed.
        """
        embedder = self.embedder(index, kind)
        if embedder is None:
            embedder = self._fit(index, texts)
        return [None] * len(texts) if embedder is None else _embedded(embedder, texts)

    def _settle(self, index: ServedIndex, embedder: Embedder) -> None:
        """Record in the store what its vectors are made by; InvalidInput if that is another embedder."""
        if self._root.read_only:
            return
        served = cluster_of(index.store)
        if served is not None:
            served.settle_embedder(embedder)
            return
        with mrlstore.open(index.store.path, mode="r+", embedder=embedder, auto_maintain=False) as store:
            store.add([])

    def _fit(self, index: ServedIndex, texts: Sequence[str]) -> Embedder | None:
        """Fit a local model if there are enough texts, stored and new, and give stored rows their vectors."""
        if index.store.count(namespace=None) + len(texts) < FEW_TEXTS:
            return None
        with self._root.changing():
            path = _model_file(index)
            if path.exists():  # another process was first
                return self.embedder(index, "local")
            stored = [row.document for row in index.store.scan(namespace=None, include=("document",))]
            every = [text for text in (*stored, *texts) if text]
            passages = [chunk.text for text in every for chunk in split_text(text, _PASSAGE_TOKENS)]
            places = np.linspace(0, len(passages) - 1, min(len(passages), _MOST_TEXTS)).astype(int)
            try:
                model = LocalEmbedder.fit([passages[place] for place in places], dim=LOCAL_DIM)
            except InvalidInput:  # all alike: their words still find them
                return None
            model.save(path)
        _LOG.info("%s: local model fitted on %d passages", index.name, len(places), extra={"event": "fitted"})
        self._settle(index, model)
        for namespace in index.store.namespaces():
            self._fill(index, namespace, model)
        self._known.put((index.name, index.stamp), model)
        return model

    def _fill(self, index: ServedIndex, namespace: str, model: Embedder) -> None:
        for block in _blocks_without_vector(index, namespace):
            vectors = _embedded(model, [text for _, text in block])
            done = [
                (id, vector) for (id, _), vector in zip(block, vectors, strict=True) if vector is not None
            ]
            if done:
                index.store.update(
                    [id for id, _ in done], vectors=[vector for _, vector in done], namespace=namespace
                )


def _blocks_without_vector(index: ServedIndex, namespace: str) -> Iterator[list[tuple[str, str]]]:
    """Ids and texts of rows that have a text and no vector."""
    block: list[tuple[str, str]] = []
    for row in index.store.scan(namespace=namespace, include=("document", "vector")):
        if row.document and row.vector is None:
            block.append((row.id, row.document))
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def _embedded(embedder: Embedder, texts: Sequence[str]) -> list[NDArray[np.float32] | None]:
    try:
        return list(embedder.embed_documents(texts))
    except EmbedError as error:
        succeeded = getattr(error, "succeeded", None)
        if getattr(error, "of_service", True) or succeeded is None:
            raise
        return [succeeded.get(number) for number in range(len(texts))]


def gemini_of(recorded: dict[str, Any]) -> Embedder:
    """Gemini, as a store has recorded it."""
    from mrlstore.embedders import GeminiEmbedder

    task = recorded.get("task", "retrieval documents")
    embedder = GeminiEmbedder(
        recorded["model"],
        task="retrieval" if task == "retrieval documents" else task,
        dim=recorded["dim"],
    )
    return cast("Embedder", embedder)


def _model_file(index: ServedIndex) -> Path:
    return index.store.path.with_name(f"{index.name}.lsa.npz")
