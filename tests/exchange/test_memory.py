"""100,000 rows there and back in every format, in memory that does not grow with the rows.

The vectors alone are 307 MB as float32 at 768 dims, 1.2 GB at 3,072. What is measured is the anonymous memory
of a process of its own (mapped files are the page cache's), read at every block and batch, above what it had
before it began. A frame is in memory as a whole, so getting one may take a multiple of its vectors.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS = 100_000
LIMIT_BYTES = 192 * 1024 * 1024

MEASURE = """
import hashlib, json, re, sys, time
from pathlib import Path
import numpy as np
import mrlstore
from mrlstore.exchange import export_rows, import_rows, to_arrow, to_pandas, to_polars

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def run(step):
    peak, start, began = 0, anonymous(), time.perf_counter()
    def look(progress):
        nonlocal peak
        peak = max(peak, anonymous())
    done = step(look)
    look(None)
    return done, peak - start, time.perf_counter() - began

def digest(store):
    found = hashlib.sha256()
    for segment in inside.session(store).snapshots.latest().segments:
        found.update(np.ascontiguousarray(segment.segment.base.arrays["vectors"]).tobytes())
    rest = hashlib.sha256()
    for record in store.scan(include=("metadata", "document")):
        rest.update(repr((record.id, record.metadata, record.document)).encode())
    return found.hexdigest(), rest.hexdigest()

def tell(out_rows, in_rows, same, size, out_bytes, in_bytes, out_s, in_s):
    print(json.dumps({"rows": [out_rows, in_rows], "same": same, "file_bytes": size,
                      "export_bytes": out_bytes, "import_bytes": in_bytes,
                      "export_s": out_s, "import_s": in_s}))
"""
FILES = (
    MEASURE
    + """
source, target, array, copy, dtype = sys.argv[1:]
options = {"vectors": array} if array else {}
if not target.endswith("jsonl"):
    import pyarrow.parquet
with mrlstore.open(source, mode="r") as store:
    done = run(lambda look: export_rows(store, target, progress=look, dtype=dtype, **options))
    out, out_bytes, out_s = done
    before = digest(store)
with mrlstore.open(copy, auto_maintain=False) as store:
    came, in_bytes, in_s = run(lambda look: import_rows(store, target, progress=look, batch=5000, **options))
    after = digest(store)
size = sum(Path(path).stat().st_size for path in (target, array) if path)
tell(out.rows, came.written, before == after, size, out_bytes, in_bytes, out_s, in_s)
"""
)
FRAMES = (
    MEASURE
    + """
source, copy, kind = sys.argv[1:]
give = {"pyarrow": to_arrow, "pandas": to_pandas, "polars": to_polars}[kind]
with mrlstore.open(source, mode="r") as store:
    give(store, limit=10)  # loads the package
    frame, out_bytes, out_s = run(lambda look: give(store))
    before = digest(store)
with mrlstore.open(copy, auto_maintain=False) as store:
    came, in_bytes, in_s = run(lambda look: import_rows(store, frame, progress=look, batch=5000))
    after = digest(store)
tell(len(frame), came.written, before == after, 0, out_bytes, in_bytes, out_s, in_s)
"""
)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A store of so many dims; rows are written in the order of their ids, so that parts can be compared."""
    import numpy as np

    import mrlstore

    made: dict[int, Path] = {}

    def make(dim: int) -> Path:
        if dim not in made:
            made[dim] = tmp_path_factory.mktemp("big") / f"{dim}.mrl"
            rng = np.random.default_rng(0)
            with mrlstore.open(made[dim], dim=dim, auto_maintain=False) as store:
                for start in range(0, ROWS, 5000):
                    numbers = range(start, start + 5000)
                    store.upsert(
                        [f"{n:06}" for n in numbers],
                        rng.standard_normal((5000, dim), dtype=np.float32) * 3,
                        [{"n": n, "kind": f"k{n % 7}"} for n in numbers],
                        [f"The document of row {n}. " * 5 for n in numbers],
                    )
        return made[dim]

    return make


def measured(program: str, *arguments: object) -> dict[str, Any]:
    """What a program tells that is run in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["rows"] == [ROWS, ROWS]
    assert told["same"]
    return told


@pytest.mark.torture
@pytest.mark.parametrize(
    ("suffix", "dtype", "beside", "dim"),
    [
        ("jsonl", "float32", False, 768),
        ("jsonl", "float16", True, 768),
        ("jsonl", "float16", True, 3072),
        ("parquet", "float32", False, 768),
        ("parquet", "float16", False, 768),
        ("parquet", "float16", False, 3072),
        ("arrow", "float32", False, 768),
        ("arrow", "float16", False, 768),
        ("arrow", "float16", False, 3072),
    ],
)
def test_a_round_trip_through_a_file_in_constant_memory(
    big: Callable[[int], Path], tmp_path: Path, suffix: str, dtype: str, beside: bool, dim: int
) -> None:
    if suffix != "jsonl":
        pytest.importorskip("pyarrow")
    array = tmp_path / "rows.npy" if beside else ""
    told = measured(FILES, big(dim), tmp_path / f"rows.{suffix}", array, tmp_path / "copy.mrl", dtype)
    print(suffix, "npy" if beside else "", dtype, dim, told)
    for file in tmp_path.glob("rows.*"):
        file.unlink()
    assert 0 < told["export_bytes"] < LIMIT_BYTES
    assert 0 < told["import_bytes"] < LIMIT_BYTES


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "polars"])
def test_a_round_trip_through_a_frame(big: Callable[[int], Path], tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip(kind)
    told = measured(FRAMES, big(768), tmp_path / "copy.mrl", kind)
    print(kind, 768, told)
    assert told["export_bytes"] < 3 * ROWS * 768 * 4
    assert told["import_bytes"] < LIMIT_BYTES
