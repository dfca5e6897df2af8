"""mrlstore and its peers behind one shape: build once, then answer a query with a given effort."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PREFIX, K, THREADS = 768, 10, 2
Answer = Callable[[NDArray[np.float32]], Iterable[int]]
Effort = tuple[int, int]  # ef, shortlist
Build = Callable[[NDArray[np.float16], Path], Callable[[Any], Answer]]
EFFORTS: list[Effort] = [
    (20, 20), (32, 24), (48, 32), (64, 48), (96, 64), (128, 64), (128, 100), (200, 100), (400, 100),
    (800, 200),
]  # fmt: skip
TARGETS = [0.8, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.997, 0.998, 0.999]  # mrlstore's one knob


def unit_prefixes(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    prefixes = rows[:, :PREFIX].astype(np.float32)
    return prefixes / np.linalg.norm(prefixes, axis=1, keepdims=True)


def int8(prefixes: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.clip(np.rint(prefixes * 400), -127, 127).astype(np.int8)


def unit_prefix(query: NDArray[np.float32]) -> NDArray[np.float32]:
    prefix = query[:PREFIX]
    return prefix / np.sqrt(np.dot(prefix, prefix))


def reranker(rows: NDArray[np.float16]) -> Callable[[NDArray[np.float32], Any], Sequence[int]]:
    """Mrlstore's own numba re-rank on the mapped float16 rows, for peers that have none."""
    from mrlstore import group as searched
    from mrlstore.loaded import kernels

    lengths = [
        np.linalg.norm(rows[i : i + 10_000].astype(np.float32), axis=1) for i in range(0, len(rows), 10_000)
    ]
    group = searched.Group(rows, (1 / np.concatenate(lengths)).astype(np.float32), np.arange(len(rows)))
    searched.warm()
    kernel, table, work = kernels().rerank, group.table, searched._scratch()
    work.reserve(0, 0, 1_024, 0, 0)
    best, scores = np.empty(K, np.int64), np.empty(K, np.float32)

    def rerank(query: NDArray[np.float32], listed: Any) -> Sequence[int]:
        work.listed[: len(listed)] = listed
        found, _ = kernel(table, query, work.table, 0, len(listed), K, 0.0, best, scores)
        keep: Any = group
        return best[: min(found, len(keep.keys))].tolist()

    return rerank


def mrlstore(rows: NDArray[np.float16], folder: Path) -> Callable[[float], Answer]:
    import mrlstore as library

    path = folder / "bench.mrl"
    shutil.rmtree(path, ignore_errors=True)
    with library.open(path, dim=rows.shape[1], auto_maintain=False, threads=THREADS) as store:
        for start in range(0, len(rows), 10_000):
            block = rows[start : start + 10_000].astype(np.float32)
            store.upsert([str(start + i) for i in range(len(block))], block)
        store.optimize()
    opened = library.open(path, mode="r")

    def at(target: float) -> Answer:
        return lambda query: map(int, opened.query(query, K, include=(), target_recall=target).ids)

    return at


def hnswlib(rows: NDArray[np.float16], folder: Path) -> Callable[[Effort], Answer]:
    import hnswlib as library

    index = library.Index("ip", PREFIX)
    index.init_index(len(rows), M=16, ef_construction=200)
    index.add_items(unit_prefixes(rows), num_threads=THREADS)
    index.set_num_threads(1)
    rerank = reranker(rows)

    def at(effort: Effort) -> Answer:
        index.set_ef(max(effort))
        return lambda query: rerank(query, index.knn_query(unit_prefix(query), effort[1])[0][0])

    return at


