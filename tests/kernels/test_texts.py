"""Texts that a kernel joins, against Python; damaged offsets, checksums and marks are refused."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrlstore.kernels.load import kernels
from tests import inside

WORDS = [b"", b"a", b"{}", b'{"a": 1}', "§ ☃ \0,".encode(), b"x" * 63, b"y" * 64, b"z" * 4_096]


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


class Arrays:
    """The arrays of some texts."""

    def __init__(self, texts: list[bytes]) -> None:
        self.offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        self.text = np.frombuffer(b"".join(texts) + b" ", np.uint8)[:-1].copy()
        self.crcs = np.array([zlib.crc32(text, row) for row, text in enumerate(texts)], np.uint32)

    def join(
        self, rows: list[int], *, start: int = 0, as_json: bool = False, room: int = 65_536
    ) -> tuple[bytes, list[int]] | None:
        """What the kernel writes, and where each text ends."""
        places = [address(array) for array in (self.offsets, self.text, self.crcs)]
        table = np.array([*places, len(self.crcs), len(self.text)], np.int64)
        joined, ends = np.zeros(room, np.uint8), np.zeros(len(rows) + 1, np.int64)
        chosen, numbers = np.array([len(rows), start]), np.array(rows, np.int64)
        kernels().join_texts(table, inside.crc_steps(), as_json, chosen, numbers, joined, ends)
        *found, stop = ends.tolist()
        return None if stop < 0 else (joined[:stop].tobytes(), found)


@pytest.mark.parametrize("as_json", [False, True])
def test_texts_are_joined_by_commas(as_json: bool) -> None:
    arrays = Arrays(WORDS)
    for rows in ([3], [0], [7, 0, 4, 4, 1], [*range(8)], []):
        expected = [WORDS[row] or (b"null" if as_json else b"") for row in rows]
        ends = [len(b",".join(expected[: i + 1])) for i in range(len(rows))]
        assert arrays.join(rows, as_json=as_json) == (b",".join(expected), ends)
    assert arrays.join([0, 1], start=2) == (WORDS[2] + b"," + WORDS[3], [2, 11])


def test_the_checksum_is_that_of_zlib() -> None:
    random = np.random.default_rng(1)
    texts = [random.integers(0, 0x7F, length, np.uint8).tobytes() for length in range(200)]
    arrays = Arrays(texts)
    for row, text in enumerate(texts):
        assert arrays.join([row]) == (text, [len(text)])
        arrays.crcs[row] ^= 1 << random.integers(32)
        assert arrays.join([row]) is None


@pytest.mark.parametrize("row", [-1, 8, 2**62, -(2**63)])
def test_rows_that_are_not_there(row: int) -> None:
    assert Arrays(WORDS).join([2, row]) is None


@pytest.mark.parametrize("offset", [-1, -(2**63), 2**62, 5_000, 2**63 - 1, 0])
def test_damaged_offsets(offset: int) -> None:
    arrays = Arrays(WORDS)
    arrays.offsets[4] = offset
    assert arrays.join([3]) is None and arrays.join([4]) is None
    assert arrays.join([7, 5]) == (WORDS[7] + b"," + WORDS[5], [4_096, 4_160])


def test_texts_that_are_marked_or_too_long_for_the_room() -> None:
    arrays = Arrays([b"\xff", b"\xff\xff", b"ab"])
    assert arrays.join([0]) is None and arrays.join([1]) is None
    assert arrays.join([2], room=7) == (b"ab", [2])
    assert arrays.join([2], room=6) is None
    assert arrays.join([2, 2], room=9) is None


def test_the_number_of_rows_is_bounded_by_their_array() -> None:
    arrays, ends = Arrays(WORDS), np.zeros(3, np.int64)
    places = address(arrays.offsets), address(arrays.text), address(arrays.crcs)
    table = np.array([*places, 8, len(arrays.text)], np.int64)
    rows, joined = np.array([1, 2]), np.zeros(100, np.uint8)
    kernels().join_texts(table, inside.crc_steps(), False, np.array([99, 0]), rows, joined, ends)
    assert ends.tolist() == [1, 4, 4]
