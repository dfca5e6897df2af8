"""The filter language: what each operator matches, and what is refused, where and why."""

from __future__ import annotations

import enum
import re
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from mrlstore.errors import InvalidInput
from mrlstore.where import MISSING, parse, resolve
from tests import inside

ROW = {
    "year": 2024,
    "price": 9.5,
    "whole": 3.0,
    "title": "Deep Learning",
    "draft": False,
    "editor": None,
    "tags": ["ml", "vision", 7, None, ["nested"], {"k": 1}],
    "empty": [],
    "author": {"name": "Ada", "born": {"year": 1815}},
    "a.b": 1,
    "a": {"b": 2, "c.d": 3},
    "big": 2**64 + 1,
}

MATCHING: list[dict[str, Any]] = [
    {"year": 2024},
    {"year": 2024.0},
    {"whole": 3},
    {"year": {"$eq": 2024}},
    {"year": {"$ne": 2023}},
    {"missing": {"$ne": 2023}},
    {"missing": {"$nin": [1]}},
    {"missing": {"$not": {"$gt": 1}}},
    {"missing": {"$not_contains": "x"}},
    {"missing": {"$exists": False}},
    {"missing": {"$nin": []}},
    {"editor": None},
    {"editor": {"$exists": True}},
    {"editor": {"$in": [None]}},
    {"draft": False},
    {"draft": {"$ne": 0}},
    {"tags": "ml"},
    {"tags": None},
    {"tags": {"$in": ["x", "vision"]}},
    {"tags": {"$not": {"$gt": 6}}},
    {"tags": {"$contains": 7}},
    {"tags": {"$any": ["x", "ml"]}},
    {"tags": {"$all": ["ml", "vision", None]}},
    {"tags": {"$not_contains": "nested"}},
    {"tags": {"$ne": "nested"}},
    {"empty": {"$exists": True, "$ne": None}},
    {"title": {"$contains": "Learn"}},
    {"title": {"$contains": ""}},
    {"title": {"$not_contains": "learn"}},
    {"title": {"$gt": "Deep", "$lt": "E"}},
    {"price": {"$gte": 9.5, "$lte": 9.5}},
    {"price": {"$lt": float("inf"), "$gt": float("-inf")}},
    {"author.name": "Ada"},
    {"author.born.year": {"$lt": 1900}},
    {"author": {"$exists": True}},
    {"author": {"$ne": "Ada"}},
    {"a.b": 1},
    {"a.c.d": 3},
    {"big": 2**64 + 1},
    {"big": {"$gt": 2.0**64}},
    {"big": {"$ne": 2.0**64}},
    {"year": 2024, "draft": False},
    {"$and": [{"year": 2024}, {"draft": False}]},
    {"$or": [{"year": 1}, {"draft": False}]},
    {"$or": [{"year": 1}], "year": 1} | {"$or": [{"year": 2024}], "year": 2024},
    {"$not": {"year": 1}},
    {"$not": {"year": 2024, "draft": True}},
    {"year": {"$not": {"$gt": 2024}, "$gte": 2024}},
    {"year": {"$not": {"$not": {"$eq": 2024}}}},
]

NOT_MATCHING: list[dict[str, Any]] = [
    {"year": "2024"},
    {"year": True},
    {"draft": 0},
    {"draft": None},
    {"missing": None},
    {"missing": {"$exists": True}},
    {"editor": {"$exists": False}},
    {"editor": {"$ne": None}},
    {"year": {"$in": []}},
    {"year": {"$in": ["2024", None]}},
    {"year": {"$nin": [2024.0]}},
    {"tags": {"$any": []}},
    {"tags": {"$all": ["ml", "x"]}},
    {"tags": "nested"},
    {"tags": "m"},
    {"tags": {"$contains": "m"}},
    {"tags": {"$nin": ["ml"]}},
    {"tags": {"$gt": 6, "$lt": 8}},
    {"tags": {"$gte": "vision"}},
    {"year": {"$any": [2024]}},
    {"year": {"$all": [2024]}},
    {"year": {"$contains": 2024}},
    {"year": {"$contains": "2024"}},
    {"empty": None},
    {"title": {"$gt": "Deep", "$lt": "Deep Learning"}},
    {"title": {"$gt": 0}},
    {"draft": {"$lt": 1}},
    {"editor": {"$lt": 1}},
    {"year": {"$gt": ""}},
    {"author": "Ada"},
    {"author": {"$gt": ""}},
    {"tags.k": 1},
    {"author.name.first": "A"},
    {"a.b": 2},
    {"big": 2**64},
    {"year": 2024, "draft": True},
    {"$and": [{"year": 2024}, {"draft": True}]},
    {"$or": [{"year": 1}, {"draft": True}]},
    {"$not": {"year": 2024, "draft": False}},
]

