"""MTEB: a search backend on a store, and any `Embedder` as a model. Needs the extra `mteb`.

`MrlSearchBackend` is what mteb calls an `IndexEncoderSearchProtocol`: `SearchEncoderWrapper(model,
index_backend=MrlSearchBackend(...))` runs its retrieval and reranking tasks on a store, at any tier.

A text without a word that the embedder knows has an embedding of zeros: as a document it is never found, as a
query it finds nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mrlstore
from mrlstore.api.store import Store
from mrlstore.embedders.local import NoKnownWord
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ImportError as error:
    message = "mrlstore.integrations.mteb needs mteb: pip install 'mrlstore[mteb]'"
    raise ImportError(message) from error

_BATCH = 10_000  # rows in one upsert
_PROBES = 16  # first documents and queries on which the similarity of the model is compared with the cosine


class MrlSearchBackend:
    """The documents of one task, held in a store in a temporary folder; `clear` removes both."""

    def __init__(
        self, *, prefix_dim: int | None = None, folder: str | Path | None = None, **terms: Any
    ) -> None:
        """Choose how documents are indexed and searched.

        Args:
            prefix_dim: leading dimensions that are indexed; by default min(768, dim).
            folder: parent of the temporary folder; by default that of the system.
            terms: arguments of `Store.query` for every search: `dim=256` for a prefix alone, `exact=True`,
                `target_recall`, `shortlist`, `ef`. Without any, a search
                in two stages at the default target recall.
        """
        self._prefix_dim, self._parent, self._terms = prefix_dim, folder, terms
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._store: Store | None = None
        self._positions: dict[str, int] = {}  # by document id, in the order of adding
        self._probes = np.empty((0, 0), np.float32)

    def add_documents(self, embeddings: Any, idxs: list[str]) -> None:
        """Store the embeddings [n, dim] of documents; numpy or torch. InvalidInput for unusable ones."""
        rows = _array(embeddings)
        if len(rows) != len(idxs):
            raise InvalidInput(f"{len(rows)} embeddings for {len(idxs)} documents")
        store = self._store or self._make(rows)
        first = len(self._positions)
        self._positions.update({name: first + number for number, name in enumerate(idxs)})
        if len(self._positions) < first + len(idxs):
            raise InvalidInput("a document's id is given twice")
        for start in range(0, len(rows), _BATCH):
            block = rows[start : start + _BATCH]
            positions = np.arange(first + start, first + start + len(block))
            found = block.any(axis=1)
            for chosen, vectors in ((positions[found], block[found]), (positions[~found], None)):
                store.upsert([str(n) for n in chosen], vectors, [{"position": int(n)} for n in chosen])

    def search(
        self,
        embeddings: Any,
        top_k: int,
        similarity_fn: Callable[[Any, Any], Any],
        top_ranked: Mapping[str, list[str]] | None = None,
        query_idx_to_id: Mapping[int, str] | None = None,
    ) -> tuple[list[list[float]], list[list[int]]]:
        """Return the best scores of each query [n, dim], and their documents' positions in order of adding.

        With `top_ranked`, only the candidates of a query are scored; positions are those in its list.

        Raises:
            InvalidInput: there are no documents, or the similarity of the model is not the cosine.
        """
        if self._store is None:
            raise InvalidInput("search: no documents; call add_documents first")
        queries = _array(embeddings)
        self._check_similarity(queries, similarity_fn)
        self._store.optimize()
        if top_ranked is None:
            return self._best(self._store, queries, min(top_k, len(self._positions)))
        if query_idx_to_id is None:
            raise InvalidInput("search: top_ranked needs query_idx_to_id")
        candidates = [top_ranked.get(query_idx_to_id[number]) or [] for number in range(len(queries))]
        pairs = [self._rerank(query, names, top_k) for query, names in zip(queries, candidates, strict=True)]
        return [scores for scores, _ in pairs], [positions for _, positions in pairs]

    def clear(self) -> None:
        """Forget all documents, and remove their store from disk."""
        if self._store is not None and self._folder is not None:
            self._store.close()
            self._folder.cleanup()
        self._store, self._folder, self._positions = None, None, {}

    def _make(self, rows: NDArray[np.float32]) -> Store:
        self._folder = tempfile.TemporaryDirectory(prefix="mrlstore-mteb-", dir=self._parent)
        dim = rows.shape[1]
        prefix_dim = None if self._prefix_dim is None else min(self._prefix_dim, dim)
        path = Path(self._folder.name) / "corpus.mrl"
        self._store = mrlstore.open(path, dim=dim, prefix_dim=prefix_dim, auto_maintain=False)
        self._probes = rows[:_PROBES]
        return self._store

    def _best(
        self, store: Store, queries: NDArray[np.float32], k: int
    ) -> tuple[list[list[float]], list[list[int]]]:
        """Return scores and positions of the best documents of each query; none for one of zeros."""
        scores: list[list[float]] = [[] for _ in queries]
        positions: list[list[int]] = [[] for _ in queries]
        asked = np.flatnonzero(queries.any(axis=1))
        if len(asked):
            found = store.query_batch(queries[asked], k, include=(), **self._terms)
            for number, hits in zip(asked, found, strict=True):
                scores[number], positions[number] = _scores(hits), [int(hit.id) for hit in hits]
        return scores, positions

    def _rerank(
        self, query: NDArray[np.float32], names: list[str], top_k: int
    ) -> tuple[list[float], list[int]]:
        """Return scores, and positions in `names`, of the best of these documents."""
        if self._store is None or not names or not query.any():
            return [], []
        candidates = {self._positions[name]: position for position, name in enumerate(names)}
        where = {"position": {"$in": list(candidates)}}
        hits = self._store.query(query, min(top_k, len(candidates)), where=where, include=(), **self._terms)
        return _scores(hits), [candidates[int(hit.id)] for hit in hits]

    def _check_similarity(self, queries: NDArray[np.float32], similarity: Callable[[Any, Any], Any]) -> None:
        sample, probes = (rows[rows.any(axis=1)] for rows in (queries[:_PROBES], self._probes))
        if not len(sample) or not len(probes):
            return
        cosines = _units(sample) @ _units(probes).T
        if not np.allclose(_array(similarity(sample, probes)), cosines, atol=1e-2):
            raise InvalidInput("the model's similarity is not the cosine of its embeddings, as a store's is")


class EmbedderModel(AbsEncoder):
    """An `Embedder`, such as `GeminiEmbedder`, as a model for MTEB: for texts only, compared by cosine."""

    def __init__(self, embedder: Embedder, name: str = "mrlstore/embedder") -> None:
        """Take the embedder; `name`, as "owner/model", is used in the results of MTEB."""
        self.model = embedder
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name,
                "revision": str(embedder.fingerprint),
                "similarity_fn_name": ScoringFunction.COSINE,
                "modalities": ["text"],
            }
        )

    def encode(self, inputs: Any, *, prompt_type: Any = None, **_: Any) -> NDArray[np.float32]:
        """Embed batches of texts as float32 [n, dim]; as queries if `prompt_type` is `query`."""
        if prompt_type == PromptType.query:
            return np.stack([self._query(text) for batch in inputs for text in batch["text"]])
        return np.concatenate([self._documents(batch["text"]) for batch in inputs])

    def _query(self, text: str) -> NDArray[np.float32]:
        try:
            return self.model.embed_query(text)
        except NoKnownWord:
            none: NDArray[np.float32] = self._zeros(1)[0]
            return none

    def _documents(self, texts: list[str]) -> NDArray[np.float32]:
        try:
            return self.model.embed_documents(texts)
        except NoKnownWord as error:
            rows: NDArray[np.float32] = self._zeros(len(texts))
            known = sorted(set(range(len(texts))) - set(error.items))
            if known:
                rows[known] = self.model.embed_documents([texts[number] for number in known])
            return rows

    def _zeros(self, count: int) -> NDArray[np.float32]:
        known: Any = self.model  # has a `dim`, as all have that raise NoKnownWord
        return np.zeros((count, known.dim), np.float32)


def _array(embeddings: Any) -> NDArray[np.float32]:
    """Convert to a numpy array, from a torch tensor on any device too."""
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().cpu().float().numpy()
    rows = np.asarray(embeddings, dtype=np.float32)
    if rows.ndim != 2:
        raise InvalidInput(f"embeddings: expected a shape of [n, dim], got {rows.shape}")
    return rows


def _scores(hits: Any) -> list[float]:
    return [float(hit.score) for hit in hits]


def _units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units
