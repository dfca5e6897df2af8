"""mrlstore and its peers behind one shape: build a folder, open it, answer a query with a given effort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PREFIX, K, THREADS = 768, 10, 2
Answer = Callable[[NDArray[np.float32]], Iterable[int]]
Effort = tuple[int, int]  # ef, shortlist
At = Callable[[Any], Answer]
Rows = NDArray[np.float16]
EFFORTS: list[Effort] = [
    (20, 20), (32, 24), (48, 32), (64, 48), (80, 56), (96, 64), (128, 64), (128, 100), (200, 100),
    (400, 100), (800, 200),
]  # fmt: skip
TARGETS: list[Any] = [  # mrlstore's one knob, and efforts of the peers' kind
    0.8, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.997, 0.998, 0.999,
    (32, 32), (48, 48), (64, 56), (64, 64), (80, 64), (128, 64), (128, 100), (400, 200), (800, 400),
]  # fmt: skip


class Peer(NamedTuple):
    """One of those compared. Nothing of `library` is loaded on the clock of `open`."""

    library: str
    build: Callable[[Rows, Path], None]  # everything until it could be opened; the folder is empty
    open: Callable[[Rows, Path], At]
    keeps_rows: bool = False  # the full vectors too; others re-rank on the rows beside the folder


def unit_prefixes(rows: Rows) -> NDArray[np.float32]:
    prefixes = rows[:, :PREFIX].astype(np.float32)
    return prefixes / np.linalg.norm(prefixes, axis=1, keepdims=True)


def int8(prefixes: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.clip(np.rint(prefixes * 400), -127, 127).astype(np.int8)


def unit_prefix(query: NDArray[np.float32]) -> NDArray[np.float32]:
    prefix = query[:PREFIX]
    return prefix / np.sqrt(np.dot(prefix, prefix))


def blocks(rows: Rows) -> Iterable[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(rows), 10_000):
        yield start, rows[start : start + 10_000].astype(np.float32)


def save_lengths(rows: Rows, folder: Path) -> None:
    """What the re-rank needs beside the rows."""
    lengths = np.concatenate([np.linalg.norm(block, axis=1) for _, block in blocks(rows)])
    np.save(folder / "inv_lengths.npy", (1 / lengths).astype(np.float32))


def reranker(rows: Rows, folder: Path) -> Callable[[NDArray[np.float32], Any], Sequence[int]]:
    """Mrlstore's own numba re-rank on the mapped float16 rows, for peers that have none."""
    from mrlstore.index.group import Group
    from mrlstore.kernels.load import kernels
    from mrlstore.kernels.scratch import Scratch

    group = Group(rows, np.load(folder / "inv_lengths.npy"), np.arange(len(rows)))
    kernel, table, work = kernels().rerank, group.table, Scratch()
    work.reserve(0, 0, 1_024, 0, 0)
    best, scores = np.empty(K, np.int64), np.empty(K, np.float32)

    def rerank(query: NDArray[np.float32], listed: Any) -> Sequence[int]:
        work.listed[: len(listed)] = listed
        found, _ = kernel(table, query, work.table, 0, len(listed), K, 0.0, best, scores)
        keep: Any = group
        return best[: min(found, len(keep.keys))].tolist()

    return rerank


def build_mrlstore(rows: Rows, folder: Path) -> None:
    import mrlstore

    with mrlstore.open(folder / "s.mrl", dim=rows.shape[1], auto_maintain=False, threads=THREADS) as store:
        for start, block in blocks(rows):
            store.upsert([str(start + i) for i in range(len(block))], block)
        store.optimize()


def open_mrlstore(rows: Rows, folder: Path) -> At:
    import mrlstore

    store = mrlstore.open(folder / "s.mrl", mode="r")

    def at(effort: Any) -> Answer:
        if isinstance(effort, float):
            return lambda query: map(int, store.query(query, K, include=(), target_recall=effort).ids)
        ef, shortlist = effort
        return lambda query: map(int, store.query(query, K, include=(), ef=ef, shortlist=shortlist).ids)

    return at


def build_hnswlib(rows: Rows, folder: Path) -> None:
    import hnswlib

    index = hnswlib.Index("ip", PREFIX)
    index.init_index(len(rows), M=16, ef_construction=200)
    index.add_items(unit_prefixes(rows), num_threads=THREADS)
    index.save_index(str(folder / "index"))
    save_lengths(rows, folder)


def open_hnswlib(rows: Rows, folder: Path) -> At:
    import hnswlib

    index = hnswlib.Index("ip", PREFIX)
    index.load_index(str(folder / "index"))
    index.set_num_threads(1)
    rerank = reranker(rows, folder)

    def at(effort: Effort) -> Answer:
        index.set_ef(max(effort))
        return lambda query: rerank(query, index.knn_query(unit_prefix(query), effort[1])[0][0])

    return at


def build_faiss(rows: Rows, folder: Path) -> None:
    import faiss

    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexHNSWSQ(PREFIX, faiss.ScalarQuantizer.QT_8bit, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    prefixes = unit_prefixes(rows)
    index.train(prefixes)
    index.add(prefixes)
    faiss.write_index(index, str(folder / "index"))
    save_lengths(rows, folder)


def open_faiss(rows: Rows, folder: Path) -> At:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / "index"))
    rerank = reranker(rows, folder)

    def at(effort: Effort) -> Answer:
        index.hnsw.efSearch = max(effort)
        return lambda query: rerank(query, index.search(unit_prefix(query)[None], effort[1])[1][0])

    return at


