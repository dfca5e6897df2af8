"""mrlstore cluster create, status, verify, import and export."""

from __future__ import annotations

from pathlib import Path

import mrlstore
from mrlstore import cluster

from .conftest import DIM, Run, make_rows


def test_create_and_status(tmp_path: Path, run: Run) -> None:
    home = tmp_path / "home"
    made = run("cluster", "create", home, "--dim", DIM, "--shards", 2, "--m", 4)
    assert made.code == 0 and "2 shards" in made.out and "8 dims" in made.out
    assert "shard 1: never written" in run("cluster", "status", home).out
    with cluster.connect(home, folder=tmp_path / "copies", auto_maintain=False) as store:
        store.upsert([f"row-{number}" for number in range(20)], [row["vector"] for row in make_rows(20)])
        store.snapshot()
        for name in ("a", "b", "c", "d"):
            store.upsert([name], None)
    shown = run("cluster", "status", home)
    assert shown.code == 0 and "20 rows in the snapshots of 2 shards" in shown.out
    assert "shard 0: epoch 1 of process" in shown.out
    found = run("cluster", "status", home, "--json").json
    assert found["rows"] == 20 and found["dim"] == DIM and found["durability"] == "shared"
    assert sum(one["entries_behind"] for one in found["shards"]) == 4
    for one in found["shards"]:
        assert one["place"] == one["snapshot"]["place"] + one["entries_behind"]
        assert (one["bytes_behind"] > 0) == (one["entries_behind"] > 0)


def test_import_verify_and_export(filled: Path, tmp_path: Path, run: Run) -> None:
    with mrlstore.open(filled) as store:
        store.record_embedder({"model": "some"})
    home, again = tmp_path / "home", tmp_path / "again.mrl"
    moved = run("cluster", "import", filled, home, "--shards", 2)
    assert moved.code == 0 and "20 rows" in moved.out
    sound = run("cluster", "verify", home, "--json").json
    assert sound["ok"] and sound["shards"] == sound["snapshots"] == 2 and sound["bytes_checked"] > 0
    assert "is sound" in run("cluster", "verify", home).out
    assert run("cluster", "export", home, again, "--json").json["rows"] == 20
    with mrlstore.open(again, mode="r") as store:
        assert store.embedder_fingerprint == {"model": "some"} and store.count() == 20

    bundle = next((home / "shards" / "0001" / "catalogue").iterdir())
    data = bytearray(bundle.read_bytes())
    data[-1] ^= 1
    bundle.write_bytes(data)
    damaged = run("cluster", "verify", home)
    assert damaged.code == 5 and "1 problem" in damaged.out and bundle.name in damaged.out
    assert "remedy: " in damaged.out


def test_exit_codes(filled: Path, tmp_path: Path, run: Run) -> None:
    home, absent = tmp_path / "home", tmp_path / "absent"
    for line in (["status", absent], ["verify", absent], ["export", absent, tmp_path / "x.mrl"]):
        done = run("cluster", *line)
        assert done.code == 3 and done.err.count("\n") == 1 and "absent" in done.err
        assert "`mrlstore cluster create` makes one" in done.err
    assert run("cluster", "import", tmp_path / "no.mrl", home).code == 3
    assert run("cluster", "create", home).code == 2
    assert run("cluster", "create", home, "--dim", DIM, "--shards", 3).code == 2
    assert run("cluster", "create", home, "--dim", DIM, "--option", "region=x").code == 2
    assert not home.exists()
    assert run("cluster", "create", home, "--dim", DIM, "--json").json["shards"][0]["epoch"] == 0
    assert run("cluster", "create", home, "--dim", DIM).code == 4
    assert run("cluster", "import", filled, home).code == 4
    assert run("cluster", "export", home, filled).code == 4
    (home / "cluster.json").write_text("{}")
    assert run("cluster", "status", home).code == 5
