"""Coverage-guided fuzzing of the parsers: `python -m tests.fuzz.coverage [seconds] [target ...]`.

Each target runs in its own process under atheris (libFuzzer) for the given number of seconds, and starts
from a small corpus of valid inputs. A target that finds a fault ends with an error and leaves the input as
`crash-*` in the folder that is printed. Add that input as an `@example` to the hypothesis test of the target.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SECONDS = 60
PARSERS = [  # packages and modules that atheris instruments
    "mrlstore.columns",
    "mrlstore.where",
    "mrlstore.storage.parts",
    "mrlstore.storage.segment",
    "mrlstore.exchange",
]
LIMITS = ("-timeout=30", "-rss_limit_mb=3072", "-print_final_stats=1", "-verbosity=0")


def seeds(name: str) -> list[bytes]:
    """Valid inputs of one target: without them, a fuzzer spends its time on guessing the first bytes."""
    from tests.fuzz import files, targets

    line = {"id": "a", "vector": [1.0] * files.DIM, "metadata": {"a": [1, "x"]}, "document": "text"}
    inputs: dict[str, list[bytes]] = {
        "part_json": [bytes([i]) + files.description(kind) for i, kind in enumerate(files.KINDS)],
        "imported_jsonl": [json.dumps(line).encode() + b"\n"],
        "imported_rows": [json.dumps(line).encode() + b"\n"],
        "opened_npy": [_npy()],
        "opened_hnsw_index": [(Path(__file__).parents[1] / "graphs" / "index.bin").read_bytes()],
        "raw_columns": [targets.sound(False)[:4096]],
        "damaged_columns": [bytes([flags, 0, 0, 77]) for flags in range(16)],
        "built_columns": [b'{"a": 1}\n{"a": "x", "b": [1, null]}'],
        "parsed_filter": [json.dumps(where).encode() for where in targets.FILTERS],
    }
    return inputs[name]


def _npy() -> bytes:
    import io

    import numpy as np

    file = io.BytesIO()
    np.save(file, np.ones((3, 2), dtype=np.float32))
    return file.getvalue()


def all_targets() -> dict[str, Callable[[bytes], None]]:
    """All targets by name."""
    from tests.fuzz import files, targets

    functions = [targets.raw_columns, targets.damaged_columns, targets.built_columns, targets.parsed_filter]
    functions += [files.part_json, files.imported_jsonl, files.imported_rows, files.opened_npy]
    functions += [files.opened_hnsw_index]
    return {target.__name__: target for target in functions}


def fuzz(name: str, seconds: int, folder: str) -> None:
    """Run one target in this process; libFuzzer ends the process when the time is over."""
    import atheris

    with atheris.instrument_imports(include=PARSERS):
        import mrlstore.exchange  # noqa: F401
        from tests.fuzz import files  # noqa: F401

    import logging

    logging.getLogger("mrlstore").setLevel(logging.CRITICAL)
    target = all_targets()[name]
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds(name)):
        (corpus / str(number)).write_bytes(data)
    options = [*LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", "-max_len=8192"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


def main() -> int:
    """Run the named targets, by default all; return how many of them found a fault."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    failed = 0
    for name in sys.argv[2:] or all_targets():
        folder = tempfile.mkdtemp(prefix=f"mrlstore-fuzz-{name}-")
        command = [sys.executable, "-m", "tests.fuzz.coverage", "--one", name, str(seconds), folder]
        environment = {**os.environ, "TMPDIR": folder}  # libFuzzer ends the process without cleaning up
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        runs = [line for line in ran.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name}: {runs[0].split()[-1] if runs else '?'} inputs in {seconds} s, code {ran.returncode}")
        if ran.returncode:
            failed += 1
            print(ran.stdout[-2000:], ran.stderr[-6000:], f"the input is in {folder}", sep="\n")
        else:
            shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    sys.exit(main())