def build_usearch(rows: Rows, folder: Path) -> None:
    from usearch.index import Index

    index = Index(ndim=PREFIX, metric="cos", dtype="i8", connectivity=16, expansion_add=200)
    index.add(np.arange(len(rows)), unit_prefixes(rows), threads=THREADS)
    index.save(str(folder / "index"))
    save_lengths(rows, folder)


def open_usearch(rows: Rows, folder: Path) -> At:
    from usearch.index import Index

    index = Index.restore(str(folder / "index"))
    rerank = reranker(rows, folder)

    def at(effort: Effort) -> Answer:
        index.expansion_search = max(effort)
        return lambda query: rerank(query, index.search(unit_prefix(query), effort[1]).keys)

    return at


def build_svs(rows: Rows, folder: Path) -> None:
    import svs

    parameters = svs.VamanaBuildParameters(alpha=1.2, graph_max_degree=32, window_size=200)
    prefixes = int8(unit_prefixes(rows))
    index = svs.Vamana.build(parameters, prefixes, svs.DistanceType.L2, num_threads=THREADS)
    index.save(str(folder / "config"), str(folder / "graph"), str(folder / "data"))
    save_lengths(rows, folder)


def open_svs(rows: Rows, folder: Path) -> At:
    import svs

    data = svs.VectorDataLoader(str(folder / "data"), svs.DataType.int8, dims=PREFIX)
    index = svs.Vamana(
        str(folder / "config"), svs.GraphLoader(str(folder / "graph")), data, svs.DistanceType.L2,
        query_type=svs.DataType.int8, num_threads=1,
    )  # fmt: skip
    rerank = reranker(rows, folder)

    def at(effort: Effort) -> Answer:
        index.search_window_size = max(effort)
        return lambda query: rerank(query, index.search(int8(unit_prefix(query))[None], effort[1])[0][0])

    return at


def build_qdrant(rows: Rows, folder: Path) -> None:
    import qdrant_edge as q

    quantised = q.ScalarQuantizationConfig(type=q.ScalarType.Int8, always_ram=True)
    small = q.EdgeVectorParams(
        size=PREFIX, distance=q.Distance.Cosine, quantization_config=quantised, on_disk=True,
        hnsw_config=q.HnswIndexConfig(m=16, ef_construct=200, full_scan_threshold=10),
    )  # fmt: skip
    large = q.EdgeVectorParams(
        size=rows.shape[1], distance=q.Distance.Cosine, on_disk=True,
        datatype=q.VectorStorageDatatype.Float16,
        hnsw_config=q.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10),
    )  # fmt: skip
    shard = q.EdgeShard.create(str(folder), q.EdgeConfig(vectors={"small": small, "large": large}))
    for start in range(0, len(rows), 1_000):
        block = rows[start : start + 1_000].astype(np.float32)
        points = [
            q.Point(id=start + i, vector={"small": row[:PREFIX].tolist(), "large": row.tolist()}, payload={})
            for i, row in enumerate(block)
        ]
        shard.update(q.UpdateOperation.upsert_points(points))
    shard.optimize()
    shard.close()


def open_qdrant(rows: Rows, folder: Path) -> At:
    import qdrant_edge as q

    shard = q.EdgeShard.load(str(folder))

    def at(effort: Effort) -> Answer:
        parameters = q.SearchParams(hnsw_ef=max(effort), exact=False)

        def answer(query: NDArray[np.float32]) -> Iterable[int]:
            first = q.Prefetch(
                query=q.Query.Nearest(query[:PREFIX].tolist(), using="small"),
                limit=effort[1],
                params=parameters,
            )
            request = q.QueryRequest(
                prefetches=[first], query=q.Query.Nearest(query.tolist(), using="large"), limit=K
            )
            return [point.id for point in shard.query(request)]

        return answer

    return at


def build_lancedb(rows: Rows, folder: Path) -> None:
    import lancedb
    import pyarrow as pa

    def batches() -> Iterable[Any]:
        for start, block in blocks(unit_prefixes(rows)):
            flat = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), PREFIX)
            yield pa.record_batch([pa.array(np.arange(start, start + len(block))), flat], ["id", "vector"])

    table = lancedb.connect(str(folder)).create_table("t", pa.Table.from_batches(list(batches())))
    table.create_index(metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=200)
    save_lengths(rows, folder)


def open_lancedb(rows: Rows, folder: Path) -> At:
    import lancedb

    table, rerank = lancedb.connect(str(folder)).open_table("t"), reranker(rows, folder)

    def at(effort: Effort) -> Answer:
        def answer(query: NDArray[np.float32]) -> Iterable[int]:
            search = table.search(query[:PREFIX]).distance_type("cosine").ef(max(effort)).limit(effort[1])
            return rerank(query, search.select(["id", "_distance"]).to_arrow()["id"].to_numpy())

        return answer

    return at


OURS = "mrlstore"
PEERS: dict[str, Peer] = {
    OURS: Peer("mrlstore", build_mrlstore, open_mrlstore, keeps_rows=True),
    "hnswlib + re-rank": Peer("hnswlib", build_hnswlib, open_hnswlib),
    "FAISS HNSW-SQ8 + re-rank": Peer("faiss", build_faiss, open_faiss),
    "usearch int8 + re-rank": Peer("usearch.index", build_usearch, open_usearch),
    "SVS Vamana int8 + re-rank": Peer("svs", build_svs, open_svs),
    "Qdrant Edge prefetch": Peer("qdrant_edge", build_qdrant, open_qdrant, keeps_rows=True),
    "LanceDB HNSW-SQ + re-rank": Peer("lancedb", build_lancedb, open_lancedb),
}


def efforts(peer: str) -> Sequence[Any]:
    """What a peer is asked to try, from cheap to dear."""
    return TARGETS if peer == OURS else EFFORTS
