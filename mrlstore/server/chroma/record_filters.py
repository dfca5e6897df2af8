"""Chroma's filters: those of metadata as a `where`, those of documents as a test of each document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mrlstore.server.bodies import shown
from mrlstore.server.refusals import invalid

Clause = dict[str, Any]

_ORDER: Final = ("$gt", "$gte", "$lt", "$lte")
_OPERATORS: Final = ("$eq", "$ne", "$in", "$nin", *_ORDER, "$contains", "$not_contains")
_DEPTH: Final = 16


def where_of(given: object, place: str = "where", depth: int = 1) -> Clause | None:
    """The `where` that means the same, or None where every record passes.

    A record without the key passes `$ne`, `$nin` and `$not_contains`. A list is equal to nothing: its members
    are found by `$contains`.

    Raises:
        HttpRefusal: 400, it is wrong.
    """
    if given is None or given == {}:
        return None
    if not isinstance(given, dict) or len(given) != 1:
        raise invalid(f"{place}: expected one key, or $and or $or with a list of filters, got {shown(given)}")
    if depth > _DEPTH:
        raise invalid(f"{place}: nested more than {_DEPTH} levels deep")
    ((key, value),) = given.items()
    if key in ("$and", "$or"):
        clauses = [where_of(each, f"{place}.{key}", depth + 1) for each in _several(value, f"{place}.{key}")]
        if None in clauses:
            raise invalid(f"{place}.{key}: an empty filter says nothing")
        return {key: clauses}
    if key.startswith("$"):
        raise invalid(f"{place}: {key!r:.40} is not offered here; $and and $or are")
    if key == "#document":
        raise invalid(f"{place}: documents are filtered by where_document")
    operators = value if isinstance(value, dict) else {"$eq": value}
    if len(operators) != 1:
        raise invalid(f"{place}.{key:.60}: expected one operator, got {shown(value)}")
    ((operator, operand),) = operators.items()
    return _condition(key, operator, operand, f"{place}.{key:.60}")


def _condition(key: str, operator: str, operand: Any, place: str) -> Clause:
    if operator not in _OPERATORS:
        raise invalid(f"{place}: {operator!r:.40} is not one of {', '.join(_OPERATORS)}")
    if operator in _ORDER:
        if isinstance(operand, bool) or not isinstance(operand, int | float):
            raise invalid(f"{place}.{operator}: expected a number, got {shown(operand)}")
        return {key: {operator: operand}}
    values = _several(operand, f"{place}.{operator}") if operator in ("$in", "$nin") else [operand]
    wrong = next((each for each in values if not isinstance(each, str | int | float)), None)
    if wrong is not None or None in values:
        raise invalid(f"{place}.{operator}: expected a string, a number or a boolean, got {shown(wrong)}")
    if operator in ("$contains", "$not_contains"):
        clause: Clause = {key: {"$any": values}}
    else:
        clause = {"$and": [{key: {"$in": values}}, {"$not": {key: {"$any": values}}}]}
    return {"$not": clause} if operator in ("$ne", "$nin", "$not_contains") else clause


@dataclass(frozen=True)
class DocumentTest:
    """A condition on a document: that it has a text, or all or any of some conditions; or the opposite."""

    kind: Literal["text", "all", "any"]
    text: str = ""
    clauses: Sequence[DocumentTest] = ()
    negated: bool = False

    def matches(self, document: str | None) -> bool:
        """Whether a document passes; a record without one has no text."""
        if self.kind == "all":
            return all(clause.matches(document) for clause in self.clauses)
        if self.kind == "any":
            return any(clause.matches(document) for clause in self.clauses)
        return (document is not None and self.text in document) is not self.negated


def document_filter_of(given: object, place: str = "where_document", depth: int = 1) -> DocumentTest | None:
    """The filter of documents of a request, or None where every record passes.

    Raises:
        HttpRefusal: 400, it is wrong, or a regular expression.
    """
    if given is None or given == {}:
        return None
    if not isinstance(given, dict) or len(given) != 1 or depth > _DEPTH:
        raise invalid(f"{place}: expected one operator, got {shown(given)}")
    ((operator, operand),) = given.items()
    if operator in ("$and", "$or"):
        inner = [
            document_filter_of(each, f"{place}.{operator}", depth + 1)
            for each in _several(operand, f"{place}.{operator}")
        ]
        clauses = [each for each in inner if each is not None]
        if len(clauses) < len(inner):
            raise invalid(f"{place}.{operator}: an empty filter says nothing")
        return DocumentTest("all" if operator == "$and" else "any", clauses=clauses)
    if operator not in ("$contains", "$not_contains"):
        raise invalid(
            f"{place}: {operator!r:.40} is not offered here; $contains, $not_contains, $and, $or are"
        )
    if not isinstance(operand, str) or not operand:
        raise invalid(f"{place}.{operator}: expected a text, got {shown(operand)}")
    return DocumentTest("text", operand, negated=operator == "$not_contains")


def _several(given: object, place: str) -> list[Any]:
    if not isinstance(given, list) or not given:
        raise invalid(f"{place}: expected a list of one or more, got {shown(given)}")
    return given
