"""Parses what a person types as keywords, and writes the FTS5 expression that looks for it.

Words are alternatives: a row matches if it has one of them, and BM25 ranks rows with more and rarer words
first. `"several words"` in double quotes match side by side; `pars*` matches all words that begin so.
Everything else is text: AND, OR, NOT, NEAR, brackets, colons and signs are words, or are dropped.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.types import LIMITS

SHORTEST_PREFIX: Final = 2  # letters before a star; fewer would match nearly everything
_TOKEN = re.compile(r'"([^"]*)"|([^\s"]+)')
_LINE_BREAKS: Final = ("\n", "\r\n")  # that a phrase may cross, besides spaces
# Line breaks that a phrase crosses at most, by its gaps between words: each choice is one more alternative.
_MAX_BREAKS: Final = ((4, 4), (16, 2), (2**63, 1))
# Endings that the Porter stemmer takes off or changes, with their plurals.
_ENDINGS: Final = tuple(
    ending + plural
    for ending in [
        "able",
        "ably",
        "al",
        "alism",
        "ality",
        "alize",
        "ally",
        "ance",
        "ancy",
        "ant",
        "ate",
        "ation",
        "ational",
        "ative",
        "ator",
        "ed",
        "ement",
        "ence",
        "ency",
        "ent",
        "ently",
        "ely",
        "er",
        "ful",
        "fulness",
        "ibility",
        "ible",
        "ic",
        "icate",
        "ical",
        "icity",
        "ied",
        "ies",
        "ing",
        "ion",
        "ism",
        "ity",
        "ive",
        "iveness",
        "ization",
        "ize",
        "izer",
        "ment",
        "ness",
        "ous",
        "ously",
        "ousness",
        "tional",
        "y",
    ]
    for plural in ("", "s")
) + (
    "alities",
    "ances",
    "ancies",
    "bilities",
    "bility",
    "encies",
    "icities",
    "ities",
    "ivities",
    "ivity",
    "s",
)

Cut = Callable[[str], tuple[str, ...]]  # a text of a question into the index's words


@dataclass(frozen=True)
class Term:
    """A word, several side by side, or with `prefix` all words that begin so."""

    text: str
    prefix: bool = False

    def __str__(self) -> str:
        return f"{self.text}*" if self.prefix else self.text


class Lookup(NamedTuple):
    """A term, and the FTS5 expression that matches the rows which have it."""

    term: Term
    expression: str


def parse_keywords(text: object) -> tuple[Term, ...]:
    """The terms of a text, each spelling once, in their order; none where it has no letter and no digit.

    Raises:
        InvalidInput: not a string, or one that UTF-8 cannot hold.
        LimitExceeded: more than `LIMITS.keywords` terms.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"keywords: expected a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"keywords: has a lone surrogate, which UTF-8 cannot hold ({error.reason})"
        ) from error
    terms: dict[Term, None] = {}
    for phrase, word in _TOKEN.findall(text.replace("\0", " ")):
        stem = word.rstrip("*")
        prefix = stem != word and sum(map(str.isalnum, stem)) >= SHORTEST_PREFIX
        term = Term(" ".join(phrase.split()) or stem, prefix)
        if any(map(_is_wordlike, term.text)):
            terms.setdefault(term)
    if len(terms) > LIMITS.keywords:
        raise LimitExceeded(
            f"keywords: {len(terms)} different words; at most {LIMITS.keywords} are looked for"
        )
    return tuple(terms)


def lookups(terms: Iterable[Term], tokenizer: str, cut: Cut) -> tuple[Lookup, ...]:
    """How to look for each term in an index with this tokenizer.

    Terms that the index cannot tell apart (by case, accents, stem) are looked for once.
    """
    found: dict[tuple[tuple[str, ...], bool], Lookup] = {}
    for term in terms:
        words = cut(unicodedata.normalize("NFC", term.text))
        known = words or (term.text,), term.prefix
        if known not in found:
            found[known] = Lookup(term, _expression(term, tokenizer, cut))
    return tuple(found.values())


def any_of(looked_up: Iterable[Lookup]) -> str:
    """The expression that matches rows with at least one of the terms."""
    return " OR ".join(one.expression for one in looked_up)


def _expression(term: Term, tokenizer: str, cut: Cut) -> str:
    """Every spelling of a term, joined by OR; spellings that are the same words to the index only once."""
    spelled = {(cut(text), term.prefix): _quoted(text, term.prefix) for text in _spellings(term, tokenizer)}
    if term.prefix and tokenizer == "porter":
        for words, text in _stemmed_forms(term.text, cut):
            spelled.setdefault((words, False), _quoted(text, prefix=False))
    expressions = list(spelled.values())
    return expressions[0] if len(expressions) == 1 else f"({' OR '.join(expressions)})"


def _quoted(text: str, prefix: bool) -> str:
    """A text for FTS5: a string in quotes, in which nothing is an operator."""
    return '"' + text.replace('"', '""') + '"' + (" *" if prefix else "")


def _spellings(term: Term, tokenizer: str) -> Iterator[str]:
    """Texts that documents may have for a term: composed and decomposed, and crossing line breaks.

    A composed and a decomposed letter are different words to the index, but for Latin ones. A trigram index
    keeps the spaces between words as the document has them.
    """
    for text in dict.fromkeys(
        (term.text, unicodedata.normalize("NFC", term.text), unicodedata.normalize("NFD", term.text))
    ):
        yield text
        words = text.split(" ")
        if tokenizer == "trigram" and len(words) > 1:
            yield from (_joined(words, gaps) for gaps in _broken_gaps(len(words) - 1))


def _broken_gaps(count: int) -> Iterator[tuple[str, ...]]:
    """What may stand in `count` gaps between words where one or more of them are line breaks."""
    most = next(breaks for gaps, breaks in _MAX_BREAKS if count <= gaps)
    for line_break in _LINE_BREAKS:
        for breaks in range(1, min(most, count) + 1):
            for broken in itertools.combinations(range(count), breaks):
                yield tuple(line_break if i in broken else " " for i in range(count))


def _joined(words: list[str], gaps: tuple[str, ...]) -> str:
    return words[0] + "".join(gap + word for gap, word in zip(gaps, words[1:], strict=True))


def _stemmed_forms(prefix: str, cut: Cut) -> Iterator[tuple[tuple[str, ...], str]]:
    """Words that begin with a prefix and whose stems do not: (what the index has for one, the word).

    `universi*` matches stems that begin so, but "university" is in the index as "univers". The prefix may end
    inside of an ending, so each ending is tried at each point.
    """
    start = cut(prefix)
    if not start:
        return
    for ending in _ENDINGS:
        for at in range(len(ending)):
            if prefix.lower().endswith(ending[:at]):
                word = prefix + ending[at:]
                words = cut(word)
                same_start = len(words) == len(start) and words[:-1] == start[:-1]
                if same_start and not words[-1].startswith(start[-1]):
                    yield words, word


def _is_wordlike(letter: str) -> bool:
    """Whether it may be part of a word; FTS5 decides, this only leaves out what is surely none."""
    return letter.isalnum() or ord(letter) > 127
