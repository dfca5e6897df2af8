"""The fuzz targets, driven by hypothesis, with a bound on what they may allocate."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.filters import filters
from tests.fuzz import coverage, targets
from tests.scale import figure

ALLOWED_BYTES = 8 << 20  # about a hundred times the size of the valid part


@contextmanager
def bounded_memory() -> Iterator[None]:
    targets.nodes(), targets.sound(True), targets.sound(False)
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < ALLOWED_BYTES
    finally:
        tracemalloc.stop()


# Offsets in the header, in the directory and anywhere: the first two are likely to matter most.
places = st.integers(0, 64) | st.integers(64, 64 + 192 * 10) | st.integers(0, 65_535)
extremes = st.sampled_from([0, 1, 2, 3, 127, 128, 254, 255]) | st.integers(0, 255)
edits = st.lists(st.tuples(places, extremes), min_size=1, max_size=12)


@settings(max_examples=figure(20_000, 400))
@given(st.integers(0, 15), edits)
def test_damaged_columns(flags: int, damage: list[tuple[int, int]]) -> None:
    data = bytes([flags]) + b"".join(place.to_bytes(2, "little") + bytes([byte]) for place, byte in damage)
    with bounded_memory():
        targets.damaged_columns(data)


@settings(max_examples=figure(20_000, 300))
@given(st.binary(max_size=4_096))
@example(b"")
@example(b"\xff" * 300)
@example(bytes(300))
def test_raw_columns(data: bytes) -> None:
    with bounded_memory():
        targets.raw_columns(data)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=figure(5_000, 100))
@given(
    st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4).map(json.dumps), max_size=6)
    | st.text()
)
@example(["[" * 100_000])
@example(['{"a":' * 100_000])
@example(['{"a": 1' + "0" * 5_000 + "}"])
@example(["NaN"])
def test_built_columns(lines: list[str] | str) -> None:
    text = lines if isinstance(lines, str) else "\n".join(lines)
    targets.built_columns(text.encode(errors="surrogatepass"))


@settings(max_examples=figure(20_000, 300))
@given(
    json_values
    | filters()
    | st.dictionaries(st.sampled_from(["a", "$and", "$not", "$in", "$gt"]), json_values)
)
@example({"a": {"$in": [[]]}})
def test_parsed_filter(where: Any) -> None:
    targets.parsed_filter(json.dumps(where).encode())


def test_the_parsers_that_are_fuzzed_exist() -> None:
    """A wrong name would be ignored by atheris, and its module fuzzed without coverage."""
    for name in coverage.PARSERS:
        assert find_spec(name) is not None, name


def test_a_sound_part_passes_through_the_targets() -> None:
    """Otherwise the targets above would test nothing but the checksum."""
    for flags in range(4):
        blob = targets.sound(bool(flags & 1))
        assert targets.sealed(blob) == blob
        first = blob[:1]  # a byte of the magic, written over with itself
        targets.damaged_columns(bytes([flags, 0, 0]) + first)
        targets.raw_columns(blob)