# The filter, the place that the message names, and a word of what it says.
REFUSED: list[tuple[Any, str, str]] = [
    ([], "where:", "a filter is a dict"),
    ("year = 1", "where:", "a filter is a dict"),
    ({1: 2}, "where:", "not 1"),
    ({"$gt": 1}, "where:", "goes inside a field"),
    ({"$nor": [{"a": 1}]}, "where:", "unknown operator '$nor'"),
    ({"$and": []}, "where.$and:", "one filter or more"),
    ({"$or": []}, "where.$or:", "one filter or more"),
    ({"$or": {"a": 1}}, "where.$or:", "takes a list of filters, not a dict"),
    ({"$and": [{"a": 1}, {}]}, "where.$and[1]:", "an empty dict"),
    ({"$or": [{"a": 1}, None]}, "where.$or[1]:", "not None"),
    ({"$not": {}}, "where.$not:", "an empty dict"),
    ({"$not": [1]}, "where.$not:", "a filter is a dict"),
    ({"a": {}}, "where.a:", "an empty dict"),
    ({"a": {"b": 1}}, "where.a:", "dotted path, 'a.b'"),
    ({"a": {"$regex": "x"}}, "where.a:", "unknown operator '$regex'"),
    ({"a": {"$and": [{"$gt": 1}]}}, "where.a:", "unknown operator '$and'"),
    ({"a": {3: 1}}, "where.a:", "unknown operator 3"),
    ({"a": {"$not": 5}}, "where.a.$not:", "use $ne"),
    ({"a": {"$not": {}}}, "where.a.$not:", "an empty dict"),
    ({"a": [1, 2]}, "where.a:", "$in, $any or $all"),
    ({"a": {"$eq": [1]}}, "where.a.$eq:", "$in, $any or $all"),
    ({"a": {"$ne": (1,)}}, "where.a.$ne:", "$in, $any or $all"),
    ({"a": {"$eq": {"b": 1}}}, "where.a.$eq:", "dotted path"),
    ({"a": {"$in": 5}}, "where.a.$in:", "a list of values, not 5"),
    ({"a": {"$in": "abc"}}, "where.a.$in:", "a list of values"),
    ({"a": {"$in": {"b": 1}}}, "where.a.$in:", "a list of values, not a dict"),
    ({"a": {"$in": [1, [2]]}}, "where.a.$in[1]:", "one value"),
    ({"a": {"$in": [1] * 100_001}}, "where.a.$in:", "100,001 values"),
    ({"a": {"$in": np.ones((2, 2))}}, "where.a.$in:", "a list of values"),
    ({"a": {"$any": [float("nan")]}}, "where.a.$any[0]:", "NaN"),
    ({"a": {"$all": []}}, "where.a.$all:", "one value or more"),
    ({"a": {"$all": "x"}}, "where.a.$all:", "a list of values"),
    ({"a": {"$contains": ["x"]}}, "where.a.$contains:", "$any or $all"),
    ({"a": {"$exists": 1}}, "where.a.$exists:", "True or False"),
    ({"a": {"$exists": None}}, "where.a.$exists:", "True or False"),
    ({"a": {"$gt": None}}, "where.a.$gt:", "a number or a string, not None"),
    ({"a": {"$gt": True}}, "where.a.$gt:", "not True"),
    ({"a": {"$lt": np.bool_(False)}}, "where.a.$lt:", "not a bool"),
    ({"a": {"$gte": [1]}}, "where.a.$gte:", "a number or a string"),
    ({"a": {"$lte": float("nan")}}, "where.a.$lte:", "NaN"),
    ({"a": float("nan")}, "where.a:", "NaN"),
    ({"a": np.float32("nan")}, "where.a:", "NaN"),
    ({"a": float("inf")}, "where.a:", "infinity"),
    ({"a": {"$in": [float("-inf")]}}, "where.a.$in[0]:", "infinity"),
    ({"a": b"x"}, "where.a:", "not a bytes"),
    ({"a": date(2024, 1, 1)}, "where.a:", "not a date"),
    ({"a": Decimal(1)}, "where.a:", "not a Decimal"),
    ({"a": 1j}, "where.a:", "not a complex"),
    ({"a": np.longdouble(1)}, "where.a:", "not a longdouble"),
    ({"a": "\ud800"}, "where.a:", "lone surrogate"),
    ({"\ud800": 1}, "where:", "lone surrogate"),
    ({"a" * 1_025: 1}, "where:", "1,024 characters"),
    ({"$or": [{"a": 1}] * 1_001}, "where.$or[1000].a:", "1,000 conditions"),
    ({"a": {"$all": list(range(1_001))}}, "where.a:", "1,000 conditions"),
    ({"a": 10**5000, "$and": 10**5000}, "where.$and:", "an int of"),
]


