"""Bad rows are refused whole: a typed error that names the culprit, and a store as it was before."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from mrlstore import InvalidInput, LimitExceeded
from tests.oracle import Oracle, assert_same_rows, nested_vectors

GOOD = [0.5, 1, 2, 3, 4, 5, 6, 7]


@pytest.fixture
def filled(opened: Any) -> tuple[Any, Oracle]:
    """Three rows, one in another namespace."""
    store, oracle = opened(dim=8, prefix_dim=4), Oracle()
    for target in (store, oracle):
        target.upsert(["a", "b"], nested_vectors(2, 8), [{"x": 1}, None], [None, "doc"])
        target.upsert(["a"], nested_vectors(1, 8, seed=3), namespace="other")
    return store, oracle


def refused(filled: tuple[Any, Oracle], culprit: str, *arguments: Any, **options: Any) -> None:
    """The upsert raises, its message names the culprit, and nothing has changed."""
    store, oracle = filled
    generation = store.stats().generation
    with pytest.raises(InvalidInput, match=culprit):
        store.upsert(*arguments, **options)
    assert store.stats().generation == generation
    assert_same_rows(store, oracle)


BAD_ROWS: dict[str, Any] = {
    "nan": [*GOOD[:7], float("nan")],
    "inf": [*GOOD[:7], float("inf")],
    "-inf": [*GOOD[:7], float("-inf")],
    "zero": [0.0] * 8,
    "negative zero": [-0.0] * 8,
    "subnormal length": [1e-44] + [0.0] * 7,
    "beyond float32": [1e39] * 8,
    "length beyond float32": [3e38] * 8,
    "too short": GOOD[:7],
    "too long": [*GOOD, 1],
    "empty": [],
    "None inside": [*GOOD[:7], None],
    "text inside": [*GOOD[:7], "x"],
    "complex": [1j] * 8,
    "nested": [GOOD],
    "scalar": 3.0,
    "text": "vector",
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_vectors_in_a_list(filled: tuple[Any, Oracle], kind: str) -> None:
    refused(filled, r"culprit|\b1\b|vectors", ["fine", "culprit"], [GOOD, BAD_ROWS[kind]])


@pytest.mark.parametrize("kind", ["nan", "inf", "zero", "beyond float32", "length beyond float32"])
def test_bad_vectors_in_an_array_name_the_row(filled: tuple[Any, Oracle], kind: str) -> None:
    rows = np.array([GOOD] * 9 + [BAD_ROWS[kind]], dtype=np.float64)
    refused(filled, "culprit|9", [*(f"r{i}" for i in range(9)), "culprit"], rows)


@pytest.mark.parametrize("kind", ["nan", "zero"])
def test_bad_vectors_in_a_large_batch(filled: tuple[Any, Oracle], kind: str) -> None:
    rows = nested_vectors(5000, 8)
    rows[4711] = BAD_ROWS[kind]
    refused(filled, "r4711|4711", [f"r{i}" for i in range(5000)], rows)


class Untold:
    """Something like a tensor of a dtype that numpy does not know."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("Got unsupported ScalarType BFloat16")


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones(8),
        np.ones((1, 1, 8)),
        np.ones((1, 9)),
        np.ones((1, 7)),
        np.ones((2, 8)),
        np.ones((0, 8)),
        np.ones((1, 0)),
        np.array(3.0),
        "text",
        3,
        np.ones((1, 8), dtype=complex),
        np.array([["1"] * 8]),
        np.zeros((1, 8), dtype="datetime64[s]"),
        {"new": GOOD},
        [[GOOD]],
        b"\0" * 32,
        np.ma.masked_array(np.ones((1, 8)), mask=np.eye(1, 8, dtype=bool)),
        Untold(),
        np.array([[Decimal(1)] * 8], dtype=object),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'shape', '')}",
)
def test_vectors_of_the_wrong_shape_or_kind(filled: tuple[Any, Oracle], vectors: Any) -> None:
    refused(filled, "vector", ["new"], vectors)


