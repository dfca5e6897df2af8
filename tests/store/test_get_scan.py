"""Get, scan with cursors, count, len, in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import InvalidInput
from tests.layouts import LAYOUTS
from tests.oracle import assert_same_rows, assert_same_vector, nested_vectors, resolve

ALL = ("metadata", "document", "vector")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_everything_is_there(library: Any, layout: str) -> None:
    assert_same_rows(*library(layout))


def test_get_keeps_the_order_of_ids_and_skips_missing_ones(store: Any) -> None:
    store.upsert(["a", "b", "c"], np.eye(3, 8))
    assert [record.id for record in store.get(["c", "nobody", "a"])] == ["c", "a"]
    assert store.get([]) == []
    assert store.get(["nobody"]) == []


def test_get_of_an_id_twice(store: Any) -> None:
    store.upsert(["a", "b"], np.eye(2, 8))
    assert [record.id for record in store.get(["a", "b", "a"])] in (["a", "b", "a"], ["a", "b"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_get_many(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    ids = oracle.ids()[::3]
    records = store.get(ids, include=ALL)
    assert [record.id for record in records] == ids
    for record in records:
        row = oracle.rows["", record.id]
        assert (record.metadata, record.document) == (row.metadata, row.document)
        assert_same_vector(record.vector, row.vector, record.id)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_get_by_filter_and_limit(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    where = {"colour": "red", "n": {"$gt": 100}}
    expected = oracle.ids(where)
    assert [record.id for record in store.get(where=where)] == expected
    assert [record.id for record in store.get(where=where, limit=7)] == expected[:7]
    assert [record.id for record in store.get(limit=7)] == oracle.ids()[:7]
    records = store.get(where=where, limit=3, include=ALL)
    rest = store.scan(where, after=records[-1].cursor, limit=3)
    assert [record.id for record in rest] == expected[3:6]
    for record in records:
        row = oracle.rows["", record.id]
        assert (record.metadata, record.document) == (row.metadata, row.document)
        assert_same_vector(record.vector, row.vector, record.id)
    asked = [*oracle.ids()[::-7], "nobody"]
    both = [name for name in asked if name in set(expected)]
    assert [record.id for record in store.get(asked, where=where)] == both
    assert [record.id for record in store.get(asked, where=where, limit=2)] == both[:2]
    assert store.get(where=where, limit=0) == []


@pytest.mark.parametrize("options", [{}, {"where": {}}, {"where": 3}, {"limit": -1}, {"limit": "3"}])
def test_get_wants_to_know_what(store: Any, options: Any) -> None:
    with pytest.raises(InvalidInput):
        store.get(**options)


def test_include_chooses(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)), [{"x": 1}], ["doc"])
    for include in ((), ("metadata",), ("document",), ("vector",), ALL, ["document", "metadata"]):
        (record,) = store.get(["a"], include=include)
        (scanned,) = store.scan(include=include)
        (hit,) = store.query(np.ones(8), include=include)
        for found in (record, scanned, hit):
            assert (found.metadata is not None) == ("metadata" in include), include
            assert (found.document is not None) == ("document" in include), include
            assert (found.vector is not None) == ("vector" in include), include


def test_defaults_of_include(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)), [{"x": 1}], ["doc"])
    (record,) = store.get(["a"])
    assert (record.metadata, record.document, record.vector) == ({"x": 1}, "doc", None)
    (hit,) = store.query(np.ones(8))
    assert (hit.metadata, hit.document, hit.vector) == ({"x": 1}, None, None)


@pytest.mark.parametrize("bad", ["metadata", ("nonsense",), (1,), 3, {"metadata": 1, "x": 2}])
def test_bad_include(store: Any, bad: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    for call in (
        lambda: store.get(["a"], include=bad),
        lambda: list(store.scan(include=bad)),
        lambda: store.query(np.ones(8), include=bad),
    ):
        with pytest.raises(InvalidInput, match="include"):
            call()


@pytest.mark.parametrize("bad", ["a", [1], [None], None, [b"a"], 5, [["a"]]])
def test_bad_ids_of_get(store: Any, bad: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(InvalidInput, match="id"):
        store.get(bad)


def test_scan_goes_in_the_order_of_namespace_and_id(store: Any) -> None:
    ids = ["c", "a", "b", "é", "z", "\uffff", "\U00010000", "A", "a\0", "aa"]
    store.upsert(ids, nested_vectors(len(ids), 8))
    store.upsert(["a"], np.eye(1, 8))
    assert [record.id for record in store.scan()] == sorted(ids)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scan_in_pages_gives_each_row_once(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    seen: list[str] = []
    after = None
    while page := list(store.scan(limit=333, after=after)):
        assert len(page) <= 333
        seen += [record.id for record in page]
        after = page[-1].cursor
    assert seen == oracle.ids()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scan_where(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    where = {"colour": "red", "n": {"$lt": 800}}
    assert [record.id for record in store.scan(where)] == oracle.ids(where)
    assert [record.id for record in store.scan(where, limit=5)] == oracle.ids(where)[:5]
    start = next(iter(store.scan(where))).cursor
    assert [record.id for record in store.scan(where, after=start)] == oracle.ids(where)[1:]


def test_scan_by_prefix(store: Any) -> None:
    ids = ["doc:1", "doc:10", "doc:2", "dog", "do", "Doc:1", "doc", "doc:\U0010ffff", "doc;"]
    store.upsert(ids, nested_vectors(len(ids), 8))
    assert [record.id for record in store.scan(prefix="doc:")] == [
        "doc:1",
        "doc:10",
        "doc:2",
        "doc:\U0010ffff",
    ]
    assert [record.id for record in store.scan(prefix="")] == sorted(ids)
    assert [record.id for record in store.scan(prefix="doc:1")] == ["doc:1", "doc:10"]
    assert list(store.scan(prefix="x")) == []
    store.upsert(["a%b", "a_b", "axb"], nested_vectors(3, 8))
    assert [record.id for record in store.scan(prefix="a%")] == ["a%b"]
    assert [record.id for record in store.scan(prefix="a_")] == ["a_b"]


def test_scan_over_namespaces(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)), namespace="one")
    store.upsert(["a", "b"], np.ones((2, 8)), namespace="two")
    store.upsert(["c"], np.ones((1, 8)))
    assert [record.id for record in store.scan()] == ["c"]
    assert [record.id for record in store.scan(namespace="two")] == ["a", "b"]
    everything = [(record.namespace, record.id) for record in store.scan(namespace=None)]
    assert sorted(everything) == [("", "c"), ("one", "a"), ("two", "a"), ("two", "b")]
    pages = []
    after = None
    while page := list(store.scan(namespace=None, limit=1, after=after)):
        pages += [(record.namespace, record.id) for record in page]
        after = page[-1].cursor
    assert pages == everything


def test_scan_sees_no_half_of_a_change_made_meanwhile(opened: Any) -> None:
    store = opened(dim=4)
    store.upsert([f"r{i}" for i in range(3000)], nested_vectors(3000, 4), [{"turn": 1}] * 3000)
    seen: list[str] = []
    for count, record in enumerate(store.scan()):
        if count == 10:
            store.delete([f"r{i}" for i in range(0, 3000, 2)])
            store.upsert([f"new{i}" for i in range(500)], nested_vectors(500, 4))
        seen.append(record.id)
    assert len(seen) == len(set(seen))
    assert set(seen) >= {f"r{i}" for i in range(1, 3000, 2)}
    assert not any(name.startswith("new") for name in seen), "rows of a later generation"


def test_scan_leaves_out_no_row_that_is_replaced_or_updated_meanwhile(opened: Any) -> None:
    store = opened(dim=4)
    ids = sorted(f"r{i}" for i in range(3000))
    store.upsert(ids, nested_vectors(3000, 4), [{"turn": 1}] * 3000)
    scan = store.scan()
    seen = [next(scan).id for _ in range(10)]
    store.upsert(ids[:2000], nested_vectors(2000, 4), [{"turn": 2}] * 2000)
    store.update(metadatas={"turn": 3}, where={"turn": 1})
    assert seen + [record.id for record in scan] == ids, "these ids were there all the time"


def test_scan_while_optimize_runs(opened: Any) -> None:
    store = opened(dim=4)
    ids = [f"r{i}" for i in range(5000)]
    for low in range(0, 5000, 500):
        store.upsert(ids[low : low + 500], nested_vectors(500, 4))
    scan = store.scan(include=ALL)
    seen = [next(scan).id for _ in range(100)]
    store.optimize()
    seen += [record.id for record in scan]
    assert seen == sorted(ids)


def test_two_scans_at_once(store: Any) -> None:
    store.upsert([f"r{i}" for i in range(50)], nested_vectors(50, 8))
    pairs = list(zip(store.scan(), store.scan(), strict=True))
    assert all(left.id == right.id for left, right in pairs)
    assert len(pairs) == 50


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "\0", "999999999999999999999999", "-1", "1e3", "zz" * 500]
)
def test_a_cursor_that_was_never_given_is_refused(store: Any, cursor: str) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(InvalidInput, match="after"):
        list(store.scan(after=cursor))


@pytest.mark.parametrize("bad", [-1, 0, 1.5, "5", True])
def test_bad_limits_of_scan(store: Any, bad: Any) -> None:
    store.upsert(["a", "b"], np.ones((2, 8)))
    if bad == 0 and bad is not False:
        try:
            assert list(store.scan(limit=0)) == []
        except InvalidInput as error:
            assert "limit" in str(error)
        return
    with pytest.raises(InvalidInput, match="limit"):
        list(store.scan(limit=bad))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_count(library: Any, layout: str) -> None:
    store, oracle = library(layout)
    assert len(store) == store.count() == store.count({}) == store.count(namespace=None) == len(oracle.rows)
    assert store.count(namespace="nobody") == 0
    where = {"flag": True, "colour": {"$in": ["red", "blue"]}}
    assert store.count(where) == len(oracle.ids(where))


def test_contains(store: Any) -> None:
    store.upsert(["a"], np.ones((1, 8)))
    store.upsert(["elsewhere"], np.ones((1, 8)), namespace="x")
    assert "a" in store
    assert "b" not in store
    assert 3 not in store
    assert None not in store
    for never in ("", "\ud800", "x" * 1025, np.array("a"), ["a"]):
        assert never not in store
    store.close()
    with pytest.raises(mrlstore.StoreClosed):
        assert 3 not in store


def test_an_empty_store_answers(opened: Any) -> None:
    store = opened()
    assert (len(store), store.count(), list(store.scan()), store.namespaces()) == (0, 0, [], {})
    assert store.get(["a"]) == []
    assert "a" not in store
    assert store.delete(["a"]) == 0
    assert store.update(["a"], [{"x": 1}]) == 0
    assert store.clear() == 0
    assert store.query(np.ones(5)).ids == []
    store.optimize()
    assert store.verify().ok


FIELDS = ("n", "colour", "price", "maybe", "odd", "tags", "deep.a.b", "nothing")


def in_order(oracle: Any, field: str, where: Any = None, descending: bool = False) -> list[str]:
    """Ids by the value of a field: booleans, numbers, texts; then, in both directions, the rest by id."""
    valued, rest = [], []
    for name in oracle.ids(where):
        value = resolve(oracle.rows["", name].metadata, field)
        kinds: list[Any] = [bool, (int, float), str]
        kind = next((rank for rank, kind in enumerate(kinds) if isinstance(value, kind)), None)
        if kind is None:
            rest.append(name)
        else:
            valued.append(((kind, value), name))
    groups: dict[Any, list[str]] = {}
    for key, name in valued:
        groups.setdefault(key, []).append(name)
    keys = sorted(groups, reverse=descending)
    return [name for key in keys for name in groups[key]] + rest


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("descending", [False, True])
def test_scan_in_the_order_of_a_field(library: Any, layout: str, descending: bool) -> None:
    store, oracle = library(layout)
    where = {"n": {"$lt": 700}}
    for field in FIELDS:
        options: Any = {"order_by": field, "descending": descending, "include": ("metadata",)}
        expected = in_order(oracle, field, where, descending)
        found = list(store.scan(where, **options))
        assert [record.id for record in found] == expected, field
        assert [record.id for record in store.scan(where, **options, limit=5)] == expected[:5]
        for at in (0, 3, len(found) // 2, len(found) - 2):
            rest = store.scan(where, **options, after=found[at].cursor, limit=4)
            assert [record.id for record in rest] == expected[at + 1 : at + 5], (field, at)
    everything = [record.id for record in store.scan(order_by="price", descending=descending)]
    assert everything == in_order(oracle, "price", None, descending)


def test_a_sorted_scan_goes_on_where_the_row_of_its_cursor_is_gone(store: Any) -> None:
    store.upsert(
        [f"r{i}" for i in range(9)], None, [{"x": [3, 1, 2][i % 3] if i < 8 else None} for i in range(9)]
    )
    store.upsert(["r1"], None, [{"x": 0}], namespace="a")
    whole = [record.id for record in store.scan(order_by="x")]
    assert whole == ["r1", "r4", "r7", "r2", "r5", "r0", "r3", "r6", "r8"]
    page = list(store.scan(order_by="x", limit=3))
    store.delete(["r1", "r4", "r7"])
    assert [record.id for record in store.scan(order_by="x", after=page[-1].cursor)] == whole[3:]
    page = list(store.scan(order_by="x", descending=True, limit=3))
    store.delete(["r0", "r3", "r6"])
    rest = store.scan(order_by="x", descending=True, after=page[-1].cursor)
    assert [record.id for record in rest] == ["r2", "r5", "r8"]
    everywhere = [
        (record.namespace, record.id) for record in store.scan(order_by="x", namespace=None, prefix="r")
    ]
    assert everywhere == [("a", "r1"), ("", "r2"), ("", "r5"), ("", "r8")]


def test_cursors_go_with_their_order(store: Any) -> None:
    store.upsert(["a", "b"], None, [{"x": 1}, {"x": 2}])
    by_id, by_x = next(store.scan()).cursor, next(store.scan(order_by="x")).cursor
    for cursor, options in (
        (by_id, {"order_by": "x"}),
        (by_x, {}),
        (by_x, {"order_by": "y"}),
        (by_x, {"order_by": "x", "descending": True}),
        ("nonsense", {"order_by": "x"}),
    ):
        with pytest.raises(InvalidInput, match="after"):
            store.scan(after=cursor, **options)
    bad: tuple[Any, ...] = ({"order_by": "$or"}, {"order_by": 3}, {"descending": True}, {"descending": 3})
    for wrong in bad:
        with pytest.raises(InvalidInput):
            store.scan(**wrong)
