"""mrlstore scan, export, and what of import is not JSONL."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import DIM, Run, make_rows, write_jsonl


def test_scan_pages_through_ids_in_order(filled: Path, run: Run) -> None:
    seen: list[str] = []
    cursor: list[str] = []
    while True:
        found = run("scan", filled, "--limit", 7, "--json", *cursor).json
        seen += [row["id"] for row in found["rows"]]
        if found["cursor"] is None:
            break
        cursor = ["--after", found["cursor"]]
    assert seen == sorted(f"row-{n}" for n in range(20))


def test_scan_selects_and_shows(filled: Path, run: Run) -> None:
    found = run("scan", filled, "--prefix", "row-1", "-w", '{"even": true}', "--vector", "--json").json
    assert [row["id"] for row in found["rows"]] == ["row-10", "row-12", "row-14", "row-16", "row-18"]
    assert len(found["rows"][0]["vector"]) == DIM
    shown = run("scan", filled, "--limit", 2)
    assert "The text of row 0." in shown.out
    assert "--after" in shown.err
    assert run("scan", filled, "--after", "nonsense").code == 2


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.arrow"])
def test_an_export_is_imported_again(filled: Path, tmp_path: Path, run: Run, name: str) -> None:
    if name != "rows.jsonl":
        pytest.importorskip("pyarrow")
    done = run("export", filled, tmp_path / name, "--json")
    assert (done.code, done.json["rows"]) == (0, 20), done.err
    assert done.json["bytes"] == (tmp_path / name).stat().st_size
    assert run("import", tmp_path / "copy.mrl", tmp_path / name).code == 0
    ids = [f"row-{n}" for n in range(20)]
    rows = [run("get", store, *ids, "--vector", "--json").json for store in (filled, tmp_path / "copy.mrl")]
    assert [row["document"] for row in rows[0]["rows"]] == [row["document"] for row in rows[1]["rows"]]
    for one, other in zip(rows[0]["rows"], rows[1]["rows"], strict=True):
        np.testing.assert_allclose(one["vector"], other["vector"], rtol=1e-6)


def test_export_never_replaces_unasked(filled: Path, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "rows.jsonl"
    target.write_text("mine")
    assert run("export", filled, target).code == 4
    assert target.read_text() == "mine"
    assert run("export", filled, target, "--force").code == 0
    assert len(target.read_text().splitlines()) == 20
    assert run("export", filled, filled / "rows.jsonl").code == 2
    assert run("export", filled, tmp_path / "rows.xlsx").code == 2
    assert run("export", filled, tmp_path, "--force").code == 4


def test_export_to_standard_output(
    filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    done = run("export", filled, "-", "--where", '{"n": {"$lt": 3}}')
    assert done.code == 0
    assert "Exported 3 rows" in done.err
    lines = out.buffer.getvalue().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["row-0", "row-1", "row-2"]
    assert run("export", filled, "-", "--json").code == 2


def test_export_goes_on_and_keeps_namespaces(filled: Path, tmp_path: Path, run: Run) -> None:
    rows = write_jsonl(tmp_path / "r.jsonl", make_rows(3))
    run("import", filled, rows, "-n", "tenant")
    first = run("export", filled, tmp_path / "1.jsonl", "--limit", 15, "--json").json
    assert "--after" in run("export", filled, tmp_path / "x.jsonl", "--limit", 15).out
    second = run("export", filled, tmp_path / "2.jsonl", "--after", first["cursor"], "--json").json
    assert (first["rows"], second["rows"]) == (15, 8)
    for name in ("1.jsonl", "2.jsonl"):
        assert run("import", tmp_path / "copy.mrl", tmp_path / name).code == 0
    counts = [run("count", tmp_path / "copy.mrl", *more).out for more in ((), ("-n", "tenant"))]
    assert counts == ["20\n", "3\n"]


def test_vectors_beside_in_half_the_space(filled: Path, tmp_path: Path, run: Run) -> None:
    lines, array = tmp_path / "r.jsonl", tmp_path / "r.npy"
    assert run("export", filled, lines, "--vectors", array, "--float16").code == 0
    assert np.load(array, allow_pickle=False).dtype == np.float16
    assert run("import", tmp_path / "copy.mrl", lines, "--vectors", array).code == 0
    assert run("export", filled, tmp_path / "x.jsonl", "--float16").code == 2


def test_fields_of_other_names_and_others_as_metadata(tmp_path: Path, run: Run) -> None:
    rows = [{"doi": str(n), "embedding": [1.0, n], "year": 2000 + n} for n in range(4)]
    lines = write_jsonl(tmp_path / "r.jsonl", rows)
    called = ("--name", "id=doi", "--name", "vector=embedding")
    refused = run("import", tmp_path / "s.mrl", lines, *called, "--json")
    assert (refused.code, refused.json["refused_rows"]) == (6, 4)
    assert "year" in refused.json["refused"][0]["why"]
    assert run("import", tmp_path / "s.mrl", lines, *called, "--extra", "metadata").code == 0
    assert run("get", tmp_path / "s.mrl", "2", "--json").json["rows"][0]["metadata"] == {"year": 2002}
    assert run("import", tmp_path / "s.mrl", lines, "--name", "id").code == 2
    assert run("import", tmp_path / "s.mrl", lines, "--name", "key=id").code == 2


@pytest.mark.parametrize("name", ["r.parquet", "r.arrow"])
def test_no_store_is_made_for_a_file_that_cannot_be_read(tmp_path: Path, run: Run, name: str) -> None:
    (tmp_path / name).write_bytes(b"no such file")
    done = run("import", tmp_path / "s.mrl", tmp_path / name)
    assert done.code in (1, 2)  # 1 where pyarrow is not installed
    assert done.err.count("\n") == 1
    assert not (tmp_path / "s.mrl").exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])  # for bash, click asks the bash that is there
def test_completion(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert done.code == 0
    assert "_MRLSTORE_COMPLETE" in done.out
    assert run("completion", shell, "--json").json == {"shell": shell, "script": done.out[:-1]}


def test_what_a_shell_asks_for_is_answered(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_MRLSTORE_COMPLETE", "fish_complete")
    monkeypatch.setenv("COMP_WORDS", "mrlstore ex")
    monkeypatch.setenv("COMP_CWORD", "ex")
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    assert "export" in capsys.readouterr().out