@pytest.mark.parametrize("where", MATCHING, ids=str)
def test_matches(where: dict[str, Any]) -> None:
    node = parse(where)
    assert node is not None
    assert node.matches(ROW)


@pytest.mark.parametrize("where", NOT_MATCHING, ids=str)
def test_does_not_match(where: dict[str, Any]) -> None:
    node = parse(where)
    assert node is not None
    assert not node.matches(ROW)


@pytest.mark.parametrize(("where", "place", "word"), REFUSED, ids=[word for _, _, word in REFUSED])
def test_refused(where: Any, place: str, word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(where)
    message = str(caught.value)
    assert message.startswith(place), message
    assert word in message, message
    assert len(message) < 400
    message.encode()  # fit for a log


def test_no_filter() -> None:
    assert parse(None) is None
    assert parse({}) is None
    assert parse(MappingProxyType({})) is None


def test_a_row_without_metadata_is_a_row_with_an_empty_object() -> None:
    for where in ({"a": None}, {"a": {"$exists": False}}, {"a": {"$ne": 1}}, {"$not": {"a": 1}}):
        node = parse(where)
        assert node is not None
        assert node.matches(None) == node.matches({})


def test_depth_is_bounded() -> None:
    def nested(levels: int) -> dict[str, Any]:
        where: dict[str, Any] = {"a": 1}
        for _ in range(levels - 1):
            where = {"$and": [where]}
        return where

    assert parse(nested(32)) is not None
    with pytest.raises(InvalidInput, match="32 levels"):
        parse(nested(33))
    circular: dict[str, Any] = {}
    circular["$not"] = circular
    with pytest.raises(InvalidInput, match="32 levels"):
        parse(circular)
    operators: dict[str, Any] = {}
    operators["$not"] = operators
    with pytest.raises(InvalidInput, match="32 levels"):
        parse({"a": operators})


def test_the_limits_themselves_pass() -> None:
    assert parse({"$or": [{"a": 1}] * 1_000}) is not None
    assert parse({"a" * 1_024: {"$in": list(range(100_000))}}) is not None


class Colour(enum.Enum):
    RED = "red"


class Name(enum.StrEnum):
    ADA = "Ada"

    def __str__(self) -> str:
        return "not the value"


class Number(enum.IntEnum):
    SEVEN = 7


@pytest.mark.parametrize(
    ("operand", "value"),
    [
        (np.int64(7), 7),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (Name.ADA, "Ada"),
        (Number.SEVEN, 7),
    ],
)
def test_numpy_scalars_and_enums_are_the_values_they_hold(operand: Any, value: Any) -> None:
    for where in ({"a": operand}, {"a": {"$in": [operand]}}):
        node = parse(where)
        assert node is not None
        assert node.matches({"a": value})
        plain = parse({"a": value})
        assert plain is not None
        assert node.key == plain.key
    with pytest.raises(InvalidInput, match="not a Colour"):
        parse({"a": Colour.RED})


@pytest.mark.parametrize("values", [[1, 2], (1, 2), {1, 2}, frozenset((1, 2)), np.array([1, 2])], ids=repr)
def test_any_collection_of_values_will_do(values: Any) -> None:
    node = parse({"a": {"$in": values}})
    assert node is not None
    assert [node.matches({"a": value}) for value in (0, 1, 2, 3)] == [False, True, True, False]


def test_resolve() -> None:
    row = {
        "a.b": 1,
        "a": {"b": 2, "c": None},
        "x": {"y.z": 3, "y": {"z": 4, "w": 5}},
        "l": [{"m": 6}],
        "": {"": 7},
    }
    assert resolve(row, "a.b") == 1
    assert resolve(row, "a.c") is None
    assert resolve(row, "x.y.z") == 3
    assert resolve(row, "x.y.w") == 5
    assert resolve(row, "l.m") is MISSING
    assert resolve(row, "l.0") is MISSING
    assert resolve(row, ".") == 7
    assert resolve(row, "a.") is MISSING
    assert resolve({"a.b": {"c": 1}}, "a.b.c") == 1
    assert resolve({"a.b": {"c": 1}, "a": {"b.c": 2, "b": {"c": 3}}}, "a.b.c") == 1
    assert resolve({"a": {"b.c": 2, "b": {"c": 3}}}, "a.b.c") == 2
    # A longer key that leads nowhere does not hide a shorter one that does.
    assert resolve({"a.b": 5, "a": {"b": {"c": 6}}}, "a.b.c") == 6


def test_resolve_of_a_hostile_path_takes_no_exponential_time() -> None:
    row: dict[str, Any] = {}
    for length in range(1, 200):  # every head leads on, none to the end
        row[".".join("a" * length)] = {"x": 1}
    assert resolve(row, ".".join("a" * 400)) is MISSING


def test_keys_tell_filters_apart_and_only_those() -> None:
    def key(where: dict[str, Any]) -> str:
        node = parse(where)
        assert node is not None
        return node.key

    same: list[Any] = [
        ({"a": 1}, {"a": {"$eq": 1.0}}),
        ({"a": {"$in": [1, 2, 2]}}, {"a": {"$in": [2.0, 1]}}),
        ({"a": 1, "b": 2}, {"$and": [{"b": 2}, {"a": 1}]}),
        ({"a": {"$ne": 1}}, {"$not": {"a": 1}}),
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": 10**5000}, {"a": {"$in": [10**5000]}}),
    ]
    for one, other in same:
        assert key(one) == key(other)
    distinct: list[Any] = [
        *(
            {"a": value}
            for value in (1, "1", True, None, "null", "true", 1.5, 2**53, 2**53 + 1, "1h", 10**5000)
        ),
        *({"a": {"$in": values}} for values in ([], [1, 2], ["1,2"], ["1", "2"], ['1","2'])),
        *({"a": {operator: 5}} for operator in ("$ne", "$gt", "$gte", "$lt", "$lte", "$contains")),
        {"a": {"$any": [5]}},
        {"a": {"$exists": True}},
        {"a": {"$exists": False}},
        {'a",1': {"$exists": True}},
        {"$or": [{"a": 1}, {"b": 2}]},
        {"$and": [{"a": 1}, {"b": 2}]},
    ]
    assert len({key(where) for where in distinct}) == len(distinct)


def test_the_fields_of_a_filter() -> None:
    node = parse({"a.b": 1, "$or": [{"c": 1}, {"$not": {"d": {"$not": {"$gt": 1}}}}]})
    assert node is not None
    assert node.fields == {"a.b", "c", "d"}


def test_every_operator_is_in_the_message_for_an_unknown_one() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"a": {"$like": "x"}})
    found = set(re.findall(r"\$\w+", str(caught.value)))
    assert found >= {"$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists"}
    assert found >= {"$contains", "$not_contains", "$any", "$all", "$not"}


