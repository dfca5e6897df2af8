"""Files as documents: texts, Markdown, images, sound, film, PDFs, and JSONL with a document on each line.

The first bytes of a file say what it is. PDFs with more pages than a model takes are cut into pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrlstore.embedders.content import Content, Pdf, media_of
from mrlstore.embedders.media import split_pdf
from mrlstore.errors import InvalidInput
from mrlstore.types import Record

_PDF_PAGES = 6  # pages that Gemini's embedding models take in one content


@dataclass(frozen=True)
class Source:
    """One document of a file. `metadata` says under `path`, `line` and `pages` where it came from."""

    id: str
    content: Content
    metadata: dict[str, Any]


def read_sources(paths: Iterable[str | Path], *, pdf_pages: int = _PDF_PAGES) -> Iterator[Source]:
    """Give the documents of files, and of all files in folders but hidden ones, in the order of their names.

    Args:
        paths: files and folders; a document's id is the path of its file as it is reached from there.
        pdf_pages: PDFs are cut into pieces of so many pages, with ids "PATH#1-6", "PATH#7-12" ...

    A line of a .jsonl file is an object with "document" (or "text"), and perhaps "id" and "metadata".

    Raises:
        InvalidInput: a file is neither a known medium nor UTF-8 text, or a line of JSONL has another form.
        FileNotFoundError: there is no file or folder at a path.
    """
    for path in map(Path, paths):
        if path.is_dir():
            inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
            visible = sorted(file for file in inside if not any(part.startswith(".") for part in file.parts))
            for file in visible:
                yield from _read(path / file, pdf_pages)
        else:
            yield from _read(path, pdf_pages)


class FilesOfRows:
    """Finds the media of stored rows in the files that `read_sources` read them from.

    Their ids and the `path` of their metadata must be as `read_sources` made them, and the working directory
    the same. `content_of` fits `re_embed`.
    """

    def __init__(self, *, pdf_pages: int = _PDF_PAGES) -> None:
        self._pdf_pages = pdf_pages
        self._path: object = None  # of the file that was read last: the pieces of a PDF follow each other
        self._contents: dict[str, Content] = {}

    def content_of(self, record: Record) -> Content | None:
        """Return the medium of a row; None where its file is not there or has nothing of this id any more."""
        path = (record.metadata or {}).get("path")
        if not isinstance(path, str) or not Path(path).is_file():
            return None
        if path != self._path:
            try:
                found = {source.id: source.content for source in _read(Path(path), self._pdf_pages)}
            except InvalidInput:  # damaged, or another kind of file by now
                found = {}
            self._path, self._contents = path, found
        return self._contents.get(record.id)


def _read(path: Path, pdf_pages: int) -> Iterator[Source]:
    name = path.as_posix()
    medium = media_of(path)
    if isinstance(medium, Pdf):
        yield from _pieces(medium, name, pdf_pages)
    elif medium is not None:
        yield Source(name, medium, {"path": name})
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _lines(path, name)
    else:
        text = _text(path)
        if text.strip():
            yield Source(name, text, {"path": name})


def _pieces(document: Pdf, name: str, pdf_pages: int) -> Iterator[Source]:
    pieces = split_pdf(document, pdf_pages)
    for piece, first, last in pieces:
        id = name if len(pieces) == 1 else f"{name}#{first}-{last}"
        yield Source(id, piece, {"path": name, "pages": [first, last]})


def _lines(path: Path, name: str) -> Iterator[Source]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"{where}: no JSON: {error}") from error
            text = row.get("document", row.get("text")) if isinstance(row, dict) else None
            metadata = (row.get("metadata") or {}) if isinstance(row, dict) else None
            if not isinstance(text, str) or not isinstance(metadata, dict):
                raise InvalidInput(f'{where}: an object with "document", a text, is needed')
            id = str(row.get("id", f"{name}:{number}"))
            yield Source(id, text, {"path": name, "line": number} | metadata)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}: neither UTF-8 text nor an image, sound, film or PDF that is known"
        ) from error
