"""Pinecone: `Index`, whose methods have the names, arguments and results of the Pinecone SDK's data plane.

Code that was written for the SDK's `Index` runs on a store of one's own. Nothing needs to be installed; what
the methods take and give was compared with version 10 of the SDK. Writes can be read at once.
"""

from mrlstore.integrations.pinecone.index import Index
from mrlstore.integrations.pinecone.responses import Vector

__all__ = ["Index", "Vector"]
