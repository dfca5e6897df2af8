"""The example service: real worker processes and HTTP clients, a writer, and optimize meanwhile."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from tests.scale import figure

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "service"
DIM, ROWS, WORKERS = 64, 6000, 2

for needed in ("fastapi", "uvicorn", "httpx"):
    pytest.importorskip(needed)
import httpx  # noqa: E402


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.mrl"
    rng = np.random.default_rng(1)
    with mrlstore.open(path, auto_maintain=False) as store:
        vectors = rng.standard_normal((ROWS, DIM)).astype(np.float32)
        store.upsert([f"row-{n}" for n in range(ROWS)], vectors, [{"n": n} for n in range(ROWS)])
        store.optimize()
    return path


@pytest.fixture
def url(papers: Path, tmp_path: Path) -> Iterator[str]:
    """Where a service with several workers answers."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--workers", str(WORKERS)]
    log = tmp_path / "service.log"
    environment = os.environ | {"MRLSTORE_PATH": str(papers)}
    with log.open("w") as file:
        service = subprocess.Popen(
            command, cwd=EXAMPLE, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield _wait_until_up(service, log)
    finally:
        service.terminate()
        assert service.wait(timeout=60) in (0, -15), log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def _wait_until_up(service: subprocess.Popen[bytes], log: Path) -> str:
    pause = threading.Event()
    for _ in range(1200):
        assert service.poll() is None, log.read_text()
        text = log.read_text()
        if text.count("Application startup complete") == WORKERS:
            found = re.search(r"running on (http://\S+)", text)
            assert found
            return found[1]
        pause.wait(0.1)
    raise AssertionError(log.read_text())


def _load(url: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE / "load.py"), url, "--dim", str(DIM), *options],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_it_answers_what_the_store_answers(url: str, papers: Path) -> None:
    question = np.random.default_rng(9).standard_normal(DIM)
    with httpx.Client(base_url=url, timeout=60) as client, mrlstore.open(papers, mode="r") as store:
        asked = {"vector": question.tolist(), "k": 5, "where": {"n": {"$lt": 3000}}}
        hits = client.post("/search", json=asked).json()["hits"]
        expected = store.query(question, 5, where={"n": {"$lt": 3000}})
        assert [hit["id"] for hit in hits] == expected.ids
        assert [hit["score"] for hit in hits] == pytest.approx(expected.scores.tolist())

        row = {"id": "new/one", "vector": question.tolist(), "metadata": {"n": -1}, "document": "Text."}
        assert client.put("/rows", json={"rows": [row]}).json() == {"written": 1}
        assert client.get("/rows/new/one").json()["document"] == "Text."
        assert client.delete("/rows/new/one").json() == {"deleted": 1}
        assert client.get("/rows/new/one").status_code == 404
        assert client.get("/stats").json()["rows"] == ROWS

        for wrong in (
            {"vector": [1.0, 2.0]},
            {"vector": question.tolist(), "where": {"n": {"$above": 1}}},
            {"vector": [0.0] * DIM},
            {"vector": "not base64"},
            {"vector": "AAAA"},
            {"vector": question.tolist(), "k": 0},
        ):
            refused = client.post("/search", json=wrong)
            assert refused.status_code == 422 and refused.json()["detail"], wrong


def test_answers_stay_consistent_under_load_while_others_write_and_optimize(url: str, papers: Path) -> None:
    requests = versions = rounds = 0
    with mrlstore.open(papers, auto_maintain=False) as store:
        vectors = np.random.default_rng(2).standard_normal((500, DIM)).astype(np.float32)
        for _ in range(20):  # a busy machine needs more turns until enough has been asked and written
            seconds = str(figure(60, 5))
            load = _load(url, "--clients", "3", "--workers", str(WORKERS), "--seconds", seconds, "--write")
            while load.poll() is None:
                store.upsert([f"bulk-{n}" for n in range(500)], vectors, [{"n": rounds}] * 500)
                store.optimize()
                rounds += 1
            told = json.loads(load.communicate()[0])
            assert told["errors"] == []
            requests, versions = requests + told["requests"], versions + told["versions_written"]
            if requests > 50 and versions > 3 and rounds > 1 and told["workers_seen"] == WORKERS:
                break
        else:
            pytest.fail(f"only {requests} requests, {versions} versions and {rounds} rounds")
    with mrlstore.open(papers, mode="r") as store:
        assert len(store) == ROWS + 500 + 20
        assert store.verify().ok


def test_the_check_of_the_load_script_can_fail() -> None:
    spec = importlib.util.spec_from_file_location("load", EXAMPLE / "load.py")
    assert spec is not None and spec.loader is not None
    load: Any = importlib.util.module_from_spec(spec)
    sys.modules["load"] = load
    spec.loader.exec_module(load)
    stale = [{"id": f"set-{n}", "score": 1.0, "metadata": {"version": 1 + n % 2}} for n in range(load.SET)]
    answers = httpx.MockTransport(lambda request: httpx.Response(200, json={"hits": stale}))
    seen, acknowledged = load.Seen(), type("Value", (), {"value": 2})
    with httpx.Client(base_url="http://service", transport=answers) as client:
        load.check_set(client, np.ones(DIM), seen, acknowledged)
    assert len(seen.errors) == 1 and "{1, 2}" in seen.errors[0]
