"""How long a recording or a film is, and how many pages a document has.

Read by tinytag and pypdf, the extra `media`, and only where an embedder has a limit: the extra is needed only
by those who send such media.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from mrlstore.embedders.content import Media, Pdf
from mrlstore.errors import InvalidInput, MrlStoreError


class MissingExtra(MrlStoreError, ImportError):
    """A package that is needed is not installed; the message says what to install."""


def seconds(media: Media) -> float:
    """Return the duration of a recording or film in seconds; InvalidInput where it cannot be read."""
    try:
        from tinytag import TinyTag
    except ImportError as error:
        raise MissingExtra(f'to check the length of {media!r}: pip install "mrlstore[media]"') from error
    try:
        with _open(media) as file:
            duration = TinyTag.get(file_obj=file, tags=False).duration
    except Exception as error:  # parsers of damaged files fail in many ways
        raise InvalidInput(f"{media!r}: its duration cannot be read ({error}); is it damaged?") from error
    if duration is None:
        raise InvalidInput(f"{media!r}: it has no duration; is it damaged?")
    return float(duration)


def pages(media: Media) -> int:
    """Return the number of pages of a document; InvalidInput where they cannot be counted."""
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise MissingExtra(f'to count the pages of {media!r}: pip install "mrlstore[media]"') from error
    try:
        with _open(media) as file:
            return len(PdfReader(file).pages)
    except Exception as error:  # as above; also documents that ask for a password
        raise InvalidInput(f"{media!r}: its pages cannot be counted ({error})") from error


def split_pdf(document: Media, most_pages: int) -> list[tuple[Pdf, int, int]]:
    """Cut a document into pieces of at most so many pages: (piece, first page, last page), counted from 1.

    A document that is short enough comes back as it is. The same document gives the same bytes again.
    """
    from pypdf import PdfReader, PdfWriter

    count = pages(document)
    if count <= most_pages:
        return [(Pdf(document.path or document.read()), 1, count)]
    pieces = []
    with _open(document) as file:
        reader = PdfReader(file)
        for first in range(0, count, most_pages):
            last = min(first + most_pages, count)
            writer = PdfWriter()
            for page in reader.pages[first:last]:
                writer.add_page(page)
            buffer = io.BytesIO()
            writer.write(buffer)
            pieces.append((Pdf(buffer.getvalue()), first + 1, last))
    return pieces


def _open(media: Media) -> BinaryIO:
    return media.path.open("rb") if media.path is not None else io.BytesIO(media.read())
