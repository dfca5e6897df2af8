"""The LlamaIndex vector store: its methods sync and async, through an index, and its filters.

LlamaIndex ships no suite for vector stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llama_index.core", reason="needs the environment of make test-integrations")

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

import mrlstore
from mrlstore.integrations.llama_index import MrlVectorStore
from mrlstore.integrations.llama_index.filters import where_of
from mrlstore.where import parse
from tests import inside
from tests.integrations.pages import run_page
from tests.integrations.rows import QUERY, VECTORS, nearest
from tests.oracle import cosines, diverse


def node(row: int) -> TextNode:
    made = TextNode(
        id_=f"{row:02}",
        text=f"text {row}",
        metadata={"number": row, "even": row % 2 == 0, "tags": ["a", "b"] if row % 3 else []},
        embedding=VECTORS[row].tolist(),
    )
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{row // 10}")
    return made


def where(key: str, operator: FilterOperator, value: Any) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


@pytest.fixture
def filled(path: Path) -> Iterator[Any]:
    made = MrlVectorStore(path, auto_maintain=False)
    assert made.add([node(row) for row in range(30)]) == [f"{row:02}" for row in range(30)]
    yield made
    made.close()


def ids_of(nodes: Any) -> list[str]:
    return [each.node_id for each in nodes]


async def test_query(filled: Any) -> None:
    found = filled.query(VectorStoreQuery(query_embedding=QUERY, similarity_top_k=5))
    assert found.ids == ids_of(found.nodes) == nearest(range(30), 5)
    first = int(found.ids[0])
    cosine = VECTORS[first] @ QUERY / np.linalg.norm(VECTORS[first]) / np.linalg.norm(QUERY)
    assert found.similarities[0] == pytest.approx(cosine, abs=2e-3)
    assert found.nodes[0].to_dict() == {**node(first).to_dict(), "embedding": None}
    for narrowed, rows in (
        ({"filters": where("even", FilterOperator.EQ, 1)}, range(0, 30, 2)),
        ({"doc_ids": ["doc-1"]}, range(10, 20)),
        ({"node_ids": ["03", "04", "none"]}, [3, 4]),
        ({"doc_ids": ["doc-0"], "filters": where("number", FilterOperator.GT, 6)}, [7, 8, 9]),
    ):
        query = VectorStoreQuery(query_embedding=QUERY, similarity_top_k=4, **narrowed)
        assert filled.query(query).ids == nearest(rows, 4)
        assert (await filled.aquery(query)).ids == nearest(rows, 4)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 1.0])
def test_mmr_compares_with_all_nodes_that_were_chosen_before(filled: Any, threshold: float) -> None:
    """LlamaIndex's own function compares with the last one alone, other than the definition."""
    order = [int(name) for name in nearest(range(30), 30)]
    scores = cosines(np.array(QUERY), VECTORS[order]).tolist()
    wanted = [f"{order[place]:02}" for place in diverse(VECTORS[order], scores, 5, 1 - threshold)]
    query = VectorStoreQuery(
        query_embedding=QUERY, similarity_top_k=5, mode=VectorStoreQueryMode.MMR, mmr_threshold=threshold
    )
    found = filled.query(query, mmr_prefetch_factor=6)
    assert found.ids == wanted
    assert found.similarities == pytest.approx([scores[order.index(int(name))] for name in wanted], abs=1e-3)
    query.mmr_threshold = None
    assert filled.query(query, mmr_prefetch_factor=6, mmr_threshold=threshold).ids == wanted
    if threshold == 0.5:
        assert filled.query(query, mmr_prefetch_factor=6).ids == wanted
    if threshold == 1.0:
        simple = SimpleVectorStore()
        simple.add([node(row) for row in range(30)])
        assert simple.query(query, mmr_threshold=1.0).ids == wanted


