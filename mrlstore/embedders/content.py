"""What can be embedded besides text: images, recordings, films and PDF documents.

A medium is made of bytes, a path, a URI or (an image) a PIL image. Its MIME type is read from its first
bytes, not from its name: a service that gets a film as a recording may answer with no vector at all. The
types here are those that any service takes; what a model on one service takes, the embedders check.
"""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mrlstore.errors import InvalidInput

# Offset, first bytes and MIME type of a file. Formats that no embedder takes serve error messages.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypheix", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypavif", "image/avif"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (4, b"ftypM4A", "audio/mp4"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (4, b"wide", "video/quicktime"),
    (0, b"%PDF-", "application/pdf"),
)
_SUFFIXES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".pdf": "application/pdf",
}
_ALIASES: Mapping[str, str] = {
    "image/jpg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "video/mov": "video/quicktime",
    "video/mpg": "video/mpeg",
}
_HEAD_BYTES = 1024  # up to which the "%PDF-" of a PDF may stand


def sniff(head: bytes) -> str | None:
    """Return the MIME type that a file has by its first bytes, or None."""
    for offset, magic, mime_type in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return mime_type
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:  # an MPEG frame of layer III
        return "audio/mpeg"
    return "application/pdf" if b"%PDF-" in head[:_HEAD_BYTES] else None


class Media:
    """An image, a recording, a film or a document; use `Image`, `Audio`, `Video` or `Pdf`.

    Args:
        source: bytes; a path (str or Path); a URI, a str with "://" in it, that the embedding service
            itself fetches; for `Image` also a PIL image, which is kept as PNG.
        mime_type: needed only for a URI without a known suffix.

    Raises:
        InvalidInput: the bytes are of another kind than the class says, or than `mime_type` says.
        FileNotFoundError: there is no such file.

    A file is read when it is embedded, not here: a list of many films does not fill the memory.
    """

    kind: ClassVar[str]
    mime_types: ClassVar[tuple[str, ...]]

    def __init__(self, source: Any, *, mime_type: str | None = None) -> None:
        self._data: bytes | None = None
        self.path: Path | None = None
        self.uri: str | None = None
        if isinstance(source, bytes | bytearray | memoryview):
            self._data = bytes(source)
        elif isinstance(source, str) and "://" in source:
            self.uri = source
        elif isinstance(source, str | os.PathLike):
            self.path = Path(source)
        elif self.kind == "image" and hasattr(source, "save") and hasattr(source, "mode"):
            self._data = _png(source)
        else:
            raise InvalidInput(
                f"{type(self).__name__}: bytes, a path or a URI is needed, not {type(source).__name__}"
            )
        self.mime_type = self._find_mime_type(mime_type)

    def read(self) -> bytes:
        """Return the bytes; InvalidInput for a URI, which only the embedding service reads."""
        if self._data is not None:
            return self._data
        if self.path is None:
            raise InvalidInput(f"{self!r} is a URI; its bytes are not here")
        return self.path.read_bytes()

    def size(self) -> int:
        """Return the number of bytes, 0 for a URI."""
        if self._data is not None:
            return len(self._data)
        return self.path.stat().st_size if self.path is not None else 0

    def _find_mime_type(self, given: str | None) -> str:
        given = _ALIASES.get(given.lower(), given.lower()) if given else None
        seen = _SUFFIXES.get(Path(self.uri.split("?")[0]).suffix.lower()) if self.uri else sniff(self._head())
        if self.uri and given:
            seen = given  # a URI's suffix is only a hint
        found = seen or given
        if found is None:
            hint = "give mime_type=" if self.uri else "the bytes begin as no known format does"
            raise InvalidInput(f"{self!r}: the MIME type is not known: {hint}")
        if given is not None and given != found:
            raise InvalidInput(f"{self!r}: mime_type={given!r} was given, the bytes say {found!r}")
        if found not in self.mime_types:
            takes = " or ".join(self.mime_types)
            raise InvalidInput(f"{self!r} is {found}; {type(self).__name__} takes {takes}: convert it first")
        return found

    def _head(self) -> bytes:
        if self._data is not None:
            return self._data[:_HEAD_BYTES]
        assert self.path is not None
        with self.path.open("rb") as file:
            return file.read(_HEAD_BYTES)

    def __repr__(self) -> str:
        what = self.uri or self.path or f"{len(self._data or b'')} bytes"
        return f"{type(self).__name__}({str(what)!r})"


class Image(Media):
    """An image: PNG or JPEG; on Vertex AI also WebP, HEIC, HEIF, AVIF and BMP."""

    kind = "image"
    mime_types = (
        *("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "image/avif", "image/bmp"),
    )


class Audio(Media):
    """An MP3 or WAV recording."""

    kind = "audio"
    mime_types = ("audio/mpeg", "audio/wav")


class Video(Media):
    """A film: MP4; on the Developer API also MOV, on Vertex AI also MPEG."""

    kind = "video"
    mime_types = ("video/mp4", "video/quicktime", "video/mpeg")


class Pdf(Media):
    """A PDF document."""

    kind = "pdf"
    mime_types = ("application/pdf",)


Content = str | Media | Sequence[str | Media]
"""One thing to embed: a text, a medium, or a list of both that is ONE thing and gets ONE vector."""


def file_type(path: str | os.PathLike[str]) -> str | None:
    """Return the MIME type of a file by its first bytes, or None where they are not known, or a text."""
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    is_pdf = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"%PDF-")
    return None if _is_text(head) and not is_pdf else sniff(head)


def _is_text(head: bytes) -> bool:
    """Whether a file that begins so is a text: "BMW", "ID3 tags" and "The wide sea" begin as media do."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut off
    except UnicodeDecodeError:
        return False
    return not any(letter < " " and letter not in "\t\n\r\f\x1b" for letter in text)


def media_of(path: str | os.PathLike[str]) -> Media | None:
    """Return the medium that a file is by its first bytes, or None where it is none (a text, say)."""
    mime_type = file_type(path)
    kinds: tuple[type[Media], ...] = (Image, Audio, Video, Pdf)
    for kind in kinds:
        if mime_type in kind.mime_types:
            return kind(path)
    return None


def _png(image: Any) -> bytes:
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):  # PNG has no CMYK, Lab or float pixels
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
