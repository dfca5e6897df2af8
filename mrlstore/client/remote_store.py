"""`RemoteStore`: an index of a server, with the names, arguments, results and errors of `Store`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mrlstore.api.arguments import ProgressCallback
from mrlstore.checks import check_ids, check_namespace
from mrlstore.client.remote_call import awaited, remote
from mrlstore.client.remote_care import RemoteCare
from mrlstore.client.remote_index import BASE64, count_of, nothing
from mrlstore.client.remote_reading import RemoteReading
from mrlstore.client.request_values import (
    documents_json,
    examples_json,
    merged_json,
    metadatas_json,
    names_json,
    vector_json,
    vectors_json,
    where_json,
)
from mrlstore.client.transport import Request
from mrlstore.embedders.fingerprint import Fingerprint, canonical, check_same, fingerprint_of
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput, MrlStoreError
from mrlstore.system.late import LateModule
from mrlstore.types import BatchResult, Conflict, Include, Result, Settings, Vector, Vectors, Where
from mrlstore.wire import batch_from, from_plain, result_from

if TYPE_CHECKING:
    from mrlstore import ingest
    from mrlstore.ingest import Split
else:
    ingest = LateModule("mrlstore.ingest")


class RemoteStore(RemoteReading, RemoteCare):
    """A store that a server keeps; made by `mrlstore.connect`. Safe to use from many threads.

    Its methods are those of `Store`, whose reference says what their arguments mean; vectors travel as
    float32. The async ones send on the event loop that awaits them.
    """

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        return self.transport.send(self._asking("settings", {}, lambda answer: from_plain(Settings, answer)))

    @property
    def dim(self) -> int | None:
        """Dimensions of the vectors; None before the first write of a store that was made without."""
        dim: int | None = self._described()["dim"]
        return dim

    @property
    def generation(self) -> int:
        """The generation of the newest commit."""
        return int(self._described()["generation"])

    @property
    def prefix_dim(self) -> int | None:
        """Leading dimensions that are indexed."""
        dim: int | None = self._described()["prefix_dim"]
        return dim

    @property
    def embedder_fingerprint(self) -> str | dict[str, Any] | None:
        """Fingerprint of the embedder whose vectors the store holds; None without."""
        request = self._asking("embedder_fingerprint", {}, lambda answer: answer["fingerprint"])
        fingerprint: str | dict[str, Any] | None = self.transport.send(request)
        return fingerprint

    @remote
    def record_embedder(self, fingerprint: str | Mapping[str, Any]) -> Request[None]:
        """Say by which embedder the rows are embedded that `upsert` stores, as `Store.record_embedder`."""
        given = json.loads(fingerprint_of(Fingerprint(fingerprint)))
        return self._changing("record_embedder", {"fingerprint": given}, nothing)

    @remote
    def upsert(
        self,
        ids: Iterable[str],
        vectors: Vectors | None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        namespace: str = "",
        on_conflict: Conflict = "replace",
    ) -> Request[int]:
        """Store rows, all of the batch or nothing, as `Store.upsert`.

        A batch is one request: the server refuses bodies above its limit, by default 64 MB, with
        LimitExceeded.
        After a ServerError without a status the rows may be stored or not; sending them again does no harm.
        """
        names = check_ids(ids, ordered=True)
        body = {
            "ids": names,
            "vectors": vectors_json(vectors),
            "metadatas": metadatas_json(metadatas, names),
            "documents": documents_json(documents, names),
            "namespace": check_namespace(namespace),
            "on_conflict": on_conflict,
        }
        return self._changing("upsert", body, count_of)

    def add(
        self,
        documents: Iterable[Any],
        ids: Iterable[str] | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        namespace: str = "",
        split: Split | None = None,
        on_error: Literal["raise", "skip", "keep"] = "raise",
        progress: ProgressCallback | None = None,
    ) -> list[str]:
        """Embed documents here and store them there, window by window, as `Store.add`.

        The embedder is the one that `connect` was given. The first `add` records it, which takes a key that
        is not limited to namespaces.
        """
        embedder = self._own_embedder()
        known = self.embedder_fingerprint
        if known is None:
            self.record_embedder(embedder.fingerprint)
        else:
            check_same(canonical(known), embedder)
        done = ingest.ingest(
            self,
            embedder,
            documents,
            ids,
            metadatas,
            namespace=check_namespace(namespace),
            split=split,
            on_error=on_error,
            progress=progress,
        )
        return done.ids

    async def aadd(
        self,
        documents: Iterable[Any],
        ids: Iterable[str] | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        namespace: str = "",
        split: Split | None = None,
        on_error: Literal["raise", "skip", "keep"] = "raise",
        progress: ProgressCallback | None = None,
    ) -> list[str]:
        """`add`, in a thread."""
        return await asyncio.to_thread(
            self.add,
            documents,
            ids,
            metadatas,
            namespace=namespace,
            split=split,
            on_error=on_error,
            progress=progress,
        )

    @remote
    def update(
        self,
        ids: Iterable[str] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | Mapping[str, Any] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        vectors: Vectors | None = None,
        where: Where | None = None,
        namespace: str = "",
    ) -> Request[int]:
        """Change parts of rows that exist, as `Store.update`."""
        names = None if ids is None else check_ids(ids, ordered=True)
        body = {
            "ids": names,
            "metadatas": merged_json(metadatas, names),
            "documents": documents if names is None else documents_json(documents, names),
            "vectors": vectors_json(vectors),
            "where": where_json(where),
            "namespace": check_namespace(namespace),
        }
        return self._changing("update", body, count_of)

    @remote
    def delete(
        self,
        ids: Iterable[str] | None = None,
        *,
        where: Where | None = None,
        prefix: str | None = None,
        namespace: str = "",
    ) -> Request[int]:
        """Remove rows that meet all of what is given, as `Store.delete`."""
        body = {
            "ids": None if ids is None else check_ids(ids),
            "where": where_json(where),
            "prefix": prefix,
            "namespace": check_namespace(namespace),
        }
        return self._changing("delete", body, count_of)

    @remote
    def clear(self, namespace: str = "") -> Request[int]:
        """Remove all rows of a namespace; gives how many there were."""
        return self._changing("clear", {"namespace": check_namespace(namespace)}, count_of)

    @remote
    def query(
        self,
        vector: Vector | None = None,
        k: int = 10,
        *,
        id: str | None = None,
        text: str | None = None,
        content: Any = None,
        where: Where | None = None,
        namespace: str | Iterable[str] | None = "",
        include: Iterable[Include] = ("metadata",),
        min_score: float | None = None,
        target_recall: float | None = None,
        shortlist: int | None = None,
        ef: int | None = None,
        exact: bool = False,
        dim: int | None = None,
        explain: bool = False,
        keywords: str | None = None,
        weights: tuple[float, float] | None = None,
        positive: Iterable[str | Vector] | None = None,
        negative: Iterable[str | Vector] | None = None,
        offset: int | None = None,
        group_by: str | None = None,
        group_size: int | None = None,
        diversity: float | None = None,
        candidates: int | None = None,
        ties: Literal["key", "id"] = "key",
    ) -> Request[Result]:
        """The k rows most similar to a vector, best first, as `Store.query`.

        `text` and `content` are embedded here, by the embedder that `connect` was given; without one the
        server embeds a text by what has filled the index.
        """
        sources = {"vector": vector, "id": id, "text": text, "content": content, "positive": positive}
        given = [name for name, value in sources.items() if value is not None]
        if len(given) > 1:
            raise InvalidInput("query: give at most one of vector, id, text, content and positive")
        if content is not None or (text is not None and self._embedder is not None):
            vector, text = self._embedded(text if text is not None else content), None
        body = {
            "vector": None if vector is None else vector_json(vector),
            "k": k,
            "id": id,
            "text": text,
            "where": where_json(where),
            "namespace": names_json(namespace),
            "include": names_json(include),
            "min_score": min_score,
            "target_recall": target_recall,
            "shortlist": shortlist,
            "ef": ef,
            "exact": exact or None,
            "dim": dim,
            "explain": explain or None,
            "keywords": keywords,
            "weights": weights,
            "positive": examples_json(positive, "positive"),
            "negative": examples_json(negative, "negative"),
            "offset": offset,
            "group_by": group_by,
            "group_size": group_size,
            "diversity": diversity,
            "candidates": candidates,
            "ties": None if ties == "key" else ties,
        }
        return self._asking("query", body, result_from)

    @remote
    def query_batch(
        self,
        vectors: Vectors,
        k: int = 10,
        *,
        where: Where | None = None,
        namespace: str | Iterable[str] | None = "",
        include: Iterable[Include] = ("metadata",),
        min_score: float | None = None,
        target_recall: float | None = None,
        shortlist: int | None = None,
        ef: int | None = None,
        exact: bool = False,
        dim: int | None = None,
        explain: bool = False,
    ) -> Request[BatchResult]:
        """The answers to many queries [n, dim], each as `query` gives it, all of one generation."""
        body = {
            "vectors": vectors_json(vectors),
            "k": k,
            "where": where_json(where),
            "namespace": names_json(namespace),
            "include": names_json(include),
            "min_score": min_score,
            "target_recall": target_recall,
            "shortlist": shortlist,
            "ef": ef,
            "exact": exact or None,
            "dim": dim,
            "explain": explain or None,
        }
        return self._asking("query_batch", body, lambda answer: batch_from(answer["results"], k), BASE64)

    aquery = awaited(query)
    """`query`, awaited."""
    aquery_batch = awaited(query_batch)
    """`query_batch`, awaited."""
    aupsert = awaited(upsert)
    """`upsert`, awaited; cancelling the await does not undo a write that has begun."""
    aupdate = awaited(update)
    """`update`, awaited."""
    adelete = awaited(delete)
    """`delete`, awaited."""

    def close(self) -> None:
        """Close the connections of blocking calls; calling it again is harmless."""
        self.transport.close()

    async def aclose(self) -> None:
        """Close all connections, those of the running event loop too."""
        await self.transport.aclose()

    def __enter__(self) -> RemoteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> RemoteStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        """Where the index is, and its rows of all namespaces."""
        try:
            return f"<mrlstore.RemoteStore {self.url!r}: {self.count(namespace=None):,} rows>"
        except MrlStoreError as error:
            return f"<mrlstore.RemoteStore {self.url!r} ({type(error).__name__})>"

    def _described(self) -> dict[str, Any]:
        """What the server says of the index."""
        described: dict[str, Any] = self.transport.send(Request("GET", self._place, None, dict))
        return described

    def _embedded(self, content: Any) -> Any:
        return self._own_embedder().embed_query(content)

    def _own_embedder(self) -> Embedder:
        if self._embedder is None:
            raise InvalidInput("no embedder: connect with mrlstore.connect(url, embedder=...)")
        return self._embedder
