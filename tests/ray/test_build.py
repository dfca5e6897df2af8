"""Bulk load by Ray Data: every row once, whatever is interrupted, repeated or refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrlstore import cluster
from mrlstore.cli import main
from mrlstore.cluster.ray_engine.bulk_load import shared_embedder
from tests.oracle import nested_vectors
from tests.ray.conftest import DIM, SHARDS
from tests.ray.hosts import connected

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray Data has warnings of its own

ROWS = 300


class LetterEmbedder:
    """Vectors of how often letters come."""

    fingerprint = "letters"

    def __init__(self, requests_per_minute: int | None = None) -> None:
        self.limit = requests_per_minute

    def embed_documents(self, contents: Any) -> Any:
        found = [[text.count(letter) for letter in "abcdefgh"] for text in contents]
        return np.array(found, dtype=np.float32) + 1e-3

    def embed_query(self, content: Any) -> Any:
        return self.embed_documents([content])[0]


def test_limits_are_divided_among_the_writers() -> None:
    make = shared_embedder(functools.partial(LetterEmbedder, requests_per_minute=1000), 3)
    made = make()
    assert isinstance(made, LetterEmbedder) and made.limit == 333
    assert shared_embedder(LetterEmbedder, 3) is LetterEmbedder


def test_parquet_files_are_loaded_once_and_go_on_where_they_stopped(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home.parent / "rows"
    folder.mkdir()
    vectors = nested_vectors(ROWS, DIM)
    for part in range(3):
        rows = range(part * 100, part * 100 + 100)
        table = pa.table(
            {
                "id": [f"r{row}" for row in rows],
                "vector": [vectors[row].tolist() for row in rows],
                "metadata": [json.dumps({"n": row}) for row in rows],
            }
        )
        pq.write_table(table, folder / f"{part}.parquet")
    texts = pa.table({"id": ["t1", "t2", ""], "document": ["abba", "cabbage", "without an id"]})
    pq.write_table(texts, home.parent / "texts.parquet")
    with connected(home, hosts=2) as store:
        first = cluster.build(
            str(folder / "0.parquet"), home, batch=64, num_cpus=0.5, writers=1, finish=False
        )
        assert (first.written, first.refused) == (100, 0)
        wanted = ["--batch", "64", "--num-cpus", "0.5", "--writers", "1", "--json"]
        assert main(["cluster", "build", str(folder), str(home), *wanted]) == 0
        again = json.loads(capsys.readouterr().out)
        assert (again["written"], again["skipped"], again["refused"]) == (200, 100, 0)
        assert {row.id: row.metadata for row in store.scan()} == {f"r{n}": {"n": n} for n in range(ROWS)}
        assert store.query(vectors[7], 1, exact=True).ids == ["r7"]
        status = cluster.status(home)
        assert status.rows == ROWS and [one.entries_behind for one in status.shards] == [0] * SHARDS

        load = functools.partial(
            cluster.build, str(home.parent / "texts.parquet"), home, embedder=LetterEmbedder, num_cpus=0.5,
            writers=1, finish=False,
        )  # fmt: skip
        done = load()
        assert (done.written, done.embedded, done.refused) == (2, 2, 1) and len(done.refusals) == 1
        assert (load().embedded, load().skipped) == (0, 2)
        assert store.embedder_fingerprint == "letters"
        assert store.query(LetterEmbedder().embed_query("abba"), 1, exact=True).ids == ["t1"]
