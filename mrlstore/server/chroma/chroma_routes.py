"""The routes of Chroma's API."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mrlstore.server.api_family import ApiFamily
from mrlstore.server.api_keys import Role
from mrlstore.server.chroma import record_reads, record_writes
from mrlstore.server.chroma.chroma_collections import ChromaCollections
from mrlstore.server.chroma.chroma_errors import error_body
from mrlstore.server.chroma.collection_shape import collection_id
from mrlstore.server.http_call import HttpCall
from mrlstore.server.not_offered import refusing
from mrlstore.server.operations import GeneralOperation, Operation, QuickOperation, Serving
from mrlstore.server.refusals import not_found

PREFIX: Final = "/api/v2"
OPEN: Final = frozenset({f"{PREFIX}/heartbeat", f"{PREFIX}/healthcheck"})  # need no key

_TENANT: Final = PREFIX + "/tenants/{tenant}"
_PLACE: Final = _TENANT + "/databases/{database}"
_NAME: Final = _PLACE + "/collections/{name}"
_ONE: Final = _PLACE + "/collections/{id}"

_TENANTS: Final = "there is one tenant, default_tenant, and one database, default_database"
_REFUSED: Final = (
    (f"{PREFIX}/reset", ("POST",), "reset is not offered here; delete collections one by one"),
    (f"{PREFIX}/tenants", ("POST",), _TENANTS),
    (f"{_TENANT}/databases", ("POST",), _TENANTS),
    (_PLACE, ("DELETE",), _TENANTS),
    (f"{_ONE}/search", ("POST",), "search is not offered here; query is"),
    (f"{_ONE}/fork", ("POST",), "forks are not offered here"),
    (f"{_ONE}/functions/attach", ("POST",), "functions are not offered here"),
)


def api_family(serving: Serving) -> ApiFamily:
    """Chroma's API over the indexes of a server."""
    return ApiFamily("chroma", PREFIX, _routes(serving), error_body)


class OfCollection:
    """An endpoint about one index, of a route that names it by the UUID of its collection."""

    def __init__(self, serving: Serving, collections: ChromaCollections, endpoint: ASGIApp) -> None:
        self._serving, self._collections, self._endpoint = serving, collections, endpoint
        self._names: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        self._collections.check_place(HttpCall.of(scope))
        params = scope["path_params"]
        name = await self._name_of(str(params["id"]))
        scope["path_params"] = {**params, "index": name}
        await self._endpoint(scope, receive, send)

    async def _name_of(self, id: str) -> str:
        known = self._names.get(id)
        if known is not None and self._serving.root.exists(known):
            return known
        found = await self._serving.in_thread(lambda: self._collections.name_of(id))
        if found is None:
            raise not_found(f"there is no collection with the id {id:.60}")
        if len(self._names) > 10_000:
            self._names.clear()
        self._names[collection_id(found)] = found
        return found


def _routes(serving: Serving) -> list[BaseRoute]:
    collections = ChromaCollections(serving)
    general = (
        ("heartbeat", "GET", f"{PREFIX}/heartbeat", Role.READ, collections.heartbeat),
        ("heartbeat", "GET", f"{PREFIX}/healthcheck", Role.READ, collections.heartbeat),
        ("version", "GET", f"{PREFIX}/version", Role.READ, collections.version),
        ("pre_flight_checks", "GET", f"{PREFIX}/pre-flight-checks", Role.READ, collections.checks),
        ("identity", "GET", f"{PREFIX}/auth/identity", Role.READ, collections.identity),
        ("describe_tenant", "GET", _TENANT, Role.READ, collections.tenant),
        ("list_databases", "GET", f"{_TENANT}/databases", Role.READ, collections.databases),
        ("describe_database", "GET", _PLACE, Role.READ, collections.database),
        ("count_collections", "GET", f"{_PLACE}/collections_count", Role.READ, collections.count),
        ("list_collections", "GET", f"{_PLACE}/collections", Role.READ, collections.list_all),
        ("create_collection", "POST", f"{_PLACE}/collections", Role.READ, collections.create),
        ("describe_collection", "GET", _NAME, Role.READ, collections.describe),
        ("delete_collection", "DELETE", _NAME, Role.ADMIN, collections.delete),
    )
    of_one = (
        (
            "describe_collection",
            "GET",
            _PLACE + "/collections/by-id/{id}",
            Role.READ,
            collections.describe_by_id,
        ),
        ("modify_collection", "PUT", _ONE, Role.ADMIN, collections.modify),
        ("add", "POST", f"{_ONE}/add", Role.WRITE, record_writes.add),
        ("upsert", "POST", f"{_ONE}/upsert", Role.WRITE, record_writes.upsert),
        ("update", "POST", f"{_ONE}/update", Role.WRITE, record_writes.update),
        ("delete", "POST", f"{_ONE}/delete", Role.WRITE, record_reads.delete),
        ("get", "POST", f"{_ONE}/get", Role.READ, record_reads.get),
        ("count", "GET", f"{_ONE}/count", Role.READ, record_reads.count),
    )
    query = QuickOperation(
        serving, "query", record_reads.parse_query, record_reads.is_quick, record_reads.query
    )

    def of_collection(endpoint: ASGIApp) -> OfCollection:
        return OfCollection(serving, collections, endpoint)

    return [
        Route(f"{_ONE}/query", of_collection(query), methods=["POST"]),
        *(
            Route(path, of_collection(Operation(serving, name, role, work)), methods=[method])
            for name, method, path, role, work in of_one
        ),
        *refusing(serving, _REFUSED),
        *(
            Route(path, GeneralOperation(serving, name, role, work), methods=[method])
            for name, method, path, role, work in general
        ),
    ]
