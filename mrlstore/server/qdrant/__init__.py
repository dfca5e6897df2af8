"""The API of Qdrant over REST, below `/qdrant`: collections are indexes, points the rows of the namespace "".

docs/integrations/qdrant-server.md says what is there.
"""

from mrlstore.server.qdrant.qdrant_routes import OPEN, api_family

__all__ = ["OPEN", "api_family"]
