"""Columns: what they hold, which rows they ask for, their bytes, their limits, and what is said of damage."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrlstore.columns import Columns, InvalidColumns, build_columns, open_columns
from mrlstore.columns.dictionary import sortable
from mrlstore.columns.full_check import verify_layout
from mrlstore.columns.layout import ARRAYS, HEADER, RECORD, Layout, read_layout
from mrlstore.system.job import Interrupted, Job
from mrlstore.where import Node, parse
from tests import inside
from tests.filters import NUMBERS

Rows = list[dict[str, Any] | None]


def build(rows: Rows) -> NDArray[np.uint8]:
    return build_columns((None if row is None else json.dumps(row) for row in rows), len(rows))


def node_of(where: dict[str, Any]) -> Node:
    node = parse(where)
    assert node is not None
    return node


def unasked(numbers: NDArray[np.int64]) -> Rows:
    raise AssertionError(f"rows {numbers} were asked for")


def rows_of(columns: Columns, where: dict[str, Any]) -> list[int]:
    """The rows that pass, decided by the columns alone."""
    return np.flatnonzero(columns.mask(node_of(where), 0, columns.rows, unasked)).tolist()


class Fetched:
    """Gives rows and remembers which were asked for, call by call."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.calls: list[list[int]] = []

    def __call__(self, numbers: NDArray[np.int64]) -> Rows:
        self.calls.append(numbers.tolist())
        return [self.rows[number] for number in numbers]


# --- what is decided without the rows ----------------------------------------------------------------


def test_every_ordinary_filter_is_decided_by_the_columns_alone() -> None:
    rows: Rows = [
        {"a": 1, "s": "one", "t": ["x", 1], "n": {"m": True}},
        {"a": 1.5, "s": "two", "t": [], "n": None},
        None,
        {"a": 2**70 + 1, "s": "x" * 256, "t": [[1]], "n": {"m": None}},
    ]
    columns = open_columns(build(rows))
    assert rows_of(columns, {"a": 1}) == [0]
    assert rows_of(columns, {"a": {"$gt": 1}}) == [1, 3]
    assert rows_of(columns, {"a": {"$gt": 2**70}}) == [3]
    assert rows_of(columns, {"a": 2**70 + 1}) == [3]
    assert rows_of(columns, {"a": 2.0**70}) == []
    assert rows_of(columns, {"a": {"$exists": False}}) == [2]
    assert rows_of(columns, {"s": {"$contains": "o"}}) == [0, 1]
    assert rows_of(columns, {"s": "x" * 256}) == [3]
    assert rows_of(columns, {"s": "x" * 257}) == []
    assert rows_of(columns, {"t": {"$exists": True}}) == [0, 1, 3]
    assert rows_of(columns, {"t": {"$ne": 1}}) == [1, 2, 3]
    assert rows_of(columns, {"n.m": None}) == [3]
    assert rows_of(columns, {"n.m": True}) == [0]
    assert rows_of(columns, {"nowhere": None}) == []
    assert rows_of(columns, {"nowhere": {"$ne": None}}) == [0, 1, 2, 3]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: f"{type(value).__name__} {value!s:.20}")
def test_numbers_compare_exactly(value: int | float) -> None:
    columns = open_columns(build([{"a": number} for number in NUMBERS]))
    fetched = Fetched([{"a": number} for number in NUMBERS])
    for operator, meaning in {
        "$eq": lambda number: number == value,
        "$gt": lambda number: number > value,
        "$gte": lambda number: number >= value,
        "$lt": lambda number: number < value,
        "$lte": lambda number: number <= value,
    }.items():
        mask = columns.mask(node_of({"a": {operator: value}}), 0, len(NUMBERS), fetched)
        assert mask.tolist() == [meaning(number) for number in NUMBERS], operator


def test_sortable_bytes_are_in_the_order_of_the_numbers() -> None:
    numbers = sorted(
        {sign * (2**bits + more) for sign in (-1, 1) for bits in range(0, 2048, 7) for more in (-1, 0, 1)}
    )
    assert sorted(numbers, key=sortable) == numbers
    assert len({sortable(number) for number in numbers}) == len(numbers)


