"""Documents become rows once: what is stored is skipped, what failed is told, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mrlstore.embedders.content import Image
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.ingest import Split, digest_of, ingest
from mrlstore.types import Progress
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Google
from tests.ingest.conftest import TEXTS, document_vector, stored_vector


def test_documents_become_rows(target: Any, gemini: Any, google: Google) -> None:
    ids = [f"id {i}" for i in range(250)]
    done = ingest(target, gemini, TEXTS, ids, [{"i": i} for i in range(250)])
    assert (done.ids, done.embedded, done.skipped, done.updated, done.failed) == (ids, 250, 0, 0, {})
    assert len(target) == 250 and sorted(len(call.contents) for call in google.calls) == [50, 100, 100]
    for i in (0, 99, 100, 249):
        np.testing.assert_allclose(stored_vector(target, f"id {i}"), document_vector(TEXTS[i]), atol=1e-3)
        [record] = target.get([f"id {i}"])
        assert (record.document, record.metadata) == (TEXTS[i], {"i": i})


def test_columns_of_a_table_are_taken_as_lists_are(target: Any, gemini: Any) -> None:
    """Iterating an Arrow column gives scalars of Arrow's own, which are no texts."""
    ids, metadatas = ["1", "2", "3"], [{"i": 1}, {"i": 2}, None]
    texts = pa.chunked_array([TEXTS[:2], TEXTS[2:3]])
    table = pa.table({"text": texts, "id": ids, "more": pa.array(metadatas)})
    assert ingest(target, gemini, table["text"], table["id"], table["more"]).embedded == 3
    assert ingest(target, gemini, TEXTS[:3], ids, metadatas).skipped == 3
    assert [(r.document, r.metadata) for r in target.get(ids)] == list(zip(TEXTS, metadatas, strict=False))


def test_a_second_run_sends_nothing(target: Any, gemini: Any, google: Google) -> None:
    first = ingest(target, gemini, TEXTS)
    sent = len(google.contents)
    generation = target.stats().generation
    again = ingest(target, gemini, TEXTS)
    assert again.ids == first.ids and (again.embedded, again.skipped) == (0, 250)
    assert len(google.contents) == sent and target.stats().generation == generation


def test_only_what_changed_is_sent(target: Any, gemini: Any, google: Google) -> None:
    ids = [str(i) for i in range(10)]
    ingest(target, gemini, TEXTS[:10], ids)
    google.calls.clear()
    done = ingest(target, gemini, [*TEXTS[:9], "new"], ids)
    assert google.contents == [["title: none | text: new"]] and (done.embedded, done.skipped) == (1, 9)
    np.testing.assert_allclose(stored_vector(target, "9"), document_vector("new"), atol=1e-3)


def test_new_metadata_costs_nothing(target: Any, gemini: Any, google: Google) -> None:
    ingest(target, gemini, ["a", "b", "c"], ["1", "2", "3"], [{"x": 1, "y": 2}, {"x": 1}, {"x": 1}])
    google.calls.clear()
    done = ingest(target, gemini, ["a", "b", "c"], ["1", "2", "3"], [{"x": 5}, {"x": 1}, None])
    assert google.calls == [] and (done.embedded, done.skipped, done.updated) == (0, 3, 1)
    assert [r.metadata for r in target.get(["1", "2", "3"])] == [{"x": 5}, {"x": 1}, {"x": 1}]


def test_without_metadata_those_of_the_earlier_content_stay(target: Any, gemini: Any) -> None:
    contents: list[Any] = ["a", Image(png(1)), "word " * 100]
    ingest(target, gemini, contents[:2], ["1", "2"], [{"x": 1}, {"x": 2}])
    ingest(target, gemini, contents[2:], ["3"], [{"x": 3}], split=Split(50, 5))
    ingest(target, gemini, ["b", Image(png(2))], ["1", "2"])
    ingest(target, gemini, ["other " * 100], ["3"], split=Split(50, 5))
    one, two, three = (record.metadata for record in target.get(["1", "2", "3#0"]))
    assert one == {"x": 1} and two == {"x": 2, "_digest": digest_of(Image(png(2)))}
    assert three["x"] == 3 and target.get(["3#0"])[0].document.startswith("other")


def test_a_row_without_a_vector_is_embedded(target: Any, gemini: Any) -> None:
    target.upsert(["1"], None, documents=["a"])
    assert ingest(target, gemini, ["a"], ["1"]).embedded == 1
    np.testing.assert_allclose(stored_vector(target, "1"), document_vector("a"), atol=1e-3)


