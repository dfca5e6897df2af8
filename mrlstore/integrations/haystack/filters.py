"""Haystack's filter dictionaries, said as a `where`. See docs/integrations/haystack.md for what differs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from haystack.errors import FilterError

from mrlstore.errors import MrlStoreError
from mrlstore.where import parse

Filters = dict[str, Any]  # Haystack's
Clause = dict[str, Any]  # ours

_ORDER = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_DOCUMENT_FIELDS = {"id", "content", "blob", "score", "embedding", "sparse_embedding"}


def where_of(filters: Mapping[str, Any] | None) -> Clause | None:
    """The `where` that means the same; None for no filters. FilterError for what means nothing."""
    if not filters:
        return None
    where = _clause(filters)
    try:
        parse(where)
    except MrlStoreError as error:
        raise FilterError(f"{error} (from {filters!r:.200})") from error
    return where


def _clause(condition: object) -> Clause:
    if not isinstance(condition, Mapping):
        raise FilterError(f"expected a condition, got {condition!r:.80}")
    if "operator" not in condition:
        raise FilterError(f"'operator' key missing in {condition!r:.200}")
    return _comparison(condition) if "field" in condition else _logic(condition)


def _logic(condition: Mapping[str, Any]) -> Clause:
    operator, conditions = condition["operator"], condition.get("conditions")
    if not isinstance(conditions, list) or not conditions:
        raise FilterError(f"'conditions' key missing or empty in {condition!r:.200}")
    clauses = [_clause(inner) for inner in conditions]
    if operator == "AND":
        return {"$and": clauses}
    if operator == "OR":
        return {"$or": clauses}
    if operator == "NOT":  # of all of them together
        return {"$not": {"$and": clauses}}
    raise FilterError(f"unknown operator {operator!r:.40}; with conditions: AND, OR, NOT")


def _comparison(condition: Mapping[str, Any]) -> Clause:
    if "value" not in condition:
        raise FilterError(f"'value' key missing in {condition!r:.200}")
    field, operator, value = _path(condition["field"]), condition["operator"], condition["value"]
    if isinstance(value, datetime):
        value = value.isoformat()
    if operator == "==":
        return _equal(field, value)
    if operator == "!=":
        return {"$not": _equal(field, value)}
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{operator!r} takes a list, got {type(value).__name__}")
        among = _among(field, value)
        return among if operator == "in" else {"$not": among}
    if operator in _ORDER:
        return _ordered(field, operator, value)
    raise FilterError(f"unknown operator {operator!r:.40}; allowed: ==, !=, >, >=, <, <=, in, not in")


def _path(field: object) -> str:
    if not isinstance(field, str):
        raise FilterError(f"a field is a string, got {field!r:.80}")
    if field in _DOCUMENT_FIELDS:
        raise FilterError(f"{field!r}: filters go on metadata, as in 'meta.{field}'")
    return field.removeprefix("meta.")


def _equal(field: str, value: Any) -> Clause:
    return _among(field, [value]) if value is None else {field: {"$eq": value}}


def _among(field: str, values: list[Any]) -> Clause:
    """For Haystack a missing value is None."""
    listed: Clause = {field: {"$in": values}}
    missing: Clause = {field: {"$exists": False}}
    return {"$or": [listed, missing]} if any(value is None for value in values) else listed


def _ordered(field: str, operator: str, value: Any) -> Clause:
    if value is None:
        return {field: {"$in": []}}
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise FilterError(f"{operator}: of strings only dates in ISO format have an order") from error
    return {field: {_ORDER[operator]: value}}