def test_strings_compare_by_code_point() -> None:
    # UTF-16 would put U+1F600 before U+FFFF, and a locale é next to e.
    strings = ["", "\0", "Z", "a", "e\u0301", "z", "é", "\uffff", "\U0001f600"]
    columns = open_columns(build([{"a": text} for text in strings]))
    for place, text in enumerate(strings):
        assert rows_of(columns, {"a": {"$gt": text}}) == [*range(place + 1, len(strings))]
        assert rows_of(columns, {"a": {"$lte": text}}) == [*range(place + 1)]
        assert rows_of(columns, {"a": text}) == [place]


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_many_strings_are_found_at_once(step: int) -> None:
    strings = [f"{i:04}" for i in range(0, 1_000, 3)]
    columns = open_columns(build([{"a": text} for text in strings]))
    wanted = [f"{i:04}" for i in range(0, 1_010, step)] + ["", "zzz"]
    assert rows_of(columns, {"a": {"$in": wanted}}) == [i for i, text in enumerate(strings) if text in wanted]


def test_substrings_do_not_reach_across_strings_or_into_characters() -> None:
    strings = ["ab", "cd", "bc", "é", "ÿþ", "abab", "aab"]
    columns = open_columns(build([{"a": text} for text in strings]))
    assert rows_of(columns, {"a": {"$contains": "bc"}}) == [2]
    assert rows_of(columns, {"a": {"$contains": "ab"}}) == [0, 5, 6]
    assert rows_of(columns, {"a": {"$contains": "ÿ"}}) == [4]
    assert rows_of(columns, {"a": {"$contains": ""}}) == [*range(len(strings))]


def test_many_substrings_over_more_than_one_chunk() -> None:
    strings = [f"item {i} of many, {i * 7919 % 100_000}" for i in range(100_000)]  # about 2.5 MB
    columns = open_columns(build([{"a": text} for text in strings]))
    for needle in ("99", "item 5", "many", ", 7", "no such"):
        assert rows_of(columns, {"a": {"$contains": needle}}) == [
            i for i, s in enumerate(strings) if needle in s
        ]


@pytest.mark.parametrize("distinct", [250, 251, 65_530, 65_531, 70_000])
def test_codes_of_every_width(distinct: int) -> None:
    """Six codes have a meaning of their own, so 250 distinct values fill a byte and 65,530 two."""
    columns = open_columns(build([{"a": i} for i in range(distinct)]))
    width = 1 if distinct <= 250 else 2 if distinct <= 65_530 else 4
    assert columns.fields()[0].nbytes == distinct * (width + 8)
    assert rows_of(columns, {"a": {"$gte": distinct - 2}}) == [distinct - 2, distinct - 1]
    assert rows_of(columns, {"a": distinct - 1}) == [distinct - 1]
    wanted = [0, 5, 9, distinct - 1, *range(100, 200, 2)]
    assert rows_of(columns, {"a": {"$in": wanted}}) == sorted(wanted)
    assert columns.verify() == []


# --- ranges of rows ----------------------------------------------------------------------------------


def test_a_range_of_rows_is_the_same_rows_of_the_whole() -> None:
    rows: Rows = [{"a": i % 5, "t": [i, i + 1], **({"rare": i} if i % 13 == 0 else {})} for i in range(200)]
    columns = open_columns(build(rows))
    for where in (
        {"a": 3},
        {"t": {"$lt": 60}},
        {"rare": {"$gt": 20}},
        {"rare": {"$exists": False}},
        {"t": 77},
    ):
        whole = columns.mask(node_of(where), 0, 200, unasked)
        for start, stop in ((0, 0), (200, 200), (0, 1), (64, 129), (13, 14), (77, 200)):
            part = columns.mask(node_of(where), start, stop, unasked)
            assert part.tolist() == whole[start:stop].tolist()


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 4), (2, 1), (4, 4)])
def test_a_range_beyond_the_rows_is_refused(start: int, stop: int) -> None:
    columns = open_columns(build([{"a": 1}] * 3))
    with pytest.raises(ValueError, match="of 3"):
        columns.mask(node_of({"a": 1}), start, stop, unasked)


