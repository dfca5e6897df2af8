"""Haystack: `MrlDocumentStore`, and `MrlEmbeddingRetriever` for pipelines. Needs the extra `haystack`.

A document's `content` is the row's document, its `meta` the row's metadata, its `embedding` the row's vector;
documents without an embedding are rows without a vector. A document's blob and sparse embedding are kept in
the metadata under one reserved key, and count towards the limit of 64 KiB.
"""

try:
    import haystack as _framework  # noqa: F401
except ImportError as error:
    message = "mrlstore.integrations.haystack needs haystack-ai: pip install 'mrlstore[haystack]'"
    raise ImportError(message) from error

from mrlstore.integrations.haystack.document_store import MrlDocumentStore
from mrlstore.integrations.haystack.retriever import MrlEmbeddingRetriever

__all__ = ["MrlDocumentStore", "MrlEmbeddingRetriever"]
