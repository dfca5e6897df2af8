"""Cut a long text into overlapping chunks that know where they stood, and estimate tokens.

Nothing is lost or changed: `text[chunk.start:chunk.stop] == chunk.text`, and the chunks cover the text except
for runs of blanks as long as a chunk.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from mrlstore.errors import InvalidInput

# Where a cut does least harm, best first; a cut goes after the match. A sentence ends at a stop that is
# followed by anything but a small letter, which "e.g." and "3.5" are not. Lines come later: prose is wrapped.
_HEADING: Final = re.compile(r"#{1,6} ")
_STRONG: Final = tuple(
    map(
        re.compile,
        (
            r"\n(?=#{1,6} )",  # before a heading of Markdown
            r"\n[^\S\n]*\n\s*",  # between paragraphs
            r"[.!?]+[\"'’”)\]]*\s+(?=[\"'‘“(\[]*[^\W_a-z])|[。！？]+[」』’”\"')\]]*\s*",  # between sentences
        ),
    )
)
_WEAK: Final = tuple(map(re.compile, (r"\n", r"[.!?;:]+[\"'’”)\]]*\s+", r"\s+")))  # lines, phrases, words
_AHEAD: Final = 8  # characters behind a cut that its pattern may look at


@dataclass(frozen=True)
class Chunk:
    """A piece of a text: characters `start` to `stop` of it."""

    text: str
    start: int
    stop: int
    tokens: int  # estimated


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text, rather high than low, without calling a service.

    A quarter of a token for an ASCII character, half of one for other alphabets, a whole one for digits
    (Gemini's tokenizer gives each its own), CJK characters, emoji and the like. English prose comes out about
    a tenth too high; dense code and random letters may come out too low.
    """
    if text.isascii():
        return math.ceil(len(text) / 4 + 0.75 * sum(map(text.count, "0123456789")))
    return math.ceil(sum(_weight(character) for character in text))


def split_text(text: str, max_tokens: int, overlap_tokens: int = 0) -> list[Chunk]:
    """Cut a text into chunks of at most `max_tokens` (estimated), each repeating the end of the last.

    A chunk ends in front of a heading, or at the end of a paragraph, a sentence, a line, a phrase or a word:
    the best that lies in the second half of what it could hold; else anywhere. It begins with a heading, a
    paragraph or a sentence that lies within the overlap; without one it begins where the last chunk ended, if
    that is such a place, else with a line or a word within the overlap. A text that is short enough is one
    chunk; a blank one is none.

    Raises:
        InvalidInput: `max_tokens` is below 1, or the overlap is more than a quarter of it.
    """
    if max_tokens < 1 or not 0 <= overlap_tokens <= max_tokens // 4:
        raise InvalidInput(
            f"max_tokens={max_tokens}, overlap_tokens={overlap_tokens}: at least 1 token, and an overlap of "
            "at most a quarter of the chunk are needed"
        )
    ends = _running_tokens(text)
    chunks: list[Chunk] = []
    start = 0
    while start < len(text):
        stop = _reach(ends, start, max_tokens)
        if stop < len(text):
            stop = _cut(text, _reach(ends, start, max_tokens / 2), stop)
        if not text[start:stop].isspace():
            chunks.append(Chunk(text[start:stop], start, stop, estimate_tokens(text[start:stop])))
        if stop == len(text):
            break
        start = max(_begin(text, start, _back(ends, stop, overlap_tokens), stop), start + 1)
    return chunks


def _weight(character: str) -> float:
    code = ord(character)
    if code < 0x80:
        return 1.0 if character.isdigit() else 0.25
    return 0.5 if code < 0x2E80 else 1.0


def _running_tokens(text: str) -> list[float]:
    """Tokens of the first i characters, for every i."""
    ends = [0.0]
    for character in text:
        ends.append(ends[-1] + _weight(character))
    return ends


def _reach(ends: list[float], start: int, tokens: float) -> int:
    """How far from `start` so many tokens go; at least one character."""
    return max(bisect_right(ends, ends[start] + tokens) - 1, start + 1)


def _back(ends: list[float], stop: int, tokens: int) -> int:
    """Where the last so many tokens before `stop` begin."""
    return bisect_left(ends, ends[stop] - tokens)


def _cut(text: str, middle: int, stop: int) -> int:
    """The best place for a cut in text[middle:stop]."""
    for pattern in _STRONG + _WEAK:
        places = [place for place in _breaks(pattern, text, middle, stop) if middle < place <= stop]
        if places:
            return places[-1]
    return stop


def _begin(text: str, start: int, low: int, stop: int) -> int:
    """Where the next chunk begins, from `low` to `stop`, the end of the last one, which began at `start`."""
    if low == stop:
        return stop
    strong = {place for pattern in _STRONG for place in _breaks(pattern, text, start, stop)}
    if within := [place for place in strong if low <= place < stop]:
        return min(within)
    if stop in strong:
        return stop
    for pattern in _WEAK:
        if within := [place for place in _breaks(pattern, text, start, stop) if low <= place < stop]:
            return min(within)
    return low


def _breaks(pattern: re.Pattern[str], text: str, start: int, stop: int) -> list[int]:
    """Where cuts by one pattern may go in text[start:stop], its ends included; never behind a heading."""
    found = pattern.finditer(text, start, min(stop + _AHEAD, len(text)))
    return [match.end() for match in found if not _is_heading(text, start, match.start())]


def _is_heading(text: str, start: int, stop: int) -> bool:
    """Whether the last line of text[start:stop] that is not blank is a heading."""
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return _HEADING.match(text, max(text.rfind("\n", start, stop) + 1, start), stop) is not None
