"""The routes of Pinecone's API, and the shape of its errors."""

from __future__ import annotations

from starlette.routing import BaseRoute, Mount, Route

from mrlstore.server.api_family import ApiFamily
from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import dump
from mrlstore.server.not_offered import refusing
from mrlstore.server.operations import GeneralOperation, Operation, QuickOperation, Serving
from mrlstore.server.pinecone import data_plane, refused
from mrlstore.server.pinecone.control_plane import DATA_PLANE, ControlPlane
from mrlstore.server.pinecone.imports import Imports
from mrlstore.server.pinecone.namespaces import Namespaces
from mrlstore.server.pinecone.text_records import Records
from mrlstore.server.refusals import HttpRefusal
from mrlstore.server.text_models import TextModels


def api_family(serving: Serving) -> ApiFamily:
    """Pinecone's API over the indexes of a server; it has the paths that no other API has."""
    data = Mount(f"{DATA_PLANE}{{index}}", routes=_data_plane(serving))
    return ApiFamily("pinecone", "", [data, *_control_plane(serving)], error_body)


def error_body(refusal: HttpRefusal) -> bytes:
    """The shape from which every version of the clients shows the message."""
    return dump({"error": {"code": refusal.code, "message": refusal.message}, "status": refusal.status})


def _data_plane(serving: Serving) -> list[BaseRoute]:
    spaces, records = Namespaces(serving.root), Records(TextModels(serving.root))
    imports = Imports(serving)
    of_records = "/records/namespaces/{namespace:path}"
    one_space = "/namespaces/{namespace:path}"
    table = (
        ("upsert", "POST", "/vectors/upsert", Role.WRITE, data_plane.upsert),
        ("fetch", "GET", "/vectors/fetch", Role.READ, data_plane.fetch),
        ("fetch_by_metadata", "POST", "/vectors/fetch_by_metadata", Role.READ, data_plane.fetch_by_metadata),
        ("update", "POST", "/vectors/update", Role.WRITE, data_plane.update),
        ("delete", "POST", "/vectors/delete", Role.WRITE, data_plane.delete),
        ("list", "GET", "/vectors/list", Role.READ, data_plane.list_ids),
        ("describe_index_stats", "POST", "/describe_index_stats", Role.READ, spaces.stats),
        ("describe_index_stats", "GET", "/describe_index_stats", Role.READ, spaces.stats),
        ("upsert_records", "POST", f"{of_records}/upsert", Role.WRITE, records.upsert),
        ("search_records", "POST", f"{of_records}/search", Role.READ, records.search),
        ("start_import", "POST", "/bulk/imports", Role.WRITE, imports.start),
        ("list_imports", "GET", "/bulk/imports", Role.READ, imports.list_all),
        ("describe_import", "GET", "/bulk/imports/{id}", Role.READ, imports.describe),
        ("cancel_import", "DELETE", "/bulk/imports/{id}", Role.WRITE, imports.cancel),
        ("list_namespaces", "GET", "/namespaces", Role.READ, spaces.list),
        ("create_namespace", "POST", "/namespaces", Role.WRITE, spaces.create),
        ("describe_namespace", "GET", one_space, Role.READ, spaces.describe),
        ("delete_namespace", "DELETE", one_space, Role.WRITE, spaces.delete),
    )
    offered = [
        Route(path, Operation(serving, name, role, work), methods=[method])
        for name, method, path, role, work in table
    ]
    query = QuickOperation(serving, "query", data_plane.parse_query, data_plane.is_quick, data_plane.query)
    return [
        Route("/query", query, methods=["POST"]),
        *offered,
        *refusing(serving, refused.DATA_PLANE),
    ]


def _control_plane(serving: Serving) -> list[BaseRoute]:
    plane = ControlPlane(serving)
    table = (
        ("list_indexes", "GET", "/indexes", Role.READ, plane.list_indexes),
        ("create_index", "POST", "/indexes", Role.ADMIN, plane.create_index),
        ("create_index_for_model", "POST", "/indexes/create-for-model", Role.ADMIN, plane.create_for_model),
        ("describe_index", "GET", "/indexes/{name}", Role.READ, plane.describe_index),
        ("configure_index", "PATCH", "/indexes/{name}", Role.ADMIN, plane.configure_index),
        ("delete_index", "DELETE", "/indexes/{name}", Role.ADMIN, plane.delete_index),
    )
    offered = [
        Route(path, GeneralOperation(serving, name, role, work), methods=[method])
        for name, method, path, role, work in table
    ]
    return [*refused.empty_lists(serving), *refusing(serving, refused.CONTROL_PLANE), *offered]
