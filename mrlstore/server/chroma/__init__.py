"""The API of Chroma, below `/api/v2`: collections are indexes, records the rows of the namespace "".

docs/integrations/chroma-server.md says what is there.
"""

from mrlstore.server.chroma.chroma_routes import OPEN, api_family

__all__ = ["OPEN", "api_family"]
