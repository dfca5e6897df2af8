"""Filters over random metadata: the reference against an oracle, and the columns against the reference."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlstore.columns import build_columns, open_columns
from mrlstore.where import MISSING, OtherThan, order_key, parse, resolve, scalars_of
from tests import inside
from tests.filters import PATHS, filters, flattened, metadatas, objects, passes, questions, tokens
from tests.scale import figure, shares

SHARES = shares(5)  # in torture each runs by a random seed of its own

# Sizes at which the code changes its way, made so small that a few rows cross them.
SMALL = {
    inside.COLUMN_BATCH_CHARACTERS: 50,
    inside.COLUMN_SORTED_AT_ONCE: 16,
    inside.MASK_FETCH_ROWS: 2,
    inside.MASK_BLOCK: 2,
    inside.MASK_MAX_INTERVALS: 1,
    inside.COLUMN_CHUNK_BYTES: 16,
}


def stored(rows: list[dict[str, Any] | None]) -> tuple[list[str | None], list[dict[str, Any] | None]]:
    """The rows as JSON texts, and as they come back."""
    texts = [None if row is None else json.dumps(row) for row in rows]
    return texts, [None if text is None else json.loads(text) for text in texts]


def check(
    rows: list[dict[str, Any] | None], wheres: list[dict[str, Any]], start: int = 0, stop: int | None = None
) -> None:
    """Compare the columns' masks with the reference on these rows."""
    texts, rows = stored(rows)
    stop = len(rows) if stop is None else stop
    columns = open_columns(build_columns(iter(texts), len(rows)))
    assert columns.rows == len(rows)
    assert columns.verify() == []
    fetched: list[int] = []

    def fetch(numbers: Any) -> list[dict[str, Any] | None]:
        assert numbers.dtype == np.int64
        assert (numbers >= start).all()
        assert (numbers < stop).all()
        fetched.extend(numbers.tolist())
        return [rows[number] for number in numbers]

    for where in wheres:
        node = parse(where)
        assert node is not None
        fetched.clear()
        mask = columns.mask(node, start, stop, fetch)
        assert mask.dtype == np.bool_
        assert mask.tolist() == [node.matches(row) for row in rows[start:stop]], where
        assert fetched == sorted(set(fetched)), "no row is asked for twice"


@settings(max_examples=figure(10_000, 150))
@given(objects)
def test_every_path_leads_to_its_value(row: dict[str, Any]) -> None:
    paths = flattened(row)
    for path in {*paths, *PATHS, *(f"{path}.a" for path in paths)}:
        assert resolve(row, path) == paths.get(path, MISSING)


@pytest.mark.parametrize("share", SHARES)
@settings(max_examples=figure(2_000, 150))
@given(questions())
def test_the_reference_is_the_oracle(
    share: int,
    asked: tuple[list[dict[str, Any] | None], list[dict[str, Any]]],
) -> None:
    rows, wheres = asked
    for where in wheres:
        node = parse(where)
        assert node is not None
        assert [node.matches(row) for row in rows] == [passes(where, row) for row in rows], where


@pytest.mark.parametrize("share", SHARES)
@settings(max_examples=figure(2_000, 150))
@given(questions(), st.data())
def test_the_columns_are_the_reference(
    share: int, asked: tuple[list[dict[str, Any] | None], list[dict[str, Any]]], data: st.DataObject
) -> None:
    rows, wheres = asked
    start = data.draw(st.integers(0, len(rows)))
    check(rows, wheres, start, data.draw(st.integers(start, len(rows))))


@pytest.mark.parametrize("share", SHARES)
@settings(max_examples=figure(2_000, 150))
@given(questions(), st.integers(0, 4), st.integers(0, 3))
def test_with_few_columns_and_small_blocks(
    share: int, asked: tuple[list[dict[str, Any] | None], list[dict[str, Any]]], fields: int, more: int
) -> None:
    limits = {
        "mrlstore.columns.build.MAX_FIELDS": fields,
        "mrlstore.columns.build.MAX_CANDIDATES": fields + more,
    }
    with ExitStack() as stack:
        for name, value in {**SMALL, **limits}.items():
            stack.enter_context(patch(name, value))
        check(*asked)