def test_an_empty_part() -> None:
    columns = open_columns(build([]))
    assert columns.rows == 0
    assert columns.fields() == []
    assert columns.verify() == []
    assert columns.mask(node_of({"a": 1}), 0, 0, unasked).tolist() == []


# --- what only the rows can tell ---------------------------------------------------------------------


def test_only_rows_with_long_strings_or_enormous_numbers_are_asked_for_and_only_where_they_matter() -> None:
    rows: Rows = [{"a": "short"}, {"a": "x" * 257}, {"a": 10**700}, {"a": ["y" * 300, 3]}, {"b": 1}]
    columns = open_columns(build(rows))
    where: Any
    for where, asked, passing in [
        ({"a": "short"}, [], [0]),
        ({"a": 3}, [], [3]),
        ({"a": {"$exists": True}}, [], [0, 1, 2, 3]),
        ({"a": "x" * 257}, [1, 2, 3], [1]),
        ({"a": {"$contains": "xx"}}, [1, 2], [1]),
        ({"a": {"$ne": "y" * 300}}, [1, 2, 3], [0, 1, 2, 4]),
        ({"a": {"$gt": 5}}, [1, 2], [2]),
        ({"a": {"$gt": 1}}, [1, 2], [2]),
        ({"b": 1, "a": {"$gt": 5}}, [], []),
        ({"$or": [{"b": 1}, {"a": {"$gt": 5}}]}, [1, 2], [2, 4]),
        ({"a": 10**700}, [1, 2, 3], [2]),
    ]:
        fetched = Fetched(rows)
        mask = columns.mask(node_of(where), 0, len(rows), fetched)
        assert np.flatnonzero(mask).tolist() == passing, where
        assert [row for call in fetched.calls for row in call] == asked, where


def test_undecided_rows_are_asked_for_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.MASK_FETCH_ROWS, 3)
    fetched = Fetched([{"a": "x" * (300 + i)} for i in range(8)])
    columns = open_columns(build(fetched.rows))
    mask = columns.mask(node_of({"a": "x" * 306}), 1, 8, fetched)
    assert np.flatnonzero(mask).tolist() == [5]
    assert fetched.calls == [[1, 2, 3], [4, 5, 6], [7]]


def test_of_many_paths_the_most_frequent_have_columns_and_the_others_are_asked_for() -> None:
    rows: Rows = [{"common": i, f"rare{i}": i} for i in range(300)]
    rows += [{"common": i} for i in range(10)]
    columns = open_columns(build(rows))
    assert len(columns.fields()) == 256
    assert columns.fields()[0].name == "common"
    assert rows_of(columns, {"common": 7}) == [7, 307]
    without = next(
        f"rare{i}" for i in range(300) if f"rare{i}" not in {field.name for field in columns.fields()}
    )
    fetched = Fetched(rows)
    mask = columns.mask(node_of({without: {"$exists": True}}), 0, 310, fetched)
    assert np.flatnonzero(mask).tolist() == [int(without[4:])]
    # Rows whose every path has a column are known to lack the others.
    assert sum(map(len, fetched.calls)) == 300 - 255
    assert columns.verify() == []


def test_paths_without_end_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrlstore.columns.build.MAX_CANDIDATES", 300)
    n = 20_000
    fetched = Fetched([{"a": i % 7, f"key of row {i}": {"x": 1}} for i in range(n)])
    tracemalloc.start()
    try:
        columns = open_columns(build_columns((json.dumps(row) for row in fetched.rows), n))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20
    assert rows_of(columns, {"a": 3}) == [*range(3, n, 7)]
    mask = columns.mask(node_of({"key of row 19999.x": 1}), 0, n, fetched)
    assert np.flatnonzero(mask).tolist() == [19_999]


