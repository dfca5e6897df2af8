"""From what the caller gives to what is sent: one checked item for each vector.

The task's prefix is put into texts here, and every limit of the model is checked here, before anything is
sent. Media are measured now and read only when their request is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from mrlstore.embedders import media
from mrlstore.embedders.content import Content, Media
from mrlstore.embedders.gemini import models
from mrlstore.embedders.gemini.call_failures import ItemRefused, ItemTooLarge
from mrlstore.embedders.gemini.models import Model, Task
from mrlstore.embedders.split import estimate_tokens
from mrlstore.errors import InvalidInput, LimitExceeded

if TYPE_CHECKING:
    from google.genai import types

Side = Literal["document", "query"]


@dataclass(frozen=True)
class InputSize:
    """How much of each limited thing an item, or a batch of items, holds."""

    items: int = 0
    text_tokens: int = 0  # estimated
    text_bytes: int = 0  # in UTF-8: no text has more tokens than bytes
    images: int = 0
    recordings: int = 0
    audio_s: float = 0.0
    films: int = 0
    video_s: float = 0.0
    frames: float = 0.0  # that the model looks at: one a second, up to MAX_FRAMES of each film
    documents: int = 0
    pdf_pages: int = 0
    pdf_bytes: int = 0  # of the PDFs among the media
    media_bytes: int = 0

    def __add__(self, other: InputSize) -> InputSize:
        return InputSize(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def tokens(self) -> dict[str, int]:
        """Estimate the tokens by modality, as they are charged."""
        pictures = self.images * models.TOKENS_PER_IMAGE + self.pdf_pages * models.TOKENS_PER_PAGE
        counted = {
            "text": self.text_tokens,
            "image": pictures,
            "audio": round(self.audio_s * models.TOKENS_PER_AUDIO_SECOND),
            "video": round(self.frames * models.TOKENS_PER_FRAME),
        }
        return {modality: tokens for modality, tokens in counted.items() if tokens}


@dataclass(frozen=True)
class VertexOptions:
    """What Vertex AI alone can do with media, and embedding 2 alone: off unless asked for."""

    document_ocr: bool = False  # the text of a PDF's pages is read and embedded too
    audio_track_extraction: bool = False  # the sound of a film is embedded too

    def of(self, parts: Sequence[str | Media]) -> VertexOptions:
        """The options that make a difference for these parts."""
        kinds = {part.kind for part in parts if isinstance(part, Media)}
        return VertexOptions(
            self.document_ocr and "pdf" in kinds, self.audio_track_extraction and "video" in kinds
        )

    def given(self) -> list[str]:
        """The names of those that are on."""
        return [f.name for f in fields(self) if getattr(self, f.name)]


NO_OPTIONS = VertexOptions()


@dataclass(frozen=True)
class EmbedItem:
    """One vector to be made: its number among the contents, what is sent for it, and how much that is."""

    number: int
    parts: tuple[str | Media, ...]  # the task's prefix included
    task_type: str | None  # for models that have no prefixes
    title: str | None  # likewise
    size: InputSize
    options: VertexOptions = NO_OPTIONS

    @property
    def has_uri(self) -> bool:
        """Whether a part is a URI that only the service can read."""
        return any(isinstance(part, Media) and part.uri for part in self.parts)

    @property
    def cacheable(self) -> bool:
        """Whether all bytes are known: what a URI leads to may change."""
        return not self.has_uri


@dataclass(frozen=True)
class Wording:
    """How contents become items: the model with its limits, the task, the side, and the options for media."""

    model: Model
    task: Task
    side: Side
    options: VertexOptions = NO_OPTIONS

    def item(self, number: int, content: Content, title: str | None = None) -> EmbedItem:
        """Check one content and put it into the form that the model wants.

        Raises:
            ItemRefused: it is empty, of a wrong type, or of a modality that the model does not know.
            ItemTooLarge: it holds more than the model takes; the message says what to do.
        """
        try:
            return self._item(number, content, title)
        except LimitExceeded as error:
            raise ItemTooLarge(number, str(error)) from error
        except InvalidInput as error:
            raise ItemRefused(number, str(error)) from error

    def _item(self, number: int, content: Content, title: str | None) -> EmbedItem:
        model, parts = self.model, _parts(content)
        textual = not any(isinstance(part, Media) for part in parts)
        if not textual:
            _check_media(parts, model)
        task_type = None
        if not model.prefixes:
            task_type = self.task.query_type if self.side == "query" else self.task.document_type
        elif textual:
            parts = (self._prefix(title) + str(parts[0]), *parts[1:])
        size = _size(parts, model)
        options = self.options.of(parts)
        _check_size(size, model, with_sound=options.audio_track_extraction)
        return EmbedItem(number, parts, task_type, None if model.prefixes else title, size, options)

    def _prefix(self, title: str | None) -> str:
        if self.side == "query" or self.task.symmetric:
            return self.task.query_prefix
        return f"title: {title or 'none'} | text: "


def to_content(item: EmbedItem, *, vertex: bool = False) -> tuple[types.Content, str]:
    """Read an item's media and build the ONE `types.Content` of its ONE vector, and its digest.

    A list of strings or parts instead would become one vector on embedding 2, without an error.
    """
    from google.genai import types

    digest = hashlib.sha256()
    parts = []
    for part in item.parts:
        if isinstance(part, str):
            parts.append(types.Part(text=part))
            _feed(digest, "text", part.encode())
            continue
        mime_type = models.VERTEX_MIME_TYPES.get(part.mime_type, part.mime_type) if vertex else part.mime_type
        if part.uri is not None:
            parts.append(types.Part(file_data=types.FileData(file_uri=part.uri, mime_type=mime_type)))
            _feed(digest, "uri", part.uri.encode())
        else:
            data = part.read()
            parts.append(types.Part(inline_data=types.Blob(data=data, mime_type=mime_type)))
            _feed(digest, part.mime_type, data)
    return types.Content(parts=parts), digest.hexdigest()


def item_digest(item: EmbedItem) -> str:
    """Return the digest that `to_content` gives, without building anything."""
    digest = hashlib.sha256()
    for part in item.parts:
        if isinstance(part, str):
            _feed(digest, "text", part.encode())
        elif part.uri is not None:
            _feed(digest, "uri", part.uri.encode())
        else:
            _feed(digest, part.mime_type, part.read())
    return digest.hexdigest()


def cache_key(item: EmbedItem, digest: str, model: Model) -> bytes:
    """Return 32 bytes for what a vector depends on: model, length, task, content and options."""
    depends_on = [1, model.name, model.dim, item.task_type, item.title, digest, *item.options.given()]
    return hashlib.sha256(json.dumps(depends_on).encode()).digest()


def _feed(digest: Any, kind: str, data: bytes) -> None:
    digest.update(f"{kind}:{len(data)}:".encode())  # lengths keep ["ab"] and ["a", "b"] apart
    digest.update(data)


def _parts(content: Content) -> tuple[str | Media, ...]:
    given: Sequence[str | Media] = [content] if isinstance(content, str | Media) else content
    if not isinstance(given, list | tuple) or not given:
        raise InvalidInput(
            f"a str, Image, Audio, Video, Pdf or a non-empty list of them is needed, not "
            f"{type(content).__name__}"
        )
    for part in given:
        if not isinstance(part, str | Media):
            raise InvalidInput(
                f"a part is {type(part).__name__}; a part is a str, Image, Audio, Video or Pdf"
            )
        if isinstance(part, str):
            _check_text(part)
    return tuple(given)


def _check_text(text: str) -> None:
    if not text or text.isspace():
        raise InvalidInput("an empty text has no embedding; leave it out")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"the text is not valid Unicode: {error}") from error


def _check_media(parts: Sequence[str | Media], model: Model) -> None:
    if not model.multimodal:
        raise InvalidInput(f"{model.name} takes text only; gemini-embedding-2 takes media")
    for part in parts:
        if not isinstance(part, Media) or model.mime_types is None:
            continue
        if part.mime_type not in model.mime_types:
            takes = " or ".join(kind for kind in part.mime_types if kind in model.mime_types)
            service = "on Vertex AI" if model.locations else "on the Developer API"
            raise InvalidInput(
                f"{part!r} is {part.mime_type}; {model.name} {service} takes {takes}: convert it first"
            )


def _size(parts: Sequence[str | Media], model: Model) -> InputSize:
    size = InputSize(items=1)
    for part in parts:
        if isinstance(part, str):
            size += InputSize(text_tokens=estimate_tokens(part), text_bytes=len(part.encode()))
        else:
            size += _media_size(part, model)
    return size


def _media_size(part: Media, model: Model) -> InputSize:
    """The size of a medium; of a URI the service alone can tell more than its kind."""
    here = part.uri is None
    size = part.size()
    if part.kind == "image":
        return InputSize(images=1, media_bytes=size)
    if part.kind == "audio":
        audio_s = media.seconds(part) if here and model.audio_s else 0.0
        return InputSize(recordings=1, audio_s=audio_s, media_bytes=size)
    if part.kind == "video":
        readable = here and part.mime_type != "video/mpeg"  # no parser here reads the length of MPEG films
        film_s = media.seconds(part) if readable and model.video_s else 0.0
        frames = min(film_s, models.MAX_FRAMES)
        return InputSize(films=1, video_s=film_s, frames=frames, media_bytes=size)
    pages = media.pages(part) if here and model.pdf_pages else 0
    return InputSize(documents=1, pdf_pages=pages, pdf_bytes=size, media_bytes=size)


@dataclass(frozen=True)
class _Limit:
    what: str
    found: float
    limit: float | None
    unit: str
    way_out: str


def _check_size(size: InputSize, model: Model, *, with_sound: bool) -> None:
    """Raise LimitExceeded, with what to do, where an item is more than the model takes in one content."""
    pieces = "cut it into overlapping pieces and embed each"
    apart = "embed them apart and average the vectors"
    film_s = model.video_with_sound_s if with_sound else model.video_s
    film_unit = "s of film with its sound" if with_sound else "s of film"
    by_uri = "give it by a URI: of the Files API, of Cloud Storage, or a signed URL"
    for check in (
        _Limit("text", size.text_tokens, model.tokens, "tokens (estimated)",
               "split it: mrlstore.embedders.split_text"),
        _Limit("images", size.images, model.images, "images", apart),
        _Limit("recordings", size.recordings, model.recordings, "recordings", apart),
        _Limit("audio", size.audio_s, model.audio_s, "s of sound", pieces),
        _Limit("films", size.films, model.films, "films", apart),
        _Limit("video", size.video_s, film_s, film_unit, pieces),
        _Limit("documents", size.documents, model.documents, "documents", apart),
        _Limit("PDF", size.pdf_pages, model.pdf_pages, "pages", "split the document"),
        _Limit("PDF", size.pdf_bytes, model.pdf_bytes, "bytes", by_uri),
        _Limit("media", size.media_bytes, model.inline_bytes, "bytes", by_uri),
    ):  # fmt: skip
        if check.limit is not None and check.found > check.limit:
            raise LimitExceeded(
                f"its {check.what} is {check.found:,.10g} {check.unit}, {model.name} takes "
                f"{check.limit:,.10g}; {check.way_out}"
            )
