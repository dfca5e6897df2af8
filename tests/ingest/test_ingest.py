"""Documents become rows once: what is stored is skipped, what failed is told, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.content import Image
from mrlstore.embedders.gemini import MODELS, GeminiEmbedder
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.ingest import IngestError, Split, digest_of, ingest, re_embed
from mrlstore.types import Progress
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Answer, Call, Google, refused, vector_of

DIM = 128
SHORT = replace(MODELS["gemini-embedding-2"], dim=DIM)  # short vectors travel faster
TEXTS = [f"text {i}" for i in range(250)]


@pytest.fixture
def gemini(embedder: Callable[..., Any]) -> Any:
    return embedder(SHORT, concurrency=3)


@pytest.fixture
def target(opened: Callable[..., Any]) -> Any:
    return opened(dim=DIM, prefix_dim=32)


def stored_vector(store: Any, id: str) -> np.ndarray[Any, Any]:
    [record] = store.get([id], include=("vector",))
    return np.asarray(record.vector)


def wanted(text: str) -> np.ndarray[Any, Any]:
    return vector_of(f"title: none | text: {text}", DIM)


def test_documents_become_rows(target: Any, gemini: Any, google: Google) -> None:
    ids = [f"id {i}" for i in range(250)]
    done = ingest(target, gemini, TEXTS, ids, [{"i": i} for i in range(250)])
    assert (done.ids, done.embedded, done.skipped, done.updated, done.failed) == (ids, 250, 0, 0, {})
    assert len(target) == 250 and sorted(len(call.contents) for call in google.calls) == [50, 100, 100]
    for i in (0, 99, 100, 249):
        np.testing.assert_allclose(stored_vector(target, f"id {i}"), wanted(TEXTS[i]), atol=1e-3)
        [record] = target.get([f"id {i}"])
        assert (record.document, record.metadata) == (TEXTS[i], {"i": i})


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
    np.testing.assert_allclose(stored_vector(target, "9"), wanted("new"), atol=1e-3)


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
    np.testing.assert_allclose(stored_vector(target, "1"), wanted("a"), atol=1e-3)


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
    np.testing.assert_allclose(stored_vector(target, "7"), wanted("b"), atol=1e-3)


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
    ingest(target, gemini, [longer[:500]], ["doc"], split=Split(100, 10))
    ids = [record.id for record in target.scan()]
    assert sorted(ids) == sorted([*others, "doc#0", "doc#1"])


# Failures


def test_what_succeeded_is_stored_before_the_error(target: Any, gemini: Any, google: Google) -> None:
    google.decide = lambda call: (
        refused(400, "Bad.", "INVALID_ARGUMENT")
        if ["title: none | text: text 150"] in call.contents
        else None
    )
    with pytest.raises(IngestError, match="document '150': 400 .*Bad.*run again to go on") as raised:
        ingest(target, gemini, TEXTS, [str(i) for i in range(250)])
    assert list(raised.value.done.failed) == ["150"] and len(target) == 249 == raised.value.done.embedded
    google.decide = None
    google.calls.clear()
    assert ingest(target, gemini, TEXTS, [str(i) for i in range(250)]).embedded == 1
    assert google.contents == [["title: none | text: text 150"]]


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ("", InvalidInput, "document '150': an empty text"),
        ("word " * 9000, LimitExceeded, "'150': its text is"),
    ],
)
def test_a_refused_document_is_named_and_keeps_nothing_back(
    target: Any, gemini: Any, bad: str, error: type[Exception], words: str
) -> None:
    texts = [*TEXTS[:150], bad, *TEXTS[151:]]
    with pytest.raises(error, match=words):
        ingest(target, gemini, texts, [str(i) for i in range(250)])
    assert {"149", "151"} <= {record.id for record in target.scan()}


def test_single_failures_can_be_passed_over(target: Any, gemini: Any, google: Google) -> None:
    google.script = [Answer(change=lambda good: [*good[:3], {}, *good[4:]])]
    texts = ["", *TEXTS[1:]]
    done = ingest(target, gemini, texts, [str(i) for i in range(250)], on_error="skip")
    assert len(done.failed) == 2 and "0" in done.failed and len(target) == 248 == len(done.ids)


def test_an_embedder_that_does_not_say_which_is_asked_again(opened: Callable[..., Any]) -> None:
    """The local embedder refuses a whole batch for one text without known words."""
    words = [f"{a} {b}" for a in ("alpha", "beta", "gamma") for b in ("one", "two", "three", "four")]
    local = LocalEmbedder.fit(words, dim=3)
    texts = [*(words * 8)[:50], "xyzzy", *(words * 8)[50:90]]
    store = opened(dim=3, prefix_dim=2)
    done = ingest(store, local, texts, [str(i) for i in range(91)], on_error="skip")
    assert list(done.failed) == ["50"] and done.embedded == 90 == len(store)


def test_a_failing_service_is_not_passed_over(target: Any, gemini: Any, google: Google) -> None:
    google.decide = lambda call: refused(403, "No.", "PERMISSION_DENIED")
    with pytest.raises(IngestError, match="check GEMINI_API_KEY"):
        ingest(target, gemini, [f"text {i}" for i in range(5000)], on_error="skip")
    assert len(google.calls) <= 6, "it stopped with what was under way"


def test_what_is_under_way_when_the_source_fails_is_stored(target: Any, gemini: Any) -> None:
    def documents() -> Iterator[str]:
        yield from TEXTS[:200]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ingest(target, gemini, documents())
    assert len(target) == 200


@pytest.mark.parametrize(
    "arguments",
    [
        {"documents": "one text"},
        {"documents": ["a"], "ids": ["1", "2"]},
        {"documents": ["a"], "metadatas": []},
        {"documents": iter(["a", "b"]), "ids": iter(["1"])},
        {"documents": [7]},
        {"documents": [["a", None]]},
        {"documents": ["a"], "on_error": "ignore"},
        {"documents": ["a"], "metadatas": [{"x": float("nan")}]},
        {"documents": ["a", "b"], "ids": ["", "b"]},
        {"documents": None},
        {"documents": b"text"},
        {"documents": {"a": "a text"}},
        {"documents": np.array("a")},
        {"documents": ["a"], "ids": "a"},
        {"documents": ["a"], "ids": 5},
        {"documents": ["a"], "metadatas": {"x": 1}},
        {"documents": ["a"], "metadatas": [5]},
        {"documents": ["a"], "metadatas": [{"x": np.zeros(2)}]},
        {"documents": ["a"], "split": 100},
        {"documents": ["a"], "split": Split(0)},
        {"documents": ["a"], "progress": 5},
    ],
)
def test_wrong_arguments(target: Any, gemini: Any, google: Google, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ingest(target, gemini, **arguments)
    assert google.calls == [] and len(target) == 0


def test_odd_metadata_of_a_stored_document(target: Any, gemini: Any) -> None:
    ingest(target, gemini, ["a"], ["1"], [{"x": 1}])
    with pytest.raises(InvalidInput, match="metadata of '1'"):
        ingest(target, gemini, ["a"], ["1"], [{"x": np.zeros(2)}])
    assert target.get(["1"])[0].metadata == {"x": 1}


class Odd:
    """An embedder that gives what it is told to."""

    def __init__(self, given: Any, fingerprint: Any = "odd") -> None:
        self.given, self.fingerprint = given, fingerprint

    def embed_documents(self, contents: Any) -> Any:
        return self.given

    def embed_query(self, content: Any) -> Any:
        return self.given


@pytest.mark.parametrize(
    "given",
    [
        None,
        "text",
        [],
        np.ones(3),
        np.ones((1, 3)),
        np.ones((3, 3)),
        np.ones((2, 3), dtype=complex),
        [[1.0], [1.0, 2.0]],
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'shape', '')}",
)
def test_an_embedder_that_does_not_give_one_vector_for_each(opened: Callable[..., Any], given: Any) -> None:
    store = opened(dim=3, embedder=Odd(given))
    with pytest.raises(InvalidInput, match="embed_documents"):
        store.add(["one", "two"])
    assert len(store) == 0


@pytest.mark.parametrize("fingerprint", [None, 5, object(), {"a": {1}}, {1: "a", "b": 2}])
def test_a_fingerprint_that_is_none(opened: Callable[..., Any], fingerprint: Any) -> None:
    store = opened(dim=3, embedder=Odd(np.ones((1, 3)), fingerprint))
    with pytest.raises(InvalidInput, match="fingerprint of the embedder"):
        store.add(["one"])
    assert len(store) == 0


def test_an_interrupt_leaves_at_once(target: Any, gemini: Any, google: Google) -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(target, gemini, [f"text {i}" for i in range(2000)], progress=stop)
    assert len(target) == 100 and len(google.calls) <= 5


def test_an_interrupt_does_not_wait_for_a_long_pause(target: Any, client: Any, google: Google) -> None:
    """Real time: the server asks all but the first window to wait for two minutes."""
    wait = refused(429, "m", "RESOURCE_EXHAUSTED", retry_after="120")
    first = threading.Event()

    def decide(call: Call) -> Answer | None:
        if ["title: none | text: text 0"] in call.contents:
            first.set()
            return None
        return wait if first.wait(20) else None

    google.decide = decide

    def stop(progress: Progress) -> None:
        while len(google.calls) < 3:
            time.sleep(0.01)
        raise KeyboardInterrupt

    real = GeminiEmbedder(SHORT, client=client(), concurrency=3)
    with pytest.raises(KeyboardInterrupt):
        ingest(target, real, [f"text {i}" for i in range(2000)], progress=stop)
    for thread in threading.enumerate():
        if thread.name.startswith("mrlstore-ingest"):
            thread.join(20)
            assert not thread.is_alive()
    assert len(target) == 100


# Embedding anew


def test_a_store_is_embedded_anew(
    target: Any, gemini: Any, embedder: Any, opened: Callable[..., Any], tmp_path: Path, google: Google
) -> None:
    ingest(target, gemini, TEXTS, [str(i) for i in range(250)], [{"i": i} for i in range(250)])
    ingest(target, gemini, ["x", Image(png())], ["text", "image"], namespace="other")
    target.upsert(["bare"], None, documents=["no vector"])
    target.upsert(["vector"], np.ones((1, DIM)))
    new = opened(tmp_path / "new.mrl", dim=256)
    other = embedder("gemini-embedding-001", dim=256, concurrency=2)
    done = re_embed(target, new, other)
    assert done.embedded == 251 and sorted(done.failed) == ["image", "vector"]
    assert new.namespaces() == {"": 251, "other": 1}
    np.testing.assert_allclose(stored_vector(new, "7"), vector_of("text 7", 256), atol=1e-3)
    assert new.get(["7"])[0].metadata == {"i": 7} and new.get(["bare"])[0].document == "no vector"
    google.calls.clear()
    assert re_embed(target, new, other).skipped == 251 and google.calls == []


# A crash

CRASH = """
import os, sys
import mrlstore
from dataclasses import replace
from mrlstore.embedders.gemini import MODELS, GeminiEmbedder
from mrlstore.ingest import ingest

