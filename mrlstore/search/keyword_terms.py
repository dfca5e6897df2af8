"""From what a person types to an expression of FTS5: nothing in it is an operator but quotes and a last star.

Words are alternatives: a row matches if it has one of them, and BM25 puts first what has more and rarer ones.
`"several words"` in double quotes are looked for side by side, `pars*` stands for all words that begin so.
Everything else is text: AND, OR, NOT, NEAR, brackets, colons and signs are words or fall away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.types import LIMITS

SHORTEST_PREFIX: Final = 2  # letters before a star; fewer would match nearly everything
_TOKEN = re.compile(r'"([^"]*)"|([^\s"]+)')


@dataclass(frozen=True)
class Term:
    """A word, several side by side, or with `prefix` all words that begin so."""

    text: str
    prefix: bool = False

    @property
    def expression(self) -> str:
        """The same for FTS5: a string in quotes, in which nothing has a meaning."""
        return '"' + self.text.replace('"', '""') + '"' + (" *" if self.prefix else "")

    def __str__(self) -> str:
        return f"{self.text}*" if self.prefix else self.text


def parse_keywords(text: object) -> tuple[Term, ...]:
    """The terms of a text, each once, in their order; none where it has no letter and no digit.

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
    terms: dict[tuple[str, bool], Term] = {}
    for phrase, word in _TOKEN.findall(text.replace("\0", " ")):
        stem = word.rstrip("*")
        prefix = stem != word and sum(map(str.isalnum, stem)) >= SHORTEST_PREFIX
        term = Term(" ".join(phrase.split()) or stem, prefix)
        if any(map(_is_wordlike, term.text)):
            terms.setdefault((term.text.casefold(), prefix), term)
    if len(terms) > LIMITS.keywords:
        raise LimitExceeded(
            f"keywords: {len(terms)} different words; at most {LIMITS.keywords} are looked for"
        )
    return tuple(terms.values())


def any_of(terms: tuple[Term, ...]) -> str:
    """The expression that matches rows with at least one of the terms."""
    return " OR ".join(term.expression for term in terms)


def _is_wordlike(letter: str) -> bool:
    """Whether it may be part of a word; FTS5 decides, this only leaves out what is surely none."""
    return letter.isalnum() or ord(letter) > 127
