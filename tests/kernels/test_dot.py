"""The inner loops against numpy, and the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore.kernels import bits, convert, dot, unit_rows
from tests.kernels.kinds import kernel

DIMS = [2, 3, 6, 15, 16, 17, 31, 63, 64, 65, 100, 255, 768, 769, 3072, 8191, 8192]


@kernel("float32(int64, int64, int64)")
def half(query, row, dim):
    return dot.dot_half(query, row, dim, row)


@kernel("UniTuple(float32, 2)(int64, int64, int64)")
def half_squares(query, row, dim):
    return dot.dot_half_squares(query, row, dim, row)


@kernel("int32(int64, int64, int64)")
def bytes_dot(codes, query, length):
    return dot.dot_codes(codes, query, length)


@kernel("UniTuple(int32, 4)(int64, int64, int64, int64, int64, int64)")
def four_dots(a, b, c, d, query, length):
    return dot.dot_codes_of_four(a, b, c, d, query, length)


@kernel("int64(int64, int64, int64)")
def greater(numbers, length, least):
    return bits.count_greater(numbers, length, least)


@kernel("float32(int64, int64)")
def squares(numbers, length):
    return dot.sum_of_squares(numbers, length)


@kernel("float32(int64, int64)")
def peak(numbers, length):
    return convert.largest(numbers, length)


@kernel("int32(int64, int64, float32, int64)")
def rounded(numbers, length, factor, codes):
    return convert.quantise(numbers, length, factor, codes)


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dim", DIMS)
def test_half_dot_equals_numpy(dim):
    rng = np.random.default_rng(dim)
    query, row = rng.normal(size=dim).astype(np.float32), rng.normal(size=dim).astype(np.float16)
    wide = row.astype(np.float64)
    found = half(address(query), address(row), dim)
    bound = 1e-6 * np.abs(query * wide).sum() + 1e-6
    assert abs(found - query.astype(np.float64) @ wide) <= bound
    again, squares = half_squares(address(query), address(row), dim)
    assert again == found
    assert squares == pytest.approx(wide @ wide, rel=1e-5)


def test_every_finite_float16_is_widened_exactly():
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = bits[np.isfinite(bits.view(np.float16))]
    one = np.ones(1, np.float32)
    for start in range(0, len(numbers), 997):
        row = numbers[start : start + 1].copy()
        assert half(address(one), address(row), 1) == np.float32(row.view(np.float16)[0])
    block = numbers[:62_464]  # sums of 16 equal lanes: 64 numbers, all but one zero
    for at in range(0, len(block), 4_099):
        row = np.zeros(64, np.uint16)
        row[at % 64] = block[at]
        ones = np.ones(64, np.float32)
        assert half(address(ones), address(row), 64) == np.float32(row.view(np.float16)[at % 64])


@pytest.mark.parametrize("dim", [6, 65, 768, 3072])
@pytest.mark.parametrize("offset", [0, 1, 2, 7, 30, 63])
def test_the_same_bits_at_any_offset(dim, offset):
    rng = np.random.default_rng(dim)
    query, row = rng.normal(size=dim).astype(np.float32), rng.normal(size=dim).astype(np.float16)
    buffer = np.zeros(2 * dim + 64, np.uint8)
    buffer[offset : offset + 2 * dim] = row.view(np.uint8)
    assert half(address(query), address(buffer) + offset, dim) == half(address(query), address(row), dim)


@pytest.mark.parametrize("length", [64, 128, 256, 832, 8256])
def test_code_dot_equals_numpy(length):
    rng = np.random.default_rng(length)
    for low, high in ((0, 256), (255, 256), (0, 1)):
        codes = rng.integers(low, high, length).astype(np.uint8)
        query = rng.integers(-127, 128, length).astype(np.int8)
        found = bytes_dot(address(codes), address(query), length)
        assert found == codes.astype(np.int64) @ query.astype(np.int64)


@pytest.mark.parametrize("length", [64, 384, 8256])
def test_four_code_dots_are_those_of_each(length):
    rng = np.random.default_rng(length)
    codes = rng.integers(0, 256, (4, length)).astype(np.uint8)
    query = rng.integers(-127, 128, length).astype(np.int8)
    rows = [address(codes) + i * length for i in (2, 0, 3, 3)]
    found = four_dots(*rows, address(query), length)
    assert list(found) == [bytes_dot(row, address(query), length) for row in rows]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 17, 33, 400])
def test_counting_what_is_greater_equals_numpy(length):
    numbers = np.full(-(-length // 16) * 16 + 16, -(2**63))
    numbers[:length] = np.random.default_rng(length).integers(-(2**62), 2**62, length)
    for least in (*numbers[:length:5].tolist(), -(2**63), 2**63 - 1, 0):
        assert greater(address(numbers), length, least) == (numbers[:length] > least).sum()


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 768, 3072])
def test_sums_of_squares_equal_numpy(length):
    numbers = np.random.default_rng(length).normal(size=length).astype(np.float32)
    assert squares(address(numbers), length) == pytest.approx(
        np.sum(numbers.astype(np.float64) ** 2), rel=1e-6
    )


@pytest.mark.filterwarnings("ignore:overflow")
def test_rounding_to_float16_gives_the_bits_of_numpy():
    bits = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32)
    halfway = (np.arange(2**16, dtype=np.uint32) << 13) + 0x1000 + 0x38000000
    numbers = np.concatenate([bits, halfway, halfway - 1, halfway + 1]).view(np.float32)
    numbers = np.ascontiguousarray(numbers[~np.isnan(numbers)])
    found = np.empty((1, len(numbers)), np.uint16)
    unit_rows.unit_halves(address(numbers), np.ones(1, np.float32), found)
    np.testing.assert_array_equal(found[0], numbers.astype(np.float16).view(np.uint16))


@pytest.mark.parametrize("dim", [1, 15, 16, 17, 3072])
def test_unit_rows_have_the_bits_of_numpy(dim):
    numbers = np.random.default_rng(dim).normal(size=(7, dim)).astype(np.float32)
    lengths = np.linalg.norm(numbers, axis=1)
    found = np.full((8, dim), 7, np.uint16)
    unit_rows.unit_halves(address(numbers), lengths, found)
    expected = (numbers / lengths[:, None]).astype(np.float16)
    np.testing.assert_array_equal(found[:7], expected.view(np.uint16))
    assert (found[7] == 7).all(), "there are only seven lengths"


@pytest.mark.parametrize("length", [16, 64, 768])
def test_largest_and_quantise_equal_numpy(length):
    numbers = np.random.default_rng(length).normal(size=length).astype(np.float32)
    assert peak(address(numbers), length) == np.abs(numbers).max()
    codes = np.zeros(length, np.int8)
    factor = np.float32(127) / np.abs(numbers).max()
    total = rounded(address(numbers), length, factor, address(codes))
    np.testing.assert_array_equal(codes, np.rint(numbers * factor).astype(np.int8))
    assert total == codes.astype(np.int64).sum()
