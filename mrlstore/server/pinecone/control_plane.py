"""The control plane: indexes are created, listed, described, configured and deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mrlstore.server.bodies import dump, parse_object
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import IndexFacts
from mrlstore.server.operations import Answer, Serving
from mrlstore.server.pinecone.index_model import (
    index_model,
    protection,
    tags,
    wanted_index,
    wanted_index_for_model,
)
from mrlstore.server.text_models import kind_of_new

DATA_PLANE: Final = "/i/"  # the data plane of an index is below this and its name


class ControlPlane:
    """What the routes below `/indexes` do; each method gives the answer to a call with its body."""

    def __init__(self, serving: Serving) -> None:
        self._serving, self._root = serving, serving.root

    def create_index(self, call: HttpCall, body: bytes) -> Answer:
        """POST /indexes: an empty index, ready at once."""
        wanted = wanted_index(parse_object(body))
        call.require_index(wanted.name)
        self._root.create(wanted.name, wanted.dim, wanted.facts)
        return Answer(dump(self._model(call, wanted.name, wanted.dim, wanted.facts)), 201)

    def create_for_model(self, call: HttpCall, body: bytes) -> Answer:
        """POST /indexes/create-for-model: an index of texts; the server's embedder stands for any model."""
        kind = kind_of_new()
        wanted = wanted_index_for_model(parse_object(body), kind)
        call.require_index(wanted.name)
        self._root.create(wanted.name, wanted.dim, wanted.facts)
        return Answer(dump(self._model(call, wanted.name, wanted.dim, wanted.facts)), 201)

    def list_indexes(self, call: HttpCall, body: bytes) -> Answer:
        """GET /indexes: those that the key opens."""
        names = [name for name in self._root.names() if call.grant.may_use(name)]
        return Answer(dump({"indexes": [self._described(call, name) for name in names]}))

    def describe_index(self, call: HttpCall, body: bytes) -> Answer:
        """GET /indexes/NAME."""
        return Answer(dump(self._described(call, _name(call))))

    def configure_index(self, call: HttpCall, body: bytes) -> Answer:
        """PATCH /indexes/NAME: protection and tags. What else there is, of pods, has no meaning here."""
        given = parse_object(body)

        def change(known: IndexFacts) -> IndexFacts:
            return replace(
                known, protected=protection(given, known.protected), tags=tags(known.tags, given.get("tags"))
            )

        self._root.configure(_name(call), change)
        return Answer(dump(self._described(call, _name(call))))

    def delete_index(self, call: HttpCall, body: bytes) -> Answer:
        """DELETE /indexes/NAME: gone when this is answered."""
        self._root.delete(_name(call))
        return Answer(b"", 202)

    def _described(self, call: HttpCall, name: str) -> dict[str, Any]:
        facts = self._root.facts(name)
        return self._model(call, name, self._root.run(name, lambda index: index.store.dim), facts)

    def _model(self, call: HttpCall, name: str, dim: int | None, facts: IndexFacts) -> dict[str, Any]:
        base = self._serving.config.public_url or call.base_url
        return index_model(name, dim, facts, f"{base.rstrip('/')}{DATA_PLANE}{name}")


def _name(call: HttpCall) -> str:
    name = str(call.scope["path_params"]["name"])
    call.require_index(name)
    return name
