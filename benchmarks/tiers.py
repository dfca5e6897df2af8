"""Compare the tiers on vectors of your own: an .npy file, a Parquet file, or generated rows.

    python benchmarks/tiers.py rows.npy --out tiers.html
    python benchmarks/tiers.py rows.parquet --column embedding --queries questions.npy --out tiers.json
    python benchmarks/tiers.py rows.npy --queries q.npy --ids ids.txt --qrels qrels.tsv   # nDCG@10 per tier
    python benchmarks/tiers.py --generated 20000 --held-out 300

Without --queries, --held-out rows (500 by default) are kept out of the store and used as queries.
Relevance judgements are lines of "query id grade" with tabs between them, where query is the row number in
the query file, and ids are those of --ids (one a line; else row numbers). The query ids of BEIR's qrels must
be turned into row numbers first. Parquet needs pyarrow. The store is built in a temporary folder, or at
--store, where it is kept.
benchmarks/retrieval gives nDCG@10 on a task of MTEB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import mrlstore
from tests.nested import nested

BATCH = 10_000


def read(path: Path, column: str) -> Any:
    """Vectors [n, dim] of an .npy or Parquet file."""
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    import pyarrow.parquet

    values = pyarrow.parquet.read_table(path, columns=[column])[column].combine_chunks()
    return np.asarray(values.flatten()).reshape(len(values), -1)


def read_qrels(path: Path) -> dict[Hashable, dict[str, float]]:
    """Grades by query number and id."""
    judged: dict[Hashable, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        query, name, grade = line.split("\t")
        judged.setdefault(int(query), {})[name] = float(grade)
    return judged


def fill(path: Path, rows: Any, ids: list[str], prefix_dim: int | None) -> None:
    """Store and index the rows."""
    with mrlstore.open(path, dim=rows.shape[1], prefix_dim=prefix_dim, auto_maintain=False) as store:
        for start in range(0, len(rows), BATCH):
            store.upsert(ids[start : start + BATCH], np.asarray(rows[start : start + BATCH], np.float32))
        store.optimize()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="?", type=Path, help=".npy or .parquet")
    parser.add_argument("--generated", type=int, metavar="N", help="N generated rows of 3,072 dims instead")
    parser.add_argument("--column", default="embedding", help="of the Parquet file")
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--ids", type=Path)
    parser.add_argument("--qrels", type=Path)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 512, 768, 1536, 3072])
    parser.add_argument("--prefix-dim", type=int)
    parser.add_argument("--sample", type=int, default=10_000)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, action="append", default=[], help=".html, .png, .json, .csv")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if (given.rows is None) == (given.generated is None):
        raise SystemExit("give either a file or --generated N")
    held = 0 if given.queries else given.held_out
    rows = nested(given.generated + held, 3072) if given.generated else read(given.rows, given.column)
    queries = read(given.queries, given.column) if given.queries else rows[:held]
    rows = rows[held:]
    names = given.ids.read_text(encoding="utf-8").splitlines() if given.ids else map(str, range(len(rows)))
    with tempfile.TemporaryDirectory() as folder:
        path = given.store or Path(folder) / "tiers.mrl"
        fill(path, rows, list(names), given.prefix_dim)
        with mrlstore.open(path, mode="r") as store:
            judged = read_qrels(given.qrels) if given.qrels else None
            asked = np.asarray(queries, np.float32)
            report = store.tier_report(asked, given.k, given.dims, qrels=judged, sample=given.sample)
    for tier in report.tiers:
        ndcg = "" if tier.ndcg is None else f"  nDCG@{given.k} {tier.ndcg:.4f}"
        print(
            f"{tier.name:28} recall@{given.k} {tier.recall:.4f} [{tier.low:.4f}, {tier.high:.4f}]  p50 "
            f"{tier.p50_ms:.3f} ms  {tier.disk_bytes_per_row:,.0f} B/row on disk{ndcg}"
        )
    for words in (*report.warnings, report.recommendation):
        print(words)
    for target in given.out:
        report.save(target)


if __name__ == "__main__":
    main()
