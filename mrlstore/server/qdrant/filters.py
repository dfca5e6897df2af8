"""Qdrant's filters as a `where`, and the ids that they name.

What has no exact counterpart is refused: full text, geography, counts of values, conditions on the members of
nested lists. docs/integrations/qdrant-server.md names what is left of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from math import comb, inf
from typing import Any, Final

from mrlstore.server.bodies import shown
from mrlstore.server.qdrant.datetimes import time_range
from mrlstore.server.qdrant.point_ids import row_ids
from mrlstore.server.refusals import invalid

Clause = dict[str, Any]

_GROUPS: Final = ("must", "should", "must_not", "min_should")
_ORDER: Final = {"gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte"}
_ABOUT_FIELDS: Final = (
    "match", "range", "is_empty", "is_null", "values_count", "geo_radius", "geo_bounding_box", "geo_polygon",
)  # fmt: skip
_DEPTH: Final = 16
_COMBINATIONS: Final = 200
_ALWAYS: Final[Clause] = {"": {"$nin": []}}  # every point passes


@dataclass(frozen=True)
class PointFilter:
    """A filter: rows that match `where`, of `only` these ids if it is not None, `without` these."""

    where: Clause | None = None
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether every point passes."""
        return self.where is None and self.only is None and not self.without

    def and_also(self, other: PointFilter) -> PointFilter:
        """What passes both filters."""
        wheres = [each for each in (self.where, other.where) if each is not None]
        sets = [each for each in (self.only, other.only) if each is not None]
        return PointFilter(
            None if not wheres else {"$and": wheres},
            None if not sets else frozenset.intersection(*sets),
            self.without | other.without,
        )

    def names(self, ids: Iterable[str]) -> list[str]:
        """Those of some ids that are not left out."""
        return [id for id in ids if id not in self.without]


@dataclass
class _Ids:
    """The ids that the outermost level of a filter names."""

    only: frozenset[str] | None = None
    without: set[str] = field(default_factory=set)

    def require(self, ids: list[str]) -> None:
        self.only = frozenset(ids) if self.only is None else self.only & frozenset(ids)


def filter_of(given: object, place: str = "filter") -> PointFilter:
    """The filter that a request gives; None and `{}` let every point pass.

    Raises:
        HttpRefusal: 400, it is wrong, or it has a condition that is not offered.
    """
    if given is None:
        return PointFilter()
    ids = _Ids()
    where = _clause(_object(given, place), place, 1, ids)
    return PointFilter(where, ids.only, frozenset(ids.without))


def _clause(given: Clause, place: str, depth: int, ids: _Ids | None) -> Clause | None:
    """The conditions of one level; None where there are none. `ids` is that of the outermost level."""
    unknown = next((name for name in given if name not in _GROUPS), None)
    if unknown is not None:
        raise invalid(f"{place}: {unknown!r:.60} is not one of {', '.join(_GROUPS)}")
    if depth > _DEPTH:
        raise invalid(f"{place}: nested more than {_DEPTH} levels deep")
    must, should, must_not = (
        _listed(given.get(name), f"{place}.{name}") for name in ("must", "should", "must_not")
    )
    if ids is not None:
        for each in [one for one in must if _is_about_ids(one)]:
            ids.require(row_ids(each["has_id"], f"{place}.must.has_id"))
        for each in [one for one in must_not if _is_about_ids(one)]:
            ids.without.update(row_ids(each["has_id"], f"{place}.must_not.has_id"))
        must, must_not = ([one for one in some if not _is_about_ids(one)] for some in (must, must_not))
    clauses = [*_conditions(must, f"{place}.must", depth)]
    if should:
        clauses.append({"$or": [*_conditions(should, f"{place}.should", depth)]})
    if must_not:
        clauses.append({"$not": {"$or": [*_conditions(must_not, f"{place}.must_not", depth)]}})
    if given.get("min_should") is not None:
        clauses.append(_min_should(_object(given["min_should"], f"{place}.min_should"), place, depth))
    return {"$and": clauses} if clauses else None


def _is_about_ids(condition: object) -> bool:
    return isinstance(condition, dict) and condition.keys() == {"has_id"}


def _listed(given: object, place: str) -> list[Any]:
    """A list of conditions, of which one may stand alone."""
    if given is None:
        return []
    if isinstance(given, dict):
        return [given]
    if not isinstance(given, list):
        raise invalid(f"{place}: expected a list of conditions, got {shown(given)}")
    return given


def _conditions(given: list[Any], place: str, depth: int) -> Iterator[Clause]:
    for at, each in enumerate(given):
        yield _condition(_object(each, f"{place}[{at}]"), f"{place}[{at}]", depth)


