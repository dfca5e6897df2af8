"""The OpenAPI description of the API, made of the declarations that its routes are made of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from mrlstore.server.bodies import dump
from mrlstore.server.v1.declared import AT_LEAST_ONE, COUNT, FLAG, NUMBER, TEXT, Declared, Schema
from mrlstore.server.v1.jobs import EVENTS
from mrlstore.server.v1.json_schema import Schemas
from mrlstore.server.v1.store_calls import CALLS
from mrlstore.types import Progress
from mrlstore.version import __version__

_ABOUT: Final = """\
The methods of `mrlstore.Store`, each as POST /v1/indexes/INDEX/METHOD with its arguments, by name, as an
object in JSON. What an argument means stands in the reference of `Store`. Vectors are lists of numbers, or
float32 as base64. Long work answers as server-sent events: `progress`, then `result` or `error`. A key goes
into the header Api-Key, or is sent as a bearer token."""
_JSON: Final = "application/json"


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


_FIGURES: Final = _object(
    ("name",), name=TEXT, dim={"type": ["integer", "null"]}, prefix_dim={"type": ["integer", "null"]},
    metric=TEXT, generation=COUNT, rows=COUNT, namespaces=COUNT, segments=COUNT, tail_rows=COUNT,
    dead_rows=COUNT, damaged_parts=COUNT, bytes_on_disk=COUNT, error=TEXT,
)  # fmt: skip
_BACKUP: Final = _object(("name",), name=TEXT, made=TEXT, rows=COUNT, bytes_on_disk=COUNT, error=TEXT)
_NAMES: Final[Schema] = {"type": ["array", "null"], "items": TEXT}
_ME: Final = _object(
    ("version", "role"), version=TEXT, role={"enum": ["read", "write", "admin"]}, indexes=_NAMES,
    namespaces=_NAMES, read_only=FLAG, needs_key=FLAG,
)  # fmt: skip
_NEW_INDEX: Final = _object(
    ("name",), name=TEXT, dim=AT_LEAST_ONE, prefix_dim=AT_LEAST_ONE, m=AT_LEAST_ONE,
    ef_construction=AT_LEAST_ONE, tokenizer={"enum": ["unicode61", "porter", "trigram"]},
    graph={"enum": ["mrlstore", "hnswlib"]},
)  # fmt: skip
_AUDIT: Final = _object((), rate=NUMBER, floor=NUMBER, window=AT_LEAST_ONE, cost=NUMBER, learn=FLAG)
_NOTHING: Final = _object()
_NULL: Final[Schema] = {"type": "null"}

# Path below /v1, method, name, least role, summary, body, status, answer, whether it is a job.
_OTHERS: Final[tuple[tuple[str, str, str, str, str, Schema | None, int, Schema, bool], ...]] = (
    ("/me", "get", "me", "read", "What the key may do.", None, 200, _ME, False),
    ("/openapi.json", "get", "openapi", "read", "This description; needs no key.", None, 200, {}, False),
    ("/indexes", "get", "list_indexes", "read", "The indexes that the key opens.", None, 200,
     _object(("indexes",), indexes={"type": "array", "items": _FIGURES}), False),
    ("/indexes", "post", "create_index", "admin", "An empty index.", _NEW_INDEX, 201, _FIGURES, False),
    ("/indexes/{index}", "get", "describe_index", "read", "One index.", None, 200, _FIGURES, False),
    ("/indexes/{index}", "delete", "delete_index", "admin", "Remove an index; its backups stay.", None, 200,
     _NOTHING, False),
    ("/indexes/{index}/audit", "post", "audit", "admin",
     "Check a share of live queries; kept with the index, for all processes that serve it.", _AUDIT, 200,
     _NULL, False),
    ("/indexes/{index}/backups", "get", "list_backups", "read", "The backups of an index.", None, 200,
     _object(("backups",), backups={"type": "array", "items": _BACKUP}), False),
    ("/indexes/{index}/backups", "post", "backup", "admin", "Make a backup on the server.",
     _object((), name=TEXT), 200, _BACKUP, True),
    ("/indexes/{index}/backups/{name}", "delete", "delete_backup", "admin", "Remove a backup.", None, 200,
     _NOTHING, False),
    ("/indexes/{index}/backups/{name}/restore", "post", "restore", "admin",
     "A new index with the content of a backup.", _object(("index",), index=TEXT), 200,
     _object(("index",), index=TEXT), True),
)  # fmt: skip


@lru_cache(maxsize=1)
def document() -> bytes:
    """The description as JSON."""
    return dump(description())


def description() -> dict[str, Any]:
    """The description as plain values."""
    schemas, paths = Schemas(), {}
    for declared in CALLS:
        paths[f"/v1/indexes/{{index}}/{declared.name}"] = {"post": _call(declared, schemas)}
    for path, method, name, role, summary, body, status, answer, job in _OTHERS:
        operation = _operation(name, role, summary, body, schemas.of(answer), status, job, schemas)
        parameters = [_in_path(part) for part in ("index", "name") if f"{{{part}}}" in path]
        operation["parameters"] = parameters
        paths.setdefault(f"/v1{path}", {})[method] = operation
    error = _object(("error", "status"), status=COUNT, error=_object(
        ("code", "type", "message"), code=TEXT, message=TEXT,
        type={"type": "string", "description": "The class of the library's error, or empty."},
    ))  # fmt: skip
    keys = {"key": {"type": "apiKey", "in": "header", "name": "Api-Key"}, "bearer": {"type": "http",
            "scheme": "bearer"}}  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "mrlstore", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": {**schemas.named, "Error": error}, "securitySchemes": keys},
        "security": [{"key": []}, {"bearer": []}, {}],
    }


def _call(declared: Declared, schemas: Schemas) -> dict[str, Any]:
    body = {**_object(declared.required, **declared.arguments), "additionalProperties": False}
    operation = _operation(
        declared.name, declared.role.name.lower(), declared.summary, body, schemas.of(declared.result), 200,
        declared.job, schemas,
    )  # fmt: skip
    choices = (
        ("vectors", ["json", "base64"], "How vectors of the answer are written."),
        ("plan", ["true", "false"], "Whether results have their plan."),
    )
    operation["parameters"] = [_in_path("index")]
    operation["parameters"] += [
        {"name": name, "in": "query", "description": text, "schema": {"enum": known, "default": known[0]}}
        for name, known, text in choices
    ]
    return operation


def _operation(
    name: str, role: str, summary: str, body: Schema | None, answer: Schema, status: int, job: bool,
    schemas: Schemas,
) -> dict[str, Any]:  # fmt: skip
    content: dict[str, Any] = {_JSON: {"schema": answer}}
    if job:
        data = {"anyOf": [schemas.of(Progress), answer, {"$ref": "#/components/schemas/Error"}]}
        text = "Events progress, then one result or error; the data of each is JSON."
        content = {EVENTS: {"schema": {"type": "string", "description": text}, "x-event-data": data}}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "description": f"Takes a key of the role {role} or higher.",
        "responses": {
            str(status): {"description": "Done.", "content": content},
            "default": {
                "description": "An error.",
                "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"content": {_JSON: {"schema": body}}}
    return operation


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}
