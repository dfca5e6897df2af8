"""Documents and embedders that fail: what succeeded is stored, what failed is named, and who stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrlstore.embedders.content import Image
from mrlstore.embedders.gemini import GeminiEmbedder
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.errors import EmbedError, InvalidInput, LimitExceeded
from mrlstore.ingest import IngestError, Split, ingest
from mrlstore.types import Progress
from tests.embedders.gemini.media import png
from tests.embedders.gemini.server import Answer, Call, Google, refused
from tests.ingest.conftest import SHORT, TEXTS


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


def test_texts_that_cannot_be_embedded_can_be_kept_without_a_vector(opened: Callable[..., Any]) -> None:
    """Keywords find them, a second run writes nothing, and one that can embed them gives them vectors."""
    words = [f"{a} {b}" for a in ("alpha", "beta", "gamma") for b in ("one", "two", "three", "four")]
    local = LocalEmbedder.fit(words, dim=3)
    texts = [*(words * 8)[:90], *(f"xyzzy {i}" for i in range(40))]
    ids = [str(i) for i in range(130)]
    store = opened(dim=3, prefix_dim=2)
    done = ingest(store, local, texts, ids, [{"n": 1}] * 130, on_error="keep")
    assert list(done.without_vector) == ids[90:] and not done.failed
    assert (done.ids, done.embedded, len(store)) == (ids, 90, 130)
    assert store.query(keywords="xyzzy 7", k=1).ids == ["97"]
    generation = store.stats().generation
    again = ingest(store, local, texts, ids, [{"n": 1}] * 130, on_error="keep")
    assert (again.skipped, list(again.without_vector)) == (90, ids[90:])
    assert store.stats().generation == generation
    ingest(store, local, texts, ids, [{"n": 2}] * 130, on_error="keep")
    assert store.get(["97"])[0].metadata == {"n": 2} == store.get(["5"])[0].metadata
    larger = LocalEmbedder.fit(["alpha one", "beta two", "xyzzy"], dim=3)
    assert not ingest(store, larger, texts, ids, [{"n": 2}] * 130, on_error="keep").without_vector
    assert store.stats().rows_without_vector == 0


def test_media_and_failures_of_the_service_are_not_kept(
    target: Any, gemini: Any, google: Google, opened: Callable[..., Any], tmp_path: Path
) -> None:
    local = LocalEmbedder.fit(["alpha one", "beta two", "gamma three"], dim=3)
    store = opened(tmp_path / "other", dim=3, prefix_dim=2)
    done = ingest(store, local, ["alpha", Image(png()), "xyzzy"], ["a", "i", "x"], on_error="keep")
    assert list(done.failed) == ["i"] and list(done.without_vector) == ["x"] and done.ids == ["a", "x"]
    google.decide = lambda call: refused(403, "No.", "PERMISSION_DENIED")
    with pytest.raises(IngestError, match="check GEMINI_API_KEY"):
        ingest(target, gemini, TEXTS, on_error="keep")
    assert len(target) == 0


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
        {"documents": np.array([["a"]])},
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


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_cannot_be_paired_by_position(target: Any, gemini: Any, google: Google, kind: Any) -> None:
    texts = ["a", "b"]
    for wrong in (
        {"documents": texts, "ids": kind(["1", "2"])},
        {"documents": kind(texts), "ids": ["1", "2"]},
        {"documents": kind(texts), "metadatas": [{"x": 1}, {"x": 2}]},
        {"documents": iter(texts), "metadatas": kind([None])},
    ):
        with pytest.raises(InvalidInput, match=f"a {kind.__name__} has no order; give a list"):
            ingest(target, gemini, **wrong)
    assert google.calls == [] and len(target) == 0
    assert ingest(target, gemini, kind(texts)).embedded == 2, "documents alone are paired with nothing"


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


class Picky:
    """An embedder that refuses texts with "bad" in them, or everything; its errors do not say which text."""

    fingerprint = "picky"

    def __init__(self) -> None:
        self.broken = False
        self.calls = 0

    def embed_documents(self, contents: Any) -> Any:
        self.calls += 1
        if self.broken or any("bad" in text for text in contents):
            raise EmbedError("one of these, or all")
        return np.array([[1.0, len(text), 2.0] for text in contents])

    def embed_query(self, content: Any) -> Any:
        return self.embed_documents([content])[0]


def test_documents_behind_bad_ones_are_stored_in_a_second_run(opened: Callable[..., Any]) -> None:
    """In the second run only bad documents of a window are fresh: that all of them fail proves nothing."""
    picky = Picky()
    store = opened(dim=3, prefix_dim=2, embedder=picky)
    texts = ["bad one", "bad two", *(f"text {i}" for i in range(98))]
    ids = [str(i) for i in range(230)]
    first = ingest(store, picky, texts, ids[:100], on_error="skip")
    assert sorted(first.failed) == ["0", "1"] and len(store) == 98
    new = [f"new {i}" for i in range(130)]
    second = ingest(store, picky, [*texts, *new], ids, on_error="skip")
    assert sorted(second.failed) == ["0", "1"]
    assert (second.embedded, second.skipped, len(store)) == (130, 98, 228)
    third = ingest(store, picky, [*texts, *new], ids, on_error="skip")
    assert sorted(third.failed) == ["0", "1"] and third.skipped == 228


def test_a_whole_window_of_bad_documents_is_passed_over(opened: Callable[..., Any]) -> None:
    picky = Picky()
    store = opened(dim=3, prefix_dim=2, embedder=picky)
    texts = ["first", *(f"bad {i}" for i in range(299)), *(f"text {i}" for i in range(50))]
    done = ingest(store, picky, texts, on_error="skip")
    assert len(done.failed) == 299 and len(store) == 51


def test_a_broken_embedder_is_noticed_though_few_documents_are_fresh(opened: Callable[..., Any]) -> None:
    picky = Picky()
    store = opened(dim=3, prefix_dim=2, embedder=picky)
    texts = [f"text {i}" for i in range(1000)]
    ids = [str(i) for i in range(1000)]
    ingest(store, picky, texts, ids)
    picky.broken, picky.calls = True, 0
    changed = [f"{text} changed" if i % 100 < 2 else text for i, text in enumerate(texts)]
    with pytest.raises(IngestError, match="document '0'"):
        ingest(store, picky, changed, ids, on_error="skip")
    assert picky.calls <= 8, "three calls for the first window, one to make sure, and what was under way"


def test_bad_documents_of_gemini_in_a_second_run(target: Any, gemini: Any, google: Google) -> None:
    google.decide = lambda call: (
        refused(400, "Bad.", "INVALID_ARGUMENT")
        if any(str(content[0]).endswith((" 7", " 8")) for content in call.contents)
        else None
    )
    ids = [str(i) for i in range(250)]
    for _ in range(2):
        done = ingest(target, gemini, TEXTS[:120], ids[:120], on_error="skip")
        assert sorted(done.failed) == ["7", "8"]
    done = ingest(target, gemini, TEXTS, ids, on_error="skip")
    assert sorted(done.failed) == ["7", "8"] and len(target) == 248


def test_a_document_on_which_the_service_fails_is_passed_over(
    target: Any, gemini: Any, google: Google
) -> None:
    """A 500 for ever, for one document: in the second run it is the only fresh one."""
    google.decide = lambda call: (
        refused(500, "m", "INTERNAL") if ["title: none | text: text 7"] in call.contents else None
    )
    ids = [str(i) for i in range(250)]
    for texts in (TEXTS[:100], TEXTS):
        done = ingest(target, gemini, texts, ids[: len(texts)], on_error="skip")
        assert sorted(done.failed) == ["7"] and len(target) == len(texts) - 1


def test_documents_that_cannot_be_rows_are_passed_over(target: Any, gemini: Any, tmp_path: Path) -> None:
    """What the store or the pipeline refuses is one document's failure too."""
    gone = tmp_path / "gone.png"
    gone.write_bytes(png())
    image = Image(gone)
    gone.unlink()
    documents: list[Any] = ["a", "b", 7, "d", image, "f", "g"]
    metadatas: list[Any] = [None, {"x": float("nan")}, None, None, None, {"y": "z" * 10_000_000}, None]
    ids = ["a", "b", "c", "", "e", "f", "g"]
    done = ingest(target, gemini, documents, ids, metadatas, on_error="skip")
    assert sorted(done.failed) == ["b", "c", "documents[3]", "e", "f"]
    assert done.ids == ["a", "g"] and len(target) == 2
    with pytest.raises(InvalidInput):
        ingest(target, gemini, documents, ids, metadatas)
