"""benchmarks/tiers.py on small files of each kind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tiers
from tests.nested import nested

ROWS, DIM = 400, 32


def run(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> Any:
    """The report of one run, from its JSON."""
    out = Path(str(arguments[0])).with_name("out.json") if arguments else Path("out.json")
    options = ["--dims", "8", "16", "32", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["tiers.py", *map(str, arguments), *options])
    tiers.main()
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["fixed", "list"])
def test_parquet_gives_what_npy_gives(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    vectors = nested(ROWS, DIM)
    flat = pa.array(vectors.reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, DIM) if kind == "fixed" else pa.array(vectors.tolist())
    table = pa.table({"id": range(ROWS), "embedding": column})
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=150)  # several chunks
    np.save(tmp_path / "rows.npy", vectors)
    assert np.array_equal(tiers.read(tmp_path / "rows.parquet", "embedding"), vectors)
    theirs = run(monkeypatch, tmp_path / "rows.parquet", "--held-out", 50)
    ours = run(monkeypatch, tmp_path / "rows.npy", "--held-out", 50)
    recall = {tier["name"]: tier["recall"] for tier in theirs["tiers"]}
    assert recall == {tier["name"]: tier["recall"] for tier in ours["tiers"]} and len(recall) > 3
    assert theirs["rows"] == ROWS - 50 and "recall@10" in capsys.readouterr().out


def test_judgements_give_ndcg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = nested(ROWS, DIM), nested(20, DIM, seed=2)
    np.save(tmp_path / "rows.npy", vectors)
    np.save(tmp_path / "queries.npy", queries)
    (tmp_path / "ids.txt").write_text("".join(f"doc {n}\n" for n in range(ROWS)), encoding="utf-8")
    best = np.argsort(-(queries @ vectors.T) / np.linalg.norm(vectors, axis=1), axis=1)[:, :10]
    lines = [f"{query}\tdoc {row}\t1\n" for query, rows in enumerate(best) for row in rows]
    (tmp_path / "qrels.tsv").write_text("".join(lines), encoding="utf-8")
    given = ["--queries", tmp_path / "queries.npy", "--ids", tmp_path / "ids.txt"]
    report = run(monkeypatch, tmp_path / "rows.npy", *given, "--qrels", tmp_path / "qrels.tsv")
    ndcg = {tier["name"]: tier["ndcg"] for tier in report["tiers"] if tier["ndcg"] is not None}
    whole = [value for name, value in ndcg.items() if name.startswith("32 dims, scan")]
    short = [value for name, value in ndcg.items() if name.startswith("8 dims, scan")]
    assert whole and whole[0] > 0.999 and short and short[0] < whole[0]


def test_ids_that_do_not_fit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tiers.py"])
    with pytest.raises(SystemExit, match="either"):
        tiers.main()