def _min_should(given: Clause, place: str, depth: int) -> Clause:
    """At least so many of some conditions: one of all choices of so many holds as a whole."""
    place = f"{place}.min_should"
    least = given.get("min_count")
    conditions = [
        *_conditions(_listed(given.get("conditions"), f"{place}.conditions"), f"{place}.conditions", depth)
    ]
    if type(least) is not int or least < 0:
        raise invalid(f"{place}.min_count: expected a whole number, got {shown(least)}")
    if least == 0:
        return _ALWAYS
    if least > len(conditions):
        return {"$not": _ALWAYS}
    if comb(len(conditions), least) > _COMBINATIONS:
        raise invalid(f"{place}: {least} of {len(conditions)} conditions are too many choices")
    return {"$or": [{"$and": list(chosen)} for chosen in combinations(conditions, least)]}


def _condition(given: Clause, place: str, depth: int) -> Clause:
    if any(name in given for name in _GROUPS):
        inner = _clause(given, place, depth + 1, None)
        return _ALWAYS if inner is None else inner
    if "key" in given:
        return _about_field(given, place)
    for name, clause in (("is_empty", _is_empty), ("is_null", _is_null)):
        if name in given:
            return clause(_key(_object(given[name], place).get("key"), place))
    if "has_id" in given:
        raise invalid(f"{place}: has_id is offered in must and must_not of the outermost level alone")
    for name in ("nested", "has_vector"):
        if name in given:
            raise invalid(
                f"{place}: the condition {name} is not offered here; dotted keys reach into objects"
            )
    raise invalid(f"{place}: {shown(given)} is not a condition")


def _about_field(given: Clause, place: str) -> Clause:
    key = _key(given["key"], place)
    said = [name for name in _ABOUT_FIELDS if given.get(name) is not None]
    unknown = next((name for name in given if name != "key" and name not in _ABOUT_FIELDS), None)
    if unknown is not None or len(said) != 1:
        raise invalid(f"{place}: expected one of {', '.join(_ABOUT_FIELDS)} beside key, got {shown(given)}")
    name, operand = said[0], given[said[0]]
    if name == "match":
        return _match(key, _object(operand, place), f"{place}.match")
    if name == "range":
        return _range(key, _object(operand, place), f"{place}.range")
    if name in ("is_empty", "is_null"):
        clause = _is_empty(key) if name == "is_empty" else _is_null(key)
        return clause if operand is True else {"$not": clause}
    raise invalid(f"{place}: the condition {name} is not offered here")


def _match(key: str, given: Clause, place: str) -> Clause:
    if len(given) != 1:
        raise invalid(f"{place}: expected one of value, any and except, got {shown(given)}")
    ((kind, operand),) = given.items()
    builders: dict[str, Callable[[], Clause]] = {
        "value": lambda: {key: {"$eq": operand}},
        "any": lambda: {key: {"$in": operand}},
        "except": lambda: {key: {"$other": operand}},
    }
    if kind not in builders:
        raise invalid(f"{place}: {kind!r:.40} is not offered here; value, any and except are")
    if (kind == "value") != isinstance(operand, str | int) or (kind != "value" and type(operand) is not list):
        raise invalid(f"{place}.{kind}: got {shown(operand)}")
    return builders[kind]()


def _range(key: str, given: Clause, place: str) -> Clause:
    bounds: Clause = {}
    clauses: list[Clause] = []
    for name, operand in given.items():
        if name not in _ORDER:
            raise invalid(f"{place}: {name!r:.40} is not one of {', '.join(_ORDER)}")
        if operand is None:
            continue
        if isinstance(operand, str):
            clauses.append(time_range(key, _ORDER[name], operand, f"{place}.{name}"))
        elif isinstance(operand, bool) or not isinstance(operand, int | float):
            raise invalid(f"{place}.{name}: expected a number or a time, got {shown(operand)}")
        else:
            bounds[_ORDER[name]] = operand
    if bounds or not clauses:
        clauses.append({key: {"$within": bounds or {"$gte": -inf}}})
    return {"$and": clauses}


def _is_empty(key: str) -> Clause:
    """No value there but nulls: the key is missing, null, or a list without other members."""
    return {"$not": {key: {"$other": [None]}}}


def _is_null(key: str) -> Clause:
    return {key: {"$eq": None}}


def _key(given: object, place: str) -> str:
    if not isinstance(given, str) or not given:
        raise invalid(f"{place}.key: expected the name of a field, got {shown(given)}")
    if "[" in given or '"' in given:
        raise invalid(f"{place}.key: {given!r:.60}: members of lists and quoted keys are not offered here")
    return given


def _object(given: object, place: str) -> Clause:
    if not isinstance(given, dict):
        raise invalid(f"{place}: expected an object, got {shown(given)}")
    return given
