"""How long a new process takes with each peer until its first answer: import, open, one query.

python -m benchmarks.peer_starts [--rows 10000] [--dim 768] [--rounds 5]

Each builds its store of the same generated rows once, as its first pages show it. Then they take turns: a new
process imports the peer, opens the store and asks one question. Of each the least is printed, because other
work of the machine only adds to it. All have their bytecode ready. Peers that are not installed are left out:
`pip install -r benchmarks/compare/requirements.txt`. Chroma and LanceDB get no network and send nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from tests.nested import nested


class Peer(NamedTuple):
    """The programs of one peer: they find `rows` float32 [n, dim], `folder` and K."""

    library: str
    build: str
    answer: str  # leaves the number of hits in `found`


HEAD: Final = """
import sys
import numpy
folder = sys.argv[1]
rows = numpy.load(sys.argv[2], mmap_mode="r")
K = 10
"""
NUMPY: Final = "numpy alone"
PEERS: Final = {
    "mrlstore": Peer(
        "mrlstore",
        """
import mrlstore
with mrlstore.open(folder + "/s.mrl", dim=rows.shape[1], auto_maintain=False) as store:
    store.upsert([str(i) for i in range(len(rows))], rows)
    store.optimize()
""",
        """
import mrlstore
store = mrlstore.open(folder + "/s.mrl", mode="r")
found = len(store.query(rows[0], K).ids)
""",
    ),
    "FAISS": Peer(
        "faiss",
        """
import faiss
index = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
index.add(numpy.array(rows))
faiss.write_index(index, folder + "/index")
""",
        """
import faiss
index = faiss.read_index(folder + "/index")
found = len(index.search(numpy.array(rows[:1]), K)[1][0])
""",
    ),
    "LanceDB": Peer(
        "lancedb",
        """
import lancedb
import pyarrow
flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(numpy.array(rows).ravel()), rows.shape[1])
table = pyarrow.table({"id": pyarrow.array(range(len(rows))), "vector": flat})
made = lancedb.connect(folder).create_table("t", table)
made.create_index(metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=200)
""",
        """
import lancedb
table = lancedb.connect(folder).open_table("t")
found = len(table.search(rows[0]).distance_type("cosine").limit(K).select(["id", "_distance"]).to_arrow())
""",
    ),
    "Chroma": Peer(
        "chromadb",
        """
import chromadb
from chromadb.config import Settings
client = chromadb.PersistentClient(folder, settings=Settings(anonymized_telemetry=False))
made = client.create_collection("rows", configuration={"hnsw": {"space": "cosine"}})
for start in range(0, len(rows), 1000):
    block = rows[start : start + 1000]
    made.add(ids=[str(start + i) for i in range(len(block))], embeddings=numpy.array(block))
""",
        """
import chromadb
from chromadb.config import Settings
client = chromadb.PersistentClient(folder, settings=Settings(anonymized_telemetry=False))
made = client.get_collection("rows", embedding_function=None)
found = len(made.query(query_embeddings=[rows[0].tolist()], n_results=K)["ids"][0])
""",
    ),
    "Qdrant Edge": Peer(
        "qdrant_edge",
        """
import qdrant_edge as q
config = q.EdgeVectorParams(
    size=rows.shape[1], distance=q.Distance.Cosine,
    hnsw_config=q.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=10),
)
shard = q.EdgeShard.create(folder, q.EdgeConfig(vectors={"v": config}))
for start in range(0, len(rows), 1000):
    block = rows[start : start + 1000]
    points = [q.Point(id=start + i, vector={"v": row.tolist()}, payload={}) for i, row in enumerate(block)]
    shard.update(q.UpdateOperation.upsert_points(points))
shard.optimize()
shard.close()
""",
        """
import qdrant_edge as q
shard = q.EdgeShard.load(folder)
found = len(shard.query(q.QueryRequest(query=q.Query.Nearest(rows[0].tolist(), using="v"), limit=K)))
""",
    ),
}


class Taken(NamedTuple):
    """What a process took."""

    seconds: float
    processor_s: float


def run(program: str, folder: Path, rows: Path) -> Taken:
    """Run a program in a new process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + program, str(folder), str(rows)],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=600,
    )
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(seconds, processor_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peers = {name: peer for name, peer in PEERS.items() if importlib.util.find_spec(peer.library)}
    with tempfile.TemporaryDirectory() as temporary:
        folder, rows = Path(temporary), Path(temporary) / "rows.npy"
        np.save(rows, nested(options.rows, options.dim))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for name, peer in peers.items():
            (folder / name).mkdir()
            run(peer.build, folder / name, rows)
        programs = {NUMPY: "found = K"} | {name: peer.answer for name, peer in peers.items()}
        taken: dict[str, list[Taken]] = {name: [] for name in programs}
        for _ in range(options.rounds + 1):  # the first round fills caches
            for name, program in programs.items():
                taken[name].append(run(program + "\nassert found == K\n", folder / name, rows))
    print("| | until it has ended, s | processor time, s |\n|---|---|---|")
    for name, times in taken.items():
        least = np.array(times[1:]).min(axis=0)
        print(f"| {name} | {least[0]:.2f} | {least[1]:.2f} |")


if __name__ == "__main__":
    main()
