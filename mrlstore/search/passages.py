"""The passage of a document that keywords matched: what to show of a hit."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from mrlstore.catalogue.keywords import DEFAULT_TOKENIZER, DocumentWord, document_cutter
from mrlstore.search.keyword_terms import Term
from mrlstore.types import KeywordPlan, Result, Tokenizer

_BYTES: Final = 240  # of a passage, about three lines on a terminal
_LEAD_BYTES: Final = 60  # of a passage before its first match
# Of the beginning of a document that is looked through, in 0.1 s. A match behind it has no passage.
_SEARCHED_BYTES: Final = 1_000_000


class Piece(NamedTuple):
    """A part of a passage: a match, or what stands between matches."""

    text: str
    matched: bool


Passage = tuple[Piece, ...]


class _Match(NamedTuple):
    """Where a term stands: bytes of the document as UTF-8."""

    start: int
    stop: int
    term: int


def passages_of(result: Result, tokenizer: Tokenizer | None) -> list[Passage | None]:
    """For each hit the passage where most of the keywords stand together, in one line.

    None where keywords did not find the hit, its document is not included, or they stand only behind its
    first megabyte.

    Args:
        result: of a query with `include=("document", ...)`.
        tokenizer: that of the store's settings.
    """
    plan: KeywordPlan | None = result.plan.keywords
    if plan is None:
        return [None] * len(result)
    cut = document_cutter(tokenizer or DEFAULT_TOKENIZER)
    terms = [Term(text.removesuffix("*"), text.endswith("*")) for text in plan.searched]
    words = [[word.text for word in cut(term.text.encode())] for term in terms]
    by_keywords = {ranks.id for ranks in plan.hits if ranks.keyword_rank is not None}
    passages: list[Passage | None] = []
    for hit in result:
        passage = None
        if hit.id in by_keywords and hit.document:
            data = hit.document.encode()[:_SEARCHED_BYTES]
            matches = _matches(data, cut(data), terms, words)
            passage = _around(data, matches) if matches else None
        passages.append(passage)
    return passages


def _matches(
    data: bytes, document: Sequence[DocumentWord], terms: Sequence[Term], words: Sequence[Sequence[str]]
) -> list[_Match]:
    """Where the terms stand in a document, in its order."""
    places = defaultdict(list)
    for place, word in enumerate(document):
        places[word.text].append(place)
    found = []
    for number, (term, wanted) in enumerate(zip(terms, words, strict=True)):
        if not wanted:
            continue
        if term.prefix and len(wanted) == 1:
            # The raw letters count too: a stemmer may have cut off what the prefix ends with.
            letters = term.text.casefold()
            starts = [
                place
                for place, word in enumerate(document)
                if word.text.startswith(wanted[0])
                or data[word.start : word.stop].decode(errors="ignore").casefold().startswith(letters)
            ]
        else:
            starts = places.get(wanted[0], [])
        for start in starts:
            there = document[start : start + len(wanted)]
            if term.prefix or [word.text for word in there] == list(wanted):
                found.append(_Match(there[0].start, there[-1].stop, number))
    return sorted(found)


def _around(data: bytes, matches: Sequence[_Match]) -> Passage:
    """The first of the passages with the most different terms."""
    first = _densest(matches)
    begin = _next_blank(data, max(first.start - _LEAD_BYTES, 0), first.start)
    end = min(max(begin + _BYTES, first.stop), len(data))
    while end < len(data) and end > first.stop and not data[end : end + 1].isspace():
        end -= 1
    pieces = [Piece("…", False)] if begin else []
    place = begin
    for match in matches:
        if match.start >= place and match.stop <= end:
            pieces += [_piece(data[place : match.start], False), _piece(data[match.start : match.stop], True)]
            place = match.stop
    pieces.append(_piece(data[place:end].rstrip(), False))
    if data[end:].strip():
        pieces.append(Piece("…", False))
    return tuple(piece for piece in pieces if piece.text)


def _densest(matches: Sequence[_Match]) -> _Match:
    """The match behind which the most different terms begin within the length of a passage."""
    inside: Counter[int] = Counter()
    best, most, ahead = matches[0], 0, 0
    for match in matches:
        while ahead < len(matches) and matches[ahead].stop <= match.start + _BYTES - _LEAD_BYTES:
            inside[matches[ahead].term] += 1
            ahead += 1
        if len(+inside) > most:
            best, most = match, len(+inside)
        inside[match.term] -= 1
    return best


def _next_blank(data: bytes, begin: int, stop: int) -> int:
    """Where the first word behind `begin` starts; `begin` itself at the start of the document."""
    if not begin:
        return 0
    blank = re.search(rb"\s+", data[begin:stop])
    return begin + blank.end() if blank else stop


def _piece(data: bytes, matched: bool) -> Piece:
    return Piece(re.sub(r"\s+", " ", data.decode(errors="ignore")), matched)
