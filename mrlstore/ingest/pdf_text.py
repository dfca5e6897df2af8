"""The text of PDF documents, page by page, read by pypdf; for embedders that read texts only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mrlstore.embedders.media import MissingExtra
from mrlstore.errors import InvalidInput


class PageText(NamedTuple):
    """One page: its number, from 1, and its text, or why it cannot be read."""

    number: int
    text: str
    error: str | None = None


def pdf_pages(path: Path) -> list[PageText]:
    """The pages of a document that have text.

    Raises:
        InvalidInput: it is damaged, asks for a password, or has no text at all, as scans have none.
        MissingExtra: pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise MissingExtra("the text of a PDF is read by pypdf: pip install 'mrlstore[local]'") from error
    with _without_warnings():
        try:
            reader = PdfReader(path)
            if reader.is_encrypted and not reader.decrypt(""):
                raise InvalidInput("a PDF that asks for a password")
            count = len(reader.pages)
        except InvalidInput:
            raise
        except Exception as error:  # damaged documents make parsers fail in many ways
            raise InvalidInput(f"a PDF that cannot be read: {error}") from error
        pages = []
        for number in range(count):
            try:
                text = reader.pages[number].extract_text().replace("\0", "").strip()
            except Exception as error:  # as above
                pages.append(PageText(number + 1, "", f"a page that cannot be read: {error}"))
            else:
                pages += [PageText(number + 1, text)] if text else []
    if not pages:
        raise InvalidInput("a PDF without text (scanned?); --embedder gemini reads its pages as images")
    return pages


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep pypdf from printing each oddity of a document: what matters is raised."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
