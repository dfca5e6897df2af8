"""Documents as rows to be: what is stored of each, and how it is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mrlstore.embedders.content import Content, Media
from mrlstore.embedders.split import split_text
from mrlstore.errors import InvalidInput
from mrlstore.types import Record
from mrlstore.writing.batch import metadata_text

DIGEST: Final = "_digest"  # metadata key of what is not plain text: SHA-256 of the content
CHUNK: Final = (
    "chunk"  # metadata key of chunks: {"of": id, "number": n, "start": character, "stop": character}
)
WINDOW: Final = 100  # rows that are embedded by one call and stored by one transaction

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """How long texts are cut: chunks of at most so many tokens (estimated), overlapping by so many."""

    max_tokens: int = 1024
    overlap_tokens: int = 128


@dataclass(frozen=True)
class Row:
    """One row to be: a document, or a chunk of one."""

    id: str
    content: Content
    metadata: Metadata | None  # the caller's
    own: Metadata  # ours: where a chunk stood, the digest of what no document tells

    @property
    def document(self) -> str | None:
        """The text that is stored with the row: all of its text parts."""
        return "\n".join(part for part in _parts(self.content) if isinstance(part, str)) or None

    @property
    def stored_metadata(self) -> dict[str, Any] | None:
        """The metadata of a new row: the caller's and ours."""
        return {**(self.metadata or {}), **self.own} or None

    def with_metadata_of(self, record: Record) -> Row:
        """This row with the caller's metadata of an earlier content, where none are given now."""
        if self.metadata is not None or record.metadata is None:
            return self
        kept = {name: value for name, value in record.metadata.items() if name not in (DIGEST, CHUNK)}
        return replace(self, metadata=kept)

    def is_stored_as(self, record: Record) -> bool:
        """Whether a record is of the same content, and has its vector."""
        same = record.document == self.document and record.vector is not None
        return same and (record.metadata or {}).get(DIGEST) == self.own.get(DIGEST)

    def changes(self, record: Record) -> dict[str, Any]:
        """What to change in a record's metadata; None removes a key."""
        old, new = record.metadata or {}, {**(self.metadata or {}), **self.own}
        changed = {name: value for name, value in new.items() if name not in old or old[name] != value}
        gone = () if self.metadata is None else old.keys() - new.keys()
        return changed | dict.fromkeys(gone)


@dataclass
class Window:
    """Rows that are embedded and stored together, and what is to be done with each."""

    rows: dict[str, Row] = field(default_factory=dict)  # by id: of an id given twice the last counts
    ids: list[str] = field(default_factory=list)
    documents: int = 0
    chunks: dict[str, int] = field(default_factory=dict)  # document id -> how many chunks it has now
    fresh: list[Row] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)  # rows of an earlier text of the same id


def digest_of(content: Content) -> str:
    """Return 64 hex digits that tell a content; media are read for it, a URI stands for itself."""
    digest = hashlib.sha256()
    for part in _parts(content):
        if isinstance(part, str):
            kind, data = "text", part.encode("utf-8", "surrogatepass")
        else:
            kind, data = (part.mime_type, part.read()) if part.uri is None else ("uri", part.uri.encode())
        digest.update(f"{kind}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def windows(
    documents: Iterable[Content],
    ids: Iterable[str] | None,
    metadatas: Iterable[Metadata | None] | None,
    split: Split | None,
) -> Iterator[Window]:
    """Group documents into windows, in order; the chunks of one document stay together."""
    window = Window()
    for content, id, metadata in _zipped(documents, ids, metadatas):
        _parts(content)
        name = digest_of(content)[:32] if id is None else id
        metadata_text(metadata, name)  # what could not be stored is refused before it is compared
        rows = _rows(name, content, metadata, split)
        window.documents += 1
        window.ids += [row.id for row in rows]
        window.rows.update((row.id, row) for row in rows)
        if split is not None and isinstance(content, str):
            window.chunks[name] = len(rows)
        if len(window.rows) >= WINDOW:
            yield window
            window = Window()
    if window.documents:
        yield window


def _zipped(
    documents: Iterable[Content], ids: Iterable[str] | None, metadatas: Iterable[Metadata | None] | None
) -> Iterator[tuple[Content, str | None, Metadata | None]]:
    columns = [iter(column) for column in (ids, metadatas) if column is not None]
    try:
        for content, *rest in zip(documents, *columns, strict=True):
            id = rest.pop(0) if ids is not None else None
            yield content, id, rest.pop(0) if metadatas is not None else None
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise InvalidInput("documents, ids and metadatas differ in number") from error


def _rows(name: str, content: Content, metadata: Metadata | None, split: Split | None) -> list[Row]:
    if not isinstance(content, str):
        return [Row(name, content, metadata, {DIGEST: digest_of(content)})]
    if split is None:
        return [Row(name, content, metadata, {})]
    rows = []
    for number, chunk in enumerate(split_text(content, split.max_tokens, split.overlap_tokens)):
        where = {"of": name, "number": number, "start": chunk.start, "stop": chunk.stop}
        rows.append(Row(f"{name}#{number}", chunk.text, metadata, {CHUNK: where}))
    return rows


def _parts(content: Content) -> Sequence[str | Media]:
    parts: Any = [content] if isinstance(content, str | Media) else content
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str | Media) for part in parts):
        raise InvalidInput(
            "documents: each is a str, Image, Audio, Video, Pdf or a list of them, not "
            f"{type(content).__name__}"
        )
    return parts
