"""Texts side by side: what is read row by row and what a kernel gathers are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlstore import CorruptStore
from mrlstore.texts import Texts, pack, unpack

SOURCE = Path("ids.bytes.npy")


@given(st.lists(st.text(max_size=60), max_size=30), st.randoms(use_true_random=False))
def test_both_ways_give_what_was_packed(words: list[str], random: object) -> None:
    text, offsets = pack(words)
    texts = Texts(offsets, text, SOURCE)
    rows = list(range(len(words))) * 2
    random.shuffle(rows)  # type: ignore[attr-defined]
    expected = [words[row] for row in rows]
    assert texts.at(rows) == expected
    assert texts.gather(np.array(rows, np.int64)) == expected
    assert unpack(offsets, text) == [word.encode() for word in words]


def test_long_texts_have_room() -> None:
    words = ["x" * 512, "", "ü" * 256, "y" * 100]
    text, offsets = pack(words)
    assert Texts(offsets, text, SOURCE).gather(np.array([3, 2, 1, 0])) == words[::-1]


@pytest.mark.parametrize("damage", [-1, -(2**63), 2**62, 10**6, 3])
def test_damaged_offsets_lead_nowhere_else(damage: int) -> None:
    text, offsets = pack(["one", "two", "three", "four"])
    offsets[2] = damage
    texts, rows = Texts(offsets, text, SOURCE), [0, 1, 2, 3]
    for found in (texts.at(rows), texts.gather(np.array(rows))):
        assert (found[0], found[3]) == ("one", "four")
        assert all(len(one) <= len(text) for one in found)


def test_rows_that_are_none_have_no_text() -> None:
    text, offsets = pack(["one", "two"])
    assert Texts(offsets, text, SOURCE).gather(np.array([-1, 1, 2, 2**40])) == ["", "two", "", ""]


def test_what_is_not_utf8_is_told_with_its_file() -> None:
    text, offsets = pack(["one", "two"])
    broken = text.copy()
    broken[1] = 0xFF
    for read in (Texts(offsets, broken, SOURCE).at, Texts(offsets, broken, SOURCE).gather):
        with pytest.raises(CorruptStore, match=r"ids\.bytes\.npy"):
            read(np.array([0]))