async def test_nodes_are_read_and_removed(filled: Any) -> None:
    assert ids_of(filled.get_nodes(["07", "none", "03"])) == ["03", "07"]
    assert filled.get_nodes(["07"])[0].embedding == pytest.approx(VECTORS[7].tolist(), abs=1e-2)
    assert len(await filled.aget_nodes()) == 30
    small = where("number", FilterOperator.LT, 5)
    assert ids_of(filled.get_nodes(["03", "07"], small)) == ["03"]
    filled.delete_nodes(["03", "07"], small)
    await filled.adelete_nodes(filters=where("number", FilterOperator.GTE, 25))
    filled.delete_nodes(["none"])
    assert ids_of(filled.get_nodes()) == [f"{row:02}" for row in range(25) if row != 3]
    filled.delete("doc-0")
    await filled.adelete("doc-1")
    assert ids_of(filled.get_nodes()) == ["20", "21", "22", "23", "24"]
    with pytest.raises(mrlstore.InvalidInput, match="delete"):
        filled.delete_nodes()
    await filled.async_add([node(1)])
    await filled.aclear()
    assert filled.get_nodes() == []
    assert filled.query(VectorStoreQuery(query_embedding=QUERY, similarity_top_k=3)).ids == []


class Letters(BaseEmbedding):
    """Counts letters: near for texts that share words, and needs no model."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [text.lower().count(letter) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


async def test_through_an_index(path: Path) -> None:
    made = MrlVectorStore(path, auto_maintain=False)
    documents = [
        Document(text="zebra zigzag jazz", doc_id="z", metadata={"kind": "zoo"}),
        Document(text="banana cabana", doc_id="b", metadata={"kind": "fruit"}),
    ]
    storage = StorageContext.from_defaults(vector_store=made)
    VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=Letters())
    made.close()
    made = MrlVectorStore(path, auto_maintain=False)
    index = VectorStoreIndex.from_vector_store(made, embed_model=Letters())
    [found] = index.as_retriever(similarity_top_k=1).retrieve("zigzag")
    assert (found.text, found.metadata, found.node.ref_doc_id) == (
        "zebra zigzag jazz",
        {"kind": "zoo"},
        "z",
    )
    retriever = index.as_retriever(similarity_top_k=5, filters=where("kind", FilterOperator.NE, "zoo"))
    assert [each.text for each in await retriever.aretrieve("zigzag")] == ["banana cabana"]
    index.insert(Document(text="apple", doc_id="a"))
    index.delete_ref_doc("b")
    assert {each.ref_doc_id for each in made.get_nodes()} == {"z", "a"}
    made.close()


def test_what_it_does_not_do_is_said(filled: Any) -> None:
    with pytest.raises(mrlstore.InvalidInput, match="'svm' is not one of"):
        filled.query(VectorStoreQuery(query_embedding=QUERY, mode=VectorStoreQueryMode.SVM))
    with pytest.raises(mrlstore.InvalidInput, match="query_embedding"):
        filled.query(VectorStoreQuery(query_str="words"))
    with pytest.raises(mrlstore.InvalidInput, match="takes a list"):
        filled.get_nodes(filters=where("a", FilterOperator.IN, "abc"))
    with pytest.raises(mrlstore.InvalidInput, match="takes one value"):
        filled.get_nodes(filters=where("a", FilterOperator.EQ, ["abc"]))
    with pytest.raises(ValueError, match="embedding"):
        filled.add([TextNode(text="bare")])


def test_an_open_store_is_shared_and_stays_open(opened: Any) -> None:
    store = opened()
    made = MrlVectorStore(store, namespace="there")
    made.add([node(1)])
    made.close()
    assert made.client is store and store.namespaces() == {"there": 1}


NUMBERS = st.sampled_from([0, 1, 2, 1.5, -3])
TEXTS = st.sampled_from(["", "x", "X", "yx", "Xy"])
# By type of value, so that LlamaIndex does not raise on comparisons that Python does not know.
METAS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(st.none(), NUMBERS),
        "b": st.one_of(st.none(), TEXTS),
        "c": st.one_of(st.none(), st.lists(st.one_of(NUMBERS, TEXTS, st.booleans()), max_size=3)),
        "d": st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.lists(NUMBERS, max_size=2)),
    },
)
LISTS = st.one_of(st.lists(NUMBERS.map(float), max_size=3), st.lists(TEXTS, max_size=3))


def one(key: Any, operators: str, value: Any) -> Any:
    chosen = st.sampled_from([FilterOperator[name] for name in operators.split()])
    return st.builds(MetadataFilter, key=key, operator=chosen, value=value)


ANY_KEY = st.sampled_from(["a", "b", "c", "d", "z"])
CONDITIONS = st.one_of(
    one(ANY_KEY, "EQ NE", st.one_of(st.none(), NUMBERS, TEXTS)),
    one(ANY_KEY, "IN NIN", LISTS),
    one(ANY_KEY, "IS_EMPTY", st.none()),
    one(st.sampled_from(["a", "z"]), "GT GTE LT LTE", NUMBERS),
    one(st.sampled_from(["b", "z"]), "GT GTE LT LTE TEXT_MATCH TEXT_MATCH_INSENSITIVE CONTAINS", TEXTS),
    one(st.sampled_from(["c", "z"]), "CONTAINS", st.one_of(NUMBERS, TEXTS)),
    one(st.sampled_from(["c", "z"]), "ANY ALL", LISTS),
    one(st.just("b"), "ANY ALL", st.lists(TEXTS, max_size=3)),
)
FILTERS = st.builds(
    MetadataFilters,
    filters=st.lists(CONDITIONS, max_size=4),
    condition=st.sampled_from([None, *FilterCondition]),
)


@given(FILTERS, st.lists(METAS, min_size=1, max_size=8))
@settings(max_examples=600)
def test_filters_mean_what_they_mean_to_llama_index(filters: Any, metas: Any) -> None:
    rows = {str(place): meta for place, meta in enumerate(metas)}
    reference = build_metadata_filter_fn(rows.__getitem__, filters)
    translated = parse(where_of(filters, lambda key: [meta.get(key) for meta in metas]))
    for name, meta in rows.items():
        stored = inside.llama_metadata(TextNode(text="", metadata=meta))
        assert (translated is None or translated.matches(stored)) == reference(name), meta


@given(FILTERS)
@settings(max_examples=60)
def test_filters_are_asked_of_the_store(tmp_path_factory: pytest.TempPathFactory, filters: Any) -> None:
    made = shared(tmp_path_factory)
    rows = {each.node_id: each.metadata for each in made.get_nodes()}
    reference = build_metadata_filter_fn(rows.__getitem__, filters)
    assert ids_of(made.get_nodes(filters=filters)) == [name for name in rows if reference(name)]


_SHARED: list[Any] = []


def shared(folders: pytest.TempPathFactory) -> Any:
    if not _SHARED:
        made = MrlVectorStore(folders.mktemp("filters") / "store.mrl", auto_maintain=False)
        values: dict[str, list[Any]] = {
            "a": [None, 0, 1, 2, 1.5, -3],
            "b": [None, "", "x", "X", "yx", "Xy"],
            "c": [None, [], [0], [True, "x"], ["X", 2], [1.5, "", "yx"]],
            "d": [True, False, 1, 0, "x", [1]],
        }
        metas = [{key: values[key][row]} for key in values for row in range(6)]
        metas += [{key: values[key][(row * 5 + len(key)) % 6] for key in values} for row in range(6)]
        made.add(
            [TextNode(id_=f"{i:02}", text="", metadata=m, embedding=[1, i]) for i, m in enumerate(metas)]
        )
        _SHARED.append(made)
    return _SHARED[0]


def test_nested_conditions(filled: Any) -> None:
    small = MetadataFilter(key="number", operator=FilterOperator.LT, value=4)
    inner = MetadataFilters(
        filters=[small, MetadataFilter(key="tags", operator=FilterOperator.IS_EMPTY, value=None)]
    )
    either = MetadataFilters(
        filters=[inner, MetadataFilter(key="number", operator=FilterOperator.EQ, value=20)],
        condition=FilterCondition.OR,
    )
    assert ids_of(filled.get_nodes(filters=either)) == ["00", "03", "20"]
    nothing = MetadataFilters(filters=[MetadataFilters(filters=[]), small])
    assert ids_of(filled.get_nodes(filters=nothing)) == ["00", "01", "02", "03"]


def test_the_guide_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("llama-index", tmp_path, monkeypatch)
