"""Collections are created, listed, described, changed and deleted; who is there, and where."""

from __future__ import annotations

import time
from typing import Any, Final

import mrlstore
from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import dump, parse_object, shown
from mrlstore.server.chroma.collection_shape import (
    DATABASE,
    TENANT,
    changed_collection,
    collection_id,
    described,
    wanted_collection,
)
from mrlstore.server.http_call import HttpCall, one_of
from mrlstore.server.indexes import IndexFacts, ServedIndex
from mrlstore.server.operations import Answer, Serving
from mrlstore.server.refusals import invalid, not_found

_VERSION: Final = "1.0.0"  # of the API
MAX_BATCH: Final = 5_461  # records of one write, as Chroma's own server has it; clients obey


class ChromaCollections:
    """What the routes do that are not about the records of one collection."""

    def __init__(self, serving: Serving) -> None:
        self._root = serving.root

    def heartbeat(self, call: HttpCall, body: bytes) -> Answer:
        """GET /heartbeat."""
        return Answer(dump({"nanosecond heartbeat": time.time_ns()}))

    def version(self, call: HttpCall, body: bytes) -> Answer:
        """GET /version."""
        return Answer(dump(_VERSION))

    def checks(self, call: HttpCall, body: bytes) -> Answer:
        """GET /pre-flight-checks: how clients may write."""
        return Answer(dump({"max_batch_size": MAX_BATCH, "supports_base64_encoding": True}))

    def identity(self, call: HttpCall, body: bytes) -> Answer:
        """GET /auth/identity."""
        answer = {"user_id": call.grant.name, "tenant": TENANT, "databases": [DATABASE]}
        return Answer(dump(answer))

    def tenant(self, call: HttpCall, body: bytes) -> Answer:
        """GET /tenants/TENANT: there is one."""
        self.check_place(call)
        return Answer(dump({"name": TENANT}))

    def databases(self, call: HttpCall, body: bytes) -> Answer:
        """GET /tenants/TENANT/databases: there is one."""
        self.check_place(call)
        return Answer(dump([_DATABASE]))

    def database(self, call: HttpCall, body: bytes) -> Answer:
        """GET /tenants/TENANT/databases/DATABASE."""
        self.check_place(call)
        return Answer(dump(_DATABASE))

    def list_all(self, call: HttpCall, body: bytes) -> Answer:
        """GET /collections: those that the key opens, by name."""
        self.check_place(call)
        asked, names = call.query(), self._names(call)
        limit, offset = (_count(one_of(asked, name), name) for name in ("limit", "offset"))
        start = offset or 0
        chosen = names[start:] if limit is None else names[start : start + limit]
        return Answer(dump([self._described(name) for name in chosen]))

    def count(self, call: HttpCall, body: bytes) -> Answer:
        """GET /collections_count."""
        self.check_place(call)
        return Answer(dump(len(self._names(call))))

    def create(self, call: HttpCall, body: bytes) -> Answer:
        """POST /collections: with `get_or_create` one that is there is described, whatever else is given."""
        self.check_place(call)
        given = parse_object(body)
        name = given.get("name")
        if not isinstance(name, str):
            raise invalid(f"name: expected a string, got {shown(name)}")
        call.require_index(name)
        if not (given.get("get_or_create") is True and self._root.exists(name)):
            call.require(Role.ADMIN)
            facts = wanted_collection(given)
            self._root.make(
                name, facts, lambda place: mrlstore.open(place, mode="x", auto_maintain=False).close()
            )
        return Answer(dump(self._described(name)))

    def describe(self, call: HttpCall, body: bytes) -> Answer:
        """GET /collections/NAME."""
        self.check_place(call)
        return Answer(dump(self._described(_name(call))))

    def describe_by_id(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """GET /collections/by-id/ID."""
        return Answer(dump(described(index.name, index.store.dim, index.facts)))

    def delete(self, call: HttpCall, body: bytes) -> Answer:
        """DELETE /collections/NAME: gone when this is answered."""
        self.check_place(call)
        self._root.delete(_name(call))
        return Answer()

    def modify(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """PUT /collections/ID: other metadata and configuration; the name stays."""
        given = parse_object(body)
        if given.get("new_name") not in (None, index.name):
            raise invalid("new_name: a collection is not renamed here; the folder of its store has the name")

        def change(known: IndexFacts) -> IndexFacts:
            return changed_collection(known, given)

        index.facts = self._root.configure(index.name, change)
        return Answer()

    def name_of(self, id: str) -> str | None:
        """The name of the collection with a UUID, or None."""
        return next((name for name in self._root.names() if collection_id(name) == id), None)

    def check_place(self, call: HttpCall) -> None:
        """Refuse other tenants and databases than those there are."""
        params = call.scope["path_params"]
        for what, known in (("tenant", TENANT), ("database", DATABASE)):
            if params.get(what, known) != known:
                raise not_found(f"there is no {what} {params[what]!r:.80}; there is {known}")

    def _names(self, call: HttpCall) -> list[str]:
        return [name for name in self._root.names() if call.grant.may_use(name)]

    def _described(self, name: str) -> dict[str, Any]:
        facts = self._root.facts(name)
        return described(name, self._root.run(name, lambda index: index.store.dim), facts)


_DATABASE: Final = {"id": collection_id(f"/{DATABASE}"), "name": DATABASE, "tenant": TENANT}


def _name(call: HttpCall) -> str:
    name = str(call.scope["path_params"]["name"])
    call.require_index(name)
    return name


def _count(given: str | None, name: str) -> int | None:
    if given is not None and not given.isdecimal():
        raise invalid(f"{name}: expected a number, got {shown(given)}")
    return None if given is None else int(given)
