#!/bin/sh
# smoke-test.sh WHEEL: installs the wheel into an empty environment, without any extra, and uses it.
set -eu
wheel=$(realpath "$1")
python=$("$(dirname "$0")/find-python.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$python" -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check "$wheel"
venv/bin/mrlstore --version
venv/bin/python -W error - <<'PROGRAM'
import sys

for name in ("numba", "llvmlite"):
    sys.modules[name] = None  # importing them fails: the wheel has machine code
import numpy as np
import mrlstore

rows = np.random.default_rng(0).standard_normal((3000, 96)).astype(np.float32)
with mrlstore.open("papers.mrl") as store:
    store.upsert([f"paper-{n}" for n in range(3000)], rows, [{"n": n} for n in range(3000)])
    store.optimize()
    assert store.query(rows[7], k=3, where={"n": {"$lt": 100}}).ids[0] == "paper-7"
    assert store.delete(["paper-7"]) == 1
    assert store.query(rows[7], k=1).ids != ["paper-7"]
with mrlstore.open("papers.mrl", mode="r") as store:
    assert len(store) == 2999 and store.verify().ok
print("create, upsert, optimize, query, delete, verify: fine")
PROGRAM
# The command line itself needs the extra, and says so in one line.
if venv/bin/mrlstore stats papers.mrl 2>said; then exit 1; fi
grep -q "pip install 'mrlstore\[cli\]'" said
venv/bin/python -m pip install --quiet --disable-pip-version-check "$wheel[cli]"
venv/bin/mrlstore count papers.mrl | grep -qx 2999
echo "the command line with the extra cli: fine"
