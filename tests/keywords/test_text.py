"""Whatever a person types: it is words, phrases and prefixes, or a typed error; never a broken query."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mrlstore
from mrlstore.search.keyword_terms import parse_keywords
from tests.keywords.corpus import vectors

OPERATORS = [
    "AND",
    "OR",
    "NOT",
    "NEAR(",
    "NEAR/3",
    "document:",
    "^",
    "-",
    "+",
    "*",
    '"',
    '""',
    "(",
    ")",
    "{",
    "}",
]
PIECES = [
    *OPERATORS,
    "apple",
    "os.path.join",
    "don't",
    "\0",
    "\ud800",
    " ",
    "\n",
    "é",
    "日本",
    "'",
    ";",
    "--",
    "%",
    "\\",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mrlstore.Store]:
    path = tmp_path_factory.mktemp("text") / "s.mrl"
    with mrlstore.open(path, auto_maintain=False) as store:
        texts = ["red apple pie", "os.path.join(a, b)", "and or not near", "path to join os"]
        store.upsert(["pie", "join", "operators", "apart"], vectors(4), None, texts)
        yield store


def ids(store: mrlstore.Store, words: str) -> set[str]:
    return set(store.query(keywords=words).ids)


@pytest.mark.parametrize("tokenizer", ["unicode61", "porter", "trigram"])
@settings(max_examples=150, deadline=None)
@given(text=st.text() | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example(text='"')
@example(text="apple*")
@example(text="*")
@example(text="\0\0")
@example(text='NEAR("a" b, 2) OR document : x')
def test_no_text_breaks_a_query(tmp_path_factory: pytest.TempPathFactory, tokenizer: str, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{tokenizer}.mrl"
    if not path.exists():
        with mrlstore.open(path, auto_maintain=False, tokenizer=tokenizer) as new:  # type: ignore[arg-type]
            new.upsert(["a", "b"], vectors(2), None, ["red apple", "os.path.join don't 日本語"])
    with mrlstore.open(path, mode="r") as store:
        try:
            alone = store.query(keywords=text)
            both = store.query(vectors(1)[0], keywords=text)
        except mrlstore.InvalidInput:
            assert any("\ud800" <= letter <= "\udfff" for letter in text)
        else:
            assert set(alone.ids) <= {"a", "b"}
            assert set(both.ids) == {"a", "b"}
            assert len(alone.plan.keywords.searched) <= len(text)  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(words=st.lists(st.from_regex(r"[a-zA-Z0-9]{1,12}", fullmatch=True), min_size=1, max_size=6))
def test_every_word_of_a_document_finds_it(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "words.mrl"
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(["it"], None, None, [" ".join(words)])
        for word in words:
            assert store.query(keywords=word).ids == ["it"]
            assert store.query(keywords=f'"{word}"').ids == ["it"]
        assert store.query(keywords=f'"{" ".join(words)}"').ids == ["it"]


def test_operators_are_words(store: mrlstore.Store) -> None:
    assert ids(store, "apple AND nothing") == {"pie", "operators"}
    assert ids(store, "NOT apple") == {"pie", "operators"}
    assert ids(store, "document:apple") == set()  # two words side by side, which stand nowhere
    assert ids(store, "(apple)") == {"pie"}
    assert ids(store, "-apple +pie ^red") == {"pie"}


def test_phrases_and_identifiers_stand_side_by_side(store: mrlstore.Store) -> None:
    assert ids(store, "os.path.join") == {"join"}
    assert ids(store, '"path join"') == {"join"}
    assert ids(store, "path join") == {"join", "apart"}
    assert ids(store, '"apple pie') == {"pie"}  # a quote that is never closed is no quote
    assert ids(store, '"apple red"') == set()


def test_a_star_at_the_end_is_any_ending(store: mrlstore.Store) -> None:
    assert ids(store, "app*") == {"pie"}
    assert ids(store, "app") == set()
    assert ids(store, "a*pple") == set()
    assert ids(store, "p*") == set()  # one letter would match nearly everything
    assert ids(store, "jo* pi*") == {"join", "pie", "apart"}


@pytest.mark.parametrize("nothing", ["", " ", "!?", '""', "\0", "*", "-- ;"])
def test_without_a_word_there_is_nothing_to_find(store: mrlstore.Store, nothing: str) -> None:
    assert len(store.query(keywords=nothing)) == 0
    assert store.query(vectors(1)[0], keywords=nothing).ids == store.query(vectors(1)[0]).ids


def test_a_word_counts_once_however_often_it_is_said(store: mrlstore.Store) -> None:
    once, often = store.query(keywords="apple join"), store.query(keywords="apple Apple join APPLE apple")
    assert [(hit.id, hit.score) for hit in often] == [(hit.id, hit.score) for hit in once]


def test_limits() -> None:
    assert len(parse_keywords(" ".join(map(str, range(1000))))) == 1000
    with pytest.raises(mrlstore.LimitExceeded, match="1001"):
        parse_keywords(" ".join(map(str, range(1001))))
    for wrong in (3, b"bytes", ["apple"], None):
        with pytest.raises(mrlstore.InvalidInput, match="keywords"):
            parse_keywords(wrong)
    with pytest.raises(mrlstore.InvalidInput, match="surrogate"):
        parse_keywords("a \udc00")


def test_a_thousand_words_are_looked_for(store: mrlstore.Store) -> None:
    assert ids(store, " ".join([*map(str, range(998)), "apple", "join"])) == {"pie", "join", "apart"}
