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

# Where a cut does least harm, best first; a cut goes after the match.
_BREAKS: Final = tuple(map(re.compile, (r"\n\s*\n", r"\n", r"[.!?。！？]+[\"')\]]*\s*", r"\s+")))


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

    Cuts go to the end of a paragraph, a line, a sentence or a word, the best that lies in the second half
    of a chunk; else they go anywhere. A text that is short enough is one chunk; a blank one is none.

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
        start = max(_back(ends, stop, overlap_tokens), start + 1)
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
    for pattern in _BREAKS:
        last = 0
        for match in pattern.finditer(text, middle, stop):
            last = match.end()
        if last > middle:
            return last
    return stop
