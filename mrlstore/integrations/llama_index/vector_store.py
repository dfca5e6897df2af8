"""`MrlVectorStore`: nodes as rows of a store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from mrlstore.api.aio import off_loop
from mrlstore.api.store import Store
from mrlstore.checks import check_count, check_share
from mrlstore.errors import InvalidInput
from mrlstore.integrations.llama_index.filters import EMPTY_LISTS, where_of
from mrlstore.integrations.store_holder import StoreHolder
from mrlstore.search.picked import MOST_DIVERSE
from mrlstore.types import LIMITS, Hit, Include, Record

_NODE_ID = "_node_id"  # reserved metadata, because filters go by metadata
_MMR_PREFETCH = 4.0  # times top_k
_MMR_DIVERSITY = 0.5  # LlamaIndex's default
_BY_WORDS = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)


class MrlVectorStore(StoreHolder, BasePydanticVectorStore):
    """A LlamaIndex vector store in one directory on disk; writes are durable when they return."""

    stores_text: bool = True
    namespace: str = ""

    _store: Store = PrivateAttr()
    _owned: bool = PrivateAttr()

    def __init__(
        self, path_or_store: str | os.PathLike[str] | Store, *, namespace: str = "", **options: Any
    ) -> None:
        """Open or create the store.

        Args:
            path_or_store: a folder for `mrlstore.open`, or a store that is open already.
            namespace: the namespace all rows live in.
            options: what else `mrlstore.open` takes, for a path.
        """
        BasePydanticVectorStore.__init__(self, namespace=namespace)
        self._open(path_or_store, options)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex knows it by."""
        return "MrlVectorStore"

    @property
    def client(self) -> Store:
        """The store itself, for what LlamaIndex has no methods for."""
        return self._store

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Store nodes that have embeddings, replacing those whose id exists; gives the ids."""
        ids = [node.node_id for node in nodes]
        vectors = [node.get_embedding() for node in nodes]
        texts = [node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes]
        self._store.upsert(ids, vectors, [_metadata(node) for node in nodes], texts, namespace=self.namespace)
        return ids

    async_add = off_loop(add)

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Remove the nodes that were made from a document."""
        self._store.delete(where={"ref_doc_id": ref_doc_id}, namespace=self.namespace)

    adelete = off_loop(delete)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any
    ) -> None:
        """Remove nodes by id, by filter, or by both at once; InvalidInput without either: see `clear`."""
        self._store.delete(node_ids, where=self._where(filters), namespace=self.namespace)

    adelete_nodes = off_loop(delete_nodes)

    def clear(self) -> None:
        """Remove every node of the namespace."""
        self._store.clear(self.namespace)

    aclear = off_loop(clear)

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Nodes by id, by filter, by both, or all of them; with their embeddings, in the order of the ids."""
        where = self._where(filters, node_ids=node_ids)
        whole: tuple[Include, ...] = ("metadata", "document", "vector")
        return [_node(row) for row in self._store.scan(where, namespace=self.namespace, include=whole)]

    aget_nodes = off_loop(get_nodes)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes nearest to an embedding, best first.

        The mode decides what is searched, and what similarities are:

        - DEFAULT: cosines of the embedding.
        - MMR: the same; `mmr_threshold` (in `kwargs` or the query, by default 0.5) goes from 0, the most
          diverse, to 1, and `mmr_prefetch_factor` (4) times `similarity_top_k` nearest nodes, at most 1,000,
          are chosen from. It is the store's `diversity`, 1 - `mmr_threshold`.
        - HYBRID: the embedding and the words of `query_str`, fused by reciprocal rank; `alpha` is the weight
          of the embedding, 1 - `alpha` that of the words. `hybrid_top_k` nodes, else `similarity_top_k`.
        - TEXT_SEARCH, SPARSE: the words alone, by BM25. `sparse_top_k` nodes, else `similarity_top_k`.

        Other `kwargs` go to `Store.query`: `target_recall`, `exact`, `dim`, `ef`, `shortlist`, `min_score`.
        No `doc_ids` or `node_ids`, or empty ones, restrict nothing: LlamaIndex's retrievers give empty ones.
        """
        factor = kwargs.pop("mmr_prefetch_factor", _MMR_PREFETCH)
        threshold = kwargs.pop("mmr_threshold", query.mmr_threshold)
        search = _search_of(query, factor, threshold)
        hits = self._store.query(
            search.embedding,
            search.k,
            keywords=search.keywords,
            weights=search.weights,
            diversity=search.diversity,
            candidates=search.candidates,
            where=self._where(query.filters, query.doc_ids or None, query.node_ids or None),
            namespace=self.namespace,
            include=("metadata", "document"),
            **kwargs,
        )
        return VectorStoreQueryResult(
            nodes=[_node(hit) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )

    aquery = off_loop(query)

    def _where(
        self,
        filters: MetadataFilters | None,
        doc_ids: list[str] | None = None,
        node_ids: list[str] | None = None,
    ) -> dict[str, Any]:
        parts = [
            where_of(filters, self._values_of),
            {} if doc_ids is None else {"ref_doc_id": {"$in": doc_ids}},
            {} if node_ids is None else {_NODE_ID: {"$in": node_ids}},
        ]
        given = [part for part in parts if part]
        return {"$and": given} if given else {}

    def _values_of(self, key: str) -> list[Any]:
        rows = self._store.scan({key: {"$exists": True}}, namespace=self.namespace, include=("metadata",))
        return [(row.metadata or {}).get(key) for row in rows]


@dataclass(frozen=True)
class _Search:
    """A query of LlamaIndex in the store's words."""

    k: int
    embedding: list[float] | None = None
    keywords: str | None = None
    weights: tuple[float, float] | None = None
    diversity: float | None = None
    candidates: int | None = None


def _search_of(query: VectorStoreQuery, prefetch: float, threshold: float | None) -> _Search:
    mode, k = query.mode, check_count(query.similarity_top_k, "similarity_top_k", 1, LIMITS.k)
    modes = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR, VectorStoreQueryMode.HYBRID, *_BY_WORDS)
    if mode not in modes:
        allowed = ", ".join(repr(one.value) for one in modes)
        raise InvalidInput(f"mode: {mode.value!r} is not one of {allowed}")
    words = query.query_str
    if mode == VectorStoreQueryMode.HYBRID or mode in _BY_WORDS:
        if words is None:
            raise InvalidInput(f"query_str: None; the mode {mode.value!r} searches by words")
        if mode in _BY_WORDS:
            return _Search(k if query.sparse_top_k is None else query.sparse_top_k, keywords=words)
    if query.query_embedding is None:
        raise InvalidInput(f"query_embedding: None; the mode {mode.value!r} searches by embedding")
    if mode == VectorStoreQueryMode.HYBRID:
        weights = None if query.alpha is None else (query.alpha, 1 - query.alpha)
        k = k if query.hybrid_top_k is None else query.hybrid_top_k
        return _Search(k, query.query_embedding, words, weights)
    if mode == VectorStoreQueryMode.MMR:
        diversity = _MMR_DIVERSITY if threshold is None else 1 - check_share(threshold, "mmr_threshold")
        among = min(max(k, int(k * prefetch)), MOST_DIVERSE)
        return _Search(k, query.query_embedding, diversity=diversity, candidates=among)
    return _Search(k, query.query_embedding)


def _metadata(node: BaseNode) -> dict[str, Any]:
    made: dict[str, Any] = node_to_metadata_dict(node, remove_text=True)
    empty = [key for key, value in node.metadata.items() if value == []]
    return {**made, _NODE_ID: node.node_id, **({EMPTY_LISTS: empty} if empty else {})}


def _node(row: Hit | Record) -> BaseNode:
    node: BaseNode = metadata_dict_to_node(row.metadata or {}, text=row.document)
    node.embedding = None if row.vector is None else row.vector.tolist()
    return node
