"""Fusing vectors and keywords: ranks, weights, filters, one generation."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import numpy as np
import pytest

import mrlstore
from mrlstore.catalogue.schema import FORMAT_VERSION
from mrlstore.search import hybrid
from tests.golden.test_golden import unpack
from tests.keywords.corpus import documents, vectors

ROWS = 400
VECTORS = vectors(ROWS, 1)
TEXTS = documents(ROWS, 2)
QUESTION = vectors(1, 3)[0]


@pytest.fixture
def store(tmp_path: Path) -> mrlstore.Store:
    store = mrlstore.open(tmp_path / "s.mrl", auto_maintain=False)
    metadatas = [{"n": n, "third": n % 3 == 0} for n in range(ROWS)]
    store.upsert([f"r{n}" for n in range(ROWS)], VECTORS, metadatas, TEXTS)
    return store


def fused(lists: list[list[str]], weights: tuple[float, float]) -> dict[str, float]:
    """Reciprocal rank fusion, written down once more."""
    scores: dict[str, float] = {}
    for ranked, weight in zip(lists, weights, strict=True):
        for rank, name in enumerate(ranked, 1):
            scores[name] = scores.get(name, 0.0) + weight / (60 + rank)
    return scores


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.25), (0.1, 3)])
@pytest.mark.parametrize("where", [None, {"third": True}])
def test_scores_are_reciprocal_ranks(
    store: mrlstore.Store, weights: tuple[float, float], where: dict[str, bool] | None
) -> None:
    lists = [
        store.query(QUESTION, 100, exact=True, where=where).ids,
        store.query(keywords="kiwi grape", k=100, where=where).ids,
    ]
    expected = fused(lists, weights)
    found = store.query(QUESTION, 20, keywords="kiwi grape", weights=weights, where=where, exact=True)
    assert {hit.id: hit.score for hit in found} == pytest.approx({hit.id: expected[hit.id] for hit in found})
    order = sorted(expected, key=lambda name: (-expected[name], int(name[1:])))
    assert found.ids == order[:20]
    plan = found.plan.keywords
    assert plan is not None and plan.weights == weights and plan.depth == 100
    for told, hit in zip(plan.hits, found, strict=True):
        assert (told.id, told.score) == (hit.id, hit.score)
        assert told.vector_rank == (lists[0].index(hit.id) + 1 if hit.id in lists[0] else None)
        assert told.keyword_rank == (lists[1].index(hit.id) + 1 if hit.id in lists[1] else None)


def test_a_weight_of_nothing_leaves_a_list_out(store: mrlstore.Store) -> None:
    words = store.query(keywords="kiwi", k=30)
    assert store.query(QUESTION, 30, keywords="kiwi", weights=(0, 1)).ids == words.ids[:30]
    assert store.query(QUESTION, 30, keywords="kiwi", weights=(1, 0)).ids == store.query(QUESTION, 30).ids


def test_filters_and_namespaces_never_leave_fewer_than_there_are(store: mrlstore.Store) -> None:
    store.upsert([f"t{n}" for n in range(30)], VECTORS[:30], None, ["apple kiwi"] * 30, namespace="tenant")
    kept = [f"r{n}" for n in range(ROWS) if "apple" in TEXTS[n] and n < 25]
    assert set(store.query(keywords="apple", k=100, where={"n": {"$lt": 25}}).ids) == set(kept)
    assert len(store.query(keywords="kiwi", k=30, namespace="tenant")) == 30
    assert len(store.query(keywords="kiwi", k=10, namespace="nobody")) == 0
    assert len(store.query(QUESTION, 25, keywords="no such word", where={"n": {"$lt": 25}})) == 25
    rare = store.query(keywords="apple", k=5, where={"n": kept and int(kept[-1][1:])})
    assert rare.ids == [kept[-1]] and rare.plan.matching == 1
    store.optimize()
    assert set(store.query(keywords="apple", k=100, where={"n": {"$lt": 25}}).ids) == set(kept)


def test_rows_without_a_vector_are_found_by_their_words(store: mrlstore.Store) -> None:
    store.upsert(["bare"], None, [{"n": -1}], ["zebra"])
    found = store.query(QUESTION, 5, keywords="zebra", include=("metadata", "document", "vector"))
    hit = next(hit for hit in found if hit.id == "bare")
    assert hit.vector is None and hit.document == "zebra" and hit.metadata == {"n": -1}
    for other in found:
        if other.vector is not None:
            assert np.allclose(other.vector, VECTORS[int(other.id[1:])], atol=1e-2)
    assert store.query(keywords="zebra", where={"n": -1}).ids == ["bare"]


def test_other_questions_and_ways_to_ask(store: mrlstore.Store) -> None:
    by_id = store.query(id="r5", keywords="kiwi", explain=True)
    assert by_id.ids == store.query(VECTORS[5], keywords="kiwi").ids
    assert by_id.plan.explanation is not None and by_id.plan.seconds.keys() == {"vectors", "keywords", "rows"}
    alone = asyncio.run(store.aquery(keywords="kiwi", k=3))
    assert alone.ids == store.query(keywords="kiwi", k=3).ids
    assert alone.plan.effort == "keywords" and alone.plan.segments == ()
    json.dumps([hit._asdict() for hit in alone])


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"weights": (1, 1)}, "weights"),
        ({"keywords": "a", "weights": (1, 1)}, "weights"),
        ({"keywords": "a", "vector": QUESTION, "weights": (0, 0)}, "weights"),
        ({"keywords": "a", "vector": QUESTION, "weights": (-1, 2)}, "weights"),
        ({"keywords": "a", "vector": QUESTION, "weights": (1, float("nan"))}, "weights"),
        ({"keywords": "a", "vector": QUESTION, "weights": "12"}, "weights"),
        ({"keywords": "a", "vector": QUESTION, "weights": (1, 2, 3)}, "weights"),
        ({"keywords": "a", "vector": QUESTION, "min_score": 0.5}, "min_score"),
        ({"keywords": "a", "ef": 10}, "ef"),
        ({"keywords": "a", "shortlist": 10}, "shortlist"),
        ({"keywords": "a", "dim": 4}, "dim"),
        ({"keywords": "a", "exact": True}, "exact"),
        ({"keywords": "a", "target_recall": 0.9}, "target_recall"),
        ({"keywords": "a", "vector": QUESTION, "id": "r1"}, "one of"),
        ({"keywords": "a", "text": "words"}, "embedder"),
        ({"keywords": "a", "id": "nobody"}, "id"),
        ({"keywords": "a", "k": 0}, "k"),
        ({"keywords": "a", "k": 10_001}, "k"),
        ({"keywords": "", "where": {"$odd": 1}}, "where"),
        ({"keywords": "a", "vector": [1.0]}, "vector"),
        ({"keywords": "a", "namespace": 3}, "namespace"),
    ],
)
def test_wrong_questions_are_told(store: mrlstore.Store, wrong: dict[str, object], word: str) -> None:
    with pytest.raises(mrlstore.InvalidInput, match=word):
        store.query(**wrong)  # type: ignore[arg-type]


def test_common_words_are_left_out_of_many_documents(
    store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hybrid, "MANY_DOCUMENTS", 400)
    plan = store.query(keywords="apple kiwi").plan.keywords
    assert plan is not None and plan.ignored == ("apple",) and plan.searched == ("kiwi",)
    everything = store.query(keywords="apple pear", k=1000)
    assert everything.plan.keywords.ignored == ("apple", "pear")[: len(everything.plan.keywords.ignored)]  # type: ignore[union-attr]
    alone = store.query(keywords="apple", k=1000)
    assert alone.plan.keywords.ignored == ()  # type: ignore[union-attr]
    assert len(alone) == sum("apple" in text.split() for text in TEXTS)


def test_answers_are_of_one_generation_while_others_write(tmp_path: Path) -> None:
    """Every generation says one word in all documents, and the same number in all metadata."""
    path = tmp_path / "s.mrl"
    names = [f"r{n}" for n in range(20)]

    def write(generation: int) -> None:
        word = f"word{generation} same"
        writer.upsert(names, vectors(20, generation), [{"g": generation}] * 20, [word] * 20)

    with mrlstore.open(path, auto_maintain=False) as writer, mrlstore.open(path, mode="r") as reader:
        write(0)
        done = threading.Event()

        def keep_writing() -> None:
            for generation in range(1, 60):
                write(generation)
            done.set()

        thread = threading.Thread(target=keep_writing)
        thread.start()
        seen = set()
        while not done.is_set():
            for found in (
                reader.query(keywords="same", k=30, include=("metadata", "document")),
                reader.query(QUESTION, 30, keywords="same", include=("metadata", "document")),
            ):
                assert len(found) == 20
                generations = {hit.metadata["g"] for hit in found if hit.metadata}
                words = {hit.document for hit in found}
                assert len(generations) == 1 and words == {f"word{generations.pop()} same"}
                seen |= words
        thread.join()
        assert writer.verify().ok
        assert reader.query(keywords="word59").plan.keywords.listed == 20 - 10  # type: ignore[union-attr]


def test_an_old_store_gets_its_index_when_it_is_opened_for_writing(tmp_path: Path) -> None:
    path = unpack("v1", tmp_path)
    with mrlstore.open(path, mode="r") as old:
        assert old.settings.tokenizer is None and old.verify().ok
        with pytest.raises(mrlstore.InvalidInput, match="mode"):
            old.query(keywords="document")
        with mrlstore.open(path, auto_maintain=False) as new:
            assert new.settings.format_version == FORMAT_VERSION and new.settings.tokenizer == "unicode61"
            assert new.query(keywords="document").ids == ["late"]
            assert new.query(keywords="text", namespace="tenant ☃").ids == ["t1"]
            assert new.verify().ok
        assert old.query(keywords="document").ids == ["late"]
