"""The server under load beside the servers of Chroma and Milvus Lite, each call's processor time included.

make .venv/hosted-chroma.stamp .venv/hosted-python10.stamp .venv/milvus.stamp
python -m benchmarks.server_peers --prepare        # once: fills the servers, 100,000 rows of 3,072 dims
python -m benchmarks.server_peers                  # about five minutes

All hold the same generated rows. Clients are processes of one connection each: every server is driven by its
vendor's package, and two of them by sockets that send bodies made before. In "mixed" each tenth call writes
100 rows. The drivers take turns, in each round all of them. Processor time is that of all processes of the
server, work behind the calls included; "own" is what of it a query of the store in a process does not take.
"short" sends 8 decimals of each number: for 3,072 numbers 35 KB and not 66.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import mrlstore
from benchmarks.client_loop import K
from benchmarks.peer_servers import SERVERS, PeerServer
from benchmarks.server import in_process_ms
from tests.nested import nested

ROOT = Path(__file__).parents[1]
QUESTIONS = 200
WORKS = ("query", "mixed", "upsert")


class Driver(NamedTuple):
    """A kind of client of a server: its module, the environment it runs in, what it works at."""

    server: str
    name: str
    module: str
    environment: str | None
    options: tuple[str, ...] = ()
    works: tuple[str, ...] = WORKS


FILLERS = {
    "mrlstore": Driver("mrlstore", "chromadb", "chroma_client", "hosted-chroma"),
    "chroma": Driver("chroma", "chromadb", "chroma_client", "hosted-chroma"),
    "milvus": Driver("milvus", "pymilvus", "milvus_client", "milvus"),
}
DRIVERS = (
    Driver("mrlstore", "Pinecone SDK 10", "pinecone_client", "hosted-python10"),
    Driver("mrlstore", "socket", "bare_client", None, ("--api", "pinecone")),
    Driver(
        "mrlstore", "socket, short", "bare_client", None, ("--api", "pinecone", "--digits", "8"), ("query",)
    ),
    *FILLERS.values(),
    Driver("chroma", "socket", "bare_client", None, ("--api", "chroma")),
)


@dataclass
class Load:
    """What clients saw, and what the server spent, over all rounds."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    queries: list[float] = field(default_factory=list)
    upserts: list[float] = field(default_factory=list)
    recall: float | None = None

    def line(self, store_ms: float | None) -> str:
        parts = []
        for kind in ("queries", "upserts"):
            taken: list[float] = getattr(self, kind)
            if taken:
                p50, p99 = np.percentile(taken, [50, 99])
                parts.append(f"{len(taken) / self.seconds:7.1f} {kind}/s {p50:8.2f} {p99:8.2f} ms")
        each = self.cpu_s / (len(self.queries) + len(self.upserts)) * 1e3
        parts.append(f"CPU {each:8.2f} ms a call")
        if store_ms is not None and not self.upserts:
            parts.append(f"own {each - store_ms:5.2f} ms")
        if self.recall is not None:
            parts.append(f"recall@{K} {self.recall:.3f}")
        return " | ".join(parts)


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--prepare", action="store_true", help="fill the servers, where they are not yet")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=3_072)
    parser.add_argument("--workers", type=int, default=2, help="of this server")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--servers", default="mrlstore,chroma", help="also milvus")
    options = parser.parse_args()
    options.folder = ROOT / "build" / f"server-{options.rows}x{options.dim}"
    names = options.servers.split(",")
    if options.prepare:
        _prepare(options, names)
        return
    missing = [name for name in names if not (options.folder / f"{name}.filled").exists()]
    if missing:
        sys.exit(f"{', '.join(missing)}: not filled yet; run this with --prepare first")
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(_copied(name, options)) for name in names}
        _drive(options, servers)