BAD_IDS: list[Any] = [
    1,
    1.5,
    None,
    b"bytes",
    True,
    ("tuple",),
    "",
    "x" * 1025,
    "ü" * 513,
    "\ud800",
    "ok\udfff",
    float("nan"),
    np.int64(3),
]


@pytest.mark.parametrize("bad", BAD_IDS, ids=lambda value: repr(value).split(" at 0x")[0][:30])
def test_bad_ids(filled: tuple[Any, Oracle], bad: Any) -> None:
    if bad == "" and isinstance(bad, str):
        try:
            refused(filled, "id", ["fine", bad], [GOOD, GOOD])
        except pytest.fail.Exception:
            store, _ = filled
            assert "" in store  # the empty id, where allowed, is an id like others
        return
    refused(filled, "id", ["fine", bad], [GOOD, GOOD])


@pytest.mark.parametrize("bad", ["new", 3, None, b"new", object()])
def test_ids_must_be_a_sequence(filled: tuple[Any, Oracle], bad: Any) -> None:
    refused(filled, "id", bad, [GOOD])


def test_lengths_must_agree(filled: tuple[Any, Oracle]) -> None:
    refused(filled, "vector", ["n1", "n2"], [GOOD])
    refused(filled, "vector", ["n1"], [GOOD, GOOD])
    refused(filled, "metadata", ["n1"], [GOOD], [{}, {}])
    refused(filled, "metadata", ["n1", "n2"], [GOOD, GOOD], [{}])
    refused(filled, "document", ["n1"], [GOOD], None, ["a", "b"])
    refused(filled, "document", ["n1"], [GOOD], None, [])
    refused(filled, "vector|id", [], [GOOD])


def _cycle() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    return loop


