"""Ids, metadatas, documents and vectors go together by position, whatever labels their containers carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mrlstore import InvalidInput, Store
from tests.oracle import Oracle, assert_same_rows, nested_vectors

N = 12
VECTORS = nested_vectors(N, 6)
IDS = [f"r{i}" for i in range(N)]
METADATAS: list[dict[str, Any]] = [{"n": i} for i in range(N)]
DOCUMENTS = [f"doc {i}" for i in range(N)]


def frame() -> pd.DataFrame:
    columns = {"id": IDS, "vector": list(VECTORS), "metadata": METADATAS, "document": DOCUMENTS}
    return pd.DataFrame(columns)


def shuffled(seed: int = 3) -> pd.DataFrame:
    return frame().sample(frac=1, random_state=seed)


def filtered() -> pd.DataFrame:
    whole = frame()
    return whole[whole["metadata"].map(lambda metadata: metadata["n"] % 2 == 1)]


FRAMES = {"shuffled": shuffled, "filtered": filtered, "reversed": lambda: frame()[::-1]}


@pytest.fixture(params=FRAMES)
def rows(request: pytest.FixtureRequest) -> pd.DataFrame:
    made: pd.DataFrame = FRAMES[request.param]()
    return made


def test_upsert_takes_columns_of_a_frame_by_position(opened: Any, rows: pd.DataFrame) -> None:
    store, oracle = opened(dim=6), Oracle()
    store.upsert(rows["id"], rows["vector"], rows["metadata"], rows["document"])
    positions = [int(name[1:]) for name in rows["id"]]
    oracle.upsert(
        [IDS[i] for i in positions],
        [VECTORS[i] for i in positions],
        [METADATAS[i] for i in positions],
        [DOCUMENTS[i] for i in positions],
    )
    assert_same_rows(store, oracle)


def test_update_takes_columns_of_a_frame_by_position(opened: Any, rows: pd.DataFrame) -> None:
    store: Store = opened(dim=6)
    store.upsert(IDS, VECTORS)
    assert store.update(rows["id"], rows["metadata"], rows["document"]) == len(rows)
    for record in store.get(rows["id"].tolist()):
        assert record.metadata == {"n": int(record.id[1:])}
        assert record.document == f"doc {record.id[1:]}"


def test_vectors_of_a_frame_go_by_position(opened: Any, rows: pd.DataFrame) -> None:
    store: Store = opened(dim=6)
    table = pd.DataFrame(np.stack(rows["vector"].tolist()), index=rows.index)
    store.upsert(rows["id"], table)
    answers = store.query_batch(table, 1)
    assert [hits[0].id for hits in answers] == rows["id"].tolist()


@pytest.mark.parametrize("kind", ["polars", "arrow", "numpy", "generator", "tuple"])
def test_other_containers_go_by_position(opened: Any, kind: str) -> None:
    store: Store = opened(dim=6)
    made: dict[str, Any] = {
        "polars": pl.Series,
        "arrow": pa.array,
        "numpy": np.array,
        "generator": iter,
        "tuple": tuple,
    }
    column = made[kind]
    store.upsert(column(IDS), VECTORS, column(METADATAS), column(DOCUMENTS))
    order = list(reversed(range(N)))
    changes = column([{"m": i} for i in order])
    assert store.update(column([IDS[i] for i in order]), changes, column([f"new {i}" for i in order])) == N
    for i, record in enumerate(store.get(column(IDS))):
        assert (record.id, record.metadata, record.document) == (IDS[i], {"n": i, "m": i}, f"new {i}")


def test_polars_vectors_go_by_position(opened: Any) -> None:
    store: Store = opened(dim=6)
    lists = pl.Series([row.tolist() for row in VECTORS])
    arrays = lists.cast(pl.Array(pl.Float32, 6))
    for column in (lists, arrays, pa.array(lists.to_list())):
        store.clear()
        store.upsert(IDS, column)
        assert store.query(VECTORS[7], 1).ids == ["r7"]


@pytest.mark.parametrize("wrong", [set(IDS), frozenset(IDS)])
def test_what_has_no_order_of_its_own_is_refused_where_others_go_along(opened: Any, wrong: Any) -> None:
    store: Store = opened(dim=6)
    with pytest.raises(InvalidInput, match="ids"):
        store.upsert(wrong, VECTORS)
    store.upsert(IDS, VECTORS)
    with pytest.raises(InvalidInput, match="ids"):
        store.update(wrong, METADATAS)
    assert len(store.get(wrong)) == N  # alone their order does not matter


def test_a_whole_frame_is_no_column(opened: Any) -> None:
    store: Store = opened(dim=6)
    names = pd.DataFrame({name: [1] for name in ("a", "b")})
    wide = pd.DataFrame({"c": [1, 2], "d": [3, 4]})
    store.upsert(["a", "b"], VECTORS[:2])
    for call in (
        lambda: store.delete(names),
        lambda: store.get(names),
        lambda: store.upsert(names, VECTORS[:2]),
        lambda: store.upsert(["a", "b"], VECTORS[:2], documents=wide),
        lambda: store.upsert(["a", "b"], VECTORS[:2], wide),
        lambda: store.update(["a", "b"], documents=wide),
    ):
        with pytest.raises(InvalidInput, match="column"):
            call()
    assert len(store) == 2


def test_an_id_given_twice_is_updated_in_order(opened: Any) -> None:
    store, oracle = opened(dim=6), Oracle()
    for target in (store, oracle):
        target.upsert(["a", "b"], VECTORS[:2], [{"x": 0, "y": 0, "z": 0}, {"x": 0}], ["one", "two"])
    ids = ["a", "b", "a", "a"]
    changes: list[dict[str, Any] | None] = [{"x": 1, "y": None}, {"x": 5}, {"y": 2, "z": None}, None]
    documents = [None, None, "first", None]
    assert store.update(ids, changes, documents) == 2
    for position in range(4):
        oracle.update([ids[position]], [changes[position]], [documents[position]])
    assert_same_rows(store, oracle)
    assert store.get(["a"])[0].metadata == {"x": 1, "y": 2}
    assert store.get(["a"])[0].document == "first"