def _drive(options: argparse.Namespace, servers: dict[str, PeerServer]) -> None:
    questions = np.fromfile(options.folder / "questions.f32", np.float32).reshape(-1, options.dim)
    truth = json.loads((options.folder / "truth.json").read_text())
    store_ms = in_process_ms(options.folder / "mrlstore" / "papers.mrl", questions)
    print(
        f"{options.rows:,} rows of {options.dim:,} dims, {options.workers} workers, {options.clients} clients"
    )
    loads: dict[tuple[str, Driver], Load] = defaultdict(Load)
    for number in range(options.rounds):
        for work in WORKS:
            for driver in DRIVERS:
                if driver.server in servers and work in driver.works:
                    best = truth if number == 0 and work == "query" else None
                    _measure(options, servers[driver.server], driver, work, loads[work, driver], best)
    store_ms = min(store_ms, in_process_ms(options.folder / "mrlstore" / "papers.mrl", questions))
    print(f"the query in a process: {store_ms:.3f} ms of processor time")
    for (work, driver), load in loads.items():
        own = store_ms if driver.server == "mrlstore" else None
        print(f"{work:7} {driver.server:9} {driver.name:16} {load.line(own)}", flush=True)


def _measure(
    options: argparse.Namespace,
    server: PeerServer,
    driver: Driver,
    work: str,
    load: Load,
    truth: list[list[str]] | None,
) -> None:
    """One turn of a driver."""
    questions = options.folder / "questions.f32"
    _settle(server)
    before = server.processor_s()
    made = clients(options, server.port, driver, work, questions, options.clients)
    load.cpu_s += server.processor_s() - before
    load.seconds += max(one["seconds"] for one in made)
    for one in made:
        load.queries += one["queries"]
        load.upserts += one["upserts"]
    if truth is not None:
        pairs = [(int(at), ids) for one in made for at, ids in one["answers"].items()]
        load.recall = float(np.mean([len({*truth[at]} & {*ids}) for at, ids in pairs])) / K


def _settle(server: PeerServer) -> None:
    """Wait until the work behind earlier writes is done, for 20 seconds at most."""
    for _ in range(40):
        before = server.processor_s()
        time.sleep(0.5)
        if server.processor_s() - before < 0.03:
            return


def clients(
    options: argparse.Namespace, port: int, driver: Driver, work: str, rows: Path, count: int
) -> list[dict[str, Any]]:
    """What so many clients at the same time say."""
    home = None if driver.environment is None else ROOT / ".venv" / driver.environment / "bin" / "python"
    command = [sys.executable if home is None else str(home), "-m", f"benchmarks.{driver.module}", work]
    command += ["--port", str(port), "--rows", str(rows), "--dim", str(options.dim), *driver.options]
    command += ["--seconds", str(options.seconds)]
    started = [
        subprocess.Popen(
            [*command, "--name", f"{driver.module}{i}"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for i in range(count)
    ]
    answers = [one.communicate(timeout=7_200)[0] for one in started]
    return [json.loads(text.splitlines()[-1]) for text in answers]


@contextlib.contextmanager
def _copied(name: str, options: argparse.Namespace) -> Any:
    """A server on a copy of what was filled, which goes with it."""
    folder = options.folder / "copies" / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(options.folder / name, folder)
    try:
        with SERVERS[name](folder, options.workers) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(options: argparse.Namespace, names: list[str]) -> None:
    """Make the rows, the questions with their exact answers, and fill the servers that are not yet."""
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    rows_file = folder / "rows.f32"
    if not (folder / "truth.json").exists():
        vectors = nested(options.rows + QUESTIONS, options.dim)
        rows, questions = vectors[: options.rows], vectors[options.rows :]
        rows.tofile(rows_file)
        questions.tofile(folder / "questions.f32")
        (folder / "truth.json").write_text(json.dumps(exact(rows, questions)))
    for name in names:
        if (folder / f"{name}.filled").exists():
            continue
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        with SERVERS[name](folder / name, options.workers) as server:
            (made,) = clients(options, server.port, FILLERS[name], "fill", rows_file, 1)
            _settle(server)
        if name == "mrlstore":
            with mrlstore.open(folder / name / "papers.mrl") as store:
                store.optimize()
        (folder / f"{name}.filled").write_text(json.dumps(made))
        print(f"{name}: {options.rows:,} rows in {made['seconds']:.0f} s", flush=True)


def exact(rows: NDArray[np.float32], questions: NDArray[np.float32]) -> list[list[str]]:
    """The ids of the exact best of each question, by cosine."""
    scores = questions @ rows.T / np.linalg.norm(rows, axis=1)
    return [[f"row-{i}" for i in np.argsort(-one)[:K]] for one in scores]


if __name__ == "__main__":
    main()