def test_filters_that_are_remembered_are_told_apart() -> None:
    alike = [
        {"a": 1}, {"a": True}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": {"$in": [1]}},
        {"a": {"$in": [1, "b"]}}, {"a": {"$in": [[1], "b"]}}, {"a": {"$in": ["1", "b"]}}, {"a": {"$eq": 1}},
        {"a": 1, "b": 1}, {"$or": [{"a": 1}, {"b": 1}]}, {"$or": [{"a": 1, "b": 1}]}, {"$and": [{"a": 1}]},
        {1: 1}, {"a": {1}}, {"a": (1,)}, {"a": np.int64(1)},
    ]  # fmt: skip

    def outcome(where: Any) -> Any:
        try:
            return inside.FilterParser().filter(where, "where", 1)
        except InvalidInput as error:
            return str(error)

    where: Any
    for where in alike * 2:  # the second time they are known
        try:
            found: Any = parse(where)
        except InvalidInput as error:
            found = str(error)
        assert found == outcome(where)


def test_a_filter_may_be_changed_after_its_use() -> None:
    where = {"year": {"$in": [2023]}}
    assert parse(where) is parse({"year": {"$in": [2023]}})
    where["year"]["$in"].append(2024)
    node = parse(where)
    assert node is not None
    assert node.matches({"year": 2024})


def test_only_short_filters_are_remembered() -> None:
    for long in ({"a": {"$in": list(range(1_000))}}, {f"field{i}": i for i in range(300)}):
        assert parse(long) == parse(long)
        assert parse(long) is not parse(long)
    for i in range(2_500):
        parse({"i": i})
    assert len(inside.known_filters) <= 1_000
