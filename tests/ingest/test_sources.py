"""Files become documents by what they are, with ids that a second run finds again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrlstore.embedders.content import Audio, Image, Pdf, Video
from mrlstore.embedders.media import pages
from mrlstore.errors import InvalidInput
from mrlstore.ingest import digest_of, ingest, read_sources
from tests.embedders.gemini.media import film, mp3, pdf, png, text_pdf, wav


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / ".hidden").write_text("not this")
    files: dict[str, bytes] = {
        "a.txt": "A text, ünd more.".encode(),
        "b.md": b"\xef\xbb\xbf# A title\n\nWords.",
        "c.png": png(),
        "d.mp3": mp3(1),
        "deep/e.bin": wav(1),
        "deep/f.mov": film(1, b"qt  "),
        "g.pdf": pdf(2),
        "h.pdf": pdf(14),
        "i.txt": b" \n",
    }
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


def test_a_folder(folder: Path) -> None:
    sources = list(read_sources(["in"]))
    kinds = {source.id: type(source.content) for source in sources}
    assert kinds == {
        "in/a.txt": str,
        "in/b.md": str,
        "in/c.png": Image,
        "in/d.mp3": Audio,
        "in/deep/e.bin": Audio,
        "in/deep/f.mov": Video,
        "in/g.pdf": Pdf,
        "in/h.pdf#1-6": Pdf,
        "in/h.pdf#7-12": Pdf,
        "in/h.pdf#13-14": Pdf,
    }
    by_id = {source.id: source for source in sources}
    assert by_id["in/b.md"].content == "# A title\n\nWords."
    file = {"_file": f"{folder}/h.pdf"}
    assert by_id["in/h.pdf#13-14"].metadata == {"path": "in/h.pdf", "pages": [13, 14]} | file
    assert pages(by_id["in/h.pdf#7-12"].content) == 6  # type: ignore[arg-type]


def test_a_second_reading_gives_the_same_contents(folder: Path) -> None:
    first = [(source.id, digest_of(source.content)) for source in read_sources([folder])]
    assert first == [(source.id, digest_of(source.content)) for source in read_sources([folder])]


def test_jsonl(folder: Path) -> None:
    rows: list[Any] = [{"id": "x", "document": "one", "metadata": {"a": 1}}, {"text": "two"}]
    (folder / "rows.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    one, two = read_sources(["in/rows.jsonl"])
    assert (one.id, one.content) == ("x", "one")
    file = {"_file": f"{folder}/rows.jsonl"}
    assert one.metadata == {"path": "in/rows.jsonl", "line": 1, "a": 1} | file
    assert (two.id, two.content) == ("in/rows.jsonl:3", "two")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": 1}', '{"document": 7}', '{"document": "a", "metadata": 3}']
)
def test_a_bad_line_is_named(folder: Path, line: str) -> None:
    (folder / "rows.jsonl").write_text('{"text": "fine"}\n' + line)
    with pytest.raises(InvalidInput, match=r"rows.jsonl, line 2"):
        list(read_sources(["in/rows.jsonl"]))


def test_what_is_no_document(folder: Path) -> None:
    (folder / "x.bin").write_bytes(bytes(range(256)))
    (folder / "y.txt").write_bytes(b"a\0b")
    (folder / "z.gif").write_bytes(b"GIF89a\xff")
    for name, words in {
        "x.bin": "neither UTF-8 text nor",
        "y.txt": "not a text file",
        "z.gif": "image/gif, which is not read",
    }.items():
        with pytest.raises(InvalidInput, match=f"in/{name}: {words}"):
            list(read_sources([f"in/{name}"]))
    with pytest.raises(FileNotFoundError):
        list(read_sources(["in/nowhere.txt"]))


def test_what_cannot_be_read_is_named_and_all_the_rest_is_given(folder: Path) -> None:
    (folder / "x.bin").write_bytes(bytes(range(256)))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "rows.jsonl").write_text('{"text": "one"}\n{bad\n[]\n{"text": "two"}\n')
    (folder / "away.md").symlink_to("nowhere")
    (folder / "words.pdf").write_bytes(text_pdf("The first page.", "", "The third page."))
    skipped: dict[str, str] = {}
    found = list(read_sources(["in"], texts_only=True, on_skip=skipped.__setitem__))
    assert {source.id: source.content for source in found} == {
        "in/a.txt": "A text, ünd more.",
        "in/b.md": "# A title\n\nWords.",
        "in/rows.jsonl:1": "one",
        "in/rows.jsonl:4": "two",
        "in/words.pdf#page=1": "The first page.",
        "in/words.pdf#page=3": "The third page.",
    }
    assert {place.removeprefix("in/"): why.split(":")[0] for place, why in skipped.items()} == {
        "away.md": "a link that leads nowhere",
        "x.bin": "neither UTF-8 text nor a known kind of image, sound, film or PDF",
        "broken.pdf": "a PDF that cannot be read",
        "rows.jsonl, line 2": "no JSON",
        "rows.jsonl, line 3": 'an object with "document", a text, is needed',
        "c.png": "image/png, and the local embedder reads texts only",
        "d.mp3": "audio/mpeg, and the local embedder reads texts only",
        "deep/e.bin": "audio/wav, and the local embedder reads texts only",
        "deep/f.mov": "video/quicktime, and the local embedder reads texts only",
        "g.pdf": "a PDF without text (scanned?); --embedder gemini reads its pages as images",
        "h.pdf": "a PDF without text (scanned?); --embedder gemini reads its pages as images",
    }


def test_a_file_that_may_not_be_read_or_asks_for_a_password(folder: Path) -> None:
    from pypdf import PdfReader, PdfWriter

    (folder / "plain.pdf").write_bytes(text_pdf("A secret."))
    writer = PdfWriter(clone_from=PdfReader(folder / "plain.pdf"))
    writer.encrypt("password", algorithm="RC4-128")
    writer.write(folder / "locked.pdf")
    skipped: dict[str, str] = {}
    gone = folder / "gone.txt"
    found = list(read_sources([folder / "locked.pdf", gone], texts_only=True, on_skip=skipped.__setitem__))
    assert found == []
    assert skipped[gone.as_posix()] == "No such file or directory"
    assert skipped[(folder / "locked.pdf").as_posix()] == "a PDF that asks for a password"


def test_front_matter_and_titles_become_metadata(folder: Path) -> None:
    (folder / "note.md").write_text("---\ntitle: Tides\npath: elsewhere\n---\n# Tides\n")
    (folder / "page.html").write_text("<title>Bread</title><p>Flour and water")
    (folder / "wide.txt").write_text("Ünïcode", encoding="utf-16")
    note, page, wide = read_sources(["in/note.md", "in/page.html", "in/wide.txt"])
    file = {"_file": f"{folder}/note.md"}
    assert (note.content, note.metadata) == ("# Tides\n", {"title": "Tides", "path": "in/note.md"} | file)
    assert (page.content, page.metadata["title"]) == ("Bread\n\nFlour and water", "Bread")
    assert wide.content == "Ünïcode"


def test_files_go_into_a_store_once(folder: Path, opened: Any, embedder: Any) -> None:
    store = opened(dim=128)
    gemini = embedder(dim=128)

    def add() -> Any:
        sources = list(read_sources(["in"]))
        columns = [[getattr(source, name) for source in sources] for name in ("content", "id", "metadata")]
        return ingest(store, gemini, *columns)

    assert add().embedded == 10
    assert add().skipped == 10
    assert store.query(gemini.embed_query(Image(png())), k=1).ids == ["in/c.png"]
