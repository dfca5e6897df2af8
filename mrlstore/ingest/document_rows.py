"""Documents on their way to becoming rows: what is stored of each, and how it is recognised later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from mrlstore.checks import one_by_one
from mrlstore.embedders.content import Content, Media
from mrlstore.embedders.split import split_text
from mrlstore.errors import InvalidInput
from mrlstore.types import Record
from mrlstore.writing.batch import make_batch, metadata_text

DIGEST: Final = (
    "_digest"  # metadata key of contents other than plain text: their SHA-256, as `digest_of` gives it
)
CHUNK: Final = (
    "chunk"  # metadata key of chunks: {"of": id, "number": n, "start": character, "stop": character}
)
WINDOW_ROWS: Final = (
    100  # rows embedded by one call and stored by one transaction: what Gemini takes in a request
)

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """How texts are cut: chunks of `max_tokens` at most that overlap by `overlap_tokens`, both estimated."""

    max_tokens: int = 1024
    overlap_tokens: int = 128


@dataclass(frozen=True)
class DocumentRow:
    """A row that is to be stored: a document, or a chunk of one."""

    id: str
    content: Content
    metadata: Metadata | None  # as the caller gave it
    added: Metadata  # what is stored beside it: DIGEST for contents other than plain text, CHUNK for chunks

    @property
    def document(self) -> str | None:
        """The text that is stored with the row: all text parts of its content, a line each."""
        return "\n".join(part for part in content_parts(self.content) if isinstance(part, str)) or None

    @property
    def stored_metadata(self) -> dict[str, Any] | None:
        """The metadata of a new row: the caller's, and what is added to it."""
        return {**(self.metadata or {}), **self.added} or None

    def with_metadata_of(self, record: Record) -> DocumentRow:
        """This row with the metadata that the caller gave for an earlier content, where none is given now."""
        if self.metadata is not None or record.metadata is None:
            return self
        kept = {name: value for name, value in record.metadata.items() if name not in (DIGEST, CHUNK)}
        return replace(self, metadata=kept)

    def is_stored_as(self, record: Record) -> bool:
        """Whether a stored row has the same content, with a vector or without."""
        same = record.document == self.document
        return same and (record.metadata or {}).get(DIGEST) == self.added.get(DIGEST)

    def changes(self, record: Record) -> dict[str, Any]:
        """What must change in a stored row's metadata; None removes a key."""
        old, new = record.metadata or {}, {**(self.metadata or {}), **self.added}
        changed = {name: value for name, value in new.items() if name not in old or old[name] != value}
        gone = () if self.metadata is None else old.keys() - new.keys()
        return changed | dict.fromkeys(gone)

    def check(self, namespace: str) -> None:
        """Raise InvalidInput for what the store would refuse, before it is paid for."""
        make_batch([self.id], None, [self.stored_metadata], [self.document], namespace, None)


@dataclass
class Window:
    """Rows that are embedded by one call and stored by one transaction, and what is to be done with each."""

    rows: dict[str, DocumentRow] = field(default_factory=dict)  # by id; of an id given twice the last counts
    ids: list[str] = field(default_factory=list)  # of the rows, in the order of the documents
    documents: int = 0  # how many of the caller's documents the rows come from, refused ones included
    chunks: dict[str, int] = field(default_factory=dict)  # document id -> how many chunks it has now
    fresh: list[DocumentRow] = field(default_factory=list)  # to be embedded
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> new metadata of a stored row
    bare: dict[str, dict[str, Any]] = field(default_factory=dict)  # the same of fresh rows without a vector
    stale: list[str] = field(default_factory=list)  # ids of stored rows of an earlier text, to be removed
    refused: dict[str, Exception] = field(default_factory=dict)  # id or place -> why it is not a row


def digest_of(content: Content) -> str:
    """Return the SHA-256 of a content as 64 hex digits; media are read for it, a URI stands for itself."""
    digest = hashlib.sha256()
    for part in content_parts(content):
        if isinstance(part, str):
            kind, data = "text", part.encode("utf-8", "surrogatepass")
        else:
            kind, data = (part.mime_type, part.read()) if part.uri is None else ("uri", part.uri.encode())
        digest.update(f"{kind}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


class _Given(NamedTuple):
    """One document as the caller gave it."""

    content: Content
    id: str | None
    metadata: Metadata | None


@dataclass(frozen=True)
class WindowMaker:
    """Groups documents into windows.

    With `keep_going`, a document that cannot become a row is noted in `Window.refused`, and the next one is
    taken; else its error is raised.
    """

    namespace: str
    split: Split | None
    keep_going: bool

    def windows(
        self,
        documents: Iterable[Content],
        ids: Iterable[str] | None,
        metadatas: Iterable[Metadata | None] | None,
    ) -> Iterator[Window]:
        """Give windows of WINDOW_ROWS rows or a few more, in order; chunks of a document stay together."""
        window = Window()
        for number, given in enumerate(_zipped(documents, ids, metadatas)):
            try:
                self._add(window, given)
            except (InvalidInput, OSError) as error:  # OSError: a file that is not there any more
                if not self.keep_going:
                    raise
                place = given.id if isinstance(given.id, str) and given.id else f"documents[{number}]"
                window.refused[place] = error
            window.documents += 1
            if len(window.rows) >= WINDOW_ROWS:
                yield window
                window = Window()
        if window.documents:
            yield window

    def _add(self, window: Window, given: _Given) -> None:
        content_parts(given.content)
        name = digest_of(given.content)[:32] if given.id is None else given.id
        metadata_text(given.metadata, name)  # refused before it is compared with what is stored
        rows = _document_rows(name, given.content, given.metadata, self.split)
        if self.keep_going:
            for row in rows:
                row.check(self.namespace)
        window.ids += [row.id for row in rows]
        window.rows.update((row.id, row) for row in rows)
        if self.split is not None and isinstance(given.content, str):
            window.chunks[name] = len(rows)


def content_parts(content: Content) -> Sequence[str | Media]:
    """The parts of a content; InvalidInput if it is none."""
    parts: Any = [content] if isinstance(content, str | Media) else content
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str | Media) for part in parts):
        raise InvalidInput(
            "documents: each is a str, Image, Audio, Video, Pdf or a list of them, not "
            f"{type(content).__name__}"
        )
    return parts


def _zipped(
    documents: Iterable[Content], ids: Iterable[str] | None, metadatas: Iterable[Metadata | None] | None
) -> Iterator[_Given]:
    columns = [one_by_one(column) for column in (documents, ids, metadatas) if column is not None]
    try:
        for content, *rest in zip(*columns, strict=True):
            id = rest.pop(0) if ids is not None else None
            yield _Given(content, id, rest.pop(0) if metadatas is not None else None)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise InvalidInput("documents, ids and metadatas differ in number") from error


def _document_rows(
    name: str, content: Content, metadata: Metadata | None, split: Split | None
) -> list[DocumentRow]:
    if not isinstance(content, str):
        return [DocumentRow(name, content, metadata, {DIGEST: digest_of(content)})]
    if split is None:
        return [DocumentRow(name, content, metadata, {})]
    rows = []
    for number, chunk in enumerate(split_text(content, split.max_tokens, split.overlap_tokens)):
        where = {"of": name, "number": number, "start": chunk.start, "stop": chunk.stop}
        rows.append(DocumentRow(f"{name}#{number}", chunk.text, metadata, {CHUNK: where}))
    return rows
