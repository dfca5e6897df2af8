"""100,000 rows moved in from a file, in memory that does not grow with the rows.

The vectors are 307 MB. What is measured is the anonymous memory of a process of its own (mapped files are the
page cache's), read at every commit, above what it had before it began.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROWS, DIM = 100_000, 768
LIMIT_BYTES = 160 * 1024 * 1024

PROGRAM = """
import json, re, sys
from pathlib import Path
import mrlstore
from mrlstore.exchange.migrate import migrate

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

peaks, start = [], anonymous()
done = migrate(sys.argv[2], sys.argv[1], progress=lambda step: peaks.append(anonymous() - start))
print(json.dumps({"ok": done.ok, "rows": done.rows, "peaks": peaks}))
"""


@pytest.mark.torture
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    array = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float32, (ROWS, DIM))
    rng = np.random.default_rng(1)
    for start in range(0, ROWS, 10_000):
        array[start : start + 10_000] = rng.standard_normal((10_000, DIM), dtype=np.float32)
    array.flush()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "rows.npy"), str(tmp_path / "moved.mrl")]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told["ok"] and told["rows"] == ROWS and len(told["peaks"]) >= 15
    print(f"\npeaks: {max(told['peaks']) / 2**20:.0f} MiB", [round(peak / 2**20) for peak in told["peaks"]])
    assert max(told["peaks"]) < LIMIT_BYTES
