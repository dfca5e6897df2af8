"""The server beside Chroma's own, under load from Chroma's own client, in one run.

make .venv/hosted-chroma.stamp
python -m benchmarks.server_peers [--rows 20000] [--dim 3072] [--seconds 10] [--clients 2]

Both servers hold the same generated rows. Clients are processes with `chromadb.HttpClient`, one connection
each; the servers are driven in turn. In "mixed" each tenth call writes 100 rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.nested import nested
from tests.server.running import free_port, running

CLIENT = Path(__file__).with_name("chroma_client.py")
K, QUESTIONS = 10, 200


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=3_072)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chroma", type=Path, default=Path(".venv/hosted-chroma"), help="an environment")
    options = parser.parse_args()
    vectors = nested(options.rows + QUESTIONS, options.dim)
    rows, questions = vectors[: options.rows], vectors[options.rows :]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        np.save(f"{folder}/rows.npy", rows)
        np.save(f"{folder}/questions.npy", questions)
        ours = stack.enter_context(running(Path(folder) / "stores"))
        ports = {"mrlstore": ours.port, "chroma": stack.enter_context(chroma(options.chroma, Path(folder)))}
        truth = best(rows, questions)
        for name, port in ports.items():
            (made,) = clients(options, port, "fill", f"{folder}/rows.npy", 1)
            print(f"{name}: {options.rows:,} rows in {made['seconds']:.0f} s", flush=True)
        for number in range(options.rounds):
            for work in ("query", "mixed", "upsert"):
                for name, port in ports.items():
                    made = clients(options, port, work, f"{folder}/questions.npy", options.clients)
                    best_ids = truth if number == 0 else None  # rows that are written change what is best
                    print(f"{name}, {work}: {line(made, options.seconds, best_ids)}", flush=True)


@contextlib.contextmanager
def chroma(environment: Path, folder: Path) -> Iterator[int]:
    """Chroma's own server, as `chroma run` starts it; gives its port."""
    port = free_port()
    command = [environment / "bin" / "chroma", "run", "--path", folder / "chroma", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=5)
                break
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def clients(options: argparse.Namespace, port: int, work: str, rows: str, count: int) -> list[dict[str, Any]]:
    """What so many clients at the same time say."""
    python = options.chroma / "bin" / "python"
    common = [work, "--port", str(port), "--rows", rows, "--seconds", str(options.seconds)]
    started = [
        subprocess.Popen([python, CLIENT, *common, "--name", f"client{i}"], stdout=subprocess.PIPE, text=True)
        for i in range(count)
    ]
    answers = [one.communicate(timeout=3_600)[0] for one in started]
    return [json.loads(text.splitlines()[-1]) for text in answers]


def line(made: list[dict[str, Any]], seconds: float, truth: list[set[str]] | None) -> str:
    parts = []
    for kind in ("queries", "upserts"):
        taken = [value for one in made for value in one[kind]]
        if taken:
            p50, p99 = np.percentile(taken, [50, 99])
            parts.append(f"{len(taken) / seconds:.0f} {kind}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    answers = [] if truth is None else [pair for one in made for pair in one["answers"].items()]
    if truth is not None and answers:
        found = [len(truth[int(at)] & {*ids}) for at, ids in answers]
        parts.append(f"recall@{K} {np.mean(found) / K:.3f}")
    return "; ".join(parts)


def best(rows: NDArray[np.float32], questions: NDArray[np.float32]) -> list[set[str]]:
    """The ids of the exact best of each question, by cosine."""
    scores = questions @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    return [{f"row-{i}" for i in np.argsort(-one)[:K]} for one in scores]


if __name__ == "__main__":
    main()