def nest(depth: int, kind: type = dict) -> Any:
    """A value `depth` levels deep, the metadata dict itself the first of them."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value] if kind is list else {"d": value}
    return {"d": value}


BAD_METADATA: dict[str, Any] = {
    "nan": {"bad": float("nan")},
    "inf": {"bad": float("inf")},
    "nan in a list": {"bad": [1, float("nan")]},
    "object": {"bad": object()},
    "set": {"bad": {1}},
    "bytes": {"bad": b"x"},
    "complex": {"bad": 1j},
    "non-string key": {3: "bad"},
    "non-string key deep": {"bad": {None: 1}},
    "surrogate": {"bad": "\ud800"},
    "surrogate key": {"bad\ud800": 1},
    "cycle": _cycle(),
    "33 deep": nest(33),
    "33 deep lists": nest(33, list),
    "100,000 deep": nest(100_000),
    "too large": {"bad": "x" * 65_536},
    "too large in UTF-8": {"bad": "ü" * 33_000},
    "numpy array": {"bad": np.ones(3)},
    "function": {"bad": len},
}


@pytest.mark.parametrize("kind", BAD_METADATA)
def test_bad_metadata(filled: tuple[Any, Oracle], kind: str) -> None:
    refused(filled, "culprit|metadatas?.*1|bad", ["fine", "culprit"], [GOOD, GOOD], [{}, BAD_METADATA[kind]])


@pytest.mark.parametrize("bad", ["text", 3, [("a", 1)], ["a"], True, 1.5])
def test_metadata_must_be_dicts(filled: tuple[Any, Oracle], bad: Any) -> None:
    refused(filled, "metadata", ["fine", "culprit"], [GOOD, GOOD], [{}, bad])
    refused(filled, "metadata", ["fine"], [GOOD], bad if not isinstance(bad, list) else "x")


def test_one_dict_for_all_is_not_a_list_of_dicts(filled: tuple[Any, Oracle]) -> None:
    refused(filled, "metadata", ["fine"], [GOOD], {"x": 1})


@pytest.mark.parametrize("bad", [3, b"bytes", ["text"], {"a": 1}, "\ud800", 1.5, True])
def test_bad_documents(filled: tuple[Any, Oracle], bad: Any) -> None:
    refused(filled, "culprit|document", ["fine", "culprit"], [GOOD, GOOD], None, [None, bad])


def test_a_document_beyond_16_mib_is_refused(filled: tuple[Any, Oracle]) -> None:
    refused(
        filled, "culprit|document", ["fine", "culprit"], [GOOD, GOOD], None, [None, "x" * (16 * 1024**2 + 1)]
    )


def test_documents_must_be_a_sequence(filled: tuple[Any, Oracle]) -> None:
    refused(filled, "document", ["n"], [GOOD], None, "n")
    refused(filled, "document", ["n"], [GOOD], None, 3)


@pytest.mark.parametrize("bad", [3, None, b"x", "x" * 257, "ü" * 129, "\ud800", ["a"]])
def test_bad_namespaces(filled: tuple[Any, Oracle], bad: Any) -> None:
    refused(filled, "namespace", ["fine"], [GOOD], namespace=bad)
    store, oracle = filled
    if bad is not None and not isinstance(bad, list):  # a query may search several, or all
        with pytest.raises(InvalidInput, match="namespace"):
            store.query(GOOD, namespace=bad)
    for call in (
        lambda: store.get(["a"], namespace=bad),
        lambda: store.delete(["a"], namespace=bad),
        lambda: store.clear(bad),
        lambda: store.update(["a"], [{"x": 2}], namespace=bad),
    ):
        with pytest.raises(InvalidInput, match="namespace"):
            call()
    if bad is not None:
        for call in (lambda: store.count(namespace=bad), lambda: list(store.scan(namespace=bad))):
            with pytest.raises(InvalidInput, match="namespace"):
                call()
    assert_same_rows(store, oracle)


@pytest.mark.parametrize("bad", ["merge", "", None, 3, "REPLACE"])
def test_bad_conflict_policies(filled: tuple[Any, Oracle], bad: Any) -> None:
    refused(filled, "on_conflict", ["fine"], [GOOD], on_conflict=bad)


def test_limits_themselves_are_allowed(opened: Any) -> None:
    store, oracle = opened(dim=8), Oracle()
    ids = ["x" * 1024, "ü" * 512, "small"]
    largest = {"m": "x" * (65_536 - len('{"m":""}'))}
    metadatas = [largest, nest(32), nest(32, list)]
    documents = ["d" * (16 * 1024**2), None, "ü" * (8 * 1024**2)]
    for target in (store, oracle):
        target.upsert(ids, nested_vectors(3, 8), metadatas, documents, namespace="n" * 256)
    assert_same_rows(store, oracle)
    store.optimize()
    assert_same_rows(store, oracle)
    assert store.query(np.ones(8), namespace="n" * 256, where={"m": {"$exists": True}}).ids == ["x" * 1024]


def test_limit_errors_are_value_errors(store: Any) -> None:
    with pytest.raises(ValueError, match="id"):
        store.upsert(["x" * 1025], [GOOD])
    with pytest.raises(LimitExceeded, match="10,?000"):
        store.query(GOOD, k=10_001)


def test_the_first_batch_refused_sets_no_dim(opened: Any) -> None:
    store = opened()
    with pytest.raises(InvalidInput):
        store.upsert(["a"], [[float("nan")] * 5])
    assert store.stats().dim is None
    for bad in (np.ones((1, 1)), np.ones((1, 8193))):
        with pytest.raises(InvalidInput, match="dim"):
            store.upsert(["a"], bad)
    assert store.stats().dim is None
    store.upsert(["a"], np.ones((1, 7)))
    assert store.stats().dim == 7


def test_a_long_id_is_not_printed_whole(store: Any) -> None:
    with pytest.raises(ValueError, match="id") as caught:
        store.upsert(["x" * 1_000_000], [GOOD])
    assert len(str(caught.value)) < 5000
