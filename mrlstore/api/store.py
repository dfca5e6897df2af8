"""The public face: `Store`. It checks arguments and delegates everything else; `opening` makes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrlstore import checks
from mrlstore.api import arguments
from mrlstore.api.aio import off_loop
from mrlstore.api.arguments import ProgressCallback
from mrlstore.api.care_methods import CareMethods
from mrlstore.api.picking_arguments import check_examples, check_picking, ties_go_by_id
from mrlstore.api.reading_methods import ReadingMethods
from mrlstore.api.recall_methods import RecallMethods
from mrlstore.api.selection_arguments import check_changes, check_selection
from mrlstore.checks import check_ids, check_namespace, namespace_words
from mrlstore.embedders.fingerprint import Fingerprint, Fingerprinted
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput, MrlStoreError
from mrlstore.search import grouping, hybrid, id_ties, picked, query
from mrlstore.search.examples import Examples, direction
from mrlstore.search.grouping import Grouping
from mrlstore.search.params import Selection
from mrlstore.storage.create import Mode
from mrlstore.storage.session import Session
from mrlstore.system.files import Files
from mrlstore.system.late import LateModule
from mrlstore.types import (
    BatchResult,
    Conflict,
    Include,
    Namespaces,
    Result,
    Settings,
    Vector,
    Vectors,
    Where,
    Written,
)
from mrlstore.where import parse
from mrlstore.writing import writer
from mrlstore.writing.batch import Batch, RowChange, make_batch

if TYPE_CHECKING:
    from mrlstore import ingest
    from mrlstore.ingest import Split
else:
    ingest = LateModule("mrlstore.ingest")

_VECTOR_SOURCES = "vector, id, text, content and positive"


class Store(CareMethods, RecallMethods, ReadingMethods):
    """An embedded vector store; made by `mrlstore.open`. Safe to use from many threads and after a fork."""

    def __init__(
        self,
        path: Path,
        files: Files,
        *,
        mode: Mode,
        embedder: Embedder | None,
        auto_maintain: bool,
        threads: int,
    ) -> None:
        self._embedder = embedder
        super().__init__(path, files, mode=mode, auto_maintain=auto_maintain, threads=threads)

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        return self._session.settings

    @property
    def dim(self) -> int | None:
        """Dimensions of the vectors; None before the first write of a store that was opened without one."""
        return self._session.snapshots.latest().dim

    @property
    def generation(self) -> int:
        """The generation of the newest commit, of whichever process; it rises with each, and never falls."""
        return self._session.snapshots.latest().generation

    @property
    def prefix_dim(self) -> int | None:
        """Leading dimensions that are indexed."""
        return self._session.snapshots.latest().prefix_dim

    @property
    def embedder_fingerprint(self) -> str | dict[str, Any] | None:
        """Fingerprint of the embedder whose vectors the store holds, as recorded by `add`; None without."""
        recorded = writer.recorded_embedder(self._session)
        if recorded is None:
            return None
        parsed: str | dict[str, Any] = json.loads(recorded)
        return parsed

    def record_embedder(self, fingerprint: str | Mapping[str, Any]) -> None:
        """Record which embedder made the vectors that `upsert` stores, as `add` does for its own.

        From then on `add` and `query(text=...)` with another one are refused. Durable when this returns.

        Args:
            fingerprint: of the embedder: a string, or a mapping of JSON values.

        Raises:
            InvalidInput: another embedder is recorded already, or the argument is not a fingerprint.
        """
        self._settle_embedder(self._writable(), Fingerprint(fingerprint))

    def upsert(
        self,
        ids: Iterable[str],
        vectors: Vectors | None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        namespace: str = "",
        on_conflict: Conflict = "replace",
    ) -> Written:
        """Store rows, replacing those whose id exists; all of the batch or nothing.

        Args:
            ids: n strings, 1 to 1,024 bytes as UTF-8; of an id given twice the last row wins. This and the
                next three go together by position; labels of pandas columns do not matter.
            vectors: numbers of shape [n, dim], any real dtype; None, or None entries, for rows without.
                They are scaled to unit length and stored as float16; the length is kept as float32.
            metadatas: n dicts of JSON values (or None), up to 64 KiB each.
            documents: n strings (or None), up to 16 MiB each.
            namespace: where the ids live; rows of different namespaces never meet.
            on_conflict: for ids that exist: "replace" them, "skip" these rows, or "error".

        Returns:
            How many rows were written, an int with the `generation` of the write. They survive a crash when
            this returns, and every process's next call sees them.

        Raises:
            InvalidInput: something in the batch is wrong; nothing was written.
            IdExists (an InvalidInput): with "error", an id is there already; nothing was written.
            StorageFull, StorageError, StoreLocked: nothing was written.
            StorePoisoned: what was written is unknown; reopen the store.
        """
        checks.check_choice(on_conflict, "on_conflict", ("replace", "skip", "error"))
        session = self._writable()
        batch = make_batch(ids, vectors, metadatas, documents, namespace, session.settings.dim)
        count = self._store_batch(session, batch, on_conflict)
        self._wake()
        return count

    def update(
        self,
        ids: Iterable[str] | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | Mapping[str, Any] | None = None,
        documents: Sequence[str | None] | None = None,
        *,
        vectors: Vectors | None = None,
        where: Where | None = None,
        namespace: str = "",
    ) -> Written:
        """Change parts of rows that exist, and keep the rest of them; all of the call or nothing.

        Args:
            ids: n strings. The next three have one entry for each, by position; None, or an entry that is
                None, leaves that part as it is. The entries of an id given twice are merged in order. Missing
                ids are skipped.
            metadatas: dicts whose keys are merged at the top level; a value of None removes the key. Without
                ids, one dict for all rows that match `where`.
            documents: strings.
            vectors: numbers of shape [n, dim], any real dtype, scaled and stored as by `upsert`.
            where: only rows whose metadata match, see docs/filters.md.
            namespace: where the ids live.

        Returns:
            How many rows were changed, an int with the `generation` of the write. They survive a crash when
            this returns.

        Raises:
            InvalidInput: neither ids nor a filter is given, nothing to change, or a value is wrong, as in
                `upsert`; nothing was changed.
            StorageFull, StorageError, StoreLocked: nothing was changed.
            StorePoisoned: what was changed is unknown; reopen the store.
        """
        session = self._writable()
        selection = check_selection(ids, where, None, namespace, "update", ordered=True)
        changes = check_changes(selection, metadatas, documents, vectors, session.settings.dim)
        count = self._change_rows(session, namespace, selection, changes)
        self._wake()
        return count

    def delete(
        self,
        ids: Iterable[str] | None = None,
        *,
        where: Where | None = None,
        prefix: str | None = None,
        namespace: str = "",
    ) -> Written:
        """Remove rows that meet all of what is given: ids, a filter, a prefix of their ids.

        Missing ids are not an error. Durable when this returns; returns how many rows were removed. Raises
        InvalidInput if nothing is given, or only an empty filter or prefix: use `clear` to empty a namespace.
        """
        session = self._writable()
        selection = check_selection(ids, where, prefix, namespace, "delete")
        count = self._remove_rows(session, namespace, selection)
        self._wake()
        return count

    def clear(self, namespace: str = "") -> Written:
        """Remove all rows of a namespace; durable when this returns. Gives how many there were."""
        session = self._writable()
        count = self._remove_all(session, check_namespace(namespace))
        self._wake()
        return count

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
        """Embed documents with the store's embedder and store them, window by window.

        Args:
            documents: strings, or media and interleaved lists that the embedder understands.
            ids: one for each; None makes them from the content, so that a second run finds them again.
            metadatas: one dict (or None) for each.
            namespace: where the ids live.
            split: cut long texts into overlapping chunks, each a row of its own.
            on_error: what to do with what can't be embedded: "raise" an EmbedError once the rest is stored,
                "skip" it, or "keep" texts without a vector, so that keywords find them.
            progress: called with how many documents are done.

        Returns:
            The ids, in order. Every window is durable before the next is embedded: after a crash, the same
            call goes on where it stopped, and content that is stored already is not embedded again.

        Raises:
            InvalidInput: no embedder, or not the one whose vectors the store holds.
            EmbedError: some items could not be embedded; it says which succeeded.
        """
        session, embedder = self._writable(), self._embedding()
        self._settle_embedder(session, embedder)
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
    ) -> Result:
        """The k rows most similar to a vector, best first; equal scores go by row key, or by id.

        With `keywords` the rows whose documents have them are fused with the vector's, or are the answer if
        no vector is given.

        Args:
            vector: numbers of shape [dim] of any length above zero; or instead of it one of
            id: a stored row of the namespace, whose vector is taken,
            text: words that the store's embedder embeds,
            content: whatever else that embedder understands, or
            positive: examples that hits should be like, ids of the namespace or vectors [dim]: the mean of
                their directions is searched for, and the examples themselves are not hits.
            negative: examples that hits should not be like: the difference of both means is added to that of
                the positive ones (in Qdrant, the strategy average_vector).
            k: how many hits, 1 to 10,000. If k rows with a vector match, k hits come back.
            where: a filter on metadata, see docs/filters.md.
            namespace: the namespace that is searched, a list of several, or None for all; `Hit.namespace` is
                that of a hit. In each segment every namespace is searched by itself, so several take about as
                long as a query of each.
            include: what hits carry: "metadata", "document", "vector". () is the fastest.
            min_score: leave out hits with a lower cosine similarity.
            target_recall: the share of the true best k to be found, above 0 and up to 1, on average; by
                default 0.99. The effort is chosen from what `calibrate` has measured; `Result.plan` tells
                which recall to expect. 1 scans exactly.
            shortlist: the most rows that are re-ranked on their full vectors, at least k; replaces
                `target_recall`.
            ef: the most candidates that a walk of the graph keeps; replaces `target_recall`.
            exact: score every row at full dimension.
            dim: score every row by the cosine of its first `dim` dimensions, to compare lengths of prefixes.
            explain: fill `Result.plan.explanation`: ranks by prefix, margins, times; see docs/tiers.md.
            keywords: words as a person types them: any of them may match, "words in double quotes" stand side
                by side, `pars*` is any word that begins so. See docs/keywords.md.
            weights: how much the vector's list and the keywords' list count, by default (1, 1).
            offset: skip so many of the best rows: the second page of ten has offset=10. k and offset together
                are at most 10,000. Each page is a search of its own, so pages join without a gap only if the
                answers are exact and nothing is written in between. To read all rows, use `scan` and its
                cursors.
            group_by: a metadata field: the k groups with the best hits, `group_size` hits of each, as
                `Result.groups` and together as hits. A row belongs to the group of each value that
                `{field: value}` matches it by; rows without the field to none. k * group_size is at most
                10,000. Not with offset, diversity or keywords.
            group_size: how many hits of a group at most, by default 1.
            diversity: from 0 to 1: hits are picked one after the other, each the best by (1 - diversity) *
                score - diversity * greatest cosine with a hit before (maximal marginal relevance, on the full
                vectors). They come in that order, with their scores. Not with keywords.
            candidates: from how many of the best rows diverse hits are picked, at most 1,000; by default 4 *
                k, but at least 100.
            ties: "id": equal scores go by id, in the order of UTF-8, and with `exact` those with the smallest
                ids are the answer, in every store that holds the same rows. By default they go by row key,
                that is by the time of writing. Not with keywords, group_by, offset, diversity or examples.

        Returns:
            Hits with cosine similarity in [-1, 1] at full dimension, computed in float32 from the stored
            float16 rows, all of one generation; and the plan. With keywords and a vector scores are those of
            reciprocal rank fusion, with keywords alone BM25; `Result.plan.keywords` tells ranks and scores.

        Raises:
            InvalidInput: an argument is wrong, or the id has no vector.
            CorruptStore: damage was met that cannot be worked around.
        """
        session = self._session
        latest = session.snapshots.latest()
        params = arguments.check_params(
            include, k, namespace, min_score, target_recall, shortlist, ef, exact, dim, explain, latest.dim
        )
        if where is not None:
            params = params.filtered(parse(where))
        if (
            vector is not None and id is None and text is None and content is None
            and positive is None and negative is None and keywords is None and weights is None
            and offset is None and group_by is None and group_size is None
            and diversity is None and candidates is None and ties == "key"
        ):  # fmt: skip  # nearly always, so it comes first
            return query.query(session, latest, params, vector)
        words, examples = None, None
        if positive is not None or negative is not None:
            examples = check_examples(positive, negative)
        if keywords is not None or weights is not None:
            words = hybrid.check_keywords(keywords, weights, min_score)
        given = sum(source is not None for source in (vector, id, text, content, examples))
        if given > 1 or (given == 0 and words is None):
            raise InvalidInput(f"query: give {'at most' if words else 'exactly'} one of {_VECTOR_SOURCES}")
        picking = check_picking(
            params.k, offset, group_by, group_size, diversity, candidates, examples, words is not None
        )
        if given and vector is None:
            vector = self._vector_of(session, params.namespace, id, text, content, examples)
            latest = session.snapshots.latest()  # the embedder may have taken seconds
        if ties_go_by_id(ties, usual=words is None and picking is None):
            return id_ties.query(session, latest, params, vector)
        if isinstance(picking, Grouping):
            return grouping.query(session, latest, params, picking, vector)
        if words is not None:
            return hybrid.query(session, latest, params, words, vector, picking)
        if picking is not None:
            return picked.query(session, latest, params, picking, vector)
        return query.query(session, latest, params, vector)

    def _vector_of(
        self,
        session: Session,
        namespace: Namespaces,
        id: str | None,
        text: str | None,
        content: Any,
        examples: Examples | None,
    ) -> Any:
        """The vector of a stored row, of examples, or of what the embedder makes of words or contents."""
        if not isinstance(namespace, str) and (id is not None or (examples is not None and examples.ids)):
            raise InvalidInput(
                "namespace: ids name rows of one namespace; for several give vectors, which get() reads"
            )
        space = namespace if isinstance(namespace, str) else ""
        if examples is not None:
            return direction(session, space, examples)
        if id is not None:
            vector = query.stored_vector(session, space, check_ids([id], "id")[0])
            if vector is None:
                raise InvalidInput(f"id: {id!r} is not in {namespace_words(space)}, or has no vector")
            return vector
        embedder = self._embedding()
        writer.check_embedder(session, embedder)
        return embedder.embed_query(text if text is not None else content)

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
    ) -> BatchResult:
        """The answers to many queries [n, dim], each as `query` gives it, all of one generation.

        The work is spread over the store's threads; kernels do not hold the GIL.
        """
        session = self._session
        latest = session.snapshots.latest()
        params = arguments.check_params(
            include, k, namespace, min_score, target_recall, shortlist, ef, exact, dim, explain, latest.dim
        )
        if where is not None:
            params = params.filtered(parse(where))
        return query.query_batch(session, latest, params, vectors)

    aquery = off_loop(query)
    """`query`, off the event loop."""
    aquery_batch = off_loop(query_batch)
    """`query_batch`, off the event loop."""
    aupsert = off_loop(upsert)
    """`upsert`, off the event loop; cancelling the await does not undo a write that has begun."""
    aadd = off_loop(add)
    """`add`, off the event loop."""
    aupdate = off_loop(update)
    """`update`, off the event loop."""
    adelete = off_loop(delete)
    """`delete`, off the event loop."""

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Where the store is, and its rows of all namespaces, dims and segments."""
        name = f"mrlstore.Store {str(self._path)!r}"
        if self._closed:
            return f"<{name} (closed)>"
        try:
            snapshot, rows = self._session.snapshots.latest(), self.count(namespace=None)
        except (MrlStoreError, OSError) as error:  # a repr is also asked for where something is wrong
            return f"<{name} ({type(error).__name__})>"
        segments = len(snapshot.segments)
        dims = "no vectors yet" if snapshot.dim is None else f"{snapshot.dim:,} dims"
        return f"<{name}: {rows:,} row{'s' * (rows != 1)}, {dims}, {segments} segment{'s' * (segments != 1)}>"

    def _store_batch(self, session: Session, batch: Batch, on_conflict: Conflict) -> Written:
        return writer.upsert(session, batch, on_conflict)

    def _change_rows(
        self,
        session: Session,
        namespace: str,
        selection: Selection,
        changes: Mapping[str, RowChange] | RowChange,
    ) -> Written:
        return writer.update(session, namespace, selection, changes)

    def _remove_rows(self, session: Session, namespace: str, selection: Selection) -> Written:
        return writer.delete(session, namespace, selection)

    def _remove_all(self, session: Session, namespace: str) -> Written:
        return writer.clear(session, namespace)

    def _settle_embedder(self, session: Session, embedder: Fingerprinted) -> None:
        writer.settle_embedder(session, embedder)

    def _nearest_ids(
        self, vector: NDArray[np.float32], k: int, namespace: str, target_recall: float
    ) -> list[str]:
        return self.query(vector, k, namespace=namespace, include=(), target_recall=target_recall).ids

    def _embedding(self) -> Embedder:
        if self._embedder is None:
            raise InvalidInput("no embedder: open the store with mrlstore.open(path, embedder=...)")
        return self._embedder
