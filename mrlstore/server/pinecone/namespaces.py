"""Namespaces of an index: how many rows each has, and those that were created and are still empty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mrlstore.checks import check_namespace
from mrlstore.integrations.pinecone.filters import where_of
from mrlstore.server.bodies import dump, parse_object, shown
from mrlstore.server.http_call import HttpCall, one_of
from mrlstore.server.indexes import IndexFacts, IndexRoot, ServedIndex
from mrlstore.server.operations import Answer
from mrlstore.server.pinecone.row_fields import DEFAULT_NAMESPACE, space_of
from mrlstore.server.refusals import invalid, not_found

_PAGE: Final = 100
_CREATED: Final = "created_namespaces"  # in the facts of an index
_MAX_CREATED: Final = 10_000


class Namespaces:
    """What the routes about namespaces do; those that were created are kept in the facts of the index."""

    def __init__(self, root: IndexRoot) -> None:
        self._root = root

    def stats(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """POST /describe_index_stats: how many rows there are, or match, in all and in each namespace."""
        counts = self._counts(index, call)
        where = where_of(parse_object(body).get("filter"))
        if where is not None:
            counts = {name: index.store.count(where, namespace=space_of(name)) for name in counts}
        answer = {
            "namespaces": {name: {"vectorCount": count} for name, count in counts.items()},
            "dimension": index.store.dim,
            "indexFullness": 0,
            "totalVectorCount": sum(counts.values()),
            "metric": index.facts.metric,
            "vectorType": "dense",
        }
        return Answer(dump(answer))

    def list(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """GET /namespaces: one page, in the order of their names."""
        asked = call.query()
        limit, token, prefix = (one_of(asked, name) for name in ("limit", "paginationToken", "prefix"))
        if limit is not None and (not limit.isdecimal() or not 1 <= int(limit) <= 1_000):
            raise invalid(f"limit: expected 1 to 1,000, got {shown(limit)}")
        counts = self._counts(index, call)
        names = sorted(name for name in counts if name.startswith(prefix or ""))
        behind = [name for name in names if not token or name > token]
        page = behind[: _PAGE if limit is None else int(limit)]
        answer: dict[str, Any] = {
            "namespaces": [_described(name, counts[name]) for name in page], "total_count": len(names)
        }  # fmt: skip
        if len(page) < len(behind):
            answer["pagination"] = {"next": page[-1]}
        return Answer(dump(answer))

    def describe(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """GET /namespaces/NAME: 404 where nothing is in it and nobody has created it."""
        name = self._named(call)
        counts = self._counts(index, call)
        if name not in counts:
            raise not_found(f"there is no namespace {name!r:.300}")
        return Answer(dump(_described(name, counts[name])))

    def create(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """POST /namespaces: listed from now on. A schema says nothing: all metadata can be filtered by."""
        given = parse_object(body)
        name = given.get("name")
        if not isinstance(name, str) or not name:
            raise invalid(f"name: expected a string that is not empty, got {shown(name)}")
        space = check_namespace(space_of(name))
        call.require_namespace(space)
        self._remember(index.name, lambda known: sorted({*known, space}))
        return Answer(dump(_described(name, self._counts(index, call)[space or DEFAULT_NAMESPACE])))

    def delete(self, index: ServedIndex, call: HttpCall, body: bytes) -> Answer:
        """DELETE /namespaces/NAME: with all rows that are in it. One that is not there is no error."""
        space = space_of(self._named(call))
        index.store.clear(space)
        if space in _created(self._root.facts(index.name)):
            self._remember(index.name, lambda known: [name for name in known if name != space])
        return Answer()

    def _named(self, call: HttpCall) -> str:
        name = str(call.scope["path_params"]["namespace"]) or DEFAULT_NAMESPACE
        call.require_namespace(space_of(name))
        return name

    def _counts(self, index: ServedIndex, call: HttpCall) -> dict[str, int]:
        """Rows of each namespace that the key opens, by the name that clients know."""
        counts = dict.fromkeys(_created(self._root.facts(index.name)), 0) | index.store.namespaces()
        return {
            name or DEFAULT_NAMESPACE: count for name, count in counts.items() if call.grant.may_enter(name)
        }

    def _remember(self, index: str, change: Any) -> None:
        def changed(facts: IndexFacts) -> IndexFacts:
            names = change(_created(facts))
            if len(names) > _MAX_CREATED:
                raise invalid(
                    f"more than {_MAX_CREATED:,} namespaces were created; write rows to them instead"
                )
            return replace(facts, details={**facts.details, _CREATED: names})

        self._root.configure(index, changed)


def _created(facts: IndexFacts) -> list[str]:
    names: list[str] = facts.details.get(_CREATED, [])
    return names


def _described(name: str, count: int) -> dict[str, Any]:
    return {"name": name, "record_count": count}
