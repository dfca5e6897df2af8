"""Indexes are listed, created, described and deleted; the settings of their audits; what a key may do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import mrlstore
from mrlstore.errors import InvalidInput, MrlStoreError
from mrlstore.server.api_keys import Grant
from mrlstore.server.bodies import dump, parse_object
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import AUDIT, IndexFacts, ServedIndex
from mrlstore.server.operations import Answer, Serving
from mrlstore.server.refusals import HttpRefusal, invalid
from mrlstore.version import __version__

# What a new index can be given beside its name, all of it arguments of `mrlstore.open`.
SETTINGS: Final = ("dim", "prefix_dim", "tokenizer", "m", "ef_construction", "graph")
_FIGURES: Final = (
    "rows", "namespaces", "segments", "tail_rows", "dead_rows", "damaged_parts", "bytes_on_disk",
)  # fmt: skip


class IndexCalls:
    """What the routes that are about whole indexes do; each method gives the answer to a call."""

    def __init__(self, serving: Serving) -> None:
        self._serving, self._root = serving, serving.root

    def me(self, call: HttpCall, body: bytes) -> Answer:
        """GET /v1/me: what the key may do, and the version of the server."""
        grant = call.grant
        answer = {
            "version": __version__,
            "role": grant.role.name.lower(),
            "indexes": None if grant.indexes is None else sorted(grant.indexes),
            "namespaces": None if grant.namespaces is None else sorted(grant.namespaces),
            "read_only": self._serving.config.read_only,
            "needs_key": self._serving.config.api_keys is not None,
        }
        return Answer(dump(answer))

    def list(self, call: HttpCall, body: bytes) -> Answer:
        """GET /v1/indexes: those that the key opens. One that cannot be read has an error beside its name."""
        names = [name for name in self._root.names() if call.grant.may_use(name)]
        return Answer(dump({"indexes": [self._row(name, call.grant) for name in names]}))

    def create(self, call: HttpCall, body: bytes) -> Answer:
        """POST /v1/indexes: an empty index, ready at once."""
        given = parse_object(body)
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise InvalidInput("name: expected a string")
        unknown = next((each for each in given if each not in SETTINGS), None)
        if unknown is not None:
            raise invalid(f"{unknown:.60}: an index has no such setting; it has name, {', '.join(SETTINGS)}")
        call.require_index(name)
        facts = IndexFacts()
        self._root.make(
            name,
            facts,
            lambda place: mrlstore.open(place, mode="x", auto_maintain=False, **given).close(),
        )
        return Answer(dump(self._row(name, call.grant)), 201)

    def describe(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """GET /v1/indexes/INDEX."""
        return Answer(dump(self._figures(index, call.grant)))

    def delete(self, call: HttpCall, body: bytes) -> Answer:
        """DELETE /v1/indexes/INDEX: gone when this is answered. Its backups stay."""
        self._root.delete(_index(call))
        return Answer()

    def audit(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """POST /v1/indexes/INDEX/audit: kept with the index, for all processes that serve it."""
        given = parse_object(body)
        unknown = next((each for each in given if each not in _AUDIT), None)
        if unknown is not None:
            raise invalid(f"{unknown:.60}: audit has no such argument; it has {', '.join(_AUDIT)}")
        index.store.audit(**given)  # refuses what is wrong, before it is kept
        index.audit = given

        def change(known: IndexFacts) -> IndexFacts:
            return replace(known, details={**known.details, AUDIT: given})

        self._root.configure(index.name, change)
        return Answer(dump(None))

    def _row(self, name: str, grant: Grant) -> dict[str, Any]:
        try:
            return self._root.run(name, lambda index: self._figures(index, grant))
        except (MrlStoreError, HttpRefusal, OSError) as error:
            return {"name": name, "error": type(error).__name__}

    def _figures(self, index: ServedIndex, grant: Grant) -> dict[str, Any]:
        store, facts = index.store, index.facts
        described = {
            "name": index.name, "dim": store.dim, "prefix_dim": store.prefix_dim,
            "metric": facts.metric, "generation": store.generation,
        }  # fmt: skip
        if grant.namespaces is not None:  # figures of the whole index would tell of other namespaces
            return described
        stats = store.stats()
        return {**described, **{name: getattr(stats, name) for name in _FIGURES}}


_AUDIT: Final = ("rate", "floor", "window", "cost", "learn")


def _index(call: HttpCall) -> str:
    name = str(call.scope["path_params"]["index"])
    call.require_index(name)
    return name
