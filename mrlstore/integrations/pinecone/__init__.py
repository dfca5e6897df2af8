"""Pinecone: `Index`, whose methods have the names, arguments and results of the Pinecone SDK's data plane.

Code that was written for the SDK's `Index` runs on a store. The SDK need not be installed; arguments and
results were compared with its version 10. What was written can be read at once.
"""

from mrlstore.integrations.pinecone.index import Index
from mrlstore.integrations.pinecone.responses import Vector

__all__ = ["Index", "Vector"]
