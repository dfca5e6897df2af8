"""What every client of benchmarks.server_peers does: so many calls one after the other, each timed.

It runs where the client's package is installed, and needs nothing else. Vectors come from a file of float32
numbers; it prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

BATCH, K = 100, 10  # rows of an upsert, hits of a query
MIXED = 10  # in "mixed" each so manyth call is an upsert

Vector = Sequence[float]


class Client(Protocol):
    """One connection to the index `papers`."""

    def query(self, vector: Vector) -> list[str]:
        """The ids of the nearest K rows, with their metadata."""

    def upsert(self, ids: list[str], vectors: Sequence[Vector]) -> None:
        """Store rows with a year each."""


def run(make: Callable[[argparse.Namespace], Client], convert: Callable[[Vector], Vector] = list) -> None:
    """Parse the command line, make the client and do the work.

    Args:
        make: gives the client of the options, of which `port` is the server's and `digits` how many digits
            behind the point numbers are sent with, None for those of float32.
        convert: makes of an array of floats what the client takes.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["fill", "query", "upsert", "mixed"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="float32: those to store, or the questions")
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--digits", type=int)
    parser.add_argument("--api", help="which one a bare client speaks")
    parser.add_argument("--name", default="c", help="of this client, in the ids of the rows it writes")
    options = parser.parse_args()
    client = make(options)
    if options.work == "fill":
        print(json.dumps({"seconds": fill(client, options, convert)}))
        return
    every = array("f", options.rows.read_bytes())
    rows = [convert(every[at : at + options.dim]) for at in range(0, len(every), options.dim)]
    client.query(rows[0])  # connects
    print(json.dumps(driven(client, rows, options)))


def driven(client: Client, rows: list[Vector], options: argparse.Namespace) -> dict[str, object]:
    """Calls until the time is over: milliseconds of each, and the ids that each question found."""
    queries: list[float] = []
    upserts: list[float] = []
    answers: dict[int, list[str]] = {}
    number, started = 0, time.perf_counter()
    while time.perf_counter() < started + options.seconds:
        writes = options.work == "upsert" or (options.work == "mixed" and number % MIXED == 0)
        begun = time.perf_counter()
        if writes:
            ids = [f"{options.name}-{number * BATCH + at}" for at in range(BATCH)]
            client.upsert(ids, rows[:BATCH])
            upserts.append((time.perf_counter() - begun) * 1e3)
        else:
            answers[number % len(rows)] = client.query(rows[number % len(rows)])
            queries.append((time.perf_counter() - begun) * 1e3)
        number += 1
    seconds = time.perf_counter() - started
    return {"queries": queries, "upserts": upserts, "answers": answers, "seconds": seconds}


def fill(client: Client, options: argparse.Namespace, convert: Callable[[Vector], Vector]) -> float:
    """Store all rows of the file, and give the seconds."""
    started, first = time.perf_counter(), 0
    with open(options.rows, "rb") as file:
        while piece := file.read(BATCH * options.dim * 4):
            numbers = array("f", piece)
            vectors = [convert(numbers[at : at + options.dim]) for at in range(0, len(numbers), options.dim)]
            client.upsert([f"row-{first + at}" for at in range(len(vectors))], vectors)
            first += len(vectors)
    return time.perf_counter() - started


def metadatas(count: int) -> list[dict[str, int]]:
    """Of the rows of an upsert."""
    return [{"year": 2000 + at % 20} for at in range(count)]
