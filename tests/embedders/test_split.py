"""Chunks cover the text, keep their offsets, fit, and overlap as asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlstore.embedders.split import estimate_tokens, split_text
from mrlstore.errors import InvalidInput

TEXTS = st.text(alphabet=st.sampled_from("ab .\n!日本😀éж"), max_size=300)


@given(TEXTS, st.integers(1, 40), st.data())
def test_chunks_cover_the_text_in_order(text: str, most: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, most // 4))
    chunks = split_text(text, most, overlap)
    covered = 0
    for chunk in chunks:
        assert text[chunk.start : chunk.stop] == chunk.text and not chunk.text.isspace()
        assert not text[covered : chunk.start].strip(), "only blanks may be left out"
        assert chunk.tokens <= most and chunk.tokens == estimate_tokens(chunk.text)
        assert chunk.stop > covered, "every chunk brings something new"
        covered = chunk.stop
    assert not text[covered:].strip()
    assert len(chunks) <= 1 or estimate_tokens(text) > most


def test_overlap_repeats_the_end_of_the_last_chunk() -> None:
    text = " ".join(f"word{i:04}" for i in range(500))
    chunks = split_text(text, 100, 20)
    for before, after in zip(chunks, chunks[1:], strict=False):
        shared = text[after.start : before.stop]
        assert 14 <= estimate_tokens(shared) <= 20
        assert after.text.startswith("word") and before.text.endswith(" ")


@pytest.mark.parametrize("mark", ["\n", "\n\n", ". ", "\n", "; ", " "])
def test_cuts_go_to_the_best_break(mark: str) -> None:
    lesser = {"\n": "; ", "\n\n": ". ", ". ": "\n", "; ": " ", " ": "x"}[mark]
    text = "A" * 60 + mark + "B" * 10 + lesser + "C" * 100
    assert split_text(text, 25)[0].text == "A" * 60 + mark


def test_a_chunk_ends_in_front_of_a_heading() -> None:
    for first in ("The first part of it.\n\nAnd some more of it stands here.\n", "word " * 12):
        text = first + "\n## The second part\n\nIts text goes on. " + "x" * 200
        assert split_text(text, 25)[0].text == text[: text.index("##")]


def test_chunks_begin_and_end_with_sentences() -> None:
    """Numbers, abbreviations and line breaks inside of a sentence end none; whole sentences overlap."""
    sentences = [f"Sentence {i} costs 3.5 euro, e.g. in\na shop. " for i in range(40)]
    text = "".join(sentences)
    chunks = split_text(text, 100, 25)
    assert len(chunks) > 5
    for chunk in chunks:
        assert chunk.text.startswith("Sentence") and chunk.text.endswith("shop. ")
    for before, after in zip(chunks, chunks[1:], strict=False):
        assert text[after.start : before.stop] in sentences, "one sentence fits into the overlap"


def test_a_chunk_does_not_begin_inside_of_a_sentence_that_is_longer_than_the_overlap() -> None:
    text = "Short one. " + "word " * 60 + "end. Another. " + "more " * 200
    chunks = split_text(text, 100, 10)
    assert chunks[0].text.endswith("Another. ") or chunks[0].text.endswith("end. ")
    assert chunks[1].text.startswith(("Another. ", "more"))


def test_sentences_without_spaces_between_them() -> None:
    text = "これは文です。" * 40
    assert all(
        chunk.text.startswith("これ") and chunk.text.endswith("。") for chunk in split_text(text, 50, 10)
    )


def test_estimates() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("four") == 1
    assert estimate_tokens("日本語") == 3
    assert estimate_tokens("привет") == 3


@pytest.mark.parametrize(("most", "overlap"), [(0, 0), (10, -1), (10, 3)])
def test_bad_sizes_are_refused(most: int, overlap: int) -> None:
    with pytest.raises(InvalidInput, match="a quarter"):
        split_text("text", most, overlap)
