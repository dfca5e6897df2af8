"""`MrlEmbeddingRetriever`: the component that searches a document store in pipelines."""

from __future__ import annotations

from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from mrlstore.api.aio import off_loop
from mrlstore.errors import InvalidInput
from mrlstore.integrations.haystack.document_store import MrlDocumentStore
from mrlstore.integrations.haystack.filters import Filters


@component
class MrlEmbeddingRetriever:
    """Gives a pipeline the documents of an `MrlDocumentStore` that are nearest to an embedding."""

    def __init__(
        self,
        document_store: MrlDocumentStore,
        filters: Filters | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        """Set what a run uses unless it says otherwise.

        Args:
            document_store: where to search.
            filters: which documents count.
            top_k: how many, at least 1.
            scale_score: scores are (cosine + 1) / 2, from 0 to 1, instead of cosines.
            return_embedding: the documents carry their embeddings.
            filter_policy: a run's filters replace these, or are merged with them.
        """
        if not isinstance(document_store, MrlDocumentStore):
            raise InvalidInput("document_store: expected an MrlDocumentStore")
        if top_k <= 0:
            raise InvalidInput(f"top_k: expected at least 1, got {top_k}")
        self.document_store, self.filters, self.top_k = document_store, filters, top_k
        self.scale_score, self.return_embedding = scale_score, return_embedding
        self.filter_policy = (
            FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        )

    def to_dict(self) -> dict[str, Any]:
        """The component as plain data, for a pipeline's own."""
        made: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            scale_score=self.scale_score,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )
        return made

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MrlEmbeddingRetriever:
        """The component that `to_dict` describes."""
        made: MrlEmbeddingRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: Filters | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """The documents nearest to an embedding [dim], best first."""
        found = self.document_store.embedding_retrieval(
            query_embedding,
            apply_filter_policy(self.filter_policy, self.filters, filters),
            self.top_k if top_k is None else top_k,
            self.scale_score if scale_score is None else scale_score,
            self.return_embedding if return_embedding is None else return_embedding,
        )
        return {"documents": found}

    run_async = off_loop(run)