def faiss(rows: NDArray[np.float16], folder: Path) -> Callable[[Effort], Answer]:
    import faiss as library

    library.omp_set_num_threads(THREADS)
    index = library.IndexHNSWSQ(PREFIX, library.ScalarQuantizer.QT_8bit, 16, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    prefixes = unit_prefixes(rows)
    index.train(prefixes)
    index.add(prefixes)
    library.omp_set_num_threads(1)
    rerank = reranker(rows)

    def at(effort: Effort) -> Answer:
        index.hnsw.efSearch = max(effort)
        return lambda query: rerank(query, index.search(unit_prefix(query)[None], effort[1])[1][0])

    return at


def usearch(rows: NDArray[np.float16], folder: Path) -> Callable[[Effort], Answer]:
    from usearch.index import Index

    index = Index(ndim=PREFIX, metric="cos", dtype="i8", connectivity=16, expansion_add=200)
    index.add(np.arange(len(rows)), unit_prefixes(rows), threads=THREADS)
    rerank = reranker(rows)

    def at(effort: Effort) -> Answer:
        index.expansion_search = max(effort)
        return lambda query: rerank(query, index.search(unit_prefix(query), effort[1]).keys)

    return at


def svs(rows: NDArray[np.float16], folder: Path) -> Callable[[Effort], Answer]:
    import svs as library

    parameters = library.VamanaBuildParameters(alpha=1.2, graph_max_degree=32, window_size=200)
    index = library.Vamana.build(
        parameters, int8(unit_prefixes(rows)), library.DistanceType.L2, num_threads=THREADS
    )
    index.num_threads = 1
    rerank = reranker(rows)

    def at(effort: Effort) -> Answer:
        index.search_window_size = max(effort)
        return lambda query: rerank(query, index.search(int8(unit_prefix(query))[None], effort[1])[0][0])

    return at


def qdrant(rows: NDArray[np.float16], folder: Path) -> Callable[[Effort], Answer]:
    import qdrant_edge as q

    path = folder / "qdrant"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
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
    shard = q.EdgeShard.create(str(path), q.EdgeConfig(vectors={"small": small, "large": large}))
    for start in range(0, len(rows), 1_000):
        block = rows[start : start + 1_000].astype(np.float32)
        points = [
            q.Point(id=start + i, vector={"small": row[:PREFIX].tolist(), "large": row.tolist()}, payload={})
            for i, row in enumerate(block)
        ]
        shard.update(q.UpdateOperation.upsert_points(points))
    shard.optimize()

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


def lancedb(rows: NDArray[np.float16], folder: Path) -> Callable[[Effort], Answer]:
    import lancedb as library
    import pyarrow as pa

    path = folder / "lance"
    shutil.rmtree(path, ignore_errors=True)
    prefixes = unit_prefixes(rows)

    def batches() -> Iterable[Any]:
        for start in range(0, len(rows), 10_000):
            block = prefixes[start : start + 10_000]
            flat = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), PREFIX)
            yield pa.record_batch([pa.array(np.arange(start, start + len(block))), flat], ["id", "vector"])

    table = library.connect(str(path)).create_table("t", pa.Table.from_batches(list(batches())))
    table.create_index(metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=200)
    rerank = reranker(rows)

    def at(effort: Effort) -> Answer:
        def answer(query: NDArray[np.float32]) -> Iterable[int]:
            search = table.search(query[:PREFIX]).distance_type("cosine").ef(max(effort)).limit(effort[1])
            return rerank(query, search.select(["id", "_distance"]).to_arrow()["id"].to_numpy())

        return answer

    return at


OURS = "mrlstore"
PEERS: dict[str, Build] = {
    OURS: mrlstore,
    "hnswlib + re-rank": hnswlib,
    "FAISS HNSW-SQ8 + re-rank": faiss,
    "usearch int8 + re-rank": usearch,
    "SVS Vamana int8 + re-rank": svs,
    "Qdrant Edge prefetch": qdrant,
    "LanceDB HNSW-SQ + re-rank": lancedb,
}


def efforts(peer: str) -> Sequence[Any]:
    """What a peer is asked to try, from cheap to dear."""
    return TARGETS if peer == OURS else EFFORTS
