"""What is one word to a person, in many scripts, forms and line breaks, in new and older indexes."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import apsw
import pytest

import mrlstore


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def made(path: Path, tokenizer: str, *documents: str) -> mrlstore.Store:
    store = mrlstore.open(path, tokenizer=tokenizer, auto_maintain=False)  # type: ignore[arg-type]
    store.upsert([f"r{n}" for n in range(len(documents))], None, None, list(documents))
    return store


def hits(store: mrlstore.Store, words: str) -> set[str]:
    return set(store.query(keywords=words, include=()).ids)


@pytest.mark.parametrize("tokenizer", ["unicode61", "porter"])
def test_words_that_only_case_folding_makes_alike_are_looked_for_apart(
    tmp_path: Path, tokenizer: str
) -> None:
    with made(tmp_path / "s.mrl", tokenizer, "Die Straße", "Die STRASSE", "Der Weg") as store:
        assert hits(store, "Straße Strasse") == hits(store, "strasse straße") == {"r0", "r1"}
        plan = store.query(keywords="Straße Strasse").plan.keywords
        assert plan is not None and plan.searched == ("Straße", "Strasse")


def test_what_the_index_cannot_tell_apart_counts_once(tmp_path: Path) -> None:
    with made(tmp_path / "s.mrl", "porter", "a test of cafés", "nothing") as store:
        once = store.query(keywords="test cafe")
        often = store.query(keywords="test Tests testing TESTED café cafe\u0301")
        assert [(hit.id, hit.score) for hit in often] == [(hit.id, hit.score) for hit in once]


@pytest.mark.parametrize(
    ("prefix", "word"),
    [
        ("universi", "university"),
        ("universi", "Universities"),
        ("univers", "university"),
        ("universit", "universities"),
        ("nationali", "nationalities"),
        ("generaliza", "generalizations"),
        ("runni", "running"),
        ("happi", "happiness"),
        ("effectiven", "effectiveness"),
        ("possibi", "possibility"),
        ("my-universi", "my university"),
        ("connect", "connections"),
    ],
)
def test_a_prefix_finds_words_whose_stem_is_shorter(tmp_path: Path, prefix: str, word: str) -> None:
    with made(tmp_path / "s.mrl", "porter", f"one {word} of all", "something else") as store:
        assert hits(store, f"{prefix}*") == {"r0"}


@pytest.mark.parametrize("gap", ["\n", "\r\n"])
def test_a_trigram_phrase_crosses_line_breaks(tmp_path: Path, gap: str) -> None:
    texts = [f"The quick{gap}brown fox{gap}jumps over", "brown the quick", "a quick brown-fox"]
    with made(tmp_path / "s.mrl", "trigram", *texts) as store:
        assert hits(store, '"quick brown"') == {"r0", "r2"}
        assert hits(store, '"the quick brown fox jumps over"') == {"r0"}
        assert hits(store, '"quick brown fox jumps"') == {"r0"}
        assert hits(store, '"quick fox"') == set()


@pytest.mark.parametrize("tokenizer", ["unicode61", "porter"])
def test_vowel_signs_belong_to_words(tmp_path: Path, tokenizer: str) -> None:
    texts = ["हिन्दी भाषा", "हन्द भाष", "தமிழ்", "தமழ", "שָׁלוֹם", "مُحَمَّد"]
    with made(tmp_path / "s.mrl", tokenizer, *texts) as store:
        assert hits(store, "हिन्दी") == {"r0"}
        assert hits(store, "हन्दा") == set()
        assert hits(store, "தமிழ்") == {"r2"}
        assert hits(store, "தமழ") == {"r3"}
        assert hits(store, "שָׁלוֹם") == {"r4"}
        assert hits(store, "مُحَمَّد") == {"r5"}
        assert store.verify().ok


@pytest.mark.parametrize("tokenizer", ["unicode61", "porter", "trigram"])
@pytest.mark.parametrize("word", ["한글날", "Ελλάδα", "ёлка", "Việt", "Ångström"])
def test_composed_and_decomposed_letters_find_each_other(tmp_path: Path, tokenizer: str, word: str) -> None:
    composed = unicodedata.normalize("NFC", word)
    with made(tmp_path / "s.mrl", tokenizer, composed, nfd(composed), "other") as store:
        assert hits(store, composed) == hits(store, nfd(composed)) == {"r0", "r1"}
        assert hits(store, f"{nfd(composed)[:-1]}*" if word == "ёлка" else composed) == {"r0", "r1"}


def test_an_emoji_is_no_word(tmp_path: Path) -> None:
    with made(tmp_path / "s.mrl", "unicode61", "a ❤\ufe0f for you", "b ☀\ufe0f c") as store:
        assert hits(store, "❤\ufe0f") == set()
        assert hits(store, "heart\ufe0f you") == {"r0"}


@pytest.mark.parametrize("tokenizer", ["unicode61", "porter"])
def test_an_index_of_before_stays_as_it_is(tmp_path: Path, tokenizer: str) -> None:
    """Its words are cut as they were; it is verified, searched and written to as such."""
    path = tmp_path / "s.mrl"
    made(path, tokenizer, "हिन्दी apple", "pear").close()
    connection = apsw.Connection(str(path / "catalogue.db"))
    old = "porter unicode61" if tokenizer == "porter" else "unicode61"
    connection.execute(
        "DROP TABLE keywords; CREATE VIRTUAL TABLE keywords USING fts5(document, content='',"
        f" contentless_delete=1, tokenize='{old} remove_diacritics 2');"
        "INSERT INTO keywords(rowid, document) SELECT key, document FROM rows"
    )
    connection.close()
    with mrlstore.open(path, auto_maintain=False) as store:
        assert store.verify().ok
        assert hits(store, "apple हन्द") == {"r0"}  # a vowel sign parts words here
        store.upsert(["r1"], None, None, ["தமிழ் plum"])
        assert hits(store, "plum") == {"r1"} and store.verify().ok


@pytest.mark.parametrize("options", ["unicode61 remove_diacritics 0", "ascii", "trigram"])
def test_an_index_of_another_tokenizer_is_damage(tmp_path: Path, options: str) -> None:
    path = tmp_path / "s.mrl"
    made(path, "unicode61", "red apple", "pear").close()
    connection = apsw.Connection(str(path / "catalogue.db"))
    connection.execute(
        "DROP TABLE keywords; CREATE VIRTUAL TABLE keywords USING fts5(document, content='',"
        f" contentless_delete=1, tokenize='{options}');"
        "INSERT INTO keywords(rowid, document) SELECT key, document FROM rows"
    )
    connection.close()
    with mrlstore.open(path, auto_maintain=False) as store:
        assert not store.verify().ok
        with pytest.raises(mrlstore.CorruptStore, match="repair"):
            store.query(keywords="apple")
        assert store.repair().ok
        assert hits(store, "apple") == {"r0"} and store.verify().ok