def test_media_and_lists_are_known_again(target: Any, gemini: Any, google: Google, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png(1))
    contents: list[Any] = [Image(path), ["a caption", Image(png(2)), "and more"], "text"]
    first = ingest(target, gemini, contents, metadatas=[{"path": "cat.png"}, None, None])
    assert [r.document for r in target.get(first.ids)] == [None, "a caption\nand more", "text"]
    assert ingest(target, gemini, contents).skipped == 3
    assert target.get(first.ids[:1])[0].metadata["path"] == "cat.png"
    google.calls.clear()
    path.write_bytes(png(3))
    done = ingest(target, gemini, contents, ids=first.ids)
    assert google.contents == [[("image/png", png(3))]] and done.embedded == 1


def test_equal_contents_without_ids_are_one_row(target: Any, gemini: Any) -> None:
    done = ingest(target, gemini, ["a", "b", "a"])
    assert done.ids == [digest_of(text)[:32] for text in "aba"] and len(target) == 2


def test_of_an_id_given_twice_the_last_counts(target: Any, gemini: Any) -> None:
    """Within a window, and across windows that would otherwise be embedded side by side."""
    texts = [*TEXTS[:150], "last"]
    ids = [*map(str, range(150)), "7"]
    for _ in range(2):  # at first it is not stored; then it is stored as "last", and changed and changed back
        ingest(target, gemini, texts, ids)
        assert target.get(["7"])[0].document == "last"
    ingest(target, gemini, ["a", "b"], ["7", "7"])
    assert target.get(["7"])[0].document == "b"
    np.testing.assert_allclose(stored_vector(target, "7"), document_vector("b"), atol=1e-3)


def test_any_iterable_is_read_as_needed(target: Any, gemini: Any, google: Google) -> None:
    """Not all documents are read before the first are stored."""
    most = 0

    def documents() -> Iterator[str]:
        nonlocal most
        for i in range(1000):
            most = max(most, i - len(target))
            yield f"text {i}"

    ingest(target, gemini, documents())
    assert len(target) == 1000 and most <= 5 * 100


def test_progress(target: Any, gemini: Any) -> None:
    told: list[Progress] = []
    ingest(target, gemini, TEXTS, progress=told.append)
    assert told == [Progress("embed", n, 250) for n in (100, 200, 250)]


def test_namespaces_are_apart(target: Any, gemini: Any) -> None:
    ingest(target, gemini, ["a"], ["1"], namespace="x")
    assert ingest(target, gemini, ["a"], ["1"], namespace="y").embedded == 1
    assert target.namespaces() == {"x": 1, "y": 1}


def test_any_embedder_will_do(opened: Callable[..., Any]) -> None:
    words = ["alpha beta", "beta gamma", "gamma delta", "delta alpha", "alpha gamma"]
    local = LocalEmbedder.fit(words, dim=3)
    store = opened(dim=3, prefix_dim=2)
    done = ingest(store, local, words)
    assert done.embedded == 5 and ingest(store, local, words).skipped == 5
    assert store.query(local.embed_query("beta gamma"), k=1).ids == [done.ids[1]]


# Chunks


def test_long_texts_become_chunks_that_know_where_they_stood(target: Any, gemini: Any) -> None:
    text = " ".join(f"word{i}" for i in range(400))
    done = ingest(target, gemini, [text, "short"], ["long", "short"], [{"a": 1}, None], split=Split(200, 40))
    assert done.ids == [*(f"long#{i}" for i in range(len(done.ids) - 1)), "short#0"] and len(done.ids) > 3
    end = 0
    for number, record in enumerate(target.get(done.ids[:-1])):
        chunk = record.metadata["chunk"]
        assert (chunk["of"], chunk["number"], record.metadata["a"]) == ("long", number, 1)
        assert text[chunk["start"] : chunk["stop"]] == record.document and chunk["start"] <= end
        end = chunk["stop"]
    assert end == len(text)
    assert ingest(target, gemini, [text, "short"], ["long", "short"], split=Split(200, 40)).embedded == 0


def test_chunks_of_an_earlier_longer_text_are_removed(target: Any, gemini: Any) -> None:
    longer = " ".join(f"word{i}" for i in range(400))
    ingest(target, gemini, ["unsplit"], ["doc"])
    ingest(target, gemini, [longer, "other " * 300], ["doc", "doc2"], split=Split(100, 10))
    others = [record.id for record in target.scan(prefix="doc2#")]
    assert not target.get(["doc"]) and len(others) > 2
    ingest(target, gemini, [longer[:300]], ["doc"], split=Split(100, 10))
    ids = [record.id for record in target.scan()]
    assert sorted(ids) == sorted([*others, "doc#0", "doc#1"])
