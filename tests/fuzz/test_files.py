"""The file targets, driven by hypothesis: edited descriptions of parts, and files to import."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.children import Child, Pipe, children
from tests.fuzz import files
from tests.fuzz.test_fuzz import json_values
from tests.scale import figure

numbers = st.sampled_from([0, 1, -1, 2, 7, 63, 64, 65, 128, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30])
strange = st.one_of(
    numbers,
    st.integers(0, 5000),
    st.none(),
    st.booleans(),
    st.sampled_from(
        [1.5, float(2**40), "", "<f8", "<f2", "|u1", "<i8", "|O", "../x", "a" * 300, [], {}, [[]]]
    ),
    st.lists(numbers, max_size=3),
    st.just(...),  # the value is removed
)
FIELDS = ("dtype", "shape", "offset", "bytes", "crc32")


@st.composite
def places(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """A kind of part, and the path of keys to a value of its description."""
    kind = draw(st.sampled_from(files.KINDS))
    head = json.loads(files.description(kind))
    step = draw(st.sampled_from(["head", "file", "whole file", "info"]))
    if step == "head":
        return kind, [draw(st.sampled_from(sorted(head)))]
    if step == "info" and head["info"]:
        return kind, ["info", draw(st.sampled_from(sorted(head["info"])))]
    name = draw(st.sampled_from(sorted(head["files"])))
    return kind, ["files", name] if step == "whole file" else ["files", name, draw(st.sampled_from(FIELDS))]


@settings(max_examples=figure(10_000, 300))
@given(places(), strange)
def test_an_edited_description_of_a_part(place: tuple[str, list[Any]], value: Any) -> None:
    files.edited_part_json(*place, value)


@settings(max_examples=figure(5_000, 100))
@given(st.integers(0, 2), json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
@example(0, b"[" * 100_000)
@example(0, b'{"a":' * 50_000)
@example(1, b"1" * 5_000)
def test_a_description_that_is_none(kind: int, text: bytes) -> None:
    files.part_json(bytes([kind]) + text)


lines = st.dictionaries(
    st.sampled_from(["id", "vector", "metadata", "document", "namespace", "norm", "x"]),
    json_values | st.lists(st.floats(width=32), min_size=files.DIM, max_size=files.DIM) | st.text(max_size=9),
    max_size=6,
).map(lambda row: json.dumps(row).encode())


@settings(max_examples=figure(5_000, 150))
@given(st.lists(lines | st.binary(max_size=40), max_size=5).map(b"\n".join))
@example(b'{"id": "\\ud800", "vector": [1]}')
@example(b'{"id": "a\\u0000b", "metadata": {"\\ud800": 1}, "document": "\\udfff"}')
@example(b'{"id": "a", "namespace": "\\ud800"}')
@example(b'{"id": "a", "vector": ' + b"[" * 50_000)
@example(b'{"id": "a", "norm": 1e999, "vector": [1, 2, 3, 4, 5, 6, 7, 8]}')
@example(b'{"id": "a", "vector": [1e999, 2, 3, 4, 5, 6, 7, 8]}')
@example(b'{"id": "a", "vector": [' + b"9" * 5_000 + b"]}")
@example(b'{"id": "a", "vector": [1e39, 2, 3, 4, 5, 6, 7, 8]}')
def test_lines_to_import(data: bytes) -> None:
    files.imported_jsonl(data)
    files.imported_rows(data)


def npy(array: Any) -> bytes:
    """The bytes of a .npy file."""
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


heads = st.builds(
    lambda descr, order, shape, more: (
        f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}{more}}}"
    ),
    st.sampled_from(
        ["<f4", "<f2", ">f8", "|O", "<i8", "|S5", "<U3", "<M8[ns]", "<c8", [("a", "<f4")], 7, ""]
    ),
    st.sampled_from([False, True, None, 3]),
    st.lists(numbers | st.integers(0, 9), max_size=3).map(tuple) | st.sampled_from([None, (), 5, "ab"]),
    st.sampled_from(["", ", ", ", 'more': 1", ", (", "\0"]),
)


@settings(max_examples=figure(5_000, 150))
@given(
    heads.map(lambda head: b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(64))
    | st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda rest: b"\x93NUMPY" + rest)
)
@example(npy(np.ones((3, 2), dtype=np.float32)))
@example(npy(np.ones((3, 2), dtype=np.float32))[:-5])
@example(b"PK\x03\x04" + bytes(100))
@example(b"\x80\x04K\x01.")  # a pickle
def test_files_of_vectors(data: bytes) -> None:
    files.opened_npy(data)


def _open_damaged_parquet(pipe: Pipe, seed: int, count: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    held = io.BytesIO()
    table = pa.table(
        {
            "id": [f"r{i}" for i in range(50)],
            "vector": [[float(i)] * 4 for i in range(50)],
            "metadata": ['{"a": 1}'] * 50,
        }
    )
    parquet.write_table(table, held)
    whole, rng = held.getvalue(), np.random.default_rng(seed)
    files.opened_parquet(whole)
    for _ in range(count):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        pipe.send(bytes(data))
        files.opened_parquet(bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.2 else data))
    pipe.send(None)


def test_damaged_parquet() -> None:
    """In a child process: pyarrow parses, and a crash of it must not end the test run."""
    pytest.importorskip("pyarrow")
    with children(Child(_open_damaged_parquet, 1, figure(5_000, 150))) as (child,):
        while child.receive() is not None:
            pass
        child.finish()
