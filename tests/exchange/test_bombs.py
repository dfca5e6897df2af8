"""Small files that unfold: a bounded amount of memory, and a typed error or refused rows."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput
from mrlstore.exchange import import_rows
from mrlstore.exchange.npy import open_array, open_vectors

pa = pytest.importorskip("pyarrow")

# Imports a file in a process of its own and prints what became of it, and the memory it took at its peak.
PROGRAM = """
import resource, sys
import mrlstore
from mrlstore.exchange import import_rows
import pyarrow.parquet
store = mrlstore.open(sys.argv[1], auto_maintain=False)
store.upsert(["first"], [[1.0, 2.0]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    done = import_rows(store, sys.argv[2])
    print(f"{done.written} written, {done.refused} refused", end=" ")
except mrlstore.InvalidInput as error:
    print(f"InvalidInput {error}"[:200].replace(chr(10), " "), end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def imported(folder: Path, file: Path) -> tuple[str, int]:
    """(what became of the rows, MiB of memory at the peak)."""
    command = [sys.executable, "-c", PROGRAM, str(folder / "store.mrl"), str(file)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr[-2000:]
    said, _, memory = finished.stdout.strip().rpartition(" ")
    return said, int(memory)


def test_one_text_for_every_row_of_a_parquet_file(tmp_path: Path) -> None:
    from pyarrow import parquet

    count, text = 3_000, "x" * 1_000_000  # 3 GB, if each row had its own
    metadata = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
    table = pa.table({"id": pa.array([f"{n}" for n in range(count)]), "metadata": metadata})
    file = tmp_path / "bomb.parquet"
    parquet.write_table(table, file, compression="zstd", store_schema=False)
    assert file.stat().st_size < 40_000
    said, memory = imported(tmp_path, file)
    assert said == f"0 written, {count} refused"
    assert memory < 1_200


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY"])
def test_texts_that_begin_alike_in_a_parquet_file(tmp_path: Path, encoding: str) -> None:
    from pyarrow import parquet

    count = 40
    texts = ["y" * 5_000_000 + str(n) for n in range(count)]
    table = pa.table({"id": [str(n) for n in range(count)], "metadata": texts})
    file = tmp_path / "alike.parquet"
    parquet.write_table(
        table, file, compression="zstd", use_dictionary=False, column_encoding={"metadata": encoding}
    )
    assert file.stat().st_size < 40_000
    from mrlstore.exchange.parquet_pages import group_sizes

    with file.open("rb") as opened:
        assert group_sizes(opened)[0].shared_text >= 5_000_000
    said, memory = imported(tmp_path, file)
    assert said == f"0 written, {count} refused"
    assert memory < 1_200


def test_one_text_for_every_row_of_an_arrow_file(tmp_path: Path) -> None:
    count, text = 3_000, "x" * 1_000_000
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), pa.array([text]))
    for name, column in (("shared", shared), ("runs", runs)):
        table = pa.table({"id": [f"{n}" for n in range(count)], "metadata": column})
        file = tmp_path / f"{name}.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        said, memory = imported(tmp_path, file)
        assert said == f"0 written, {count} refused"
        assert memory < 1_000, name


def test_a_line_of_a_gigabyte(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    with file.open("wb") as out:
        out.write(b'{"id": "a"}\n')
        out.truncate(2**30)  # sparse: zeros that take no space
        out.seek(2**30)
        out.write(b'\n{"id": "b"}\n')
    said, memory = imported(tmp_path, file)
    assert said == "2 written, 1 refused"
    assert memory < 600


def test_a_line_that_takes_many_times_its_length(tmp_path: Path) -> None:
    file = tmp_path / "deep.jsonl"
    lists, texts = b"[]," * 20_000_000, b'"a",' * 15_000_000
    with file.open("wb") as out:
        for inside in (lists, texts):
            out.write(b'{"id": "a", "metadata": {"x": [' + inside + b"0]}}\n")
        long = json.dumps({"id": "b", "document": 'words, [commas], {braces} \\"and\\" "quotes" ' * 200_000})
        out.write(long.encode() + b"\n")
    said, memory = imported(tmp_path, file)
    assert said == "1 written, 2 refused"
    assert memory < 600


def header(text: str, version: int = 1, length: int | None = None) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


DICT = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
HEADERS = {
    "more rows than bytes": header(DICT % ("<f4", "(1000000000000, 8)")),
    "more rows than numbers": header(DICT % ("<f4", f"({'9' * 4000}, 8)")),
    "fewer than none": header(DICT % ("<f4", "(-1, 8)")),
    "a header of 4 GB": header("{", 2, 2**32 - 1),
    "too many dimensions": header(DICT % ("<i1", "(1, 60000)")) + b"1" * 60000,
    "nested": header("(" * 5000),
    "objects": header(DICT % ("|O", "(1, 1)")) + b"x" * 8,
    "long texts": header(DICT % ("<U1000000000", "(0, 1)")),
    "records": header(DICT % ("V100000000", "(0, 1)")),
    "no header": b"\x93NUMPY",
    "nothing": b"",
    "text": b"not an array at all, but text",
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_arrays(store: mrlstore.Store, tmp_path: Path, name: str) -> None:
    file = tmp_path / "rows.npy"
    file.write_bytes(HEADERS[name])
    with file.open("r+b") as out:
        out.truncate(max(len(HEADERS[name]), 2**33 if "4 GB" in name else 0))
    for opening in (open_vectors, open_array):
        if name == "too many dimensions" and opening is open_array:
            continue
        with pytest.raises(InvalidInput):
            opening(file)
    with pytest.raises(InvalidInput):
        import_rows(store, io.BytesIO(b'{"id": "a"}\n'), vectors=file)


def test_an_honest_array_is_mapped(tmp_path: Path) -> None:
    rows: Any = np.arange(12, dtype=">i2").reshape(4, 3)
    for order in ("C", "F"):
        np.save(tmp_path / "rows.npy", np.asarray(rows, order=order))
        assert open_vectors(tmp_path / "rows.npy").tolist() == rows.tolist()
