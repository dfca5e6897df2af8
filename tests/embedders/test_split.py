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
        assert 19 <= estimate_tokens(shared) <= 21


@pytest.mark.parametrize("mark", ["\n\n", "\n", ". ", " "])
def test_cuts_go_to_the_best_break(mark: str) -> None:
    lesser = {"\n\n": "\n", "\n": ". ", ". ": " ", " ": "x"}[mark]
    text = "a" * 60 + mark + "b" * 10 + lesser + "c" * 100
    assert split_text(text, 25)[0].text == "a" * 60 + mark


def test_estimates() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("four") == 1
    assert estimate_tokens("日本語") == 3
    assert estimate_tokens("привет") == 3


@pytest.mark.parametrize(("most", "overlap"), [(0, 0), (10, -1), (10, 3)])
def test_bad_sizes_are_refused(most: int, overlap: int) -> None:
    with pytest.raises(InvalidInput, match="a quarter"):
        split_text("text", most, overlap)
