"""mrlstore update and delete."""

from __future__ import annotations

from pathlib import Path

import mrlstore

from .conftest import Run


def test_update_merges_and_removes_keys(filled: Path, run: Run) -> None:
    done = run("update", filled, "row-3", "row-4", "-m", '{"read": true, "even": null}')
    assert (done.code, done.err) == (0, "")
    assert "Updated 2 rows" in done.out
    rows = run("get", filled, "row-3", "row-4", "--json").json["rows"]
    assert [row["metadata"] for row in rows] == [{"n": 3, "read": True}, {"n": 4, "read": True}]


def test_update_by_filter_and_by_both(filled: Path, run: Run) -> None:
    assert run("update", filled, "-w", '{"n": {"$lt": 5}}', "-m", '{"low": 1}', "--json").json == {
        "updated": 5,
        "missing": [],
    }
    assert run("update", filled, "row-1", "row-9", "-w", '{"low": 1}', "-m", '{"both": 1}').code == 0
    assert run("count", filled, "-w", '{"both": 1}').out == "1\n"


def test_update_of_a_document(filled: Path, run: Run) -> None:
    assert run("update", filled, "row-3", "--document", "Better.").code == 0
    assert run("get", filled, "row-3", "--json").json["rows"][0]["document"] == "Better."
    assert run("update", filled, "row-3", "row-4", "--document", "x").code == 2
    assert run("update", filled, "--where", '{"n": 1}', "--document", "x").code == 2


def test_update_of_a_vector(filled: Path, run: Run) -> None:
    before = run("get", filled, "row-3", "--json").json["rows"][0]
    assert run("update", filled, "row-3", "--vector", "[1, 2, 3, 4, 5, 6, 7, 8]").code == 0
    after = run("get", filled, "row-3", "--vector", "--json").json["rows"][0]
    assert (after["metadata"], after["document"]) == (before["metadata"], before["document"])
    assert [round(number) for number in after["vector"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert run("update", filled, "row-3", "row-4", "--vector", "[1, 2]").code == 2
    assert run("update", filled, "row-3", "--vector", "[1, 2]").code == 2


def test_delete_by_prefix(filled: Path, run: Run) -> None:
    dry = run("delete", filled, "--prefix", "row-1", "-w", '{"even": true}', "--dry-run", "--json").json
    assert dry == {"deleted": 0, "matching": 5, "rows": 20}
    assert (
        run("delete", filled, "row-2", "row-13", "--prefix", "row-1", "--dry-run", "--json").json["matching"]
        == 1
    )
    assert run("delete", filled, "--prefix", "row-1", "-w", '{"even": true}', "--json").json == {
        "deleted": 5,
        "matching": 5,
        "rows": 15,
    }
    assert run("delete", filled, "--prefix", "").code == 2


def test_update_tells_what_is_not_there(filled: Path, run: Run) -> None:
    done = run("update", filled, "row-3", "nobody", "-m", '{"read": true}', "--json")
    assert (done.code, done.json) == (3, {"updated": 1, "missing": ["nobody"]})
    assert "no row has the id nobody" in run("update", filled, "nobody", "-m", '{"a": 1}').err


def test_update_and_delete_want_to_know_what(filled: Path, run: Run) -> None:
    for line in (
        ("update", filled, "row-3"),
        ("update", filled, "-m", '{"a": 1}'),
        ("delete", filled),
        ("delete", filled, "-w", "{}"),
    ):
        done = run(*line)
        assert done.code == 2, line
        assert len(done.err.splitlines()) == 1
    assert run("count", filled).out == "20\n"


def test_delete_by_id_filter_and_both(filled: Path, run: Run) -> None:
    assert run("delete", filled, "row-1", "nobody", "--json").json == {
        "deleted": 1,
        "matching": 1,
        "rows": 19,
    }
    assert "Deleted 9 rows" in run("delete", filled, "-w", '{"even": false}').out
    assert run("delete", filled, "row-0", "row-2", "-w", '{"n": 2}', "--json").json["deleted"] == 1
    assert run("count", filled).out == "9\n"


def test_a_dry_run_only_counts(filled: Path, run: Run) -> None:
    done = run("delete", filled, "-w", '{"even": true}', "--dry-run")
    assert "Would delete 10 rows" in done.out
    both = run("delete", filled, "row-1", "row-2", "nobody", "-w", '{"n": 2}', "--dry-run", "--json")
    assert both.json == {"deleted": 0, "matching": 1, "rows": 20}
    assert run("delete", filled, "row-1", "row-1", "--dry-run", "--json").json["matching"] == 1


def test_changes_stay_in_their_namespace(filled: Path, run: Run) -> None:
    with mrlstore.open(filled) as store:
        store.upsert(["row-3"], [[1.0] * 8], namespace="tenant")
    assert run("delete", filled, "row-3", "-n", "tenant").code == 0
    assert run("count", filled, "--all").out == "20\n"


def test_no_store_is_made(tmp_path: Path, run: Run) -> None:
    for line in (
        ("delete", "x"),
        ("update", "x", "-m", '{"a": 1}'),
        ("scan",),
        ("export", tmp_path / "e.jsonl"),
    ):
        assert run(line[0], tmp_path / "no.mrl", *line[1:]).code == 3
    assert list(tmp_path.iterdir()) == []
