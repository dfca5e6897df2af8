"""LlamaIndex: `MrlVectorStore`, a `BasePydanticVectorStore` on a store of one's own. Extra: `llama-index`.

A node's text is the row's document, its id the row's id, its embedding the row's vector. The row's metadata
are the node's, with the keys from which LlamaIndex rebuilds nodes and by which it finds those of a document,
and two of our own: `_node_id` and `_empty_lists`.
"""

try:
    import llama_index.core as _framework  # noqa: F401
except ImportError as error:
    message = "mrlstore.integrations.llama_index needs llama-index-core: pip install 'mrlstore[llama-index]'"
    raise ImportError(message) from error

from mrlstore.integrations.llama_index.vector_store import MrlVectorStore

__all__ = ["MrlVectorStore"]
