"""From what the caller gives to what goes on the wire: one checked item for each wanted vector.

The task's prefix is put into texts here, and every limit of the model is held here, before anything is
sent. Media are measured now and read only when their batch is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mrlstore.embedders import media
from mrlstore.embedders.content import Content, Media
from mrlstore.embedders.gemini import models
from mrlstore.embedders.gemini.failures import ItemRefused, ItemTooLarge
from mrlstore.embedders.gemini.models import Model, Task
from mrlstore.embedders.split import estimate_tokens
from mrlstore.errors import InvalidInput, LimitExceeded

if TYPE_CHECKING:
    from google.genai import types

Side = Literal["document", "query"]


@dataclass(frozen=True)
class Load:
    """How much of each limited thing an item, or a batch of them, holds."""

    items: int = 0
    text_tokens: int = 0  # estimated
    images: int = 0
    audio_s: float = 0.0
    video_s: float = 0.0
    frames: float = 0.0  # that are looked at: one a second, up to a limit for each film
    pdf_pages: int = 0
    media_bytes: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.items + other.items,
            self.text_tokens + other.text_tokens,
            self.images + other.images,
            self.audio_s + other.audio_s,
            self.video_s + other.video_s,
            self.frames + other.frames,
            self.pdf_pages + other.pdf_pages,
            self.media_bytes + other.media_bytes,
        )

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
class Item:
    """One wanted vector: its place among the contents, what is sent for it, and how much that is."""

    number: int
    parts: tuple[str | Media, ...]  # the task's prefix included
    task_type: str | None  # for models that have no prefixes
    title: str | None  # likewise
    load: Load

    @property
    def cacheable(self) -> bool:
        """Whether the bytes are known: what a URI leads to may change."""
        return not any(isinstance(part, Media) and part.uri for part in self.parts)


def make_item(
    number: int, content: Content, model: Model, task: Task, side: Side, title: str | None = None
) -> Item:
    """Check one content and word it for the model.

    Raises:
        ItemRefused: it is empty, of a wrong type, or of a modality that the model does not know.
        ItemTooLarge: it holds more than the model takes; the message says what to do.
    """
    try:
        return _item(number, content, model, task, side, title)
    except LimitExceeded as error:
        raise ItemTooLarge(number, str(error)) from error
    except InvalidInput as error:
        raise ItemRefused(number, str(error)) from error


def _item(number: int, content: Content, model: Model, task: Task, side: Side, title: str | None) -> Item:
    parts = _parts(content)
    textual = not any(isinstance(part, Media) for part in parts)
    if not textual and not model.multimodal:
        raise InvalidInput(f"{model.name} takes text only; gemini-embedding-2 takes media")
    task_type = None if model.prefixes else _task_type(task, side)
    if model.prefixes and textual:
        parts = (_prefix(task, side, title) + str(parts[0]), *parts[1:])
    load = _load(parts, model)
    _check(load, model)
    return Item(number, parts, task_type, None if model.prefixes else title, load)


def to_content(item: Item) -> tuple[types.Content, str]:
    """Read an item's media and build the ONE `types.Content` of its ONE vector, and its digest.

    A list of strings or parts instead would collapse to one vector on embedding 2, silently.
    """
    from google.genai import types

    digest = hashlib.sha256()
    parts = []
    for part in item.parts:
        if isinstance(part, str):
            parts.append(types.Part(text=part))
            _feed(digest, "text", part.encode())
        elif part.uri is not None:
            parts.append(types.Part(file_data=types.FileData(file_uri=part.uri, mime_type=part.mime_type)))
            _feed(digest, "uri", part.uri.encode())
        else:
            data = part.read()
            parts.append(types.Part(inline_data=types.Blob(data=data, mime_type=part.mime_type)))
            _feed(digest, part.mime_type, data)
    return types.Content(parts=parts), digest.hexdigest()


def digest_of(item: Item) -> str:
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


def cache_key(item: Item, digest: str, model: Model) -> bytes:
    """Return 32 bytes that tell model, length, task and content: what a vector depends on."""
    told = json.dumps([1, model.name, model.dim, item.task_type, item.title, digest])
    return hashlib.sha256(told.encode()).digest()


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
            raise InvalidInput(f"the text is no valid Unicode: {error}") from error


def _prefix(task: Task, side: Side, title: str | None) -> str:
    if side == "query" or task.symmetric:
        return task.query_prefix
    return f"title: {title or 'none'} | text: "


def _task_type(task: Task, side: Side) -> str:
    return task.query_type if side == "query" else task.document_type


def _load(parts: Sequence[str | Media], model: Model) -> Load:
    load = Load(items=1)
    for part in parts:
        if isinstance(part, str):
            load += Load(text_tokens=estimate_tokens(part))
        elif part.uri is not None:  # only the service can see it, and only the service can check it
            load += Load(images=int(part.kind == "image"))
        elif part.kind == "image":
            load += Load(images=1, media_bytes=part.size())
        elif part.kind == "audio":
            load += Load(audio_s=media.seconds(part) if model.audio_s else 0.0, media_bytes=part.size())
        elif part.kind == "video":
            film_s = media.seconds(part) if model.video_s else 0.0
            load += Load(video_s=film_s, frames=min(film_s, models.FRAMES), media_bytes=part.size())
        else:
            load += Load(pdf_pages=media.pages(part) if model.pdf_pages else 0, media_bytes=part.size())
    return load


def _check(load: Load, model: Model) -> None:
    trim = "cut it into overlapping pieces and embed each"
    limits = (
        (
            "text",
            load.text_tokens,
            model.tokens,
            "tokens (estimated)",
            "split it: mrlstore.embedders.split_text",
        ),
        ("images", load.images, model.images, "images", "embed them apart and average the vectors"),
        ("audio", load.audio_s, model.audio_s, "s of sound", trim),
        ("video", load.video_s, model.video_s, "s of film", trim),
        ("PDF", load.pdf_pages, model.pdf_pages, "pages", "split the document"),
    )
    for what, found, limit, unit, way_out in limits:
        if limit is not None and found > limit:
            raise LimitExceeded(
                f"its {what} is {found:,.10g} {unit}, {model.name} takes {limit:,.10g}; {way_out}"
            )
