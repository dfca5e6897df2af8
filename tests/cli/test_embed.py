"""mrlstore add and re-embed, with the local embedder and with Gemini's against the local server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mrlstore
from tests.embedders.gemini.conftest import google, no_environment
from tests.embedders.gemini.media import pdf, png

from .conftest import Run

__all__ = ["google", "no_environment"]  # fixtures

TEXTS = {
    "bread.txt": "Flour, water, salt and an oven make bread. The dough must rest.",
    "boat.md": "# Sailing\n\nA boat with a sail needs wind, a rope and an anchor.",
    "band.txt": "The orchestra plays violin and piano, a melody with rhythm.",
    "cake.txt": "Sugar, butter and flour make a cake in the oven.",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "in" / name).write_text(text)
    return tmp_path


def test_add_with_the_local_embedder(folder: Path, run: Run) -> None:
    first = run("add", "notes.mrl", "in", "--embedder", "local", "--json").json
    assert (first["documents"], first["rows"], first["new"], first["store_rows"]) == (4, 4, 4, 4)
    assert (folder / "notes.lsa.npz").exists()
    again = run("add", "notes.mrl", "in", "--json").json
    assert (again["rows"], again["new"]) == (4, 0)
    found = run("query", "notes.mrl", "a boat in the wind", "-k", 1, "--json").json
    assert found["hits"][0]["id"] == "in/boat.md" and found["hits"][0]["metadata"] == {
        "path": "in/boat.md",
        "_file": f"{folder}/in/boat.md",
    }


def test_add_with_gemini(folder: Path, run: Run, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "K")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", google.url)
    (folder / "in" / "cat.png").write_bytes(png())
    (folder / "in" / "paper.pdf").write_bytes(pdf(8))
    arguments = ("add", "all.mrl", "in", "--embedder", "gemini", "--cache", "cache.db")
    first = run(*arguments, "--json").json
    assert (first["documents"], first["new"], first["usage"]["items"]) == (7, 7, 7)
    assert first["usage"]["estimated_usd"] > 0
    out = run(*arguments).out
    assert "7 rows, 0 new," in out and "sent 0, 0 from the cache; about $0.0000" in out
    ids = run("query", "all.mrl", "anything", "-k", 9, "--json").json["hits"]
    assert {hit["id"] for hit in ids} >= {"in/cat.png", "in/paper.pdf#1-6", "in/paper.pdf#7-8", "in/boat.md"}
    assert google.contents[-1] == ["task: search result | query: anything"]
    asked = run("query", "all.mrl", "anything", "--task", "fact checking", "--json")
    assert asked.code == 0 and google.contents[-1] == ["task: fact checking | query: anything"]
    refused = run("query", "all.mrl", "x", "--embedder", "gemini-embedding-001")
    assert refused.code == 2 and "gemini-embedding-2" in refused.err


def test_long_texts(folder: Path, run: Run, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "K")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", google.url)
    (folder / "book.txt").write_text("All work and no play. " * 3000)
    refused = run("add", "book.mrl", "book.txt", "--embedder", "gemini")
    assert refused.code == 6 and "--chunk 1024" in refused.err and google.calls == []
    assert "stored without a vector: book.txt: its text is" in refused.err
    done = run("add", "book.mrl", "book.txt", "--embedder", "gemini", "--chunk", 4096, "--json").json
    assert done["rows"] > 3
    with mrlstore.open("book.mrl", mode="r") as store:
        assert {record.id for record in store.scan()} == {f"book.txt#{i}" for i in range(done["rows"])}


def test_re_embed(folder: Path, run: Run, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "K")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", google.url)
    run("create", "old.mrl", "--tokenizer", "porter")
    run("add", "old.mrl", "in", "--embedder", "local")
    refused = run("add", "old.mrl", "in", "--embedder", "gemini")
    assert refused.code == 2 and "mrlstore re-embed" in refused.err
    done = run("re-embed", "old.mrl", "new.mrl", "--embedder", "gemini", "--json")
    assert done.code == 0 and (done.json["new"], done.json["store_rows"]) == (4, 4)
    assert run("re-embed", "old.mrl", "new.mrl", "--embedder", "gemini", "--json").json["new"] == 0
    with mrlstore.open("new.mrl", mode="r") as new:
        assert new.settings.tokenizer == "porter"
    back = run("re-embed", "new.mrl", "back.mrl", "--embedder", "local", "--json")
    assert back.code == 0 and back.json["new"] == 4
    with mrlstore.open("old.mrl") as store:
        store.upsert(["bare"], [[1.0] * (store.dim or 0)])
    partly = run("re-embed", "old.mrl", "newer.mrl", "--embedder", "gemini")
    assert partly.code == 6 and "not stored: bare: its content is not stored" in partly.err


def test_re_embed_reads_media_again(
    folder: Path, run: Run, google: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a store whose model is not served any more: a file that is gone is told, others are moved."""
    monkeypatch.setenv("GEMINI_API_KEY", "K")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", google.url)
    (folder / "in" / "cat.png").write_bytes(png())
    (folder / "in" / "dog.png").write_bytes(png(7))
    (folder / "in" / "paper.pdf").write_bytes(pdf(8))
    run("add", "old.mrl", "in", "--embedder", "gemini")
    (folder / "in" / "dog.png").unlink()
    moved = run("re-embed", "old.mrl", "new.mrl", "--embedder", "gemini", "--task", "clustering", "--json")
    assert moved.code == 6 and moved.json["new"] == 7
    assert moved.json["failed"] == {"in/dog.png": "its content is not stored: add it again from its source"}
    with mrlstore.open("new.mrl", mode="r") as new, mrlstore.open("old.mrl", mode="r") as old:
        ids = ["in/cat.png", "in/paper.pdf#1-6", "in/paper.pdf#7-8", "in/boat.md"]
        assert [row.metadata for row in new.get(ids)] == [row.metadata for row in old.get(ids)]


def test_an_embedder_that_is_not_there(folder: Path, run: Run) -> None:
    for arguments, words in [
        (("add", "x.mrl", "in", "--embedder", "nothing"), "gemini, the name of a Gemini model, local, or"),
        (("add", "x.mrl", "in", "--embedder", "gemini-9"), "is not known"),
        (("add", "x.mrl", "in/none.txt", "--embedder", "local"), "does not exist"),
    ]:
        done = run(*arguments)
        assert done.code == 2 and words in done.err
    assert not (folder / "x.mrl").exists()