path, cache, texts = sys.argv[1], sys.argv[2] or None, [f"text {i}" for i in range(1000)]
with mrlstore.open(path, dim=128) as store:
    short = replace(MODELS["gemini-embedding-2"], dim=128)
    ingest(store, GeminiEmbedder(short, concurrency=3, cache=cache), texts, texts)
"""


@pytest.mark.parametrize("cached", [False, True], ids=["without a cache", "with a cache"])
@pytest.mark.parametrize("survived", [1, 4, 8])
def test_after_a_crash_only_what_is_missing_is_sent(
    google: Google,
    embedder: Any,
    opened: Callable[..., Any],
    path: Path,
    tmp_path: Path,
    cached: bool,
    survived: int,
) -> None:
    """The process is killed in the midst of 1,000 documents, when some requests have been answered."""
    cache = str(tmp_path / "cache.db") if cached else ""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "GEMINI_"))
    } | {"GEMINI_API_KEY": "first run", "GOOGLE_GEMINI_BASE_URL": google.url}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CRASH, str(path), cache], env=environment
    )
    answered: list[Call] = []

    def decide(call: Call) -> Answer | None:
        if len(answered) >= survived:
            process.send_signal(signal.SIGKILL)
            return Answer(delay_s=30)
        answered.append(call)
        return None

    google.decide = decide
    assert process.wait(60) == -signal.SIGKILL
    paid = {content[0] for call in answered for content in call.contents}
    google.decide = None
    store = opened(path)
    texts = [f"text {i}" for i in range(1000)]
    before = {f"title: none | text: {record.id}" for record in store.scan()}
    assert before <= paid and len(before) < 1000
    done = ingest(store, embedder(SHORT, cache=cache or None, concurrency=3), texts, texts)
    everything = {f"title: none | text: {text}" for text in texts}
    second = [call for call in google.embed_calls if call.headers["x-goog-api-key"] != "first run"]
    sent = [content[0] for call in second for content in call.contents]
    assert len(sent) == len(set(sent)) and done.skipped == len(before)
    if cached:
        known = everything - set(sent)
        assert before <= known <= paid, "what was paid for and cached is not sent again"
        assert done.embedded == 1000 - len(before)
    else:
        assert set(sent) == everything - before, "exactly what is not stored"
    for i in (0, 499, 999):
        np.testing.assert_allclose(stored_vector(store, f"text {i}"), wanted(f"text {i}"), atol=1e-3)
