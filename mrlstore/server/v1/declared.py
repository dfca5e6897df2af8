"""`Declared`: one operation of the API as its route and its description both read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mrlstore.api.arguments import ProgressCallback
from mrlstore.api.store import Store
from mrlstore.server.api_keys import EVERYTHING, Grant, Role

Schema = Mapping[str, Any]
Arguments = dict[str, Any]

# The schemas of arguments that several operations take.
TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
AT_LEAST_ONE: Final[Schema] = {"type": "integer", "minimum": 1}
IDS: Final[Schema] = {"type": "array", "items": TEXT}
WHERE: Final[Schema] = {"type": "object", "description": "A filter on metadata, see docs/filters.md."}
METADATA: Final[Schema] = {"type": ["object", "null"]}
METADATAS: Final[Schema] = {"type": "array", "items": METADATA}
DOCUMENTS: Final[Schema] = {"type": "array", "items": {"type": ["string", "null"]}}
TEXTS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1},
    "description": "Instead of vectors, one for each id: embedded by what has filled the index, and kept as "
    "documents where no documents are given.",
}
INCLUDE: Final[Schema] = {"type": "array", "items": {"enum": ["metadata", "document", "vector"]}}
ONE_SPACE: Final[Schema] = {"type": "string", "default": ""}
ONE_OR_ALL: Final[Schema] = {"type": ["string", "null"], "default": "", "description": "null: all."}
SPACES: Final[Schema] = {
    "type": ["string", "array", "null"],
    "items": TEXT,
    "default": "",
    "description": "One namespace, a list of several, or null for all.",
}
BASE64: Final[Schema] = {
    "type": "object",
    "required": ["base64"],
    "properties": {
        "base64": {"type": "string", "contentEncoding": "base64"},
        "shape": {"type": "array", "items": COUNT},
    },
    "description": "float32, little-endian, row by row. Without a shape the numbers are one vector.",
}
NUMBERS: Final[Schema] = {"type": "array", "items": NUMBER}
VECTOR: Final[Schema] = {"oneOf": [NUMBERS, BASE64]}
VECTORS: Final[Schema] = {
    "oneOf": [{"type": "array", "items": {"oneOf": [NUMBERS, BASE64, {"type": "null"}]}}, BASE64]
}
EXAMPLES: Final[Schema] = {"type": "array", "items": {"oneOf": [TEXT, NUMBERS, BASE64]}}


@dataclass(frozen=True)
class Declared:
    """A method of `Store` as an operation: POST /v1/indexes/INDEX/NAME.

    `arguments` are those of the method, by their names there, and for `upsert` also `texts`; `work` gives
    what is answered, in plain JSON values or as something that `result_schema` describes. A `job` reports
    its progress while it runs.
    """

    name: str
    role: Role
    summary: str
    arguments: Mapping[str, Schema]
    result: Schema | type[Any]
    work: Callable[[Store, Arguments, Options], Any]
    required: tuple[str, ...] = ()
    job: bool = False
    whole_store: bool = False  # needs a key that opens all namespaces


@dataclass(frozen=True)
class Options:
    """How an answer is written, what the key opens, and who is told about progress."""

    as_base64: bool = False
    plan: bool = True
    progress: ProgressCallback | None = None
    grant: Grant = EVERYTHING
    place: str = field(default="", repr=False)  # the path of the store, which no answer tells
