"""mrlstore add with the local embedder, on folders as people have them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.cli import local_model
from tests.embedders.gemini.media import pdf, png, text_pdf

from .conftest import Run


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "notes"
    (folder / "drafts").mkdir(parents=True)
    files: dict[str, bytes] = {
        "tides.md": b"---\ntitle: Tides\n---\nThe moon pulls the water of the sea, so tides rise and fall.",
        "waves.txt": b"Wind over the sea makes waves, and waves wear down the coast.",
        "numbers.txt": b"1234 5678",
        "page.html": b"<title>Bread</title><p>Flour and water make a dough.",
        "paper.pdf": text_pdf("A harbour shelters boats.", "The anchor holds a boat."),
        "drafts/d.md": b"Draft about volcanoes.",
        "a-scan.pdf": pdf(1),
        "a.png": png(),
        "odd.bin": b"\x93\xfa",
        ".gitignore": b"drafts/\n",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_goes_in_but_for_what_cannot_be_read(notes: Path, run: Run) -> None:
    """One PDF, one image, one text without a known word stopped all the rest once."""
    done = run("add", "kb.mrl", "notes")
    assert done.code == 6
    assert "6 rows, 6 new," in done.out
    assert "local embedder kb.lsa.npz: fitted now on 6 texts" in done.out
    assert sorted(line for line in done.err.splitlines() if line.startswith(("skipped", "stored"))) == [
        "skipped: notes/a-scan.pdf: a PDF without text (scanned?); "
        "--embedder gemini reads its pages as images",
        "skipped: notes/a.png: image/png, and the local embedder reads texts only",
        "skipped: notes/odd.bin: neither UTF-8 text nor a known kind of image, sound, film or PDF",
        "stored without a vector: notes/numbers.txt: it has no word that the model knows",
    ]
    assert "mrlstore: warning: a model fitted on 6 texts finds little" in done.err
    assert run("query", "kb.mrl", "why are there tides", "-k", 1, "--json").json["hits"][0]["metadata"] == {
        "title": "Tides",
        "path": "notes/tides.md",
        "_file": f"{notes}/tides.md",
    }
    anchor = run("query", "kb.mrl", "anchors", "-k", 1, "--json").json["hits"][0]
    assert (anchor["id"], anchor["metadata"]["pages"]) == ("notes/paper.pdf#page=2", [2, 2])
    assert run("query", "kb.mrl", "--keywords", "5678", "--json").json["hits"][0]["id"] == "notes/numbers.txt"
    again = run("add", "kb.mrl", "notes", "--json")
    assert again.code == 6 and again.json["new"] == 0 and len(again.json["skipped"]) == 3
    assert list(again.json["without_vector"]) == ["notes/numbers.txt"]
    assert again.json["embedder"]["fitted_on"] == 6 and not again.json["embedder"]["new"]


def test_only_what_is_chosen(notes: Path, run: Run) -> None:
    for arguments, names in [
        (("--ext", "md,txt"), {"tides.md", "waves.txt", "numbers.txt"}),
        (("--ext", "md", "--no-gitignore"), {"tides.md", "drafts/d.md"}),
        (("--ext", ".html", "--ext", "txt", "--exclude", "n*"), {"page.html", "waves.txt"}),
    ]:
        store = f"{len(names)}{len(arguments)}.mrl"
        run("add", store, "notes", *arguments)
        ids = {row["id"] for row in run("scan", store, "--json").json["rows"]}
        assert ids == {f"notes/{name}" for name in names}


def test_rows_whose_file_is_gone_can_be_deleted(notes: Path, run: Run) -> None:
    other = notes.with_name("other")
    other.mkdir()
    (other / "more.md").write_text("A text about mountains and rivers.")
    run("add", "kb.mrl", "notes", "other", "notes/waves.txt")
    with mrlstore.open("kb.mrl") as store:
        store.upsert(["mine"], None, [{"path": "notes/none.md"}], ["not from a file"])
    (notes / "tides.md").unlink()
    (other / "more.md").unlink()
    (other / "new.md").write_text("Another text about lakes.")
    (notes / "paper.pdf").write_bytes(text_pdf("A harbour shelters boats."))
    (notes / "page.html").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("add", "kb.mrl", "notes", "--json").json["deleted"] == []
    done = run("add", "kb.mrl", "notes", "--delete-missing", "--json").json
    assert done["deleted"] == ["notes/tides.md", "notes/paper.pdf#page=2"]
    ids = {row["id"] for row in run("scan", "kb.mrl", "--json").json["rows"]}
    assert ids >= {"mine", "other/more.md", "notes/page.html"}, "what is unreadable now, or elsewhere, stays"
    done = run("add", "kb.mrl", "other", "--delete-missing")
    assert "deleted 1 row whose file is gone" in done.out and "deleted: other/more.md" in done.err
    assert run("add", "kb.mrl", "notes/waves.txt", "--delete-missing").code == 2


def test_chunks_of_another_length_replace_each_other(notes: Path, run: Run) -> None:
    (notes / "long.txt").write_text("The harbour is full of boats today. " * 40)
    run("add", "kb.mrl", "notes", "--ext", "txt")
    for arguments, count in (("--chunk", 64), 6), (("--chunk", 128), 3), ((), 1):
        done = run("add", "kb.mrl", "notes", "--ext", "txt", *arguments, "--delete-missing", "--json").json
        rows = run("scan", "kb.mrl", "--prefix", "notes/long", "--json").json["rows"]
        assert len(rows) == count and done["store_rows"] == count + 2, arguments
        assert all(row["document"].startswith("The harbour") for row in rows)


def test_a_store_of_other_dimensions_refuses_a_model_that_is_fitted_now(notes: Path, run: Run) -> None:
    run("create", "kb.mrl", "--dim", 700)
    done = run("add", "kb.mrl", "notes")
    assert done.code == 2 and "kb.mrl takes vectors of 700 dimensions" in done.err
    assert not Path("kb.lsa.npz").exists()


def test_no_empty_store_is_left_behind(notes: Path, run: Run) -> None:
    (notes.with_name("empty")).mkdir()
    for arguments, words in [
        (("empty",), "empty: no file to add"),
        (("notes/a.png",), "notes/a.png: image/png, and the local embedder reads texts only"),
        (("notes", "--ext", "docx"), "notes: no file to add"),
        (("notes", "--chunk", "64", "--overlap", "50"), "overlap"),
        (("notes", "--exclude", "!"), "no pattern of .gitignore"),
    ]:
        done = run("add", "kb.mrl", *arguments)
        assert done.code == 2 and words in done.err and done.err.count("\n") == 1, done
        assert not [path for path in notes.parent.iterdir() if path.name.startswith("kb.")]


def test_the_store_and_its_model_are_not_added_to_themselves(notes: Path, run: Run) -> None:
    for _ in range(2):
        done = run("add", "notes/kb.mrl", "notes", "--ext", "npz,db,json,txt", "--json")
        assert [each["place"] for each in done.json["skipped"]] == [] and done.json["store_rows"] == 2


def test_too_few_texts_are_found_by_keywords_until_there_are_more(notes: Path, run: Run) -> None:
    first = run("add", "kb.mrl", "notes/tides.md")
    assert first.code == 6 and "no local embedder: there are too few texts" in first.out
    assert run("query", "kb.mrl", "--keywords", "moon", "--json").json["hits"][0]["id"] == "notes/tides.md"
    assert "no row of kb.mrl has a vector yet" in run("query", "kb.mrl", "moon").err
    second = run("add", "kb.mrl", "notes/tides.md", "notes/waves.txt", "--json")
    assert second.code == 0 and second.json["embedder"]["fitted_on"] == 2
    assert run("query", "kb.mrl", "moon", "-k", 1, "--json").json["hits"][0]["id"] == "notes/tides.md"


def test_the_model_that_a_store_was_filled_with_is_needed(notes: Path, run: Run) -> None:
    run("add", "kb.mrl", "notes", "--ext", "md,txt")
    model = notes.with_name("kb.lsa.npz")
    model.rename(notes.with_name("moved.npz"))
    done = run("add", "kb.mrl", "notes")
    assert done.code == 2 and "kb.lsa.npz is not there" in done.err and not model.exists()
    assert run("add", "kb.mrl", "notes", "--ext", "html", "--embedder", "moved.npz").code == 0


def test_a_model_that_an_earlier_store_left_is_not_taken_for_a_new_one(notes: Path, run: Run) -> None:
    run("add", "kb.mrl", "notes", "--ext", "md,txt")
    shutil.rmtree("kb.mrl")
    done = run("add", "kb.mrl", "notes", "--json").json
    assert done["embedder"]["new"] and done["embedder"]["fitted_on"] == 6


def test_a_name_that_is_no_text_is_named(notes: Path, run: Run) -> None:
    Path(os.fsdecode(bytes(notes) + b"/caf\xe9.txt")).write_text("A text about coffee.")
    done = run("add", "kb.mrl", "notes", "--ext", "txt", "--json")
    assert done.code == 6 and done.json["store_rows"] == 2
    assert [why for why in done.json["failed"].values() if "surrogate" in why]


def test_without_pypdf_a_pdf_is_named_with_what_to_install(
    notes: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    done = run("add", "kb.mrl", "notes", "--ext", "pdf,md,txt")
    assert done.code == 6 and "skipped: notes/paper.pdf: the text of a PDF is read by pypdf" in done.err
    assert "kb.mrl has 3" in done.out


def test_a_model_is_fitted_on_passages_and_on_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "MOST_TEXTS", 20)
    book = "\n\n".join(
        f"Chapter{'abcdefghij'[i % 10]} about boats{'klmnopqrst'[i // 10]}. " * 60 for i in range(100)
    )
    model: Any = local_model.fit_model([book], Path("x"))
    assert model.passages > 50 and model.embedder.texts == 20
    assert f"20 of {model.passages} texts" in model.said()


def test_a_store_of_vectors_without_an_embedder_is_not_mixed(path: Path, tmp_path: Path, run: Run) -> None:
    with mrlstore.open(path) as store:
        store.upsert(["a"], [[1.0, 2.0, 3.0]])
    (tmp_path / "note.txt").write_text("Tides rise and fall.")
    done = run("add", path, tmp_path / "note.txt")
    assert done.code == 2 and "does not say of which embedder" in done.err
    with mrlstore.open(path, mode="r") as store:
        assert store.count() == 1 and store.embedder_fingerprint is None
