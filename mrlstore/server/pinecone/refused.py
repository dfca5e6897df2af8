"""What Pinecone offers and this server does not, and the lists that are always empty."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Route

from mrlstore.server.api_keys import Role
from mrlstore.server.operations import Answer, GeneralOperation, Serving

_COLLECTIONS: Final = "collections are not offered here; `mrlstore backup` copies a store"
_BACKUPS: Final = "backups by this API are not offered here; `mrlstore backup` makes one of a store"
_INFERENCE: Final = "inference is not offered here: embed texts in the client"
_DOCUMENTS: Final = "the documents API is not offered here; use upsert, query and fetch"

_EVERY: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
CONTROL_PLANE: Final = (
    ("/collections", ("POST",), _COLLECTIONS),
    ("/collections/{name:path}", _EVERY, _COLLECTIONS),
    ("/indexes/{name}/backups", ("POST",), _BACKUPS),
    ("/backups/{name:path}", _EVERY, _BACKUPS),
    ("/restore-jobs/{name:path}", _EVERY, _BACKUPS),
    ("/embed", ("POST",), _INFERENCE),
    ("/rerank", ("POST",), _INFERENCE),
    ("/models", ("GET",), _INFERENCE),
    ("/models/{name:path}", ("GET",), _INFERENCE),
)
DATA_PLANE: Final = (("/namespaces/{namespace:path}/documents/{call}", ("POST",), _DOCUMENTS),)
# What there never is any of.
EMPTY_LISTS: Final = (
    ("/collections", b'{"collections":[]}'),
    ("/indexes/{name}/backups", b'{"data":[]}'),
    ("/backups", b'{"data":[]}'),
    ("/restore-jobs", b'{"data":[]}'),
)


def empty_lists(serving: Serving) -> list[BaseRoute]:
    """Routes that list nothing."""
    return [Route(path, _constant(serving, body), methods=["GET"]) for path, body in EMPTY_LISTS]


def _constant(serving: Serving, answer: bytes) -> GeneralOperation:
    return GeneralOperation(serving, "empty list", Role.READ, lambda call, body: Answer(answer))
