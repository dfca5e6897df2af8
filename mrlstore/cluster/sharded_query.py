"""The queries of `ShardedStore`: one question to all shards that may have an answer, and the best of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.api import arguments
from mrlstore.api.picking_arguments import check_examples, check_picking
from mrlstore.checks import check_choice, check_ids
from mrlstore.cluster import answer_merge
from mrlstore.cluster.asking import Asked, OnMissing
from mrlstore.cluster.cluster_results import ClusterBatch, ClusterResult
from mrlstore.cluster.engine import Engine
from mrlstore.cluster.home import Home
from mrlstore.cluster.sharded_reading import ShardedReading
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput
from mrlstore.search import hybrid
from mrlstore.search.examples import Examples, direction_of
from mrlstore.search.grouping import Grouping
from mrlstore.search.params import Projection, QueryParams
from mrlstore.search.picked import Picking, diverse, unit_rows
from mrlstore.search.queries import take_vectors
from mrlstore.types import Hit, Include, Vector, Vectors, Where
from mrlstore.where import parse


class _ShardedSearch(NamedTuple):
    """A query that is ready to be asked of the shards."""

    params: QueryParams
    where: Where | None
    shards: list[int]
    after: str | None
    on_missing: OnMissing

    def arguments(self, k: int, *, vectors: bool = False) -> dict[str, Any]:
        """What a shard is given beside the vector; with `vectors` hits carry these in any case."""
        params = self.params
        include = [name for name, has in zip(Projection._fields, params.projection, strict=True) if has]
        if vectors and "vector" not in include:
            include.append("vector")
        return {
            "k": k,
            "where": self.where,
            "namespace": params.namespace,
            "include": tuple(include),
            "min_score": params.min_score,
            "target_recall": params.target_recall,
            "shortlist": None if params.shortlist is None else max(params.shortlist, k),
            "ef": params.ef,
            "exact": params.exact,
            "dim": params.dim,
        }


class ShardedQuery(ShardedReading):
    """`query` and `query_batch` over the shards of a cluster."""

    def __init__(self, home: Home, engine: Engine, *, writes: bool, embedder: Embedder | None) -> None:
        super().__init__(home, engine, writes=writes)
        self._embedder = embedder

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._home.dim

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
        ties: Literal["id"] = "id",
        after: str | None = None,
        on_missing: OnMissing = "raise",
    ) -> ClusterResult:
        """The k rows most similar to a vector, best first, as `Store.query`; equal scores go by id.

        Keywords and `explain` need a namespace that lies in one shard, as each named one does.

        Args:
            vector: as in `Store.query`, as are all but the last two.
            k: how many.
            id: a stored row.
            text: words that the embedder given to `connect` embeds.
            content: whatever else it understands.
            where: a filter on metadata.
            namespace: one, several, or None for all.
            include: what hits carry.
            min_score: leave out hits with a lower cosine similarity.
            target_recall: the share of the true best k to be found in each shard.
            shortlist: rows re-ranked in each shard at most.
            ef: candidates in the walk of each graph.
            exact: score every row: the answer is that of one store that has all rows, ties by id.
            dim: score by the first `dim` dimensions.
            explain: fill `Result.plan.explanation`.
            keywords: words that documents are to have.
            weights: of the vector's list and the keywords'.
            positive: examples that hits should be like.
            negative: examples that hits should not be like.
            offset: pass over so many of the best rows.
            group_by: a metadata field whose groups are given.
            group_size: hits of a group.
            diversity: how much hits should differ.
            candidates: among how many diverse hits are picked.
            ties: equal scores always go by id here.
            after: a token of a write or of an answer: shards answer from no earlier moment.
            on_missing: "partial" leaves out shards that cannot be asked, and `coverage` names them.

        Returns:
            The hits, with `token`, `coverage`, and `plans` by shard; one moment of each shard, not of all.

        Raises:
            InvalidInput: an argument is wrong.
            ShardUnavailable: a shard cannot be asked.
            StaleRead: a shard did not come as far as `after` in time.
        """
        check_choice(ties, "ties", ("id",))
        params = arguments.check_params(
            include, k, namespace, min_score, target_recall, shortlist, ef, exact, dim, explain, self.dim
        )
        search = self._search(params, where, after, on_missing)
        examples = (
            check_examples(positive, negative) if positive is not None or negative is not None else None
        )
        given = sum(source is not None for source in (vector, id, text, content, examples))
        if keywords is not None or weights is not None:
            hybrid.check_keywords(keywords, weights, min_score)
        if given > 1 or (given == 0 and keywords is None):
            raise InvalidInput("query: give exactly one of vector, id, text, content and positive")
        picking = check_picking(
            params.k, offset, group_by, group_size, diversity, candidates, examples, keywords is not None
        )
        taken = self._vector_of(params, vector, id, text, content, examples) if given else None
        if keywords is not None or params.explain:
            words = {"keywords": keywords, "weights": weights, "offset": offset, "vector": taken}
            return self._in_one_shard(search, {**words, "explain": params.explain})
        assert taken is not None
        if isinstance(picking, Grouping):
            return self._grouped(search, picking, taken)
        return self._picked(search, picking or Picking(), taken)

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
        after: str | None = None,
        on_missing: OnMissing = "raise",
    ) -> ClusterBatch:
        """The answers to many queries [n, dim], each as `query` gives it, in one message to each shard."""
        params = arguments.check_params(
            include, k, namespace, min_score, target_recall, shortlist, ef, exact, dim, explain, self.dim
        )
        search = self._search(params, where, after, on_missing)
        if params.explain:
            self._only(search.shards, "explain")
        matrix = take_vectors(vectors, self._home.dim, "vectors")
        more = {"vectors": matrix, "explain": params.explain}
        asked = self._asked(search, "query_batch", {**more, **search.arguments(search.params.k)})
        results = []
        for number in range(len(matrix)):
            answers = {shard: found[number] for shard, found in asked.values.items()}
            best = answer_merge.best(answers.values(), search.params.k)
            results.append(ClusterResult(best, answers, asked.token, asked.coverage))
        return ClusterBatch(results, search.params.k, asked.token, asked.coverage)

    def _search(
        self, params: QueryParams, where: Where | None, after: str | None, on_missing: OnMissing
    ) -> _ShardedSearch:
        parse(where)
        return _ShardedSearch(params, where, self._shards(params.namespace), after, on_missing)

    def _asked(self, search: _ShardedSearch, name: str, asked: Mapping[str, Any]) -> Asked:
        return self._ask(search.shards, name, asked, search.after, search.on_missing)

    def _picked(self, search: _ShardedSearch, picking: Picking, vector: NDArray[np.float32]) -> ClusterResult:
        """The best rows of all shards, or those that are picked among them."""
        k, diversity = search.params.k, picking.diversity
        depth = picking.depth(k)
        asked = self._asked(
            search, "query", {"vector": vector, **search.arguments(depth, vectors=diversity is not None)}
        )
        hits = [
            hit for hit in answer_merge.best(asked.values.values(), depth) if hit.id not in picking.excluded
        ]
        if diversity is not None:
            hits = self._diverse(hits[: picking.among(k)], search, picking, diversity)
        hits = hits[picking.offset : picking.offset + k]
        return ClusterResult(hits, asked.values, asked.token, asked.coverage)

    def _diverse(
        self, hits: list[Hit], search: _ShardedSearch, picking: Picking, diversity: float
    ) -> list[Hit]:
        units = unit_rows([hit.vector for hit in hits if hit.vector is not None], search.params.dim)
        scores = np.array([hit.score for hit in hits], dtype=np.float32)
        chosen = diverse(units, scores, picking.offset + search.params.k, diversity)
        picked = [hits[place] for place in chosen]
        if search.params.projection.vector:
            return picked
        return [hit._replace(vector=None) for hit in picked]

    def _grouped(
        self, search: _ShardedSearch, grouping: Grouping, vector: NDArray[np.float32]
    ) -> ClusterResult:
        """The groups with the best hits of all shards, each filled with its best hits of all shards."""
        if grouping.excluded:
            self._only(search.shards, "group_by with examples")
        k, common = search.params.k, search.arguments(search.params.k)
        by = {"group_by": grouping.field, "group_size": grouping.size}
        first = self._asked(search, "query_groups", {"vector": vector, **common, **by})
        groups = answer_merge.chosen_groups(first.values.values(), k)
        there = search._replace(shards=list(first.values))
        asked = {
            **{name: value for name, value in common.items() if name != "k"},
            "vector": vector,
            "field": grouping.field,
            "values": [group.value for group in groups],
            "size": grouping.size,
        }
        filled = self._asked(there, "fill_groups", asked)
        whole = answer_merge.filled(groups, filled.values.values(), grouping.size)
        hits = answer_merge.hits_of_groups(whole)
        return ClusterResult(hits, first.values, filled.token, first.coverage, whole)

    def _in_one_shard(self, search: _ShardedSearch, more: Mapping[str, Any]) -> ClusterResult:
        """A query that only one store can answer, where its namespace lies in one shard."""
        self._only(search.shards, "keywords and explain")
        asked = self._asked(search, "query_whole", {**search.arguments(search.params.k), **more})
        (result,) = asked.values.values()
        return ClusterResult(list(result.hits), asked.values, asked.token, asked.coverage)

    def _vector_of(
        self,
        params: QueryParams,
        vector: Any,
        id: str | None,
        text: str | None,
        content: Any,
        examples: Examples | None,
    ) -> NDArray[np.float32]:
        """The vector that is searched for, as numbers of whatever length."""
        space = params.namespace
        if not isinstance(space, str) and (id is not None or (examples is not None and examples.ids)):
            raise InvalidInput(
                "namespace: ids name rows of one namespace; for several give vectors, which get() reads"
            )
        name = space if isinstance(space, str) else ""
        if examples is not None:
            stored = self._stored_vectors(name, sorted(examples.ids))
            return direction_of(examples, stored.get, name, self._home.dim)
        if id is not None:
            (checked,) = check_ids([id], "id")
            found = self._stored_vectors(name, [checked]).get(checked)
            if found is None:
                raise InvalidInput(f"id: {id!r} is not in namespace {name!r}, or has no vector")
            return found
        if vector is None:
            vector = self._embedding().embed_query(text if text is not None else content)
        found_row: NDArray[np.float32] = take_vectors([vector], self._home.dim, "vector")[0]
        return found_row

    def _stored_vectors(self, namespace: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        for shard, names in self._divided(namespace, ids).items():
            asked = self._ask([shard], "stored_vectors", {"namespace": namespace, "ids": names})
            found.update(asked.values[shard])
        return found

    def _embedding(self) -> Embedder:
        if self._embedder is None:
            raise InvalidInput("no embedder: connect with mrlstore.cluster.connect(home, embedder=...)")
        return self._embedder
