"""The routes of Qdrant's API."""

from __future__ import annotations

import re
from typing import Final

from starlette.routing import BaseRoute, Route

from mrlstore.server.api_family import ApiFamily
from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import dump
from mrlstore.server.http_call import HttpCall
from mrlstore.server.not_offered import refusing
from mrlstore.server.operations import Answer, GeneralOperation, Operation, QuickOperation, Serving
from mrlstore.server.qdrant import nearest_points, point_reads, point_writes
from mrlstore.server.qdrant.aliases import Aliases, ByAlias
from mrlstore.server.qdrant.answers import answered_with, error_body
from mrlstore.server.qdrant.collections import Collections
from mrlstore.server.qdrant.point_query import query_of, search_of
from mrlstore.version import __version__

PREFIX: Final = "/qdrant"
OPEN: Final = frozenset(f"{PREFIX}/{name}" for name in ("healthz", "livez", "readyz"))  # need no key
_VERSION: Final = "1.20.0"  # of the API, where a client does not say which it speaks
_CLIENT: Final = re.compile(r"python-client/(\d{1,3}\.\d{1,3}\.\d{1,3})\b")

_ONE: Final = PREFIX + "/collections/{index}"
_NAME: Final = PREFIX + "/collections/{name}"
_POINTS: Final = _ONE + "/points"

_SNAPSHOTS: Final = "snapshots by this API are not offered here; `mrlstore backup` makes one of a store"
_VECTORS: Final = "a point has one vector here, which is removed with the point"
_EVERY: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REFUSED: Final = (
    (f"{_ONE}/snapshots", ("POST", "PUT"), _SNAPSHOTS),
    (_ONE + "/snapshots/{rest:path}", _EVERY, _SNAPSHOTS),
    (PREFIX + "/snapshots/{rest:path}", _EVERY, _SNAPSHOTS),
    (f"{PREFIX}/snapshots", ("POST",), _SNAPSHOTS),
    (f"{_POINTS}/vectors/delete", ("POST",), _VECTORS),
    (f"{_POINTS}/discover", ("POST",), "discovery is not offered here"),
    (_POINTS + "/search/matrix/{rest}", ("POST",), "matrices are not offered here"),
    (f"{_ONE}/cluster", _EVERY, "clusters are not offered here"),
    (f"{PREFIX}/cluster", _EVERY, "clusters are not offered here"),
)


def api_family(serving: Serving) -> ApiFamily:
    """Qdrant's API over the indexes of a server."""
    return ApiFamily("qdrant", PREFIX, _routes(serving), error_body)


def _routes(serving: Serving) -> list[BaseRoute]:
    aliases = Aliases(serving.root)
    collections = Collections(serving, aliases)
    return [
        *_about_points(serving, aliases),
        *refusing(serving, _REFUSED),
        *_general(serving, collections, aliases),
        *_about_one(serving, collections, aliases),
    ]


def _general(serving: Serving, collections: Collections, aliases: Aliases) -> list[BaseRoute]:
    """Routes about no one collection, or about one that need not be there."""
    table = (
        ("root", "GET", PREFIX, Role.READ, _root),
        ("root", "GET", f"{PREFIX}/", Role.READ, _root),
        ("health", "GET", f"{PREFIX}/healthz", Role.READ, _health),
        ("health", "GET", f"{PREFIX}/livez", Role.READ, _health),
        ("health", "GET", f"{PREFIX}/readyz", Role.READ, _health),
        ("list_collections", "GET", f"{PREFIX}/collections", Role.READ, collections.list_all),
        ("collection_exists", "GET", f"{_NAME}/exists", Role.READ, collections.exists),
        ("create_collection", "PUT", _NAME, Role.ADMIN, collections.create),
        ("delete_collection", "DELETE", _NAME, Role.ADMIN, collections.delete),
        ("list_aliases", "GET", f"{PREFIX}/aliases", Role.READ, aliases.list_all),
        ("list_aliases", "GET", f"{_NAME}/aliases", Role.READ, aliases.list_all),
        ("change_aliases", "POST", f"{PREFIX}/collections/aliases", Role.ADMIN, aliases.change),
        ("list_snapshots", "GET", f"{_NAME}/snapshots", Role.READ, _nothing),
    )
    return [
        Route(path, GeneralOperation(serving, name, role, work), methods=[method])
        for name, method, path, role, work in table
    ]


