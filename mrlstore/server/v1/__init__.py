"""The server's own API below `/v1`: the methods of `Store`, each a POST with its arguments in JSON.

`store_calls` declares the methods, `index_calls` and `backups` what goes beyond one store. `openapi`
describes all of it from these declarations, at `/v1/openapi.json`.
"""

from mrlstore.server.v1.family import OPEN, api_family

__all__ = ["OPEN", "api_family"]
