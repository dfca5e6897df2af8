"""100,000 rows of 768 dims there and back in every format, in memory that does not grow with the rows.

The vectors alone are 307 MB as float32. What is measured is the anonymous memory of a process of its own
(mapped files are the page cache's), read at every block and batch, above what it had before it began.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS, DIM = 100_000, 768
LIMIT_BYTES = 192 * 1024 * 1024

PROGRAM = """
import hashlib, json, re, sys, time
from pathlib import Path
import numpy as np
import mrlstore
from mrlstore.exchange import export_rows, import_rows

source, target, array, copy, dtype = sys.argv[1:]
options = {"vectors": array} if array else {}
if not target.endswith("jsonl"):
    import pyarrow.parquet

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def run(step):
    peak, start, began = 0, anonymous(), time.perf_counter()
    def look(progress):
        nonlocal peak
        peak = max(peak, anonymous())
    done = step(look)
    return done, peak - start, time.perf_counter() - began

def digest(store):
    found = hashlib.sha256()
    for segment in store._core.snapshots.latest().segments:
        found.update(np.ascontiguousarray(segment.segment.base.arrays["vectors"]).tobytes())
    rest = hashlib.sha256()
    for record in store.scan(include=("metadata", "document")):
        rest.update(repr((record.id, record.metadata, record.document)).encode())
    return found.hexdigest(), rest.hexdigest()

with mrlstore.open(source, mode="r") as store:
    options["dtype"] = dtype
    out, out_bytes, out_s = run(lambda look: export_rows(store, target, progress=look, **options))
    del options["dtype"]
    before = digest(store)
with mrlstore.open(copy, auto_maintain=False) as store:
    came, in_bytes, in_s = run(lambda look: import_rows(store, target, progress=look, batch=5000, **options))
    after = digest(store)
size = sum(Path(path).stat().st_size for path in (target, array) if path)
print(json.dumps({"rows": [out.rows, came.written], "same": before == after, "file_bytes": size,
                  "export_bytes": out_bytes, "import_bytes": in_bytes, "export_s": out_s, "import_s": in_s}))
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows written in the order of their ids, in batches of 5,000, so that parts can be compared as bytes."""
    import numpy as np

    import mrlstore

    path = tmp_path_factory.mktemp("big") / "big.mrl"
    rng = np.random.default_rng(0)
    with mrlstore.open(path, dim=DIM, auto_maintain=False) as store:
        for start in range(0, ROWS, 5000):
            numbers = range(start, min(start + 5000, ROWS))
            store.upsert(
                [f"{n:06}" for n in numbers],
                (rng.standard_normal((len(numbers), DIM)) * 3).astype(np.float32),
                [{"n": n, "kind": f"k{n % 7}"} for n in numbers],
                [f"The document of row {n}. " * 5 for n in numbers],
            )
    return path


@pytest.mark.torture
@pytest.mark.parametrize(
    ("suffix", "dtype", "beside"),
    [
        ("jsonl", "float32", False),
        ("jsonl", "float16", True),
        ("parquet", "float32", False),
        ("parquet", "float16", False),
        ("arrow", "float32", False),
        ("arrow", "float16", False),
    ],
)
def test_a_round_trip_in_constant_memory(
    big: Path, tmp_path: Path, suffix: str, dtype: str, beside: bool
) -> None:
    if suffix != "jsonl":
        pytest.importorskip("pyarrow")
    array = str(tmp_path / "rows.npy") if beside else ""
    arguments = [str(big), str(tmp_path / f"rows.{suffix}"), array, str(tmp_path / "copy.mrl"), dtype]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(suffix, dtype, told)
    for file in tmp_path.glob("rows.*"):
        file.unlink()
    assert told["rows"] == [ROWS, ROWS]
    assert told["same"]
    assert 0 < told["export_bytes"] < LIMIT_BYTES
    assert 0 < told["import_bytes"] < LIMIT_BYTES
