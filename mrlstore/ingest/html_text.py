"""The text of an HTML page: paragraphs apart, headings as in Markdown, without scripts and styles."""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser
from typing import Final, NamedTuple

_SILENT: Final = {"script", "style", "template", "svg", "noscript", "head"}
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_BLOCKS: Final = {
    *_HEADINGS,
    *("address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset"),
    *("figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre"),
    *("section", "summary", "table", "td", "th", "tr", "ul"),
}
_TIGHT: Final = {"li", "tr", "dt", "dd"}  # blocks that follow each other line by line
# Characters of a tag that is never closed. The parser tries each "<" of it again at the end, in time that
# grows with the square of its length: 35 s for 60,000.
_MAX_UNFINISHED: Final = 2_000
_CHARSET: Final = re.compile(rb"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)


class HtmlText(NamedTuple):
    """What a page says."""

    title: str  # empty where there is none
    text: str


def html_text(data: bytes) -> HtmlText:
    """The title and the text of a page. Broken markup is read as far as it goes."""
    text = _decoded(data)
    try:
        parser = _parsed(text)
    except AssertionError:  # how the parser fails on some broken declarations; without them it does not
        parser = _parsed(text.replace("<!", "&lt;!"))
    return HtmlText(" ".join("".join(parser.title).split()), parser.text())


def _parsed(text: str) -> _HtmlParser:
    parser = _HtmlParser()
    parser.feed(text)
    parser.rawdata = parser.rawdata[:_MAX_UNFINISHED]
    parser.close()
    return parser


def _decoded(data: bytes) -> str:
    """The page as text: UTF-8, else the encoding that it names, else windows-1252, as browsers do."""
    for encoding in ("utf-8-sig", *_named(data), "windows-1252"):
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("windows-1252", errors="replace")


def _named(data: bytes) -> list[str]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["utf-16"]
    found = _CHARSET.search(data[:1024])
    return [found[1].decode("ascii")] if found else []


class _HtmlParser(HTMLParser):
    """Collects the text; what is between a silent element's tags is left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self._pieces: list[str] = []
        self._silent: list[str] = []  # the open silent elements
        self._in_title = self._in_pre = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._silent.clear()  # a head that was not closed
        if tag == "title":
            self._in_title = not self.title
        elif tag in _SILENT:
            self._silent.append(tag)
        elif tag == "br":
            self._pieces.append("\n")
        elif tag in _BLOCKS:
            self._break(tag)
            self._pieces.append(_HEADINGS.get(tag, "- " if tag == "li" else ""))
            self._in_pre = self._in_pre or tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        elif tag in _BLOCKS:
            self._break(tag)
            self._in_pre = self._in_pre and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._silent:
            self._pieces.append(data if self._in_pre else re.sub(r"\s+", " ", data))

    def _break(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._pieces.append(" ")
        elif tag not in _TIGHT:
            self._pieces.append("\n\n")
        elif self._pieces and not self._pieces[-1].endswith("\n"):
            self._pieces.append("\n")

    def text(self) -> str:
        """The text so far, with one blank line between blocks at most."""
        lines = (line.rstrip() for line in "".join(self._pieces).split("\n"))
        text = "\n".join(
            line if line.startswith("    ") else re.sub(" {2,}", " ", line.strip()) for line in lines
        )
        return re.sub(r"\n{3,}", "\n\n", text).strip()
