"""Collections are created, listed, described and deleted; indexes of payloads are noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import mrlstore
from mrlstore.server.bodies import parse_object, shown
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import IndexFacts, ServedIndex
from mrlstore.server.operations import Answer, Serving
from mrlstore.server.qdrant.aliases import Aliases
from mrlstore.server.qdrant.answers import answered_with, written
from mrlstore.server.qdrant.collection_model import collection_info, wanted_collection
from mrlstore.server.qdrant.vector_layout import DETAILS
from mrlstore.server.refusals import HttpRefusal, invalid

_KINDS: Final = ("keyword", "integer", "float", "bool", "datetime", "uuid")
_MAX_INDEXES: Final = 1_000


class Collections:
    """What the routes about whole collections do; each method gives the answer to a call with its body."""

    def __init__(self, serving: Serving, aliases: Aliases) -> None:
        self._root, self._aliases = serving.root, aliases

    def list_all(self, call: HttpCall, body: bytes) -> Answer:
        """GET /collections: those that the key opens."""
        names = [name for name in self._root.names() if call.grant.may_use(name)]
        return answered_with(call, {"collections": [{"name": name} for name in names]})

    def exists(self, call: HttpCall, body: bytes) -> Answer:
        """GET /collections/NAME/exists."""
        name = self._aliases.collection_of(str(call.scope["path_params"]["name"]))
        call.require_index(name)
        return answered_with(call, {"exists": self._root.exists(name)})

    def create(self, call: HttpCall, body: bytes) -> Answer:
        """PUT /collections/NAME: an empty collection, ready at once."""
        name, wanted = _name(call), wanted_collection(parse_object(body))
        if name in self._aliases:
            raise HttpRefusal(409, "ALREADY_EXISTS", f"there is an alias {name!r:.120}")
        self._root.make(
            name,
            wanted.facts,
            lambda place: mrlstore.open(
                place, dim=wanted.dim, prefix_dim=wanted.prefix_dim, mode="x", auto_maintain=False
            ).close(),
        )
        return answered_with(call, True)

    def describe(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """GET /collections/NAME."""
        call.require_namespace("")
        return answered_with(call, collection_info(index))

    def update(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """PATCH /collections/NAME: parameters of Qdrant's own indexes, which have no meaning here."""
        parse_object(body)
        return answered_with(call, True)

    def delete(self, call: HttpCall, body: bytes) -> Answer:
        """DELETE /collections/NAME: gone when this is answered; false where it was not there."""
        name = _name(call)
        there = self._root.exists(name)
        if there:
            self._root.delete(name)
            self._aliases.forget(name)
        return answered_with(call, there)

    def create_payload_index(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """PUT /collections/NAME/index: noted; every field can be filtered by without one."""
        given = parse_object(body)
        field, schema = given.get("field_name"), given.get("field_schema")
        kind = schema.get("type") if isinstance(schema, dict) else schema
        if not isinstance(field, str) or not field:
            raise invalid(f"field_name: expected the name of a field, got {shown(field)}")
        if kind not in _KINDS:
            raise invalid(f"field_schema: {shown(kind)} is not offered here; {', '.join(_KINDS)} are")

        def change(known: dict[str, str]) -> dict[str, str]:
            return {**known, field: kind}

        self._change_indexes(index, change)
        return written(index, call)

    def delete_payload_index(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """DELETE /collections/NAME/index/FIELD."""
        field = str(call.scope["path_params"]["field"])
        self._change_indexes(
            index, lambda known: {name: kind for name, kind in known.items() if name != field}
        )
        return written(index, call)

    def _change_indexes(self, index: ServedIndex, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        def changed(facts: IndexFacts) -> IndexFacts:
            known: dict[str, Any] = facts.details.get(DETAILS, {})
            indexes = change(known.get("payload_indexes", {}))
            if len(indexes) > _MAX_INDEXES:
                raise invalid(f"more than {_MAX_INDEXES:,} payload indexes")
            return replace(facts, details={**facts.details, DETAILS: {**known, "payload_indexes": indexes}})

        index.facts = self._root.configure(index.name, changed)


def _name(call: HttpCall) -> str:
    name = str(call.scope["path_params"]["name"])
    call.require_index(name)
    return name
