"""What a person sees at a prompt, in a notebook and in an editor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore import InvalidInput
from tests import inside
from tests.oracle import nested_vectors


def test_dir_shows_the_public_names() -> None:
    assert set(dir(mrlstore)) == set(mrlstore.__all__)
    assert all(hasattr(mrlstore, name) for name in dir(mrlstore))


def test_repr_tells_rows_dims_and_segments(opened: Any, path: Any) -> None:
    store = opened()
    assert repr(store) == f"<mrlstore.Store {str(path)!r}: 0 rows, no vectors yet, 0 segments>"
    store.upsert(["a"], np.ones((1, 8)))
    assert repr(store).endswith(": 1 row, 8 dims, 0 segments>")
    store.upsert([f"r{i}" for i in range(4_200)], nested_vectors(4_200, 8), namespace="other")
    assert repr(store).endswith(": 4,201 rows, 8 dims, 1 segment>")
    store.close()
    assert repr(store) == f"<mrlstore.Store {str(path)!r} (closed)>"


def test_repr_of_a_store_that_cannot_be_read_raises_nothing(opened: Any, monkeypatch: Any) -> None:
    store = opened(dim=4)
    monkeypatch.setattr(type(store), "count", lambda *_, **__: mrlstore.open("/nowhere/at all", mode="r"))
    assert repr(store).endswith("(StoreNotFound)>")


def test_results_and_stats_are_tables_in_notebooks(store: Any) -> None:
    store.upsert(["<b>a</b>", "b"], nested_vectors(2, 8), [{"x": "<script>"}, None], [None, "y" * 5_000])
    result = store.query(np.ones(8), include=("metadata", "document"))
    html = inside.html_of(result)
    assert "&lt;b&gt;a&lt;/b&gt;" in html and "&lt;script&gt;" in html
    assert "<b>" not in html and "<script>" not in html
    assert "namespace" not in html and "…" in html and len(html) < 2_000
    assert html.count("<tr>") == 3
    stats = inside.html_of(store.stats())
    assert "<td" in stats and "bytes of catalogue" in stats and str(store.path) in stats


def test_a_type_checker_finds_a_text_where_a_vector_belongs(store: mrlstore.Store) -> None:
    """The comments are checked: mypy complains of one that hides nothing."""
    with pytest.raises(InvalidInput, match="vector"):
        store.query("hi")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="vectors"):
        store.upsert(["a"], "hi")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="vectors"):
        store.query_batch(["hi", "you"])  # type: ignore[list-item]
    numbers = (1.0, 2, np.float32(3), 4, 5, 6, 7, 8)
    store.upsert(["a", "b", "c"], [numbers, None, np.ones(8)])
    assert store.query(numbers).ids[0] == "a"
    assert store.query([1, 2, 3, 4, 5, 6, 7, 8]).ids[0] == "a"
    assert len(store.query_batch([numbers, np.ones(8, np.float16)])) == 2
