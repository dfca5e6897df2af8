"""The command line with s3:// URLs, against a real server of S3 over HTTP: export, import, backup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mrlstore
from tests.exchange.conftest import held
from tests.s3.conftest import BucketServer

pytestmark = pytest.mark.parametrize("server", ["s3"], indirect=True)

ROWS, DIM = 3000, 768  # 28 MB as JSONL: several pieces of 8 MB, in both directions


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("papers") / "papers.mrl"
    rng = np.random.default_rng(5)
    with mrlstore.open(path, auto_maintain=False) as store:
        vectors = rng.standard_normal((ROWS, DIM)).astype(np.float32)
        texts = [f"text {n}" for n in range(ROWS)]
        store.upsert([f"p{n}" for n in range(ROWS)], vectors, [{"n": n} for n in range(ROWS)], texts)
    return path


def run(server: BucketServer, *arguments: object, code: int = 0) -> str:
    """Run a command with the credentials and the endpoint in its environment, as a user would set them."""
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mrlstore.cli", *map(str, arguments)],
        env=os.environ | variables, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "a-secret" not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def held_at(path: Path) -> object:
    with mrlstore.open(path, mode="r") as store:
        return held(store)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_rows_are_exported_and_imported(
    server: BucketServer, papers: Path, tmp_path: Path, name: str
) -> None:
    bucket = server.new_bucket()
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    url = f"{bucket}/folder/{name}"
    assert json.loads(run(server, "export", papers, url, "--json"))["rows"] == ROWS
    assert "exists; --force replaces it" in run(server, "export", papers, url, code=4)
    assert json.loads(run(server, "import", tmp_path / "copy.mrl", url, "--json"))["written"] == ROWS
    assert held_at(tmp_path / "copy.mrl") == held_at(papers)
    assert "there is no such object" in run(server, "import", papers, f"{bucket}/none.jsonl", code=1)


def test_a_backup_goes_to_a_bucket_and_comes_back(server: BucketServer, papers: Path, tmp_path: Path) -> None:
    bucket = server.new_bucket()
    url = f"{bucket}/backups/papers"
    assert f"Backed up 3,000 rows to {url}" in run(server, "backup", papers, url)
    assert (
        json.loads(run(server, "backup", papers, url, "--json"))["rows"] == ROWS
    )  # a second one, of no change
    run(server, "restore", url, tmp_path / "restored.mrl")
    assert held_at(tmp_path / "restored.mrl") == held_at(papers)
    assert run(server, "verify", tmp_path / "restored.mrl")
