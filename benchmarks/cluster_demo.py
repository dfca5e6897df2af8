"""Three simulated nodes of Ray, docstrings of the standard library, questions; a node is lost on the way.

The node goes with its disk while rows are written. Then the same questions get the same answers, and every
row that was acknowledged is there. Fails if not.

python -m benchmarks.cluster_demo --documents 4000
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

for name, value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_raylet_start_wait_time_s", "180"),
    ("RAY_worker_niceness", "0"),  # else its processes starve where others keep the cores busy
    ("RAY_health_check_initial_delay_ms", "1000"),
    ("RAY_health_check_period_ms", "1000"),
    ("RAY_health_check_timeout_ms", "1000"),
    ("RAY_health_check_failure_threshold", "3"),
):
    os.environ.setdefault(name, value)

import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

import mrlstore  # noqa: E402
from mrlstore import cluster  # noqa: E402
from mrlstore.cli.demo import corpus  # noqa: E402
from mrlstore.cli.demo.demonstration import QUESTIONS  # noqa: E402
from mrlstore.cluster.ray_engine.actors import NAMESPACE, host_name  # noqa: E402
from mrlstore.embedders.local import LocalEmbedder  # noqa: E402

NODES, SHARDS, DIM = 3, 4, 512
LONGEST_S = 120.0
OUT = sys.stdout


def say(text: str) -> None:
    """Print a line, also where what Ray prints is kept away."""
    print(text, file=OUT, flush=True)


class Writing(threading.Thread):
    """Writes one row after the other, and knows which were acknowledged."""

    def __init__(self, store: cluster.ShardedStore) -> None:
        super().__init__(daemon=True)
        self.store, self.acknowledged, self.longest_s = store, list[str](), 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            started, id = time.monotonic(), f"written-{number}"
            number += 1
            try:
                self.store.upsert([id], None, [{"kind": "written"}])
            except mrlstore.MrlStoreError as error:
                say(f"    not acknowledged: {error}")
                continue
            self.acknowledged.append(id)
            self.longest_s = max(self.longest_s, time.monotonic() - started)


def answers(store: cluster.ShardedStore) -> list[list[tuple[str, float]]]:
    """The exact answers to the questions."""
    found = [store.query(text=text, k=5, exact=True) for text in QUESTIONS]
    return [list(zip(one.ids, one.scores.tolist(), strict=True)) for one in found]


def node_of(host: int, home: Any) -> str:
    """The id of the node that an actor runs on."""
    wanted = ray.get_actor(host_name(home, host), namespace=NAMESPACE)._actor_id.hex()
    found: str = ray._private.state.actors(wanted)["Address"]["NodeID"]
    return found


def writes_shards(host: int, home: Any) -> bool:
    """Whether an actor writes a shard."""
    actor = ray.get_actor(host_name(home, host), namespace=NAMESPACE)
    state = ray.get(actor.state.remote(), timeout=LONGEST_S)
    return any(shard.writes for shard in state.shards.values())


def run(folder: Path, documents: int) -> None:
    """All steps, each printed."""
    started = time.monotonic()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    workers = [nodes.add_node(num_cpus=2) for _ in range(NODES)]
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
    say(f"{NODES} simulated nodes run after {time.monotonic() - started:.0f} s")
    try:
        docstrings = corpus.standard_library(documents)
        texts = [f"{one.name}\n{one.text}" for one in docstrings]
        embedder = LocalEmbedder.fit(texts, dim=DIM)
        cluster.create(folder / "home", dim=embedder.dim, shards=SHARDS)
        with cluster.connect(
            folder / "home", engine="ray", folder=folder / "disks", embedder=embedder, hosts=NODES
        ) as store:
            before = filled(store, [one.name for one in docstrings], embedder.embed_documents(texts), texts)
            with (
                redirect_stderr(io.StringIO()),
                redirect_stdout(io.StringIO()),
            ):  # Ray tells at length of nodes that end
                lost(store, nodes, workers, folder / "disks", before)
    finally:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            ray.shutdown()
            nodes.shutdown()


def filled(store: cluster.ShardedStore, names: list[str], vectors: Any, texts: list[str]) -> Any:
    """Store the documents and ask."""
    started = time.monotonic()
    rows = store.upsert(names, vectors, [{"kind": "docstring"}] * len(names), texts)
    store.snapshot()
    say(f"{rows:,} rows in {SHARDS} shards after {time.monotonic() - started:.1f} s")
    found = answers(store)
    for question, best in zip(QUESTIONS, found, strict=True):
        say(f"  {question}: {', '.join(id for id, _ in best[:3])}")
    return found


def lost(store: cluster.ShardedStore, nodes: Any, workers: list[Any], disks: Path, before: Any) -> None:
    """Take a node away with its disk while rows are written, and look whether anything is missing."""
    writing = Writing(store)
    writing.start()
    while len(writing.acknowledged) < 50:
        time.sleep(0.02)
    host = next(number for number in range(NODES) if writes_shards(number, store.home))
    node = node_of(host, store.home)
    say(f"the node of host {host}, which writes shards, is killed and its disk removed")
    at = time.monotonic()
    nodes.remove_node(next(one for one in workers if one.node_id == node), allow_graceful=False)
    shutil.rmtree(disks / f"host-{host}", ignore_errors=True)
    after = None
    while after is None:
        try:
            after = answers(store)
        except mrlstore.MrlStoreError as error:
            say(f"    not answered: {error}")
            assert time.monotonic() - at < LONGEST_S
    say(f"  questions answered again after {time.monotonic() - at:.1f} s")
    many = len(writing.acknowledged) + 50
    while len(writing.acknowledged) < many:
        assert time.monotonic() - at < LONGEST_S, "writes do not go on"
        time.sleep(0.02)
    writing.ended.set()
    writing.join(LONGEST_S)
    assert not writing.is_alive()
    say(f"  the longest write took {writing.longest_s:.1f} s")
    there = {row.id for row in store.scan({"kind": "written"}, include=())}
    missing = [id for id in writing.acknowledged if id not in there]
    say(f"  {len(writing.acknowledged)} rows were acknowledged meanwhile, {len(missing)} are missing")
    say(f"  answers are {'the same' if after == before else 'NOT the same'}")
    assert after == before and not missing


def main() -> None:
    """Run it in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=4_000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run(Path(folder), given.documents)


if __name__ == "__main__":
    main()
