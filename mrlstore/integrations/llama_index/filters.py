"""LlamaIndex's `MetadataFilters` as a `where` that matches what `build_metadata_filter_fn` matches.

LlamaIndex compares as Python does: a list is not equal to its members, and 1 equals True. A missing key is
the same as None, and matches only "not equal" and "not in".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from mrlstore.errors import InvalidInput

Clause = dict[str, Any]
ValuesOf = Callable[[str], Iterable[Any]]  # all values that stored rows have for a key

EMPTY_LISTS = "_empty_lists"  # reserved metadata: the keys whose value is an empty list

_ORDER = {
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
}


def where_of(filters: MetadataFilters | None, values_of: ValuesOf) -> Clause:
    """The `where` that means the same; {} for no filters.

    `values_of` is called only for text matches that ignore case. Raises InvalidInput for operands that an
    operator does not take.
    """
    if filters is None or not filters.filters:
        return {}
    clauses = [
        where_of(each, values_of) or anything()
        if isinstance(each, MetadataFilters)
        else _condition(each, values_of)
        for each in filters.filters
    ]
    condition = filters.condition or FilterCondition.AND
    if condition == FilterCondition.AND:
        return {"$and": clauses}
    if condition == FilterCondition.OR:
        return {"$or": clauses}
    return {"$not": {"$or": clauses}}


def anything() -> Clause:
    """A clause that every row matches, for places where an empty filter is not allowed."""
    return {EMPTY_LISTS: {"$nin": []}}


def one_of(key: str, values: list[Any]) -> Clause:
    """Rows whose value is one of these, as Python's `in` has it, and not a list that holds one of them."""
    listed = [like for value in values if value is not None for like in _alike(value)]
    return {"$and": [{key: {"$in": listed}}, {key: {"$not": {"$any": listed}}}]}


def _condition(one: MetadataFilter, values_of: ValuesOf) -> Clause:
    key, operator, value = one.key, one.operator, one.value
    if operator in (FilterOperator.EQ, FilterOperator.NE):
        equal = one_of(key, [_scalar(one, value)])
        return equal if operator == FilterOperator.EQ else {"$not": equal}
    if operator in (FilterOperator.IN, FilterOperator.NIN):
        listed = one_of(key, _list(one))
        return listed if operator == FilterOperator.IN else {"$not": listed}
    if operator in _ORDER:
        return {key: {_ORDER[operator]: _scalar(one, value)}}
    if operator == FilterOperator.CONTAINS:
        return _contains(key, _scalar(one, value))
    if operator == FilterOperator.ANY:
        return {"$or": [_contains(key, each) for each in _list(one)] or [{key: {"$in": []}}]}
    if operator == FilterOperator.ALL:
        there: Clause = {key: {"$exists": True, "$ne": None}}
        return {"$and": [there, *(_contains(key, each) for each in _list(one))]}
    if operator == FilterOperator.IS_EMPTY:
        empty_list = {EMPTY_LISTS: {"$any": [key]}}
        return {"$or": [{key: {"$exists": False}}, {key: {"$eq": None}}, one_of(key, [""]), empty_list]}
    return _text_match(one, values_of)


def _text_match(one: MetadataFilter, values_of: ValuesOf) -> Clause:
    if not isinstance(one.value, str):
        raise InvalidInput(f"{one.key}: {one.operator.value} takes a string, got {one.value!r:.40}")
    if one.operator == FilterOperator.TEXT_MATCH:
        return _contains(one.key, one.value)
    part = one.value.lower()
    found = {value for value in values_of(one.key) if isinstance(value, str) and part in value.lower()}
    return one_of(one.key, sorted(found))


def _contains(key: str, value: Any) -> Clause:
    """A list's member, as Python's `in` has it, or a string's part."""
    return {key: {"$contains": value} if isinstance(value, str) else {"$any": _alike(value)}}


def _alike(value: Any) -> list[Any]:
    """The values that Python takes for equal: 1 and True, 0 and False."""
    return [value, bool(value)] if not isinstance(value, str) and value in (0, 1) else [value]


def _scalar(one: MetadataFilter, value: Any) -> Any:
    if isinstance(value, list):
        raise InvalidInput(f"{one.key}: {one.operator.value} takes one value, got {value!r:.40}")
    return value


def _list(one: MetadataFilter) -> list[Any]:
    if not isinstance(one.value, list):
        raise InvalidInput(f"{one.key}: {one.operator.value} takes a list, got {one.value!r:.40}")
    return one.value