@settings(max_examples=figure(1_000, 40))
@given(
    st.lists(
        st.dictionaries(st.integers(0, 400).map("k{}".format), st.integers(0, 3), max_size=60), max_size=40
    ),
    st.integers(0, 410),
    st.integers(0, 3),
)
def test_with_more_paths_than_columns(rows: list[dict[str, Any] | None], key: int, value: int) -> None:
    check(rows, [{f"k{key}": value}, {f"k{key}": {"$ne": value}}])


@settings(max_examples=figure(3_000, 100))
@given(filters(), filters(), metadatas)
def test_equal_keys_mean_equal_filters(
    one: dict[str, Any], other: dict[str, Any], row: dict[str, Any] | None
) -> None:
    first, second = parse(one), parse(other)
    assert first is not None
    assert second is not None
    both, swapped = parse({"$and": [one, other]}), parse({"$and": [other, one, other]})
    assert both is not None
    assert swapped is not None
    assert both.key == swapped.key
    assert both.fields == first.fields | second.fields
    if first.key == second.key:
        assert first.matches(row) == second.matches(row)


def values_of(row: dict[str, Any] | None, path: str) -> dict[str, Any]:
    """The scalars of a row at a path by a text that equal ones share, as the oracle of filters sees them."""
    flat = flattened(row)
    members = flat.get(path, [])
    found = members if isinstance(members, list) else [members]
    kinds = [tokens(member)[0] if not isinstance(member, list) else ("nothing", None) for member in found]
    return {repr(kind): member for kind, member in zip(kinds, found, strict=True) if kind[0] != "nothing"}


@pytest.mark.parametrize("share", SHARES)
@settings(max_examples=figure(2_000, 60))
@given(questions(), st.data())
def test_columns_give_the_values_that_rows_have(
    share: int, question: tuple[list[dict[str, Any] | None], list[dict[str, Any]]], data: st.DataObject
) -> None:
    texts, rows = stored(question[0])
    columns = open_columns(build_columns(iter(texts), len(rows)))
    chosen = np.array([i for i in range(len(rows)) if data.draw(st.booleans())], dtype=np.int64)
    for path in {path for row in rows for path in flattened(row)} | {"nowhere"}:
        counted, given = columns.tally(path, chosen), columns.row_values(path, chosen)
        counts = {repr(tokens(one.value)[0]): one.rows for one in counted.counts}
        assert len(counts) == len(counted.counts)
        expected: dict[str, int] = {}
        for row in chosen.tolist():
            of_row = values_of(rows[row], path)
            assert {repr(tokens(one)[0]) for one in scalars_of(rows[row], path)} == of_row.keys()
            if row not in counted.undecided:
                for value in of_row:
                    expected[value] = expected.get(value, 0) + 1
        assert counts == expected
        for place, row in enumerate(chosen.tolist()):
            own, number = flattened(rows[row]).get(path), int(given.numbers[place])
            if place in given.undecided or isinstance(own, list | dict) or own != own:
                assert number == -1
            else:
                assert repr(tokens(None if number < 0 else given.values[number])[0]) == repr(tokens(own)[0])
        in_order = sorted(given.values, key=order_key)
        assert in_order == sorted(in_order, key=lambda one: (isinstance(one, str), order_key(one)))


@pytest.mark.parametrize("share", SHARES)
@settings(max_examples=figure(2_000, 60))
@given(questions(), st.data())
def test_rows_with_another_value_are_found_alike_by_columns_and_by_metadata(
    share: int, question: tuple[list[dict[str, Any] | None], list[dict[str, Any]]], data: st.DataObject
) -> None:
    texts, rows = stored(question[0])
    columns = open_columns(build_columns(iter(texts), len(rows)))
    for path in {path for row in rows for path in flattened(row)} | {"nowhere"}:
        seen = [value for row in rows for value in scalars_of(row, path)]
        excluded = tuple(value for value in seen if data.draw(st.booleans()))
        gone = {repr(tokens(value)[0]) for value in excluded}
        node = OtherThan(path, excluded)
        expected = [bool(values_of(row, path).keys() - gone) for row in rows]
        assert [node.matches(row) for row in rows] == expected
        mask = columns.mask(node, 0, len(rows), lambda numbers: [rows[number] for number in numbers])
        assert mask.tolist() == expected