def test_building_does_not_keep_the_rows() -> None:
    """One thousand rows of 64 KB are 64 MB; their columns, and what is needed to make them, are not."""

    def texts() -> Iterable[str]:
        for i in range(1_000):
            yield json.dumps({"i": i, "text": str(i % 10) * 64_000})

    tracemalloc.start()
    try:
        blob = build_columns(texts(), 1_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert blob.nbytes < 20_000


def test_building_can_be_ended_between_its_steps() -> None:
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls == 3

    with pytest.raises(Interrupted):
        build_columns(
            (json.dumps({"a": i, "b": f"{i}"}) for i in range(50_000)), 50_000, job=Job(should_stop=stop)
        )
    assert calls == 3


# --- what is no metadata -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[1]", "row 1: the metadata is a JSON list"),
        ("null", "row 1: the metadata is a JSON NoneType"),
        ("{", "row 1: the metadata is not valid JSON"),
        ('{"a":' * 100_000, "row 1: the metadata is not valid JSON"),
        ('{"a":' + "1" * 5_000 + "}", "row 1: the metadata is not valid JSON"),
    ],
    ids=["list", "null", "cut", "deep", "digits"],
)
def test_texts_that_are_no_objects_are_refused(text: str, word: str) -> None:
    with pytest.raises(InvalidColumns, match=word):
        build_columns(["{}", text], 2)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_another_number_of_rows_than_announced_is_refused(n: int) -> None:
    with pytest.raises(InvalidColumns, match=f"the {n} announced"):
        build_columns(["{}", "{}"], n)


def test_deep_metadata_and_long_paths_are_taken() -> None:
    deep: dict[str, Any] = {"x": 1}
    for _ in range(200):
        deep = {"a": deep}
    rows: Rows = [deep, {"k" * 2_000: {"b": 1}, "c": 2}]
    columns = open_columns(build(rows))
    assert rows_of(columns, {"a." * 200 + "x": 1}) == [0]
    assert rows_of(columns, {"c": 2}) == [1]


# --- the bytes ---------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_format() -> None:
    blob = build([{"n": 7, "s": "b"}, {"n": 5, "s": ["a", "b", "a"]}, None, {"n": 2.5}]).tobytes()
    count, rows, length = 2, 4, len(blob)
    names_at = 64 + 2 * 192
    assert struct.unpack_from("<8sIIQQQQI12x", blob) == (
        b"mrlcols1",
        zlib.crc32(blob[12 : names_at + 2]),
        count,
        rows,
        length,
        names_at + 8,
        0,
        2,
    )
    assert blob[names_at : names_at + 2] == b"ns"
    n = np.frombuffer(blob, RECORD, 2, 64)[0]
    assert (n["dense"], n["code_width"], n["present"], n["odd_scalars"], n["odd_members"]) == (1, 1, 3, 0, 0)

    def array(field: int, name: str, dtype: str) -> list[Any]:
        record = np.frombuffer(blob, RECORD, 2, 64)[field]
        i = ARRAYS.index(name)
        assert record["offsets"][i] % 8 == 0
        return np.frombuffer(blob, dtype, int(record["lengths"][i]), int(record["offsets"][i])).tolist()

    assert array(0, "codes", "u1") == [8, 7, 0, 6]
    assert array(0, "floats", "<f8") == [2.5, 5.0, 7.0]
    assert array(0, "ints", "<i8") == []
    assert array(1, "codes", "u1") == [7, 1, 0, 0]
    assert sorted(array(1, "member_codes", "u1")) == [6, 7]
    assert array(1, "member_rows", "<u4") == [1, 1]
    assert array(1, "string_ends", "<u4") == [2, 4]
    assert bytes(array(1, "strings", "u1")) == b"a\xffb\xff"


def test_sparse_fields_are_stored_sparsely() -> None:
    rows: Rows = [{"x": i} if i % 100 == 0 else None for i in range(10_000)]
    columns = open_columns(build(rows))
    assert columns.fields()[0].nbytes == 100 * (1 + 4 + 8)
    assert rows_of(columns, {"x": {"$gte": 9_800}}) == [9_800, 9_900]


def test_a_blob_may_lie_anywhere_in_memory_and_be_read_only() -> None:
    blob = build([{"a": i, "s": f"{i}", "t": [i]} for i in range(1_000)])
    for shift in range(1, 8):
        room = np.zeros(blob.size + 8, dtype=np.uint8)
        room[shift : shift + blob.size] = blob
        moved = room[shift : shift + blob.size]
        moved.flags.writeable = False
        columns = open_columns(moved)
        assert rows_of(columns, {"a": {"$gte": 998}}) == [998, 999]
        assert rows_of(columns, {"s": "77", "t": 77}) == [77]
        assert columns.verify() == []


