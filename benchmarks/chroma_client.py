"""One client of a server, by chromadb's own calls; benchmarks.server_peers runs it where chromadb is.

It reads vectors from a .npy file and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import chromadb
import numpy as np

BATCH, K = 100, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["fill", "query", "upsert", "mixed"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rows", required=True, help="a .npy file: those to store, or the questions")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--name", default="c", help="of this client, in the ids of the rows it writes")
    options = parser.parse_args()
    rows = np.load(options.rows)
    client = chromadb.HttpClient(host="127.0.0.1", port=options.port)
    space = {"hnsw": {"space": "cosine"}}
    rows_there = client.get_or_create_collection("papers", configuration=space)
    if options.work == "fill":
        started = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            upsert(rows_there, "row", rows[start : start + BATCH], start)
        print(json.dumps({"seconds": time.perf_counter() - started}))
        return
    queries: list[float] = []
    upserts: list[float] = []
    answers: dict[int, list[str]] = {}
    until, number = time.perf_counter() + options.seconds, 0
    while time.perf_counter() < until:
        writes = options.work == "upsert" or (options.work == "mixed" and number % 10 == 0)
        begun = time.perf_counter()
        if writes:
            upsert(rows_there, options.name, rows[:BATCH], number * BATCH)
            upserts.append((time.perf_counter() - begun) * 1e3)
        else:
            at = number % len(rows)
            found = rows_there.query(
                query_embeddings=[rows[at]], n_results=K, include=["metadatas", "distances"]
            )
            queries.append((time.perf_counter() - begun) * 1e3)
            answers[at] = found["ids"][0]
        number += 1
    print(json.dumps({"queries": queries, "upserts": upserts, "answers": answers}))


def upsert(collection: chromadb.Collection, name: str, rows: np.ndarray, first: int) -> None:
    ids = [f"{name}-{first + i}" for i in range(len(rows))]
    collection.upsert(ids=ids, embeddings=rows, metadatas=[{"year": 2000 + i % 20} for i in range(len(rows))])


if __name__ == "__main__":
    main()
