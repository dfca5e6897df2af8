"""Texts side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlstore import CorruptStore
from mrlstore.storage.texts import Texts, pack, unpack

SOURCE = Path("ids.bytes.npy")


@given(st.lists(st.text(max_size=60), max_size=30), st.randoms(use_true_random=False))
def test_what_was_packed_is_read(words: list[str], random: object) -> None:
    text, offsets = pack(words)
    rows = list(range(len(words))) * 2
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert Texts(offsets, text, SOURCE).at(rows) == [words[row] for row in rows]
    assert unpack(offsets, text) == [word.encode() for word in words]


@pytest.mark.parametrize("damage", [-1, -(2**63), 2**62, 10**6, 3])
def test_damaged_offsets_lead_nowhere_else(damage: int) -> None:
    text, offsets = pack(["one", "two", "three", "four"])
    offsets[2] = damage
    found = Texts(offsets, text, SOURCE).at([0, 1, 2, 3])
    assert (found[0], found[3]) == ("one", "four")
    assert all(len(one) <= len(text) for one in found)


def test_what_is_not_utf8_is_told_with_its_file() -> None:
    text, offsets = pack(["one", "two"])
    broken = text.copy()
    broken[1] = 0xFF
    with pytest.raises(CorruptStore, match=r"ids\.bytes\.npy"):
        Texts(offsets, broken, SOURCE).at([0])
