"""Entries of the log hold exactly what is stored, and say what is wrong with damaged bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrlstore
from mrlstore.catalogue.marks import ClientOperation
from mrlstore.shared_log import LogEntry, decoded, encoded
from mrlstore.writing.batch import make_batch, make_changes
from mrlstore.writing.resolved_writes import ChangeRows, RemoveRows, StoreRows
from tests.oracle import nested_vectors

DIM = 4
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
metadata = st.none() | st.dictionaries(texts, scalars | st.lists(scalars, max_size=2), max_size=3)
rows = st.lists(
    st.tuples(texts, metadata, st.none() | texts, st.booleans()), max_size=5, unique_by=lambda row: row[0]
)


def stored(given_rows: Any, namespace: str) -> StoreRows:
    count = len(given_rows)
    vectors = nested_vectors(max(1, count), DIM)
    return StoreRows(
        make_batch(
            [row[0] for row in given_rows],
            [vectors[n] if row[3] else None for n, row in enumerate(given_rows)],
            [row[1] for row in given_rows],
            [row[2] for row in given_rows],
            namespace,
            DIM,
        )
    )


def changed(given_rows: Any, namespace: str) -> ChangeRows:
    vectors = nested_vectors(max(1, len(given_rows)), DIM, seed=1)
    return ChangeRows(
        namespace,
        make_changes(
            [row[0] for row in given_rows],
            [row[1] for row in given_rows],
            [row[2] for row in given_rows],
            [vectors[n] if row[3] else None for n, row in enumerate(given_rows)],
            DIM,
        ),
    )


def plain(write: Any) -> Any:
    """A write as values that compare."""
    if not isinstance(write, StoreRows):
        return write
    batch = write.batch
    arrays = (batch.without_vector, batch.vectors, batch.norms)
    return (
        batch.namespace, batch.ids, batch.metadata, batch.documents,
        [(array.dtype, array.tobytes()) for array in arrays],
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(first=rows, second=rows, namespace=st.just("") | texts, place=st.integers(1, 2**53))
def test_what_is_read_back_is_what_was_written(first: Any, second: Any, namespace: str, place: int) -> None:
    ids = tuple(row[0] for row in first)
    writes = (
        stored(first, namespace),
        changed(second, namespace),
        RemoveRows(namespace, ids),
        RemoveRows("", None),
    )
    operations = (ClientOperation("c", place, "7"), ClientOperation("é", 1, "x"))
    entry = LogEntry(place, 3, "w" * 32, writes, operations)
    back = decoded(encoded(entry), "here")
    assert [plain(write) for write in back.writes] == [plain(write) for write in writes]
    assert (back.place, back.epoch, back.writer, back.operations) == (place, 3, "w" * 32, operations)
    assert encoded(back) == encoded(entry)


def test_no_changed_or_cut_byte_passes() -> None:
    data = encoded(LogEntry(1, 1, "w", (stored([("a", {"n": 1}, "text", True)], ""),)))
    for at in range(len(data)):
        for wrong in (data[:at], data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]):
            with pytest.raises(mrlstore.CorruptStore, match="^here: "):
                decoded(wrong, "here")
    with pytest.raises(mrlstore.CorruptStore):
        decoded(data + b"x", "here")


def test_vectors_are_stored_as_they_were_checked() -> None:
    vectors = np.array([[3.0, 4.0, 0.0, 0.0]])
    write = StoreRows(make_batch(["a"], vectors, None, None, "", DIM))
    (back,) = decoded(encoded(LogEntry(1, 1, "w", (write,))), "here").writes
    assert isinstance(back, StoreRows)
    np.testing.assert_array_equal(back.batch.vectors, np.array([[0.6, 0.8, 0, 0]], np.float16))
    assert back.batch.norms.tolist() == [5.0]
