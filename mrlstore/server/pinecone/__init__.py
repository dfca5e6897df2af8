"""The API of Pinecone: its control plane at the root of the server, each index's data plane below `/i/NAME`.

It answers all versions of its clients alike; docs/server.md says what is there.
"""

from mrlstore.server.pinecone.routes import api_family

__all__ = ["api_family"]
