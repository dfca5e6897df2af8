"""Files as documents: texts, HTML, images, sound, film, PDFs, and JSONL with a document on each line.

The first bytes of a file say what it is. PDFs with more pages than a model takes are cut into pieces; for an
embedder that reads texts only, their text is read page by page.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mrlstore.embedders.content import Content, Pdf, file_type, media_of
from mrlstore.embedders.media import MissingExtra, split_pdf
from mrlstore.errors import InvalidInput
from mrlstore.ingest.file_selection import FileSelection, FoundFile, Skip
from mrlstore.ingest.front_matter import split_front_matter
from mrlstore.ingest.html_text import html_text
from mrlstore.ingest.pdf_text import pdf_pages as text_pages
from mrlstore.types import Record

FILE: Final = "_file"  # metadata key: the absolute path of the file
ALL_FILES: Final = FileSelection()
_PDF_PAGES: Final = 6  # pages that Gemini's embedding models take in one content
_MAX_TEXT_BYTES: Final = 64_000_000  # of a text file; larger ones are data that nobody reads as one text
_HTML: Final = (".html", ".htm", ".xhtml")
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Source:
    """One document of a file. `metadata` says by `path`, `_file`, `line` and `pages` where it came from."""

    id: str
    content: Content
    metadata: dict[str, Any]


@dataclass(frozen=True)
class _Skipped:
    """What is left out, and why."""

    place: str
    why: str


def read_sources(
    paths: Iterable[str | Path],
    *,
    pdf_pages: int = _PDF_PAGES,
    texts_only: bool = False,
    selection: FileSelection = ALL_FILES,
    on_skip: Skip | None = None,
) -> Iterator[Source]:
    """Give the documents of files, and of the files in folders, in the order of their names.

    Args:
        paths: files and folders; a document's id is the path of its file as it is reached from there.
        pdf_pages: PDFs are cut into pieces of so many pages, with ids "PATH#1-6", "PATH#7-12" ...
        texts_only: for embedders that read nothing else: the text of a PDF is read, with ids "PATH#page=1",
            "PATH#page=2" ..., and images, sound and films are left out.
        selection: which files of folders are read; hidden ones never.
        on_skip: called with the place and the reason of whatever cannot be read: a file, a line of JSONL, a
            page of a PDF. Everything else is given. Without it the first such thing is an error.

    A line of a .jsonl file is an object with "document" (or "text"), and perhaps "id" and "metadata". Front
    matter of a text, YAML or TOML, becomes metadata, so does the title of an HTML page. Blank texts are
    passed over.

    Raises:
        InvalidInput: without `on_skip`: a file is neither a known medium nor a text, or a line of JSONL has
            another form.
        FileNotFoundError: there is no file or folder at a path.
    """

    def skip(place: str, why: str) -> None:
        if on_skip is None:
            raise InvalidInput(f"{place}: {why}")
        on_skip(place, why)

    for file in selection.files(map(Path, paths), skip):
        for found in _read(file, _Reading(pdf_pages, texts_only), keep_going=on_skip is not None):
            if isinstance(found, _Skipped):
                skip(found.place, found.why)
            else:
                yield found


class FilesOfRows:
    """Finds the media of stored rows in the files that `read_sources` read them from.

    Their ids and the `path` of their metadata must be as `read_sources` made them, and the working directory
    the same. `content_of` fits `re_embed`.
    """

    def __init__(self, *, pdf_pages: int = _PDF_PAGES) -> None:
        self._reading = _Reading(pdf_pages, texts_only=False)
        self._path: object = None  # of the file that was read last: the pieces of a PDF follow each other
        self._contents: dict[str, Content] = {}

    def content_of(self, record: Record) -> Content | None:
        """Return the medium of a row; None where its file is not there or has nothing of this id any more."""
        path = (record.metadata or {}).get("path")
        if not isinstance(path, str) or not Path(path).is_file():
            return None
        if path != self._path:
            found = _read(FoundFile(Path(path), Path(path)), self._reading, keep_going=True)
            self._contents = {each.id: each.content for each in found if isinstance(each, Source)}
            self._path = path
        return self._contents.get(record.id)


def _read(file: FoundFile, reading: _Reading, *, keep_going: bool) -> Iterator[Source | _Skipped]:
    """The documents of a file; with `keep_going`, a file that cannot be read is named instead of an error."""
    name = file.path.as_posix()
    try:
        for found in reading.documents(file.path, name):
            if isinstance(found, Source):
                found.metadata[FILE] = file.absolute.as_posix()
            yield found
    except (InvalidInput, MissingExtra, OSError) as error:
        if not keep_going:
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        yield _Skipped(name, why.removeprefix(f"{name}: "))


@dataclass(frozen=True)
class _Reading:
    """How a file is read."""

    pdf_pages: int
    texts_only: bool

    def documents(self, path: Path, name: str) -> Iterator[Source | _Skipped]:
        """The documents of one file. Raises InvalidInput, MissingExtra or OSError where there are none."""
        medium = media_of(path)
        if isinstance(medium, Pdf):
            yield from _page_texts(path, name) if self.texts_only else _pieces(medium, name, self.pdf_pages)
        elif medium is not None:
            if self.texts_only:
                raise InvalidInput(f"{name}: {medium.mime_type}, and the local embedder reads texts only")
            yield Source(name, medium, {"path": name})
        elif path.suffix.lower() in (".jsonl", ".ndjson"):
            yield from _lines(path, name)
        elif path.suffix.lower() in _HTML:
            yield from _page_of_html(path, name)
        else:
            metadata, text = split_front_matter(_text(path))
            if text.strip():
                yield Source(name, text, metadata | {"path": name})


def _pieces(document: Pdf, name: str, pdf_pages: int) -> Iterator[Source]:
    pieces = split_pdf(document, pdf_pages)
    for piece, first, last in pieces:
        id = name if len(pieces) == 1 else f"{name}#{first}-{last}"
        yield Source(id, piece, {"path": name, "pages": [first, last]})


def _page_texts(path: Path, name: str) -> Iterator[Source | _Skipped]:
    for page in text_pages(path):
        if page.error is not None:
            yield _Skipped(f"{name}, page {page.number}", page.error)
        else:
            metadata = {"path": name, "pages": [page.number, page.number]}
            yield Source(f"{name}#page={page.number}", page.text, metadata)


def _page_of_html(path: Path, name: str) -> Iterator[Source]:
    _check_size(path)
    title, text = html_text(path.read_bytes())
    if title or text:
        shown = text if title in text else f"{title}\n\n{text}"
        yield Source(name, shown, ({"title": title} if title else {}) | {"path": name})


def _lines(path: Path, name: str) -> Iterator[Source | _Skipped]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                yield _Skipped(where, f"no JSON: {error}")
                continue
            text = row.get("document", row.get("text")) if isinstance(row, dict) else None
            metadata = (row.get("metadata") or {}) if isinstance(row, dict) else None
            if not isinstance(text, str) or not isinstance(metadata, dict):
                yield _Skipped(where, 'an object with "document", a text, is needed')
                continue
            id = str(row.get("id", f"{name}:{number}"))
            yield Source(id, text, {"path": name, "line": number} | metadata)


def _text(path: Path) -> str:
    _check_size(path)
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in _UTF16 else "utf-8-sig"
    try:
        text = path.read_text(encoding)
    except UnicodeError as error:
        kind = file_type(path)
        what = (
            f"{kind}, which is not read"
            if kind
            else "neither UTF-8 text nor a known kind of image, sound, film or PDF"
        )
        raise InvalidInput(f"{path.as_posix()}: {what}") from error
    if "\0" in text:
        raise InvalidInput(f"{path.as_posix()}: not a text file: it contains zero bytes")
    return text


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > _MAX_TEXT_BYTES:
        most = f"{_MAX_TEXT_BYTES:,}"
        raise InvalidInput(
            f"{path.as_posix()}: a text of {size:,} bytes, and at most {most} are read: split it"
        )
