"""Coverage-guided fuzzing of all that parses bytes: `python -m tests.fuzz.coverage [seconds] [target ...]`.

Each target runs in a process of its own under atheris (libFuzzer), from a small corpus of sound inputs, for
so many seconds. A finding ends it with an error and leaves its input as `crash-*` in the folder that is told:
make it an `@example` of the hypothesis test of that target.
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
PARSERS = ["mrlstore.columns", "mrlstore.where", "mrlstore.parts", "mrlstore.segment", "mrlstore.exchange"]
LIMITS = ("-timeout=30", "-rss_limit_mb=3072", "-print_final_stats=1", "-verbosity=0")


def seeds(name: str) -> list[bytes]:
    """Sound inputs, for a fuzzer that starts from nothing spends its time on the first bytes."""
    from tests.fuzz import files, targets

    line = {"id": "a", "vector": [1.0] * files.DIM, "metadata": {"a": [1, "x"]}, "document": "text"}
    sound: dict[str, list[bytes]] = {
        "part_json": [bytes([i]) + files.description(kind) for i, kind in enumerate(files.KINDS)],
        "imported_jsonl": [json.dumps(line).encode() + b"\n"],
        "imported_rows": [json.dumps(line).encode() + b"\n"],
        "opened_npy": [_npy()],
        "raw_columns": [targets.sound(False)[:4096]],
        "damaged_columns": [bytes([flags, 0, 0, 77]) for flags in range(16)],
        "built_columns": [b'{"a": 1}\n{"a": "x", "b": [1, null]}'],
        "parsed_filter": [json.dumps(where).encode() for where in targets.FILTERS],
    }
    return sound[name]


def _npy() -> bytes:
    import io

    import numpy as np

    held = io.BytesIO()
    np.save(held, np.ones((3, 2), dtype=np.float32))
    return held.getvalue()


def all_targets() -> dict[str, Callable[[bytes], None]]:
    """Every target by name."""
    from tests.fuzz import files, targets

    found = [targets.raw_columns, targets.damaged_columns, targets.built_columns, targets.parsed_filter]
    found += [files.part_json, files.imported_jsonl, files.imported_rows, files.opened_npy]
    return {target.__name__: target for target in found}


def fuzz(name: str, seconds: int, folder: str) -> None:
    """One target in this process; it ends the process."""
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
    """Run every target, or one; how many of them found something."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    failed = 0
    for name in sys.argv[2:] or all_targets():
        folder = tempfile.mkdtemp(prefix=f"mrlstore-fuzz-{name}-")
        command = [sys.executable, "-m", "tests.fuzz.coverage", "--one", name, str(seconds), folder]
        inside = {**os.environ, "TMPDIR": folder}  # libFuzzer ends the process without cleaning up
        ran = subprocess.run(command, env=inside, capture_output=True, text=True, check=False)
        runs = [line for line in ran.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name}: {runs[0].split()[-1] if runs else '?'} inputs in {seconds} s, code {ran.returncode}")
        if ran.returncode:
            failed += 1
            print(ran.stdout[-2000:], ran.stderr[-6000:], f"see {folder}", sep="\n")
        else:
            shutil.rmtree(folder)
    return failed


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    sys.exit(main())