def test_the_same_rows_give_the_same_bytes() -> None:
    rows: Rows = [{"a": i % 3, "t": [f"{i % 5}", "z", 1, None, True], "b": {"c": i}} for i in range(50)]
    assert build(rows).tobytes() == build(rows).tobytes()


# --- damage ------------------------------------------------------------------------------------------


def sample(more_paths: bool = False) -> NDArray[np.uint8]:
    rows: Rows = [
        {"a": i, "f": i / 3, "s": f"s{i}", "t": [f"t{i % 3}", i], "big": 2**64 + i * 2 + 1} for i in range(20)
    ]
    rows += [None] * 100 + [{"rare": "r"}, {"rare": 2}]
    rows += [{f"k{i}": 1 for i in range(300)}] if more_paths else []
    return build(rows)


def test_every_flipped_bit_of_the_directory_and_every_cut_is_refused() -> None:
    blob = sample()
    _, _, count, *_, names = HEADER.unpack_from(blob.tobytes())
    end = HEADER.size + count * RECORD.itemsize + names
    for position in range(0, end * 8, 5):
        if 52 * 8 <= position < 64 * 8:  # unused
            continue
        damaged = blob.copy()
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(InvalidColumns):
            open_columns(damaged)
    for length in range(0, blob.size, 997):
        with pytest.raises(InvalidColumns):
            open_columns(blob[:length])
    with pytest.raises(InvalidColumns):
        open_columns(np.concatenate([blob, np.zeros(8, dtype=np.uint8)]))
    wrong: Any
    for wrong in (blob.view(np.int8), blob.reshape(1, -1), blob.astype(np.uint16)):
        with pytest.raises(InvalidColumns):
            open_columns(wrong)


def test_verify_finds_every_code_row_and_end_that_is_out_of_range() -> None:
    """Each entry of each such array is set too high in turn, and each must be found."""
    blob = sample()
    tried = 0
    for name in ("a", "f", "s", "t", "big", "rare"):
        field = read_layout(blob).field(name)
        assert field is not None
        for array in ("codes", "rows", "member_codes", "member_rows", "big_ends", "string_ends"):
            for i in range(getattr(field, array).size):
                damaged = blob.copy()
                layout = read_layout(damaged)
                values = getattr(layout.field(name), array)
                values[i] = np.iinfo(values.dtype).max
                problems = verify_layout(layout)
                assert problems, (name, array, i)
                assert all(problem.startswith(f"field {name!r}: ") for problem in problems)
                tried += 1
    assert tried > 300


def damage(layout: Layout, name: str, array: str, place: int, value: Any) -> list[str]:
    values = getattr(layout.field(name), array)
    values[place] = value
    return verify_layout(layout)


@pytest.mark.parametrize(
    ("name", "array", "place", "value", "word"),
    [
        ("a", "codes", 3, 0, "20 rows have it|19 rows have it"),
        ("a", "ints", 3, 1, "ints are not in ascending order"),
        ("f", "floats", 3, np.nan, "floats are not in ascending order"),
        ("s", "strings", 0, ord("z"), "strings are not in ascending order"),
        ("s", "strings", 1, 0x80, "not valid UTF-8"),
        ("s", "strings", 2, ord("x"), "not closed by 0xFF"),
        ("big", "bigs", 11, 255, "big numbers are not in ascending order"),
        ("t", "member_rows", 3, 0, "member rows are not in ascending order"),
        ("t", "member_codes", 3, 1, "member codes are not from 2"),
        ("rare", "rows", 1, 0, "rows are not in ascending order"),
        ("rare", "codes", 1, 0, "codes are not from 1"),
    ],
)
def test_verify_says_what_is_wrong(name: str, array: str, place: int, value: Any, word: str) -> None:
    layout = read_layout(sample())
    assert verify_layout(layout) == []
    problems = damage(layout, name, array, place, value)
    assert any(any(each in problem for each in word.split("|")) for problem in problems), problems


def test_verify_finds_overflow_bits_beyond_the_rows() -> None:
    layout = read_layout(sample(more_paths=True))
    layout.overflow[-1] |= 1
    assert verify_layout(layout) == ["the overflow bits name rows that do not exist"]
