"""Haystack's filter dictionaries as a `where`. See docs/integrations/haystack.md for what differs.

Conditions on a document's `id` and `content` are not part of a `where`, which goes by metadata; a filter that
has one is tried on each document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from haystack.errors import FilterError

from mrlstore.checks import iso_text
from mrlstore.errors import MrlStoreError
from mrlstore.types import Record
from mrlstore.where import parse

Filters = dict[str, Any]  # Haystack's
Clause = dict[str, Any]  # ours
Test = Callable[[Record], bool]

_ORDER = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_ROW_FIELDS: Final = ("id", "content")  # of a document, and of a row beside its metadata
_DOCUMENT_FIELDS = {*_ROW_FIELDS, "blob", "score", "embedding", "sparse_embedding"}


@dataclass(frozen=True)
class DocumentFilter:
    """A filter as a store can answer it: by `where`, or by `test` on each document."""

    where: Clause | None
    test: Test | None = None
    ids: list[str] | None = None  # with `test`: no other document can match


def filter_of(filters: Mapping[str, Any] | None) -> DocumentFilter:
    """What the filters mean; FilterError for what means nothing."""
    if not filters:
        return DocumentFilter(None)
    if not _names_row_field(filters):
        return DocumentFilter(where_of(filters))
    return DocumentFilter(None, _test_of(filters), _ids_of(filters))


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


def _names_row_field(condition: object) -> bool:
    if not isinstance(condition, Mapping):
        return False
    inner = condition.get("conditions")
    return condition.get("field") in _ROW_FIELDS or (
        isinstance(inner, list) and any(map(_names_row_field, inner))
    )


def _test_of(condition: Any) -> Test:
    if not _names_row_field(condition):
        node = parse(where_of(condition))
        return lambda record: node is None or node.matches(record.metadata)
    if "field" in condition:
        return _row_field_test(condition)
    _logic(condition, [{}] * len(condition["conditions"]))  # refuses an unknown operator
    tests = [_test_of(inner) for inner in condition["conditions"]]
    if condition["operator"] == "OR":
        return lambda record: any(test(record) for test in tests)
    negated = condition["operator"] == "NOT"
    return lambda record: all(test(record) for test in tests) is not negated


def _row_field_test(condition: Mapping[str, Any]) -> Test:
    field, operator, values = condition["field"], condition.get("operator"), _operands(condition)
    if operator not in ("==", "!=", "in", "not in"):
        raise FilterError(f"{field!r}: {operator!r:.40} is not allowed; use ==, !=, in or not in")
    negated = operator in ("!=", "not in")
    if field == "id":
        return lambda record: (record.id in values) is not negated
    return lambda record: (record.document in values) is not negated


def _operands(condition: Mapping[str, Any]) -> list[Any]:
    if "value" not in condition:
        raise FilterError(f"'value' key missing in {condition!r:.200}")
    value = condition["value"]
    if condition.get("operator") not in ("in", "not in"):
        return [value]
    if not isinstance(value, list):
        raise FilterError(f"{condition['operator']!r} takes a list, got {type(value).__name__}")
    return value


def _ids_of(condition: Mapping[str, Any]) -> list[str] | None:
    """The only ids that can match; None if the condition does not say so."""
    if condition.get("field") == "id" and condition.get("operator") in ("==", "in"):
        return [id for id in _operands(condition) if isinstance(id, str) and id]
    if condition.get("operator") == "AND" and "field" not in condition:
        found = [_ids_of(inner) for inner in condition["conditions"] if isinstance(inner, Mapping)]
        return next((ids for ids in found if ids is not None), None)
    return None


def _clause(condition: object) -> Clause:
    if not isinstance(condition, Mapping):
        raise FilterError(f"expected a condition, got {condition!r:.80}")
    if "operator" not in condition:
        raise FilterError(f"'operator' key missing in {condition!r:.200}")
    if "field" in condition:
        return _comparison(condition)
    conditions = condition.get("conditions")
    if not isinstance(conditions, list) or not conditions:
        raise FilterError(f"'conditions' key missing or empty in {condition!r:.200}")
    return _logic(condition, [_clause(inner) for inner in conditions])


def _logic(condition: Mapping[str, Any], clauses: list[Clause]) -> Clause:
    operator = condition.get("operator")
    if operator == "AND":
        return {"$and": clauses}
    if operator == "OR":
        return {"$or": clauses}
    if operator == "NOT":  # Haystack negates all of them together
        return {"$not": {"$and": clauses}}
    raise FilterError(f"unknown operator {operator!r:.40}; with conditions: AND, OR, NOT")


def _comparison(condition: Mapping[str, Any]) -> Clause:
    if "value" not in condition:
        raise FilterError(f"'value' key missing in {condition!r:.200}")
    field, operator, value = _path(condition["field"]), condition["operator"], condition["value"]
    if isinstance(value, datetime):
        value = iso_text(value)  # with a zone, in UTC
    if operator == "==":
        return _equal(field, value)
    if operator == "!=":
        return {"$not": _equal(field, value)}
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{operator!r} takes a list, got {type(value).__name__}")
        one_of = _one_of(field, value)
        return one_of if operator == "in" else {"$not": one_of}
    if operator in _ORDER:
        return _ordered(field, operator, value)
    raise FilterError(f"unknown operator {operator!r:.40}; allowed: ==, !=, >, >=, <, <=, in, not in")


def _path(field: object) -> str:
    if not isinstance(field, str):
        raise FilterError(f"a field is a string, got {field!r:.80}")
    if field in _DOCUMENT_FIELDS:
        raise FilterError(
            f"{field!r}: filters go on metadata, as in 'meta.{field}', and on {', '.join(_ROW_FIELDS)}"
        )
    return field.removeprefix("meta.")


def _equal(field: str, value: Any) -> Clause:
    return _one_of(field, [value]) if value is None else {field: {"$eq": value}}


def _one_of(field: str, values: list[Any]) -> Clause:
    """Rows whose value is one of these; for Haystack a missing value is None."""
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
