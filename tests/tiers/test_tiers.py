"""The tier report against plain numpy, and its files."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.cli import main
from mrlstore.errors import InvalidInput
from mrlstore.recall.tiers import Tier, TierReport
from mrlstore.recall.tiers.bench import ndcg
from mrlstore.recall.tiers.recommend import decide
from tests.nested import nested
from tests.tiers.conftest import DIM, PREFIX, Indexed

DIMS = (32, PREFIX, 128)
K = 10
SAMPLE = 2_500


@pytest.fixture(scope="module")
def report(generated: Indexed) -> TierReport:
    return generated.store.tier_report(generated.queries, K, DIMS, by="n", sample=SAMPLE)


def ranks(indexed: Indexed, dim: int) -> Any:
    """Row numbers by the cosine of the first dims, best first: int [queries, 200]."""
    rows = indexed.rows[:, :dim].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.argsort(-(indexed.queries[:, :dim].astype(np.float64) @ rows.T), axis=1)[:, :200]


def numpy_recall(best: Any, listed: Any) -> float:
    pairs = zip(best[:, :K].tolist(), listed.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / K for a, b in pairs]))


@pytest.mark.parametrize("dim", DIMS)
def test_recall_of_scans_and_shortlists_is_that_of_numpy(
    generated: Indexed, report: TierReport, dim: int
) -> None:
    best, by_prefix = ranks(generated, DIM), ranks(generated, dim)
    (scan,) = (tier for tier in report.tiers if (tier.kind, tier.dim) == ("scan", dim))
    assert scan.recall == pytest.approx(numpy_recall(best, by_prefix[:, :K]), abs=2e-3)
    assert scan.low <= scan.recall <= scan.high
    for shortlist, recall in report.curves[dim]:
        expected = numpy_recall(best, by_prefix[:, :shortlist])
        assert recall == pytest.approx(expected, abs=2e-3), (dim, shortlist)


def test_every_tier_is_there_and_its_figures_are_sound(report: TierReport) -> None:
    kinds = {(tier.kind, tier.dim) for tier in report.tiers}
    for dim in (*DIMS, DIM):
        assert {("scan", dim), ("graph", dim)} <= kinds
    for tier in report.tiers:
        assert 0 <= tier.low <= tier.recall <= tier.high <= 1
        assert 0 < tier.p50_ms <= tier.p95_ms
        assert tier.qps_one > 0
        assert 0 < tier.memory_bytes_per_row <= tier.disk_bytes_per_row
        disk, memory = report.projected(tier)[10_000_000]
        assert (disk, memory) == (1e7 * tier.disk_bytes_per_row, 1e7 * tier.memory_bytes_per_row)
    (whole,) = (tier for tier in report.tiers if (tier.kind, tier.dim) == ("scan", DIM))
    assert (whole.recall, whole.disk_bytes_per_row) == (1, 2 * DIM + 12)
    assert (report.queries, report.source, report.sample) == (150, "queries", SAMPLE)


def test_two_stages_lose_little_against_exact_ranks(report: TierReport) -> None:
    for tier in report.tiers:
        if tier.kind == "two-stage" and tier.shortlist >= 5 * K:
            exact = dict(report.curves[tier.dim])[tier.shortlist]
            assert tier.recall >= exact - 0.05, tier


def test_the_store_reaches_its_targets(report: TierReport) -> None:
    found = {tier.name: tier for tier in report.tiers if tier.kind == "store"}
    for target in (0.9, 0.95, 0.99):
        assert found[f"this store, target {target:g}"].recall >= target - 0.02


def test_the_summary_is_of_the_tiers_that_were_measured(report: TierReport) -> None:
    tiers = {tier.name: tier for tier in report.tiers}
    now = tiers[report.summary[0].tier]
    assert "the store as it is" in report.summary[0].what and now.dim == PREFIX
    assert 3 <= len(report.summary) <= 5
    for row in report.summary:
        tier = tiers[row.tier]
        assert row.recall == tier.recall and row.reaches_goal == (tier.recall >= 0.99)
        assert row.time == pytest.approx(tier.p50_ms / now.p50_ms)
        assert row.memory == pytest.approx(tier.memory_bytes_per_row / now.memory_bytes_per_row)
    (chosen,) = (tiers[row.tier] for row in report.summary if "recommended" in row.what)
    assert chosen.dim == report.recommended_prefix_dim and f"{chosen.dim:,} dims" in report.recommendation
    assert f"{chosen.recall:.3f}" in report.recommendation


def made(kind: Any, dim: int, shortlist: int, recall: float, p50_ms: float, memory: float) -> Tier:
    name = f"{dim} + re-rank of {shortlist}" if shortlist else f"{dim} dims, {kind}"
    return Tier(
        name, kind, dim, shortlist, 10, 100, recall, recall, recall, None, p50_ms, p50_ms, 1, 1, 999, memory
    )


def measured(staged: dict[tuple[int, int], tuple[float, float, float]]) -> list[Tier]:
    """Tiers of 64 dims, with these in two stages: {(dim, shortlist): (recall, ms, bytes)}."""
    tiers = [made("two-stage", *which, *figures) for which, figures in staged.items()]
    tiers += [made("graph", dim, 0, 0.8, 1, 100) for dim in sorted({dim for dim, _ in staged})]
    return [*tiers, made("graph", 64, 0, 0.995, 1, 400), made("scan", 64, 0, 1, 9, 2_000)]


DECISIONS: dict[str, tuple[dict[tuple[int, int], tuple[float, float, float]], int, str, list[str]]] = {
    "smaller and good enough": (
        {(16, 50): (0.991, 1, 80), (32, 50): (0.999, 1, 160)},
        16,
        "Index 16 dims instead of 32: with 50 rows re-ranked it finds 0.991 of the exact top 10. Against the "
        "store as it is: 0.5 times the memory, the same time.",
        ["the store as it is", "recommended", "the same prefix, without a re-rank", "all dims, exactly",
         "all dims"],
    ),
    "smaller, but just below the line": (
        {(16, 50): (0.9899, 1, 80), (32, 50): (0.999, 1, 160)},
        32,
        "Keep the prefix of 32 dims: with 50 rows re-ranked it finds 0.999 of the exact top 10, and no other "
        "saves a tenth of its memory.",
        ["the store as it is, recommended", "the same prefix, without a re-rank", "all dims, exactly",
         "all dims"],
    ),
    "smaller by too little": (
        {(16, 50): (0.999, 1, 150), (32, 50): (0.999, 1, 160)}, 32, "Keep the prefix of 32 dims", [],
    ),
    "smaller, and much slower": (
        {(16, 50): (0.999, 2, 80), (32, 50): (0.999, 1, 160)}, 32, "Keep the prefix of 32 dims", [],
    ),
    "too short as it is": (
        {(32, 50): (0.9, 1, 160), (48, 50): (0.995, 2, 300)}, 48, "Index 48 dims instead of 32", [],
    ),
    "none is enough": (
        {(32, 50): (0.9, 1, 160), (48, 50): (0.98, 2, 300)},
        64,
        "Index all 64 dims: no prefix reaches 0.99 of the exact top 10 with a shortlist of up to 200 rows. "
        "Against the store as it is: 2.5 times the memory, the same time.",
        ["the store as it is", "recommended, all dims", "all dims, exactly"],
    ),
    "another is quicker": (
        {(16, 50): (0.991, 1, 80), (32, 50): (0.999, 1, 160), (48, 50): (0.999, 0.5, 200)},
        16,
        "Quicker: 48 dims with 50 rows re-ranked, 1.2 times the memory, 0.5 times the time.",
        ["the store as it is", "recommended", "quickest", "the same prefix, without a re-rank",
         "all dims, exactly"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECISIONS)
def test_what_is_recommended(name: str) -> None:
    staged, prefix_dim, words, rows = DECISIONS[name]
    found = decide(measured(staged), 32, 64, K)
    assert found.prefix_dim == prefix_dim
    assert words in found.sentence
    assert not rows or [row.what for row in found.summary] == rows


def test_a_store_that_indexes_all_dims() -> None:
    staged = {(32, 50): (0.999, 1.0, 160.0)}
    assert decide(measured(staged), 64, 64, K).sentence.startswith("Index 32 dims instead of 64")
    kept = decide(measured({(32, 50): (0.9, 1, 160)}), 64, 64, K)
    assert kept.sentence.startswith("Keep indexing all 64 dims") and kept.prefix_dim == 64


def test_the_command_that_does_it(report: TierReport) -> None:
    other = replace(report, prefix_dim=32, recommended_prefix_dim=16)
    assert other.command("my papers.mrl") == "mrlstore set-prefix-dim 'my papers.mrl' 16"
    assert replace(other, recommended_prefix_dim=32).command("p.mrl") == ""
    assert other.command("d/rows.npy") == "mrlstore migrate rows.mrl d/rows.npy --prefix-dim 16"


def test_ndcg_is_its_definition() -> None:
    grades = {"a": 3.0, "b": 1.0, "c": 2.0}
    gain = (2**1 - 1) / np.log2(2) + (2**3 - 1) / np.log2(4)
    ideal = (2**3 - 1) / np.log2(2) + (2**2 - 1) / np.log2(3) + (2**1 - 1) / np.log2(4)
    assert ndcg(["b", "x", "a"], grades, 3) == pytest.approx(gain / ideal)
    assert ndcg(["a", "c", "b"], grades, 3) == pytest.approx(1)
    assert ndcg(["x"], grades, 3) == ndcg([], {}, 3) == 0


def test_relevance_judgements_give_ndcg(opened: Any) -> None:
    """Judged by its own exact answers, the scan of all dims is perfect and short prefixes are not."""
    vectors = nested(430, 32)
    store, queries = opened(dim=32, prefix_dim=16), vectors[:30]
    store.upsert([f"r{i}" for i in range(400)], vectors[30:])
    exact = [store.query(q, K, exact=True, include=()).ids for q in queries]
    judged = {i: {name: float(K - place) for place, name in enumerate(ids)} for i, ids in enumerate(exact)}
    found = store.tier_report(queries, K, (8,), qrels=judged, sample=100)
    values = {(tier.kind, tier.dim): tier.ndcg for tier in found.tiers}
    assert found.sample == 400  # all that may be judged
    assert values["scan", 32] == pytest.approx(1, abs=1e-3)
    assert values["scan", 8] < 0.9
    assert values["store", 16] > 0.9


def test_strata_add_up(report: TierReport) -> None:
    names = {stratum.name for stratum in report.strata}
    assert f"{PREFIX} dims, scan" in names
    for stratum in report.strata:
        assert stratum.low <= stratum.recall <= stratum.high
        assert stratum.queries >= 1


def test_namespaces_are_strata(opened: Any) -> None:
    store = opened(dim=16, prefix_dim=4)
    rng = np.random.default_rng(0)
    for name, count in (("a", 300), ("b", 200)):
        store.upsert([str(i) for i in range(count)], rng.standard_normal((count, 16)), namespace=name)
    found = store.tier_report(k=5, dims=(4,), namespace="a", by="namespace", count=50)
    assert {stratum.value for stratum in found.strata} == {"a", "b"}
    assert found.source == "stored rows"
    assert {tier.dim for tier in found.tiers} == {4, 16}


def test_queries_unlike_the_rows_are_told(generated: Indexed, report: TierReport) -> None:
    assert not any("harder" in words or "apart" in words for words in report.warnings)
    unlike = np.random.default_rng(4).standard_normal((60, DIM)).astype(np.float32)
    told = generated.store.tier_report(unlike, K, (PREFIX,), sample=500).warnings
    assert any("harder than stored rows" in words for words in told)
    assert any("lie apart" in words for words in told)


def test_json_and_csv_hold_every_tier(report: TierReport, tmp_path: Path) -> None:
    report.save(tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text())
    assert [tier["name"] for tier in found["tiers"]] == [tier.name for tier in report.tiers]
    assert found["tiers"][0]["projected"]["1000000"]["disk_bytes"] == 1e6 * report.tiers[0].disk_bytes_per_row
    report.save(tmp_path / "r.csv")
    lines = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [float(line["recall"]) for line in lines] == [tier.recall for tier in report.tiers]
    with pytest.raises(InvalidInput, match="html"):
        report.save(tmp_path / "r.pdf")


def test_html_and_png(report: TierReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report.save(tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    report.save(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert report.recommendation in page
    assert page.count("<tr") >= len(report.tiers) + 1
    assert page.count("data:image/png;base64,") == 3
    assert page.index("recommended") < page.index(report.recommendation) < page.index("<img")
    text = re.sub(r"base64,[A-Za-z0-9+/=]*", "", page)  # among so many letters any word may stand
    assert "http" not in text.replace("http-equiv", "")  # stands alone


def test_the_command(opened: Any, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = opened(dim=16, prefix_dim=4)
    rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    store.upsert([str(i) for i in range(300)], rows)
    np.save(tmp_path / "q.npy", rows[:20] + 0.1)
    target = str(tmp_path / "out.json")
    given = [
        "tiers",
        str(path),
        "--dims",
        "4,8",
        "-k",
        "5",
        "--queries",
        str(tmp_path / "q.npy"),
        "-o",
        target,
    ]
    assert main(given) == 0
    printed = capsys.readouterr().out
    saved = json.loads(Path(target).read_text())
    assert "the store as it is" in printed and "8 + re-rank of 50" not in printed
    assert saved["recommendation"] in " ".join(printed.split())
    wanted = saved["recommended_prefix_dim"]
    last = f"mrlstore set-prefix-dim {path} {wanted}" if wanted != 4 else "Nothing has to be changed."
    assert printed.splitlines()[-1] == last
    assert main([*given, "--full"]) == 0
    assert "8 + re-rank of 50" in capsys.readouterr().out
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queries"] == 20
    assert main(["tiers", str(path), "--dims", "x"]) == 2
    assert main(["tiers", str(path), "--column", "x"]) == 2


@pytest.mark.parametrize("kind", ["npy", "parquet", "arrow"])
def test_the_command_on_a_file_of_vectors(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    vectors, file = nested(400, 32), tmp_path / f"rows.{kind}"
    if kind == "npy":
        np.save(file, vectors)
    else:
        pa = pytest.importorskip("pyarrow")
        table = pa.table({"n": range(400), "embedding": vectors.tolist()})
        from pyarrow import feather, parquet

        parquet.write_table(table, file) if kind == "parquet" else feather.write_feather(table, file)
        assert main(["tiers", str(file), "--column", "x"]) == 2
        assert "no column 'x'; it has n, embedding" in capsys.readouterr().err
    assert main(["tiers", str(file), "--dims", "8,16", "--count", "50", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "400 rows x 32 dims, 50 stored rows" in printed
    assert printed.splitlines()[-1].startswith(f"mrlstore migrate rows.mrl {file} --prefix-dim ")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_files_that_hold_no_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert main(["tiers", str(tmp_path / "rows.jsonl")]) == 2
    assert "a .npy, Parquet or Arrow file" in capsys.readouterr().err
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"a": [[1.0]], "b": [[1.0]]}), tmp_path / "two.parquet")
    assert main(["tiers", str(tmp_path / "two.parquet")]) == 2
    assert "which column has the vectors?" in capsys.readouterr().err
    parquet.write_table(pa.table({"v": [[1.0, 2.0], [1.0]]}), tmp_path / "odd.parquet")
    assert main(["tiers", str(tmp_path / "odd.parquet")]) == 2
    assert "vectors of 2 and of 1 dimensions" in capsys.readouterr().err


def test_wrong_arguments_are_refused(opened: Any, generated: Indexed) -> None:
    store = opened()
    with pytest.raises(InvalidInput, match="no vectors"):
        store.tier_report()
    with pytest.raises(InvalidInput, match="qrels"):
        generated.store.tier_report(qrels={0: {"1": 1.0}})
    with pytest.raises(InvalidInput, match="a report on tiers needs 20"):
        generated.store.tier_report(namespace="nobody")
    with pytest.raises(mrlstore.MrlStoreError):
        generated.store.tier_report(k=0)
    with pytest.raises(InvalidInput, match="a report on tiers needs 20"):
        generated.store.tier_report(generated.queries, namespace="nobody")


WRONG: dict[str, dict[str, Any]] = {
    "dims: a number": {"dims": 256},
    "dims: an array without dimensions": {"dims": np.array(256)},
    "dims: a word": {"dims": "256"},
    "dims: halves": {"dims": [0.5]},
    "by: a list": {"by": ["n"]},
    "by: a number": {"by": 5},
    "qrels: a list": {"qrels": [{"1": 1.0}]},
    "qrels: ids without grades": {"qrels": {0: ["1"]}},
    "qrels: words as grades": {"qrels": {0: {"1": "good"}}},
    "progress: a number": {"progress": 5},
}


@pytest.mark.parametrize("words", WRONG)
def test_odd_arguments_are_refused(generated: Indexed, words: str) -> None:
    with pytest.raises(InvalidInput, match=words.split(":")[0]):
        generated.store.tier_report(generated.queries, **WRONG[words])
