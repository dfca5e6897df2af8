"""Recall by effort: `ef` and `shortlist` given by hand, from small to the number of rows.

python -m benchmarks.recall.effort                       (every set)
python -m benchmarks.recall.effort copies hard --rows 5000

The recall@10 of 1,000 questions must never fall from one line to the next, and is 1.0 in the last.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.recall import sets
from benchmarks.recall.measure import filled, recall

FIRST, FACTOR = 10, 2


def measured(made: sets.Set) -> Iterator[str]:
    """One line for each effort."""
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        filled(Path(folder) / "s.mrl", [made.rows], prefix=made.prefix) as store,
    ):
        effort = FIRST
        while True:
            effort = min(effort, len(made.rows))
            yield f"{effort:,}: {recall(store, made.questions, ef=effort, shortlist=effort)}"
            if effort == len(made.rows):
                return
            effort *= FACTOR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="*", default=sets.NAMES, help=f"{', '.join(sets.NAMES)}, or files .npy")
    parser.add_argument("--rows", type=int, default=6_000, help="of sets that are generated")
    parser.add_argument("--dim", type=int, default=256, help="of sets that are generated")
    parser.add_argument("--questions", type=int, default=1_000)
    options = parser.parse_args()
    for name in options.sets:
        made = sets.load(name, options.rows, options.dim, options.questions)
        print(f"{name}, {len(made.rows):,} rows", flush=True)
        for line in measured(made):
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