def _about_one(serving: Serving, collections: Collections, aliases: Aliases) -> list[BaseRoute]:
    """Routes about a collection."""
    write = point_writes.operation
    table = (
        ("describe_collection", "GET", _ONE, Role.READ, collections.describe),
        ("update_collection", "PATCH", _ONE, Role.ADMIN, collections.update),
        ("create_payload_index", "PUT", f"{_ONE}/index", Role.WRITE, collections.create_payload_index),
        (
            "delete_payload_index", "DELETE", _ONE + "/index/{field:path}", Role.WRITE,
            collections.delete_payload_index,
        ),
        ("facet", "POST", f"{_ONE}/facet", Role.READ, point_reads.facet),
        ("upsert", "PUT", _POINTS, Role.WRITE, write(point_writes.upsert)),
        ("retrieve", "POST", _POINTS, Role.READ, point_reads.retrieve),
        ("scroll", "POST", f"{_POINTS}/scroll", Role.READ, point_reads.scroll),
        ("count", "POST", f"{_POINTS}/count", Role.READ, point_reads.count),
        ("delete", "POST", f"{_POINTS}/delete", Role.WRITE, write(point_writes.delete)),
        ("set_payload", "POST", f"{_POINTS}/payload", Role.WRITE, write(point_writes.set_payload)),
        ("overwrite_payload", "PUT", f"{_POINTS}/payload", Role.WRITE, write(point_writes.overwrite_payload)),
        (
            "delete_payload", "POST", f"{_POINTS}/payload/delete", Role.WRITE,
            write(point_writes.delete_payload),
        ),
        ("clear_payload", "POST", f"{_POINTS}/payload/clear", Role.WRITE, write(point_writes.clear_payload)),
        ("update_vectors", "PUT", f"{_POINTS}/vectors", Role.WRITE, write(point_writes.update_vectors)),
        ("batch", "POST", f"{_POINTS}/batch", Role.WRITE, point_writes.batch),
        (
            "query_batch", "POST", f"{_POINTS}/query/batch", Role.READ,
            nearest_points.batch(query_of, lambda points: {"points": points}),
        ),
        (
            "search_batch", "POST", f"{_POINTS}/search/batch", Role.READ,
            nearest_points.batch(search_of, lambda points: points),
        ),
        ("query_groups", "POST", f"{_POINTS}/query/groups", Role.READ, nearest_points.groups),
        ("retrieve_one", "GET", _POINTS + "/{id}", Role.READ, point_reads.retrieve_one),
    )  # fmt: skip
    return [
        Route(path, ByAlias(aliases, Operation(serving, name, role, work)), methods=[method])
        for name, method, path, role, work in table
    ]


def _about_points(serving: Serving, aliases: Aliases) -> list[BaseRoute]:
    """Routes of queries, which are mostly answered on the event loop."""
    table = (
        ("query", f"{_POINTS}/query", nearest_points.parse_query, nearest_points.query),
        ("search", f"{_POINTS}/search", nearest_points.parse_search, nearest_points.search),
        ("recommend", f"{_POINTS}/recommend", nearest_points.parse_recommend, nearest_points.search),
    )
    return [
        Route(
            path,
            ByAlias(aliases, QuickOperation(serving, name, parse, nearest_points.is_quick, work)),
            methods=["POST"],
        )
        for name, path, parse, work in table
    ]


def _root(call: HttpCall, body: bytes) -> Answer:
    """The version that the client has itself: it warns of others, and all are answered alike."""
    client = _CLIENT.match(call.header(b"user-agent"))
    version = client[1] if client else _VERSION
    return Answer(dump({"title": "mrlstore", "version": version, "mrlstore": __version__}))


def _health(call: HttpCall, body: bytes) -> Answer:
    return Answer(b"healthz check passed", content_type="text/plain")


def _nothing(call: HttpCall, body: bytes) -> Answer:
    return answered_with(call, [])
