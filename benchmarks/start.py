"""How long a new process takes until its first answer, and where the time goes.

python -m benchmarks.start [--rows 2000] [--rounds 10]

Each round starts processes in turn: numpy alone, mrlstore with the kernels of the package, then with those of
numba's cache, and the command line. Of each the least is printed, because other work of the machine only adds
to it. All have their bytecode ready, as an installed package does.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mrlstore
from tests.nested import nested

DIM = 256
NUMPY = "import numpy"
ANSWER = """
import sys
import numpy
import mrlstore
with mrlstore.open(sys.argv[1], mode="r") as store:
    assert store.query(numpy.ones(256, numpy.float32), k=3, include=()).ids
"""
COUNT = "from mrlstore.cli import main; import sys; main(['count', sys.argv[1]])"
GET = "from mrlstore.cli import main; import sys; main(['get', sys.argv[1], '7'])"
QUERY = "from mrlstore.cli import main; import sys; main(['query', sys.argv[1], '--id', '7'])"
NUMBA = {"MRLSTORE_KERNELS": "numba"}


def run(program: str, store: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds until the process has ended, and its processor time."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program, str(store)],
        check=True,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    programs: dict[str, tuple[str, dict[str, str]]] = {
        "numpy alone": (NUMPY, {}),
        "import, open, first answer": (ANSWER, {}),
        "the same, kernels from numba's cache": (ANSWER, NUMBA),
        "mrlstore count": (COUNT, {}),
        "mrlstore get": (GET, {}),
        "mrlstore query": (QUERY, {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.mrl"
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "bytecode")
        with mrlstore.open(path, auto_maintain=False) as store:
            store.upsert([str(i) for i in range(options.rows)], nested(options.rows, DIM))
            store.optimize()
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(options.rounds + 1):
            for name, (program, environment) in programs.items():
                taken[name].append(run(program, path, environment))
    for name, times in taken.items():  # the first round fills caches
        elapsed, processor = np.array(times[1:]).min(axis=0)
        print(f"{name}: {elapsed:.3f} s, processor time {processor:.3f} s")
    print("where it goes: python -X importtime -c 'import mrlstore'")


if __name__ == "__main__":
    main()
